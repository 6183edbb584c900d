"""The criteria at their limits, on hearts made to lie on either side, and on no heart at all."""

from collections.abc import Callable, Mapping
from dataclasses import fields, replace

import numpy as np
import numpy.typing as npt
import pytest
from hearts import RATE, beat, heart, lifted, regular, scaled, turned
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis import criteria
from analysis.analyse import analyse
from analysis.codes import VOCABULARY
from analysis.criteria.case import contiguous, in_contiguous_leads
from analysis.ecg import ECG, STANDARD_12, Lead, Patient, Sex
from analysis.result import (
    LEAD_QUANTITIES,
    Finding,
    LeadMeasurements,
    Measurements,
    Quality,
    QualityReason,
    Quantity,
    Verdict,
)
from analysis.rhythm import Rhythm
from analysis.synthetic import Kind, simulate

MAN = Patient(age=50.0, sex=Sex.MALE)
YOUNG_MAN = Patient(age=30.0, sex=Sex.MALE)
WOMAN = Patient(age=50.0, sex=Sex.FEMALE)
AVL_LATE = {Lead.aVL: {"q_amplitude": 0.1, "r_peak_time": 46.0}}
AVL_EARLY = {Lead.aVL: {"q_amplitude": 0.1, "r_peak_time": 44.0}}
FULL = Quality(verdict=Verdict.FULL)
Array = npt.NDArray[np.float64]
Values = Mapping[Lead, dict[str, float]]

USUAL = {
    "heart_rate": 70.0, "rr_interval": 857.0, "rr_variability": 0.02, "p_duration": 100.0,
    "pr_interval": 160.0, "qrs_duration": 90.0, "qt_interval": 390.0, "p_axis": 50.0,
    "qrs_axis": 40.0, "t_axis": 40.0, "sokolow_lyon": 2.0, "cornell_voltage": 1.0,
}  # fmt: skip
UPRIGHT = {"r_amplitude": 1.0, "r_duration": 50.0, "r_peak_time": 40.0, "t_amplitude": 0.3,
           "p_amplitude": 0.1}  # fmt: skip
DOWN = {"r_amplitude": 0.2, "s_amplitude": 1.0, "s_duration": 50.0, "r_peak_time": 20.0,
        "r_duration": 25.0, "t_amplitude": 0.1}  # fmt: skip
USUAL_LEADS: Values = {
    lead: DOWN if lead in {Lead.aVR, Lead.V1, Lead.V2} else UPRIGHT for lead in STANDARD_12
}


def quantity(value: float | None) -> Quantity:
    reason = "a test" if value is None else None
    unit = "mV" if value is not None and value < 10 else "ms"
    return Quantity(value=value, unit=unit, method="", reason=reason)


def table(values: Values) -> LeadMeasurements:
    """Return a table in which what is not said is 0."""
    rows = [[values[lead].get(name, 0.0) for name in LEAD_QUANTITIES] for lead in values]
    return LeadMeasurements(leads=tuple(values), values=np.array(rows))


def rhythm(beats: int = 12, **changes: object) -> Rhythm:
    usual: dict[str, object] = {
        "rr": np.full(beats - 1, 857.0), "ventricular": np.zeros(beats, np.bool_),
        "supraventricular": np.zeros(beats, np.bool_), "normal": np.ones(beats, np.bool_),
        "aberrant": np.zeros(beats, np.bool_), "paced_beats": np.zeros(beats, np.bool_),
        "irregularity": 0.01, "p_constancy": 100.0, "p_share": 1.0, "atrial_frequency": 5.0,
        "atrial_share": 0.1, "atrial_cycles": 1.0, "spike": 0.0,
    }  # fmt: skip
    return Rhythm(**(usual | changes))  # type: ignore[arg-type]


def judged(
    key: str,
    leads: Values | None = None,
    *,
    patient: Patient = MAN,
    quality: Quality = FULL,
    seen: Rhythm | None = None,
    **values: float | None,
) -> Finding:
    """Return one finding of a heart that is usual but for these values."""
    everything = {
        item.name: quantity((USUAL | values).get(item.name))
        for item in fields(Measurements)
        if item.type is Quantity or item.type == "Quantity"
    }
    changed = {lead: USUAL_LEADS[lead] | (leads or {}).get(lead, {}) for lead in STANDARD_12}
    case = criteria.Case(
        measurements=Measurements(**everything, r_peaks=np.empty(0), fiducials={}),
        leads=table(changed),
        rhythm=seen or rhythm(),
        quality=quality,
        patient=patient,
        qtc=quantity(values.get("qtc", 420.0)),
        qtc_formula="fridericia",
    )
    return next(item for item in criteria.assess(case) if item.key == key)


BLOCK = {lead: {"q_amplitude": 0.0, "r_peak_time": 70.0, "r_duration": 120.0}
         for lead in (Lead.I, Lead.V5, Lead.V6)}  # fmt: skip
RIGHT = {
    Lead.V1: {"r_amplitude": 0.2, "s_amplitude": 0.3, "r2_amplitude": 0.8},
    Lead.I: {"s_amplitude": 0.3, "s_duration": 60.0},
    Lead.V6: {"s_amplitude": 0.3, "s_duration": 60.0},
}


def st_j(level: float, *leads: Lead) -> Values:
    return {lead: {"st_j": level, "st_80": level} for lead in leads}


def q(milliseconds: float, depth: float, *leads: Lead) -> Values:
    return {lead: {"q_duration": milliseconds, "q_amplitude": depth} for lead in leads}


@pytest.mark.parametrize(
    ("key", "absent", "present"),
    [
        ("sinus_bradycardia", {"heart_rate": 60.0}, {"heart_rate": 59.0}),
        ("sinus_tachycardia", {"heart_rate": 100.0}, {"heart_rate": 101.0}),
        ("av_block_1", {"pr_interval": 200.0}, {"pr_interval": 201.0}),
        ("left_axis", {"qrs_axis": -30.0}, {"qrs_axis": -31.0}),
        ("right_axis", {"qrs_axis": 90.0}, {"qrs_axis": 91.0}),
        ("left_axis", {"qrs_axis": -91.0}, {"qrs_axis": -90.0}),
        ("ivcd", {"qrs_duration": 119.0}, {"qrs_duration": 120.0}),
        ("lbbb", {"leads": BLOCK, "qrs_duration": 119.0}, {"leads": BLOCK, "qrs_duration": 120.0}),
        ("incomplete_lbbb", {"leads": BLOCK, "qrs_duration": 109.0},
         {"leads": BLOCK, "qrs_duration": 110.0}),
        ("incomplete_lbbb", {"leads": BLOCK, "qrs_duration": 120.0},
         {"leads": BLOCK, "qrs_duration": 119.0}),
        ("rbbb", {"leads": RIGHT, "qrs_duration": 119.0}, {"leads": RIGHT, "qrs_duration": 120.0}),
        ("incomplete_rbbb", {"leads": RIGHT, "qrs_duration": 120.0},
         {"leads": RIGHT, "qrs_duration": 119.0}),
        ("lafb", {"qrs_axis": -44.0, "leads": AVL_LATE}, {"qrs_axis": -45.0, "leads": AVL_LATE}),
        ("lafb", {"qrs_axis": -60.0, "leads": AVL_EARLY}, {"qrs_axis": -60.0, "leads": AVL_LATE}),
        ("lvh", {"sokolow_lyon": 3.49}, {"sokolow_lyon": 3.5}),
        ("lvh", {"cornell_voltage": 2.8}, {"cornell_voltage": 2.81}),
        ("lvh", {"cornell_voltage": 2.0, "patient": WOMAN},
         {"cornell_voltage": 2.01, "patient": WOMAN}),
        ("lvh", {"sokolow_lyon": 4.0, "patient": YOUNG_MAN}, {"sokolow_lyon": 4.0}),
        ("rvh", {"qrs_axis": 120.0, "leads": {Lead.V1: {"r_amplitude": 0.6, "s_amplitude": 0.1}}},
         {"qrs_axis": 120.0, "leads": {Lead.V1: {"r_amplitude": 0.8, "s_amplitude": 0.1}}}),
        ("low_voltage", {}, {"leads": {lead: {"r_amplitude": 0.3, "s_amplitude": 0.1}
                                       for lead in STANDARD_12[:6]}}),
        ("lae", {"p_duration": 130.0, "leads": {Lead.V1: {"p_terminal_force": 3.9}}},
         {"p_duration": 130.0, "leads": {Lead.V1: {"p_terminal_force": 4.0}}}),
        ("rae", {"leads": {Lead.II: {"p_amplitude": 0.25}}},
         {"leads": {Lead.II: {"p_amplitude": 0.26}}}),
        ("long_qt", {"qtc": 449.0}, {"qtc": 450.0}),
        ("long_qt", {"qtc": 459.0, "patient": WOMAN}, {"qtc": 460.0, "patient": WOMAN}),
        ("short_qt", {"qtc": 331.0}, {"qtc": 330.0}),
        ("st_elevation", {"leads": st_j(0.09, Lead.II, Lead.III)},
         {"leads": st_j(0.1, Lead.II, Lead.III)}),
        ("st_elevation", {"leads": st_j(0.19, Lead.V2, Lead.V3)},
         {"leads": st_j(0.2, Lead.V2, Lead.V3)}),
        ("st_elevation", {"leads": st_j(0.24, Lead.V2, Lead.V3), "patient": YOUNG_MAN},
         {"leads": st_j(0.25, Lead.V2, Lead.V3), "patient": YOUNG_MAN}),
        ("st_elevation", {"leads": st_j(0.14, Lead.V2, Lead.V3), "patient": WOMAN},
         {"leads": st_j(0.15, Lead.V2, Lead.V3), "patient": WOMAN}),
        ("st_elevation", {"leads": st_j(0.3, Lead.II, Lead.V6)},
         {"leads": st_j(0.3, Lead.V5, Lead.V6)}),
        ("st_depression", {"leads": st_j(-0.04, Lead.V4, Lead.V5)},
         {"leads": st_j(-0.05, Lead.V4, Lead.V5)}),
        ("st_depression",
         {"leads": {lead: {"st_j": -0.2, "st_80": 0.1} for lead in (Lead.V4, Lead.V5)}},
         {"leads": {lead: {"st_j": -0.1, "st_80": -0.15} for lead in (Lead.V4, Lead.V5)}}),
        ("t_inversion", {"leads": {lead: {"t_amplitude": -0.09} for lead in (Lead.V4, Lead.V5)}},
         {"leads": {lead: {"t_amplitude": -0.1} for lead in (Lead.V4, Lead.V5)}}),
        ("t_inversion", {"leads": {lead: {"t_amplitude": -0.3} for lead in (Lead.V1, Lead.V2)}},
         {"leads": {lead: {"t_amplitude": -0.3} for lead in (Lead.V3, Lead.V4)}}),
        ("pathological_q", {"leads": q(29, 0.3, Lead.II, Lead.aVF)},
         {"leads": q(30, 0.3, Lead.II, Lead.aVF)}),
        ("pathological_q", {"leads": q(40, 0.09, Lead.I, Lead.aVL)},
         {"leads": q(40, 0.1, Lead.I, Lead.aVL)}),
        ("pathological_q", {"leads": q(20, 0.05, Lead.V2, Lead.V3)},
         {"leads": q(22, 0.05, Lead.V2, Lead.V3)}),
        ("pathological_q", {"leads": q(60, 0.5, Lead.I, Lead.II)},
         {"leads": q(60, 0.5, Lead.II, Lead.III)}),
        ("svt", {"heart_rate": 149.0, "pr_interval": None},
         {"heart_rate": 150.0, "pr_interval": None}),
        ("preexcitation",
         {"pr_interval": 120.0, "qrs_duration": 130.0,
          "leads": {lead: {"half_time": 60.0} for lead in STANDARD_12}},
         {"pr_interval": 119.0, "qrs_duration": 130.0,
          "leads": {lead: {"half_time": 60.0} for lead in STANDARD_12}}),
        ("atrial_fibrillation", {"seen": rhythm(irregularity=0.05, p_constancy=2.0)},
         {"seen": rhythm(irregularity=0.06, p_constancy=2.0)}),
        ("atrial_fibrillation", {"seen": rhythm(irregularity=0.2, p_constancy=8.0)},
         {"seen": rhythm(irregularity=0.2, p_constancy=7.9)}),
        ("paced", {"seen": rhythm(spike=0.1)}, {"seen": rhythm(spike=0.3)}),
    ],
)  # fmt: skip
def test_a_definition_flips_at_its_limit(
    key: str, absent: dict[str, object], present: dict[str, object]
) -> None:
    below = judged(key, **absent)  # type: ignore[arg-type]
    above = judged(key, **present)  # type: ignore[arg-type]
    assert (below.present, above.present) == (False, True), (below, above)
    assert above.evidence


def test_the_leads_that_carry_a_finding_are_named_with_their_numbers() -> None:
    found = judged("st_elevation", st_j(0.31, Lead.V3, Lead.V4, Lead.II))
    assert found.leads == (Lead.V3, Lead.V4)
    assert found.evidence == ("ST in V3 +0.31 mV", "ST in V4 +0.31 mV")


@pytest.mark.parametrize(
    ("key", "patient"),
    [
        ("st_elevation", Patient(age=50.0)),
        ("lvh", Patient(age=50.0)),
        ("long_qt", Patient(age=50.0, sex=Sex.OTHER)),
        ("sinus_bradycardia", Patient(sex=Sex.MALE)),
        ("sinus_tachycardia", Patient(age=17.9, sex=Sex.MALE)),
    ],
)
def test_where_the_definition_asks_age_or_sex_their_absence_is_said(
    key: str, patient: Patient
) -> None:
    found = judged(key, patient=patient)
    assert found.present is None
    assert found.reason is not None
    assert any(word in found.reason for word in ("age", "sex", "18 years"))


def test_pacing_silences_every_finding_that_it_would_falsify() -> None:
    for key, entry in VOCABULARY.items():
        if entry.not_when_paced and key in dict(criteria.CRITERIA):
            found = judged(key, seen=rhythm(spike=0.5), qrs_duration=160.0)
            assert found.reason == "the rhythm is paced", key
    assert judged("atrial_fibrillation", seen=rhythm(spike=0.5)).present is None


def test_reversed_leads_silence_axis_q_st_and_hypertrophy() -> None:
    quality = Quality(verdict=Verdict.LIMITED, reasons=(QualityReason.ARM_REVERSAL,))
    for key in ("left_axis", "right_axis", "pathological_q", "st_elevation", "st_depression",
                "lvh", "rvh", "lafb", "t_inversion"):  # fmt: skip
        assert judged(key, quality=quality).reason == "limb leads may be reversed"


def test_nothing_is_judged_on_an_ecg_that_cannot_be_read() -> None:
    poor = Quality(verdict=Verdict.NON_DIAGNOSTIC)
    for key, _ in criteria.CRITERIA:
        assert judged(key, quality=poor).reason == "the ECG is non-diagnostic"


def test_a_wide_qrs_leaves_st_t_qt_and_q_unjudged_except_beside_right_bundle_branch_block() -> None:
    for key in ("st_elevation", "st_depression", "t_inversion", "long_qt", "short_qt"):
        assert judged(key, BLOCK, qrs_duration=150.0).present is None
    assert judged("pathological_q", BLOCK, qrs_duration=150.0).present is None
    lateral = {**RIGHT, Lead.V5: {"st_j": 0.2}, Lead.V6: {**RIGHT[Lead.V6], "st_j": 0.2}}
    assert judged("st_elevation", lateral, qrs_duration=150.0).leads == (Lead.V5, Lead.V6)


def test_without_p_waves_a_wide_qrs_is_still_judged() -> None:
    assert judged("ivcd", qrs_duration=130.0, pr_interval=None).present
    q_waves = q(40, 0.3, Lead.II, Lead.aVF)
    assert judged("pathological_q", q_waves, qrs_duration=130.0, pr_interval=None).present


def test_a_finding_is_not_absent_where_a_lead_it_needs_was_not_measured() -> None:
    missing = {Lead.V2: {"st_j": np.nan}}
    assert judged("st_elevation", missing).present is None
    assert judged("st_elevation", {**missing, **st_j(0.3, Lead.II, Lead.III)}).present


def test_contiguous_leads_are_neighbours_in_their_group() -> None:
    assert contiguous([Lead.V1, Lead.V3, Lead.V4, Lead.I]) == (Lead.V3, Lead.V4)
    assert contiguous([Lead.II, Lead.V6, Lead.aVL]) == ()
    values = dict.fromkeys(STANDARD_12, 0.0)
    assert not in_contiguous_leads(values, [Lead.II], "ST").present


def test_every_criterion_names_its_source_and_belongs_to_the_vocabulary_once() -> None:
    keys = [key for key, _ in criteria.CRITERIA]
    assert len(keys) == len(set(keys))
    assert set(keys) <= set(VOCABULARY)
    for key, criterion in criteria.CRITERIA:
        assert criterion.__doc__, key


# --- whole hearts ----------------------------------------------------------------------------

SINUS, WIDE = beat(Kind.SINUS), beat(Kind.LBBB, with_p=False)
NO_P = beat(Kind.SINUS, with_p=False)


def found(ecg: ECG, patient: Patient = MAN) -> set[str]:
    """Return the keys that the criteria find."""
    return {item.key for item in analyse(ecg, [], patient=patient).findings if item.present}


@pytest.mark.parametrize(("pr", "block"), [(188.0, False), (212.0, True)])
def test_simulated_pr_interval_flips_first_degree_block(pr: float, *, block: bool) -> None:
    keys = found(simulate(Kind.SINUS, pr_interval=pr, noise=0.0).ecg)
    assert ("av_block_1" in keys) == block


@pytest.mark.parametrize(("rate", "key"), [(56, "sinus_bradycardia"), (108, "sinus_tachycardia")])
def test_simulated_rate_is_named(rate: float, key: str) -> None:
    keys = found(simulate(Kind.SINUS, heart_rate=rate, pr_interval=140.0).ecg)
    assert key in keys
    assert "sinus_rhythm" in keys


@pytest.mark.parametrize(("degrees", "key"), [(-115, "left_axis"), (60, "right_axis"), (0, None)])
def test_turning_the_heart_in_the_frontal_plane_turns_the_axis(
    degrees: float, key: str | None
) -> None:
    heart = turned(simulate(Kind.SINUS, noise=0.0).ecg, degrees)
    without_v6 = heart.select(lead for lead in heart.leads if lead is not Lead.V6)  # not turned
    assert found(without_v6) & {"left_axis", "right_axis"} == ({key} if key else set())


@pytest.mark.parametrize(("factor", "key"), [(2.0, "lvh"), (0.3, "low_voltage"), (1.0, None)])
def test_scaling_the_heart_makes_hypertrophy_or_low_voltage(factor: float, key: str | None) -> None:
    keys = found(scaled(simulate(Kind.SINUS, noise=0.0).ecg, factor)) & {"lvh", "low_voltage"}
    assert keys == ({key} if key else set())


@pytest.mark.parametrize(("qt", "key"), [(300.0, "short_qt"), (520.0, "long_qt"), (400.0, None)])
def test_simulated_qt_is_named(qt: float, key: str | None) -> None:
    keys = found(simulate(Kind.SINUS, qt_interval=qt, heart_rate=60.0, noise=0.0).ecg)
    assert keys & {"short_qt", "long_qt"} == ({key} if key else set())


@pytest.mark.parametrize(("level", "key"), [(0.35, "st_elevation"), (-0.2, "st_depression")])
def test_lifted_st_segments_are_named_with_their_leads(level: float, key: str) -> None:
    made = simulate(Kind.SINUS, noise=0.0)
    ecg = lifted(made.ecg, made.r_peaks, dict.fromkeys((Lead.V3, Lead.V4), level))
    (named,) = [item for item in analyse(ecg, [], patient=MAN).findings if item.key == key]
    assert named.present
    assert named.leads == (Lead.V3, Lead.V4)


def rhythm_of(pattern: str, rr: float = 0.8) -> ECG:
    """Return a heart: N normal, A early and narrow, V early and wide, each with its pause."""
    time, beats = 0.5, []
    for letter in pattern:
        early = letter != "N"
        time += rr * (0.62 if early else 1.0)
        beats.append((time, {"N": SINUS, "A": SINUS, "V": WIDE}[letter]))
        time += rr * 0.3 if early else 0.0
    return heart(beats, duration=time + 0.8)


def test_a_wide_early_beat_is_ventricular_and_a_narrow_one_is_not() -> None:
    assert {"pvc", "pac"} & found(rhythm_of("NNNNVNNNNN")) == {"pvc"}
    assert {"pvc", "pac"} & found(rhythm_of("NNNNANNNNN")) == {"pac"}
    assert not {"pvc", "pac"} & found(rhythm_of("NNNNNNNNNN"))


def test_a_wide_shape_that_never_comes_early_is_no_ventricular_premature_beat() -> None:
    ecg = heart([
        (time, WIDE if 3 <= place < 6 else SINUS)
        for place, time in enumerate(np.arange(0.5, 9.7, 0.8))
    ])  # fmt: skip
    assert "pvc" not in found(ecg)


def test_a_shape_that_comes_early_is_ventricular_wherever_it_comes() -> None:
    times = [0.5, 1.3, 2.1, 2.6, 3.1, 3.6, 4.6, 5.4, 6.2, 7.0, 7.8, 8.6]
    run = heart([(time, WIDE if 3 <= place < 6 else SINUS) for place, time in enumerate(times)])
    (pvc,) = [item for item in analyse(run, [], patient=MAN).findings if item.key == "pvc"]
    assert pvc.present
    assert pvc.evidence == ("3 of 12 beats ectopic with a wide QRS",)


def test_premature_beats_do_not_make_fibrillation() -> None:
    for pattern in ("NNANNANNANN", "NNVNNNVNNVN"):
        assert "atrial_fibrillation" not in found(rhythm_of(pattern))


@pytest.mark.parametrize(
    ("pattern", "key"),
    [("NNVNVNVNVNVN", "ventricular_bigeminy"), ("NNANANANANAN", "atrial_bigeminy")],
)
def test_every_second_beat_premature_is_a_bigeminus(pattern: str, key: str) -> None:
    assert key in found(rhythm_of(pattern))
    assert key not in found(rhythm_of(f"{pattern[:5]}NNN{pattern[5:]}"[:8] + "NNN"))


def test_irregular_beats_without_p_fibrillate_and_with_p_do_not() -> None:
    random = np.random.default_rng(3)
    times = np.cumsum(random.uniform(0.55, 1.1, 11))
    assert "atrial_fibrillation" in found(heart([(time, NO_P) for time in times]))
    assert "atrial_fibrillation" not in found(heart([(time, SINUS) for time in times]))


def test_a_rate_that_swings_with_breathing_is_sinus_arrhythmia() -> None:
    times = 0.5 + np.cumsum(0.85 + 0.12 * np.sin(np.arange(10) * 2 * np.pi / 5))
    keys = found(heart([(time, SINUS) for time in times]))
    assert "sinus_arrhythmia" in keys
    assert not keys & {"atrial_fibrillation", "pac"}


def test_flutter_waves_between_t_and_qrs_are_named_with_their_rate() -> None:
    ecg = regular(0.9, NO_P)
    time = np.arange(ecg.samples) / RATE
    waves = 0.15 * np.sin(2 * np.pi * 5.0 * time)
    signal = ecg.signal + np.outer([0.2, 1, 0.8, -0.6, -0.3, 0.9, 0.5, 0.1, 0, 0, 0, 0], waves)
    result = analyse(ECG(signal=signal, leads=ecg.leads, sampling_frequency=RATE), [], patient=MAN)
    (flutter,) = [item for item in result.findings if item.key == "atrial_flutter"]
    assert flutter.present
    assert result.measurements.atrial_rate.value == pytest.approx(300, abs=10)


def test_spikes_before_the_qrs_are_pacing_and_silence_the_block() -> None:
    ecg = regular(0.9, WIDE)
    signal = ecg.signal.copy()
    for time in np.arange(0.5, 9.7, 0.9):
        signal[:, round((time - 0.09) * RATE)] += 1.5
    paced = analyse(ECG(signal=signal, leads=ecg.leads, sampling_frequency=RATE), [], patient=MAN)
    keys = [statement.key for statement in paced.statements]
    assert keys[0] == "paced"
    assert paced.statements[0].evidence[0].endswith("before 11 of 11 QRS complexes")
    assert not {"lbbb", "ivcd", "lvh", "long_qt"} & set(keys)
    assert "lbbb" in found(ecg)


def test_heart_rate_variability_is_of_normal_beats_and_says_when_they_are_too_few() -> None:
    steady = analyse(rhythm_of("NNNNNVNNNNNN"), []).measurements
    assert steady.sdnn.value is not None
    assert steady.sdnn.value < 5
    assert "10" in steady.sdnn.method or "9" in steady.sdnn.method
    few = analyse(rhythm_of("NNNN"), []).measurements
    assert few.sdnn.value is None
    assert few.sdnn.reason == "fewer than 5 successive normal-to-normal intervals"


def test_atrial_rate_is_that_of_the_p_waves_or_unknown() -> None:
    sinus = analyse(simulate(Kind.SINUS).ecg, []).measurements
    assert sinus.atrial_rate.value == sinus.heart_rate.value
    fibrillation = analyse(simulate(Kind.ATRIAL_FIBRILLATION).ecg, []).measurements
    assert fibrillation.atrial_rate.value is None


# --- no heart at all -------------------------------------------------------------------------


SHAPES: Mapping[str, Callable[[Array], Array]] = {
    "flat": np.zeros_like,
    "none": lambda time: np.full_like(time, np.nan),
    "chaos": lambda time: np.random.default_rng(time.size).standard_normal(time.size),
    "square": lambda time: np.sign(np.sin(2 * np.pi * time)),
    "mains": lambda time: np.sin(2 * np.pi * 60 * time),
    "fibrillating": lambda time: np.sin(10 * np.pi * time) * np.sin(1.4 * np.pi * time),
    "one beat": lambda time: np.exp(-(((time - time.mean()) / 0.02) ** 2)),
    "paced": lambda time: (
        np.where(np.mod(time, 0.9) < 0.004, 3.0, 0.0)
        + np.exp(-(((np.mod(time - 0.1, 0.9)) / 0.06) ** 2))
    ),
    "flutter": lambda time: (
        0.2 * np.sin(10 * np.pi * time) + np.exp(-(((np.mod(time, 0.8) - 0.4) / 0.02) ** 2))
    ),
    "few beats": lambda time: np.exp(-(((np.mod(time, 2.0) - 1) / 0.02) ** 2)),
}


@st.composite
def signals(draw: st.DrawFn) -> ECG:
    """Return a signal of any shape, leads and length, sometimes with its end missing."""
    leads = STANDARD_12[: draw(st.sampled_from([1, 2, 6, 8, 12]))]
    rate = draw(st.sampled_from([100.0, 250.0, 500.0]))
    samples = draw(st.integers(1, 5 * int(rate)))
    shape = SHAPES[draw(st.sampled_from(sorted(SHAPES)))](np.arange(samples) / rate)
    signal = np.outer(np.linspace(-1, 1, len(leads)), shape)
    if draw(st.booleans()):
        signal[:, draw(st.integers(0, samples - 1)) :] = np.nan
    return ECG(signal=signal, leads=leads, sampling_frequency=rate)


@settings(deadline=None, max_examples=150)
@given(ecg=signals(), patient=st.sampled_from([MAN, WOMAN, Patient()]))
def test_no_signal_makes_the_criteria_raise_and_every_finding_is_judged_or_explained(
    ecg: ECG, patient: Patient
) -> None:
    result = analyse(ecg, [], patient=patient)
    for item in result.findings:
        assert (item.present is None) == bool(item.reason)
        assert not item.present or not any("nan" in text for text in item.evidence), item
    if not np.isfinite(ecg.signal).any():
        assert not any(item.present for item in result.findings)


def test_no_criterion_is_present_where_nothing_was_measured() -> None:
    nothing = {name: dict.fromkeys(LEAD_QUANTITIES, np.nan) for name in STANDARD_12}
    unmeasured = dict.fromkeys(USUAL)
    unknown = replace(rhythm(2), **{
        item.name: np.nan for item in fields(Rhythm) if item.type in (float, "float")
    })  # fmt: skip
    for key, _ in criteria.CRITERIA:
        assert not judged(key, nothing, seen=unknown, qtc=None, **unmeasured).present, key
