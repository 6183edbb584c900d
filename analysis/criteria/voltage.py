"""Axis and voltage: where the forces point and how large they are."""

from analysis.criteria.case import Case, Criterion, Judgement, Unassessed
from analysis.ecg import LIMB, Lead, Sex

_LEFT_AXIS, _RIGHT_AXIS = -30.0, 90.0  # degrees
_LOW = 0.5  # mV from the lowest to the highest of QRS
_SOKOLOW, _SOKOLOW_AGE = 3.5, 35.0  # mV, years
_CORNELL = {Sex.MALE: 2.8, Sex.FEMALE: 2.0}  # mV
_RVH_R, _RVH_SUM = 0.7, 1.05  # mV
_TERMINAL_FORCE = 4.0  # mV·ms, 0.04 mm·s
_LONG_P = 120.0  # ms
_TALL_P, _TALL_P_V1 = 0.25, 0.15  # mV


def _axis(case: Case) -> tuple[float, str]:
    axis = case.value("qrs_axis")
    return axis, f"QRS axis {axis:.0f}°"


def left_axis(case: Case) -> Judgement:
    """QRS axis from −30° to −90° (Surawicz 2009)."""
    axis, text = _axis(case)
    return Judgement(-90.0 <= axis < _LEFT_AXIS, (text,))  # noqa: PLR2004 - degrees


def right_axis(case: Case) -> Judgement:
    """QRS axis above 90° to 180° (Surawicz 2009)."""
    axis, text = _axis(case)
    return Judgement(axis > _RIGHT_AXIS, (text,))


def low_voltage(case: Case) -> Judgement:
    """QRS of no limb lead above 0.5 mV from lowest to highest (Minnesota code 9-1)."""
    sizes = {lead: case.r(lead) + _deepest(case, lead) for lead in LIMB}
    largest = max(sizes, key=lambda lead: sizes[lead])
    return Judgement(
        sizes[largest] < _LOW, (f"largest limb lead QRS {sizes[largest]:.2f} mV in {largest}",)
    )


def _deepest(case: Case, lead: Lead) -> float:
    return max(case.lead(lead, "q_amplitude"), case.lead(lead, "s_amplitude"))


def lvh(case: Case) -> Judgement:
    """Sokolow-Lyon ≥ 3.5 mV from 35 years on, or Cornell > 2.8 mV in men, > 2.0 mV in women.

    Sokolow and Lyon 1949, Casale 1985; the age is that of Hancock 2009.
    """
    sex, age = case.patient.sex, case.patient.age
    if sex not in _CORNELL or age is None:
        raise Unassessed("the patient's sex is not known")
    sokolow, cornell = case.value("sokolow_lyon"), case.value("cornell_voltage")
    met = {
        f"Sokolow-Lyon {sokolow:.2f} mV": sokolow >= _SOKOLOW and age >= _SOKOLOW_AGE,
        f"Cornell {cornell:.2f} mV": cornell > _CORNELL[sex],
    }
    said = tuple(text for text, true in met.items() if true) or tuple(met)
    return Judgement(any(met.values()), said)


def rvh(case: Case) -> Judgement:
    """Axis above 90°, QRS < 120 ms, and tall R in V1: ≥ 0.7 mV and above S, or R + S V5 > 1.05 mV.

    Myers 1948, Sokolow and Lyon 1949 (Hancock 2009, table 5).
    """
    axis, text = _axis(case)
    tall, total = case.r(Lead.V1), case.r(Lead.V1) + max(case.s(Lead.V5), case.s(Lead.V6))
    dominant = tall >= _RVH_R and tall > case.s(Lead.V1)
    present = axis > _RIGHT_AXIS and not case.wide and (dominant or total > _RVH_SUM)
    said = (text, f"R in V1 {tall:.2f} mV", f"R in V1 + S in V5 or V6 {total:.2f} mV")
    return Judgement(present, said, (Lead.V1,) if present else ())


def lae(case: Case) -> Judgement:
    """P ≥ 120 ms and P terminal force in V1 ≥ 0.04 mm·s (Morris 1964, Hancock 2009)."""
    duration = case.value("p_duration")
    force = case.lead(Lead.V1, "p_terminal_force")
    present = duration >= _LONG_P and force >= _TERMINAL_FORCE
    said = (f"P duration {duration:.0f} ms", f"P terminal force in V1 {force:.1f} mV·ms")
    return Judgement(present, said, (Lead.V1,) if present else ())


def rae(case: Case) -> Judgement:
    """P above 0.25 mV in II or above 0.15 mV in V1 (Hancock 2009)."""
    heights = {lead: case.lead(lead, "p_amplitude") for lead in (Lead.II, Lead.V1)}
    limits = {Lead.II: _TALL_P, Lead.V1: _TALL_P_V1}
    found = tuple(lead for lead, value in heights.items() if value > limits[lead])
    said = tuple(f"P in {lead} {value:.2f} mV" for lead, value in heights.items())
    return Judgement(bool(found), said, found)


CRITERIA: tuple[tuple[str, Criterion], ...] = (
    ("left_axis", left_axis),
    ("right_axis", right_axis),
    ("low_voltage", low_voltage),
    ("lvh", lvh),
    ("rvh", rvh),
    ("lae", lae),
    ("rae", rae),
)
