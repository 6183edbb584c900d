"""Which kind of beat a reader is told of: what its shape and timing say, if criteria agree."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from analysis.result import BeatKind, Origin, Result

_WORDS: Final[Mapping[BeatKind, str]] = MappingProxyType(
    {
        BeatKind.DOMINANT: "dominant",
        BeatKind.PACED: "dominant, paced",
        BeatKind.SUPRAVENTRICULAR: "premature, narrow",
        BeatKind.ABERRANT: "premature, aberrant",
        BeatKind.VENTRICULAR: "ventricular",
        BeatKind.OTHER: "another shape",
    }
)
_PREMATURE: Final = frozenset({"pac", "atrial_bigeminy"})
_VENTRICULAR: Final = frozenset({"pvc", "ventricular_bigeminy"})


def beat_kinds(result: Result) -> tuple[BeatKind, ...]:
    """Return the kind of each beat, in the order of the R peaks.

    Ectopic beats are named only where the criteria found them (atrial ones cannot be told in
    atrial fibrillation), paced ones only where the rhythm was found to be paced.
    """
    meas = result.measurements
    found = {f.key for f in result.findings if f.present and f.origin is Origin.CRITERIA}
    shown = dict.fromkeys(BeatKind, BeatKind.OTHER)
    shown[BeatKind.DOMINANT] = BeatKind.PACED if "paced" in found else BeatKind.DOMINANT
    shown[BeatKind.SUPRAVENTRICULAR] = shown[BeatKind.DOMINANT]
    if found & _PREMATURE:
        shown |= {kind: kind for kind in (BeatKind.SUPRAVENTRICULAR, BeatKind.ABERRANT)}
    if found & _VENTRICULAR:
        shown[BeatKind.VENTRICULAR] = BeatKind.VENTRICULAR
    kinds = meas.beat_kinds or (BeatKind.DOMINANT,) * meas.r_peaks.size
    return tuple(shown[kind] for kind in kinds)


def words_of(kind: BeatKind) -> str:
    """Return the kind in the words of a legend."""
    return _WORDS[kind]
