"""What AI writes on the copy of an ECG (PS3.3 C.10.10): texts, numbers, quality and beats.

Viewers that show annotations show a table of texts, of numbers with units and of points: so every
statement is a text beside its code, and what is to be found on the curve is a point. A wave is
also a segment, as CID 3335 means it; that context group has no onsets and offsets of its own,
whose points bear the SCP-ECG codes that it held before and that carts write.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, islice
from types import MappingProxyType
from typing import Any, Final

from analysis.ecg import Code, Lead
from analysis.paper.beats import beat_kinds
from analysis.paper.tracing import rhythm_lead
from analysis.result import BeatKind, Marks, QualityReason, Result
from dicom_node.report import concepts as c
from dicom_node.report.draft import Attributes
from dicom_node.report.objects import (
    SAFETY_SENTENCE,
    headline,
    is_reported,
    models_line,
    spoken,
)
from dicom_node.report.shell import ascii_text

MARKED_BEATS: Final = 100
"""Beats that are marked at most: about a thousand rows in a viewer's table."""

_TEXT_LIMIT: Final = 1024
_LAST_NUMBER: Final = 0xFFFF
_EVERY_CHANNEL: Final = (1, 0)


def _mdc(value: str, meaning: str) -> Code:
    return Code("MDC", value, meaning)


def _scp(value: str, meaning: str) -> list[Attributes]:
    """Return a code of SCP-ECG, which needs its version."""
    return [
        {
            "CodeValue": value,
            "CodingSchemeDesignator": "SCPECG",
            "CodingSchemeVersion": "1.3",
            "CodeMeaning": meaning,
        }
    ]


SEGMENTS: Final = (
    (c.P_WAVE, "p_onset", "p_offset"),
    (c.QRS_COMPLEX, "qrs_onset", "qrs_offset"),
    (c.T_WAVE, "t_onset", "t_offset"),
)
_POINTS: Final[tuple[tuple[Code | list[Attributes], str], ...]] = (
    (_scp("5.10.3-1", "P Onset"), "p_onset"),
    (c.P_WAVE, "p_peak"),
    (_scp("5.10.3-2", "P Offset"), "p_offset"),
    (_scp("5.10.3-3", "QRS Onset"), "qrs_onset"),
    (_scp("5.10.3-4", "QRS Offset"), "qrs_offset"),
    (c.T_WAVE, "t_peak"),
    (_scp("5.10.3-5", "T Offset"), "t_offset"),
)
KINDS: Final[Mapping[BeatKind, Code]] = MappingProxyType(
    {
        BeatKind.DOMINANT: _mdc("10:8240", "Dominant beat"),
        BeatKind.PACED: _mdc("10:8240", "Dominant beat"),
        BeatKind.SUPRAVENTRICULAR: _mdc("10:8256", "Supraventricular premature contraction"),
        BeatKind.ABERRANT: _mdc("10:8256", "Supraventricular premature contraction"),
        BeatKind.VENTRICULAR: _mdc("10:8336", "Ventricular premature contraction beat"),
        BeatKind.OTHER: _mdc("10:8736", "Unclassifiable beat"),
    }
)
"""CID 3335. Dominant and not normal: whether it is normal, the statements say."""

_MODERATE, _SEVERE = _mdc("10:11216", "Moderate noise"), _mdc("10:11232", "Severe noise")
_NO_SIGNAL: Final = _mdc("10:11248", "No signal")
"""CID 3680. Moderate: beats are detected there, but not classified."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where on the copy our annotations go.

    Parameters
    ----------
    channels
        Of each lead: multiplex group and channel, from 1.
    samples
        In the first group if it holds the analysed ECG; None if it does not.
    taken
        The annotation group numbers of the source.
    left_out
        How many annotations of the source were not valid.
    """

    channels: Mapping[Lead, tuple[int, int]]
    samples: int | None
    taken: frozenset[int]
    left_out: int = 0


def annotations(result: Result, place: Place) -> Iterator[Attributes]:
    """Yield everything that AI says about the ECG, readable first."""
    numbers = _free(place.taken)
    first = next(numbers)
    for item in (*_texts(result, place), *_findings(result, place), *_numbers(result)):
        yield item | {"AnnotationGroupNumber": first}
    for item in _quality(result, place):
        yield item | {"AnnotationGroupNumber": first}
    if place.samples is not None:
        yield from _beats(result, place, place.samples, numbers)


def _free(taken: frozenset[int]) -> Iterator[int]:
    """Yield the numbers above those that are taken, and then the ones between them."""
    above = max(taken, default=0) + 1
    yield from range(above, _LAST_NUMBER + 1)
    yield from (number for number in count(1) if number not in taken)


def _texts(result: Result, place: Place) -> Iterator[Attributes]:
    statements = spoken(result)
    for statement in statements:
        evidence = "; ".join(statement.evidence)
        said = f"{statement.text.rstrip('.')}: {evidence}" if evidence else statement.text
        yield _text(said, _channels(place, statement.leads))
    rest = headline(result)[len(statements) :]
    for line in (*rest, *result.not_assessed, models_line(result), SAFETY_SENTENCE):
        yield _text(line)
    if place.left_out:
        yield _text(f"{place.left_out} annotations of the source are not valid and are left out.")
    if len(result.measurements.r_peaks) > MARKED_BEATS:
        yield _text(f"Only the first {MARKED_BEATS} beats are marked.")


def _findings(result: Result, place: Place) -> Iterator[Attributes]:
    for statement in spoken(result):
        channels = _channels(place, statement.leads)
        yield _item(c.ECG_FINDING, channels, ConceptCodeSequence=statement.code)


def _numbers(result: Result) -> Iterator[Attributes]:
    for name, quantity in result.measurements.quantities():
        if name in c.MARKS and is_reported(name, quantity):
            yield _item(
                c.MARKS[name],
                NumericValue=f"{quantity.value:.1f}",
                MeasurementUnitsCodeSequence=c.UNITS[quantity.unit],
            )


def _quality(result: Result, place: Place) -> Iterator[Attributes]:
    """Yield what is wrong with a lead: in words, and as CID 3680 where that has a code."""
    unread = QualityReason.NO_QRS in result.quality.reasons
    codes = {
        QualityReason.NOISE: _SEVERE if unread else _MODERATE,
        QualityReason.FLAT: _NO_SIGNAL,
        QualityReason.MISSING: _NO_SIGNAL,
    }
    for lead, reasons in result.quality.leads.items():
        if reasons and lead in place.channels:
            channel = place.channels[lead]
            yield _text(f"Lead {lead}: {', '.join(reasons)}.", channel)
            yield from (_item(codes[why], channel) for why in reasons if why in codes)


def _beats(
    result: Result, place: Place, samples: int, numbers: Iterator[int]
) -> Iterator[Attributes]:
    """Yield R peak, kind and waves of each beat; one annotation group per beat.

    Segments are of all leads together, points of the lead of the rhythm strip.
    """
    fiducials = result.measurements.fiducials
    every = fiducials.get("global", {})
    lead = _best_lead(result, place)
    own, channel = (fiducials[lead], place.channels[lead]) if lead else (every, _EVERY_CHANNEL)
    peaks, kinds = result.measurements.r_peaks, beat_kinds(result)
    for row, number in enumerate(islice(numbers, min(len(peaks), MARKED_BEATS))):
        marked = (
            *_marked([(c.R_WAVE, (peaks,)), (KINDS[kinds[row]], (peaks,))], row, samples),
            *_marked(_known(every, SEGMENTS), row, samples),
            *_marked(_known(own, _POINTS), row, samples, channel),
        )
        yield from (item | {"AnnotationGroupNumber": number} for item in marked)


def _best_lead(result: Result, place: Place) -> Lead | None:
    """Return the lead of the rhythm strip, of those that the first group holds, if marked."""
    ecg, fiducials = result.recording.ecg, result.measurements.fiducials
    held = [lead for lead in ecg.leads if place.channels.get(lead, (0, 0))[0] == 1]
    marked = [lead for lead in held if lead in fiducials]
    return rhythm_lead(ecg.select(marked), result.quality) if marked else None


_Mark = tuple[Code | list[Attributes], tuple[Marks, ...]]


def _known(waves: Mapping[str, Marks], wanted: Sequence[tuple[Any, ...]]) -> list[_Mark]:
    """Return those marks of which there is a row of positions for each end."""
    return [
        (concept, tuple(waves[kind] for kind in kinds))
        for concept, *kinds in wanted
        if all(kind in waves for kind in kinds)
    ]


def _marked(
    marks: Sequence[_Mark], row: int, samples: int, channels: tuple[int, ...] = _EVERY_CHANNEL
) -> Iterator[Attributes]:
    """Yield each mark of one beat that lies inside the recording."""
    for concept, ends in marks:
        where = [float(end[row]) for end in ends]
        if all(0 <= sample <= samples - 1 for sample in where):
            yield _item(
                concept,
                channels,
                TemporalRangeType="POINT" if len(where) == 1 else "SEGMENT",
                ReferencedSamplePositions=[round(sample) + 1 for sample in where],
            )


def _channels(place: Place, leads: Sequence[Lead]) -> tuple[int, ...]:
    """Return group and channel of each lead one after the other; of all where none is held."""
    pairs = [place.channels[lead] for lead in leads if lead in place.channels]
    return tuple(number for pair in pairs for number in pair) or _EVERY_CHANNEL


def _text(line: str, channels: tuple[int, ...] = _EVERY_CHANNEL) -> Attributes:
    text = f"AI: {ascii_text(line, _TEXT_LIMIT - 4)}"
    return {"ReferencedWaveformChannels": channels, "UnformattedTextValue": text}


def _item(
    concept: Code | list[Attributes], channels: tuple[int, ...] = _EVERY_CHANNEL, **values: Any
) -> Attributes:
    return {
        "ReferencedWaveformChannels": channels,
        "ConceptNameCodeSequence": concept,
    } | values
