"""What is made: two models, their input, their labels, and what each label rests on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from analysis.features import names
from analysis.recipe import Recipe

Groups = Sequence[tuple[str, ...]]

TWELVE_LEAD_GROUPS: Final[Groups] = (
    ("CPSC2018", "CPSC-Extra"),
    ("Chapman-Ningbo", "SPH"),
    ("PTB-XL", "PTB"),
    ("LUDB",),
)
"""Databases held out together; those of one origin are never on both sides."""
AUXILIARY: Final[Groups] = (("CinC2017",), ("MIT-BIH",))


class Family(StrEnum):
    """What a finding is told by."""

    RHYTHM = "rhythm"
    """RR intervals, P waves, odd beats: measured."""
    CONDUCTION = "conduction"
    """P waves, PR and QRS: measured."""
    BUNDLE = "bundle"
    """QRS in the leads that a bundle branch block is told by: measured."""
    MEASURED = "measured"
    """Everything that is measured."""
    SHAPE = "shape"
    """Everything that is measured, and networks on the waveform."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One model to be made.

    Parameters
    ----------
    stem
        Of its file.
    labels
        Each with what it rests on.
    groups
        Databases held out, one after the other.
    alone
        Whether it also learns from, and is judged on, single leads of 12-lead records.
    """

    name: str
    stem: str
    recipe: Recipe
    labels: Mapping[str, Family]
    groups: Groups
    alone: bool

    @property
    def shapes(self) -> tuple[str, ...]:
        """Labels that networks have a say in."""
        return tuple(key for key, family in self.labels.items() if family is Family.SHAPE)


_INPUT: Final = Recipe(
    sampling_frequency=100.0,
    samples=1000,
    stride=1000,
    minimum_seconds=5.0,
    allowed_missing=2,
    high_pass=0.5,
    low_pass=40.0,
)
ANY_INPUT: Final = Recipe(**_INPUT.to_mapping() | {"allowed_missing": 11})

_RHYTHMS: Final = dict.fromkeys(("atrial_fibrillation", "pac", "pvc"), Family.RHYTHM)
TWELVE_LEAD: Final = Plan(
    name="Sinusnode twelve-lead",
    stem="twelve-lead",
    recipe=_INPUT,
    labels={
        "normal": Family.SHAPE,
        **_RHYTHMS,
        "rbbb": Family.BUNDLE,
        "conduction_disturbance": Family.CONDUCTION,
        "myocardial_infarction": Family.SHAPE,
        "st_t_abnormality": Family.MEASURED,
    },
    groups=TWELVE_LEAD_GROUPS,
    alone=False,
)
ANY_LEAD: Final = Plan(
    name="Sinusnode any-lead",
    stem="any-lead",
    recipe=ANY_INPUT,
    labels=_RHYTHMS,
    groups=(*TWELVE_LEAD_GROUPS, *AUXILIARY),
    alone=True,
)

_OF_RHYTHM: Final = frozenset(
    """
    heart_rate p_duration pr_interval qrs_duration qt_interval jt_interval qtc_bazett
    qtc_fridericia rr_variability atrial_rate p_axis_cos p_axis_sin qrs_axis_cos qrs_axis_sin
    t_axis_cos t_axis_sin qt_dispersion irregularity entropy p_constancy p_likeness p_share
    atrial_frequency atrial_share atrial_cycles spike ventricular_share
    supraventricular_share aberrant_share paced_beats_share p_per_beat p_delay
    p_delay_deviation bump_delay bump_height bump_clearness alike_prematurity odd_share
    early_share early_alike_share fibrillation_margin
    """.split()  # noqa: SIM905 - a list of forty quoted names reads worse
)
_OF_P: Final = frozenset(
    """
    pr_interval p_duration p_delay p_delay_deviation bump_delay bump_height bump_clearness
    heart_rate p_constancy p_share p_per_beat irregularity qrs_duration qrs_axis_cos
    qrs_axis_sin
    """.split()  # noqa: SIM905 - as above
)
_BEATS: Final = ("oddest", "earliest", "strangest")
_LATE_QRS: Final = ("r_", "s_", "r2_", "half_time", "qrs_area")
_QRS: Final = ("q_", *_LATE_QRS)
_OF_BUNDLE: Final = frozenset({"qrs_duration", "qrs_axis_cos", "qrs_axis_sin"})
_BUNDLE_LEADS: Final = frozenset({"I", "V1", "V2", "V5", "V6"})

MARGINS: Final[Mapping[str, str]] = {
    "normal": "soundness_margin",
    "atrial_fibrillation": "fibrillation_margin",
    "rbbb": "rbbb_margin",
    "conduction_disturbance": "conduction_margin",
    "st_t_abnormality": "repolarisation_margin",
}
"""Labels to whose answer a criterion's margin is added, by the name of the feature."""


def margins(labels: Mapping[str, Family]) -> tuple[int | None, ...]:
    """Return for each label the place of the margin that is added to its answer, or None."""
    return tuple(names().index(MARGINS[key]) if key in MARGINS else None for key in labels)


def columns(family: Family) -> tuple[int, ...]:
    """Return the places in the table of the features that a family of findings may look at."""
    return tuple(at for at, name in enumerate(names()) if _belongs(name, family))


def _belongs(name: str, family: Family) -> bool:
    where, _, what = name.rpartition(".")
    match family:
        case Family.RHYTHM:
            return name in _OF_RHYTHM or name.startswith("rr_") or where in _BEATS
        case Family.CONDUCTION:
            of_qrs = where not in {"", *_BEATS} and what.startswith(_QRS)
            return name in _OF_P or of_qrs
        case Family.BUNDLE:
            return name in _OF_BUNDLE or (where in _BUNDLE_LEADS and what.startswith(_LATE_QRS))
        case Family.MEASURED | Family.SHAPE:
            return True
