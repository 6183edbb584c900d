"""What tells fibrillation from premature beats, and whether P waves lead where none was marked."""

from dataclasses import fields, replace

import numpy as np
import numpy.typing as npt
import pytest
from hearts import beat, heart
from hypothesis import given
from hypothesis import strategies as st

from analysis import criteria
from analysis.analyse import analyse, examined
from analysis.criteria.rhythm import fibrillation_margin, led_by_p
from analysis.ecg import ECG, STANDARD_12, Lead, Patient
from analysis.measure import everything
from analysis.result import Finding, Measurements, Quality, Quantity, Verdict
from analysis.rhythm import Rhythm, entropy
from analysis.synthetic import Kind, simulate

Array = npt.NDArray[np.float64]

PUBLISHED = -1.4
"""The coefficient of sample entropy above which the rhythm fibrillates (Lake and Moorman 2011)."""
UNMARKED: dict[str, float | None] = {
    "heart_rate": 106.0, "qrs_duration": 90.0, "pr_interval": None, "p_axis": None,
}  # fmt: skip


def quantity(value: float | None) -> Quantity:
    return Quantity(value=value, unit="ms", method="", reason=None if value else "a test")


def measured(**values: float | None) -> Measurements:
    quantities = {
        item.name: quantity((UNMARKED | values).get(item.name))
        for item in fields(Measurements)
        if item.type is Quantity or item.type == "Quantity"
    }
    return Measurements(**quantities, r_peaks=np.empty(0), fiducials={})


def seen(**changes: object) -> Rhythm:
    """Return a rhythm without a P wave that was marked, whose P waves repeat themselves."""
    none = np.zeros(12, np.bool_)
    usual = Rhythm(
        rr=np.full(11, 560.0), ventricular=none, supraventricular=none, normal=~none,
        aberrant=none, paced_beats=none, irregularity=0.09, entropy=-1.6, p_constancy=25.0,
        p_likeness=0.9, p_share=0.0, atrial_frequency=5.0, atrial_share=0.1, atrial_cycles=1.0,
        spike=0.0,
    )  # fmt: skip
    return replace(usual, **changes)  # type: ignore[arg-type]


def judged(key: str, measurements: Measurements, rhythm: Rhythm) -> Finding:
    found = everything(simulate(Kind.SINUS).ecg, examined(simulate(Kind.SINUS).ecg))
    case = criteria.Case(
        measurements=measurements,
        leads=found.leads,
        rhythm=rhythm,
        quality=Quality(verdict=Verdict.FULL),
        patient=Patient(age=50.0),
        qtc=measurements.qtc_fridericia,
        qtc_formula="fridericia",
    )
    return next(item for item in criteria.assess(case) if item.key == key)


@pytest.mark.parametrize("count", [12, 40, 2000])
def test_entropy_is_high_where_no_interval_foretells_the_next(count: int) -> None:
    random = np.random.default_rng(count)
    steady = [entropy(800 + 8 * random.standard_normal(count)) for _ in range(9)]
    irregular = [entropy(random.uniform(400, 1200, count)) for _ in range(9)]
    assert max(steady) < PUBLISHED < np.median(irregular)


@given(st.lists(st.sampled_from([0.1, 200.0, 600.0, 610.0, 5000.0]), min_size=5, max_size=20))
def test_any_intervals_have_a_finite_entropy(intervals: list[float]) -> None:
    assert np.isfinite(entropy(np.array(intervals)))


def test_premature_beats_that_repeat_a_pattern_leave_entropy_low_although_rr_differ() -> None:
    trigeminus = np.tile([800.0, 810.0, 430.0, 1150.0], 4)
    random = np.random.default_rng(1)
    assert entropy(trigeminus + 5 * random.standard_normal(16)) < PUBLISHED


def test_too_few_intervals_have_no_entropy() -> None:
    assert np.isnan(entropy(np.full(4, 800.0)))
    assert np.isnan(entropy(np.empty(0)))


def rhythm_of(shape: Array, times: Array) -> Rhythm:
    ecg = heart([(float(time), shape) for time in times], duration=float(times[-1]) + 0.6)
    return everything(ecg, examined(ecg)).rhythm


def test_p_waves_are_like_each_other_and_without_them_noise_is_not() -> None:
    times = np.cumsum(np.random.default_rng(3).uniform(0.55, 1.1, 11))
    with_p = rhythm_of(beat(Kind.SINUS), times)
    without = rhythm_of(beat(Kind.SINUS, with_p=False), times)
    assert with_p.p_likeness > 0.9
    assert without.p_likeness < 0.7
    assert fibrillation_margin(with_p) < 0 < fibrillation_margin(without)


@pytest.mark.parametrize(
    ("name", "worse"),
    [("irregularity", 0.3), ("entropy", 0.0), ("p_constancy", 1.0), ("p_likeness", 0.1)],
)
def test_each_of_four_things_speaks_for_fibrillation_and_none_decides_alone(
    name: str, worse: float
) -> None:
    sinus = {"irregularity": 0.01, "entropy": -2.5, "p_constancy": 200.0, "p_likeness": 0.98}
    with_one = seen(**(sinus | {name: worse}))
    assert fibrillation_margin(seen(**sinus)) < fibrillation_margin(with_one) < 0


def test_what_was_not_told_of_a_rhythm_leaves_a_margin_and_no_beats_leave_none() -> None:
    assert np.isfinite(fibrillation_margin(seen(entropy=np.nan, p_likeness=np.nan)))
    assert np.isnan(fibrillation_margin(seen(rr=np.empty(0))))


def test_p_waves_that_repeat_themselves_lead_the_beats_though_none_was_marked() -> None:
    found = judged("sinus_tachycardia", measured(), seen())
    assert found.present
    assert found.evidence == (
        "heart rate 106/min",
        "P waves repeat themselves before the QRS (correlation 0.90)",
    )


@pytest.mark.parametrize(
    ("values", "changes"),
    [
        ({"heart_rate": 130.0}, {}),
        ({"qrs_duration": 130.0}, {}),
        ({"p_axis": -60.0}, {}),
        ({}, {"p_likeness": 0.5}),
        ({}, {"p_constancy": 4.0}),
        ({}, {"entropy": -1.0}),
        ({}, {"atrial_share": 0.7, "atrial_cycles": 2.0}),
        ({}, {"spike": 0.5}),
    ],
)
def test_a_t_wave_a_flutter_wave_or_a_spike_is_not_taken_for_a_p_wave(
    values: dict[str, float | None], changes: dict[str, float]
) -> None:
    assert led_by_p(measured(), seen())
    assert not led_by_p(measured(**values), seen(**changes))


def test_a_regular_tachycardia_without_p_waves_is_not_assessed_as_sinus_and_says_why() -> None:
    fast = measured(heart_rate=140.0)
    found = judged("sinus_tachycardia", fast, seen(irregularity=0.01, entropy=-2.0))
    assert found.present is None
    assert found.reason == "P waves were not found in a tachycardia of 140/min"


def test_fast_fibrillation_is_no_sinus_tachycardia_and_that_is_judged() -> None:
    fast = measured(heart_rate=140.0)
    rhythm = seen(irregularity=0.3, entropy=0.0, p_constancy=1.0, p_likeness=0.1)
    assert judged("sinus_tachycardia", fast, rhythm).present is False


def test_an_axis_is_judged_as_it_is_read() -> None:
    marked = seen(p_share=1.0)
    assert led_by_p(measured(pr_interval=150.0, p_axis=-30.4), marked)
    assert not led_by_p(measured(pr_interval=150.0, p_axis=-30.6), marked)


def fluttering(hertz: float, conducted: Array, size: float = 0.2) -> ECG:
    """Return flutter waves that conduct to the ventricles so many to one in turn."""
    times = 0.6 + np.cumsum(conducted) / hertz
    ecg = heart([(float(time), beat(Kind.SINUS, with_p=False)) for time in times], times[-1] + 0.8)
    time = np.arange(ecg.samples) / ecg.sampling_frequency
    waves = size * np.sin(2 * np.pi * hertz * (time - 0.6) + 1.0)
    shares = np.array([0.2, 1, 0.8, -0.6, -0.3, 0.9, 0.5, 0.1, 0, 0, 0, 0])
    signal = ecg.signal + np.outer(shares, waves)
    return ECG(signal=signal, leads=ecg.leads, sampling_frequency=ecg.sampling_frequency)


def said(ecg: ECG) -> dict[str, Finding]:
    return {item.key: item for item in analyse(ecg, [], patient=Patient(age=70.0)).findings}


@pytest.mark.parametrize(
    ("hertz", "leads"), [(4.2, STANDARD_12), (5.2, STANDARD_12), (4.7, (Lead.II,))]
)
def test_flutter_whose_conduction_changes_is_told_with_its_rate(
    hertz: float, leads: tuple[Lead, ...]
) -> None:
    ecg = fluttering(hertz, np.array([2, 3, 2, 2, 4, 2, 3, 3, 2, 2, 4, 2, 3, 2, 4]))
    found = said(ecg.select(leads))
    assert found["atrial_flutter"].present
    (evidence,) = found["atrial_flutter"].evidence
    assert abs(float(evidence.split()[2].removesuffix("/min")) - 60 * hertz) <= 2
    assert not found["atrial_fibrillation"].present
    assert not found["sinus_rhythm"].present
    assert found["pac"].present is None


def test_neither_irregular_sinus_rhythm_nor_fibrillation_is_flutter() -> None:
    times = np.cumsum(np.random.default_rng(3).uniform(0.55, 1.1, 11))
    sinus = heart([(float(time), beat(Kind.SINUS)) for time in times])
    for ecg in (sinus, simulate(Kind.ATRIAL_FIBRILLATION).ecg):
        assert not said(ecg)["atrial_flutter"].present
