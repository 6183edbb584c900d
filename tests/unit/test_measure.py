"""Measurements against hearts of known intervals, the cart's own values, and no heart at all."""

import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.data import get_testdata_file

from analysis.ecg import ECG, STANDARD_12, Lead
from analysis.measure import GLOBAL, measure
from analysis.result import FIDUCIAL_KINDS, Measurements
from analysis.synthetic import FLAT, Kind, Simulated, simulate

INTERVALS = ("p_duration", "pr_interval", "qrs_duration", "qt_interval")
AXES = ("p_axis", "qrs_axis", "t_axis")
HEARTS = [kind for kind in Kind if kind is not Kind.NOISE]


def value(measurements: Measurements, name: str) -> float:
    quantity = getattr(measurements, name)
    assert quantity.value is not None, f"{name}: {quantity.reason}"
    return float(quantity.value)


def assert_near(made: Simulated, tolerance: float) -> None:
    """Check every interval that the heart has, in ms, and that there is no other."""
    found = measure(made.ecg)
    assert value(found, "heart_rate") == pytest.approx(made.truth["heart_rate"], abs=1)
    for name in INTERVALS:
        if name in made.truth:
            assert value(found, name) == pytest.approx(made.truth[name], abs=tolerance), name
        else:
            assert getattr(found, name).value is None


@pytest.mark.parametrize("kind", HEARTS)
def test_without_noise_every_interval_is_within_4_ms(kind: Kind) -> None:
    assert_near(simulate(kind, noise=0.0, seed=5), 4.0)


@pytest.mark.parametrize("kind", HEARTS)
@pytest.mark.parametrize("seed", range(3))
def test_with_20_microvolt_noise_every_interval_is_within_10_ms(kind: Kind, seed: int) -> None:
    assert_near(simulate(kind, noise=0.02, seed=seed), 10.0)


@pytest.mark.parametrize("rate", [100.0, 125.0, 250.0, 257.0, 360.0, 1000.0])
def test_the_rate_of_sampling_hardly_matters(rate: float) -> None:
    assert_near(simulate(Kind.SINUS, sampling_frequency=rate, noise=0.005), 8.0)


@settings(max_examples=25, deadline=None)
@given(
    heart_rate=st.floats(45, 90),
    pr_interval=st.floats(130, 220),
    qrs_duration=st.floats(75, 120),
    seed=st.integers(0, 99),
)
def test_intervals_follow_the_heart(
    heart_rate: float, pr_interval: float, qrs_duration: float, seed: int
) -> None:
    made = simulate(
        Kind.SINUS,
        heart_rate=heart_rate,
        pr_interval=pr_interval,
        qrs_duration=qrs_duration,
        seed=seed,
        noise=0.0,
    )
    assert_near(made, 6.0)  # a QRS of 75 ms and a short P are the hardest (ACCURACY.md)


@pytest.mark.parametrize("kind", HEARTS)
def test_axes_are_within_five_degrees(kind: Kind) -> None:
    made = simulate(kind, noise=0.01)
    found = measure(made.ecg)
    for name in set(AXES) & set(made.truth):
        assert value(found, name) == pytest.approx(made.truth[name], abs=5), name


def test_corrected_qt_follows_the_four_formulas() -> None:
    found = measure(simulate(Kind.TACHYCARDIA).ecg)
    qt, rr = value(found, "qt_interval"), value(found, "rr_interval") / 1000
    assert value(found, "qtc_bazett") == pytest.approx(qt / rr**0.5)
    assert value(found, "qtc_fridericia") == pytest.approx(qt / rr ** (1 / 3))
    assert value(found, "qtc_framingham") == pytest.approx(qt + 154 * (1 - rr))
    assert value(found, "qtc_hodges") == pytest.approx(qt + 1.75 * (60 / rr - 60))


def test_fibrillation_is_more_variable_than_sinus_rhythm_and_has_no_p_wave() -> None:
    fibrillation = measure(simulate(Kind.ATRIAL_FIBRILLATION).ecg)
    sinus = measure(simulate(Kind.SINUS).ecg)
    assert value(fibrillation, "rr_variability") > 0.15 > value(sinus, "rr_variability")
    assert fibrillation.pr_interval.value is None
    assert fibrillation.pr_interval.reason
    assert np.isnan(fibrillation.fiducials[GLOBAL]["p_peak"]).all()


@pytest.mark.parametrize("kind", HEARTS)
def test_fiducials_have_one_row_per_beat_in_every_lead_in_order_of_time(kind: Kind) -> None:
    ecg = simulate(kind).ecg
    found = measure(ecg)
    assert set(found.fiducials) == {*STANDARD_12, GLOBAL}
    for marks in found.fiducials.values():
        table = np.stack([marks[mark] for mark in FIDUCIAL_KINDS], axis=1)
        assert table.shape == (found.r_peaks.size, len(FIDUCIAL_KINDS))
        for row in table:
            present = row[~np.isnan(row)]
            assert (np.diff(present) >= 0).all()
            assert ((present >= 0) & (present < ecg.samples)).all()


def test_fiducials_of_every_beat_lie_where_the_heart_puts_them() -> None:
    made = simulate(Kind.SINUS, sampling_frequency=1000.0, noise=0.0)
    marks = measure(made.ecg).fiducials[GLOBAL]
    onset = made.r_peaks - 0.42 * made.truth["qrs_duration"]
    p_onset = onset - made.truth["pr_interval"]
    inner = slice(1, -1)
    np.testing.assert_allclose(marks["qrs_onset"][inner], onset[inner], atol=8)
    np.testing.assert_allclose(marks["p_onset"][inner], p_onset[inner], atol=8)


def test_a_flat_lead_has_no_fiducials_and_spoils_no_interval() -> None:
    made = simulate(Kind.FLAT_LEAD)
    found = measure(made.ecg)
    assert all(np.isnan(marks).all() for marks in found.fiducials[FLAT].values())
    assert value(found, "qt_interval") == pytest.approx(made.truth["qt_interval"], abs=10)


def test_no_mark_lies_where_a_lead_has_no_sample() -> None:
    ecg = simulate(Kind.SINUS).ecg
    signal = ecg.signal.copy()
    signal[7, 2300:2500] = np.nan
    found = measure(ECG(signal=signal, leads=ecg.leads, sampling_frequency=500.0))
    for marks in found.fiducials[Lead.V2].values():
        assert not ((marks > 2300) & (marks < 2499)).any()
    marks = found.fiducials[GLOBAL]["r_peak"]
    assert ((marks > 2300) & (marks < 2499)).any()


def test_one_lead_gives_intervals_and_no_axis() -> None:
    made = simulate(Kind.SINUS)
    found = measure(made.ecg.select([Lead.II]))
    assert value(found, "pr_interval") == pytest.approx(made.truth["pr_interval"], abs=15)
    assert value(found, "qrs_duration") == pytest.approx(made.truth["qrs_duration"], abs=15)
    assert found.qrs_axis.value is None
    assert found.qrs_axis.reason == "fewer than two usable limb leads"


def test_two_limb_leads_give_the_axis() -> None:
    made = simulate(Kind.SINUS)
    found = measure(made.ecg.select([Lead.II, Lead.aVL]))
    assert value(found, "qrs_axis") == pytest.approx(made.truth["qrs_axis"], abs=5)


def test_measurements_rest_on_the_dominant_beats_and_say_which() -> None:
    made = simulate(Kind.SINUS)
    found = measure(made.ecg)
    assert set(found.qt_interval.beats) <= set(range(found.r_peaks.size))
    assert found.median_beat is not None
    assert found.median_beat.leads == STANDARD_12
    onset, offset = (found.median_fiducials[mark] for mark in ("qrs_onset", "t_offset"))
    length = (offset - onset) / found.median_beat.sampling_frequency * 1000
    assert length == pytest.approx(value(found, "qt_interval"))


def cart() -> ECG:
    """Return the rhythm of pydicom's cart file: microvolts at 1.25 per unit, no baseline."""
    dataset = pydicom.dcmread(str(get_testdata_file("waveform_ecg.dcm")))
    return ECG(
        signal=dataset.waveform_array(0).T / 1000,
        leads=STANDARD_12,
        sampling_frequency=float(dataset.WaveformSequence[0].SamplingFrequency),
    )


@pytest.mark.parametrize(
    ("name", "expected", "tolerance"),
    [
        ("heart_rate", 61.1, 2),
        ("rr_interval", 982, 10),
        ("pr_interval", 161, 15),
        ("qrs_duration", 75, 15),
        ("qt_interval", 368, 25),
        ("p_axis", 74, 15),
        ("qrs_axis", 52, 10),
        ("t_axis", 57, 10),
    ],
)
def test_a_real_cart_agrees(name: str, expected: float, tolerance: float) -> None:
    assert value(measure(cart()), name) == pytest.approx(expected, abs=tolerance)


def assert_nothing_invented(found: Measurements) -> None:
    assert found.r_peaks.size == 0
    for name, quantity in found.quantities():
        assert quantity.value is None, name
        assert quantity.reason


TIME = np.arange(5000) / 500.0
RANDOM = np.random.default_rng(8)
NO_HEART = {
    "asystole": 0.005 * RANDOM.standard_normal(TIME.size),
    "asystole with wander": 0.3 * np.sin(2 * np.pi * 0.2 * TIME),
    "mains": np.sin(2 * np.pi * 60 * TIME),
    "square wave": np.sign(np.sin(2 * np.pi * TIME + 0.1)),
    "fast square wave": np.sign(np.sin(2 * np.pi * 4 * TIME + 0.1)),
    "ventricular fibrillation": 0.4 * np.sin(
        2 * np.pi * 5 * TIME + np.cumsum(0.25 * RANDOM.standard_normal(TIME.size))
    ) * (1 + 0.6 * np.sin(2 * np.pi * 0.7 * TIME)),
    "white noise": 0.3 * RANDOM.standard_normal((12, TIME.size)),
    "all gaps": np.full(TIME.size, np.nan),
    "empty": np.zeros(0),
}  # fmt: skip


@pytest.mark.parametrize("name", NO_HEART)
@pytest.mark.parametrize("leads", [1, 2, 12])
def test_no_heart_gives_no_number(name: str, leads: int) -> None:
    rows = np.broadcast_to(NO_HEART[name], (12, NO_HEART[name].shape[-1]))
    ecg = ECG(signal=rows[:leads], leads=STANDARD_12[:leads], sampling_frequency=500.0)
    assert_nothing_invented(measure(ecg))


def test_no_leads_give_no_number() -> None:
    ecg = ECG(signal=np.zeros((0, 5000)), leads=(), sampling_frequency=500.0)
    assert_nothing_invented(measure(ecg))


def test_pacing_spikes_without_capture_give_no_interval() -> None:
    signal = 0.003 * np.random.default_rng(1).standard_normal((12, 5000))
    signal[:, 200::430] += 5
    found = measure(ECG(signal=signal, leads=STANDARD_12, sampling_frequency=500.0))
    assert found.pr_interval.value is None
    assert found.qt_interval.value is None


def test_pacing_spikes_do_not_move_the_intervals() -> None:
    made = simulate(Kind.LBBB)
    signal = made.ecg.signal.copy()
    signal[:, np.rint(made.r_peaks - 0.4 * 78).astype(int)] += 3
    found = measure(ECG(signal=signal, leads=STANDARD_12, sampling_frequency=500.0))
    assert value(found, "qrs_duration") == pytest.approx(made.truth["qrs_duration"], abs=10)


@pytest.mark.parametrize("duration", [1.0, 1.4, 2.0, 2.6, 3.3])
def test_few_beats_give_what_they_can_bear(duration: float) -> None:
    made = simulate(Kind.SINUS, duration=duration)
    found = measure(made.ecg)
    if found.r_peaks.size < 2:
        assert found.heart_rate.value is None
        assert found.pr_interval.value is None
    if found.r_peaks.size < 3:
        assert found.rr_variability.value is None
    if found.qrs_duration.value is not None:
        assert found.qrs_duration.value == pytest.approx(92, abs=15)


def assert_sound(found: Measurements) -> None:
    for name, quantity in found.quantities():
        if quantity.value is not None:
            assert np.isfinite(quantity.value), name
            assert name.endswith("axis") or quantity.value >= 0, name
            assert set(quantity.beats) <= set(range(found.r_peaks.size))
    for marks in found.fiducials.values():
        assert all(row.shape == found.r_peaks.shape for row in marks.values())


@st.composite
def disturbed(draw: st.DrawFn) -> ECG:
    """Return a heart with anything done to it: cut, lost leads, gaps, noise, steps, scale."""
    kind = draw(st.sampled_from(list(Kind)))
    rate = draw(st.sampled_from([100.0, 250.0, 300.0, 500.0]))
    ecg = simulate(kind, sampling_frequency=rate, seed=draw(st.integers(0, 9))).ecg
    random = np.random.default_rng(draw(st.integers(0, 99)))
    signal: npt.NDArray[np.floating] = ecg.signal[:, : draw(st.integers(0, ecg.samples))].copy()
    signal += draw(st.sampled_from([0.0, 0.05, 1.0])) * random.standard_normal(signal.shape)
    signal *= draw(st.sampled_from([0.0, 1e-3, 1.0, 100.0]))
    signal[random.random(signal.shape) < draw(st.sampled_from([0.0, 0.01, 0.5]))] = np.nan
    signal[random.random(12) < draw(st.sampled_from([0.0, 0.3, 0.9]))] = np.nan
    leads = draw(st.integers(0, 12))
    return ECG(signal=signal[:leads], leads=STANDARD_12[:leads], sampling_frequency=rate)


@settings(max_examples=150, deadline=None)
@given(disturbed())
def test_whatever_is_done_to_an_ecg_it_is_measured_or_refused_without_error(ecg: ECG) -> None:
    assert_sound(measure(ecg))
