"""HL7 version 2 messages (chapter 2): segments, fields, components, and who the patient is."""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from analysis.ecg import Patient
from analysis.errors import Reason, Undecodable
from analysis.formats import fields
from analysis.formats.hl7 import SEXES, iso_day, moment

MAX_SEGMENTS: Final = 20_000

_SEPARATORS: Final = re.compile(r"[^\w\s]{5}")


@dataclass(frozen=True, slots=True)
class Observation:
    """One OBX segment."""

    type: str
    identifier: Sequence[str]
    """Number, text and coding system."""
    place: str
    """OBX-4, the sub-identifier."""
    value: str = field(repr=False)
    unit: Sequence[str]
    start: datetime | None
    order: int
    """Of which order (OBR) it is a result."""


@dataclass(frozen=True, slots=True)
class Message:
    """The segments of one message, and what separates their parts (MSH-1, MSH-2)."""

    segments: Sequence[str] = field(repr=False)
    notes: tuple[str, ...]
    bar: str
    caret: str
    tilde: str
    escape: str
    ampersand: str

    @classmethod
    def of(cls, data: bytes) -> "Message":
        """Return the message. Raises TOO_LARGE, DAMAGED, UNSUPPORTED or NOT_AN_ECG."""
        if data.count(b"\r") + data.count(b"\n") > 2 * MAX_SEGMENTS:
            raise Undecodable(Reason.TOO_LARGE, "The message has more segments than any ECG.")
        text, notes = _text(data)
        separators = text[3:8]
        if not _SEPARATORS.fullmatch(separators) or len(set(separators)) < len(separators):
            raise Undecodable(Reason.DAMAGED, "The separators of the message are unusable.")
        segments = [each for each in re.split(r"[\r\n]+", text) if each.strip("\x1c ")]
        message = cls(segments, notes, *separators)
        if len([each for each in segments if each.startswith("MSH")]) > 1:
            raise Undecodable(
                Reason.UNSUPPORTED, "The file holds several messages; read them one by one."
            )
        if not message.part(segments[0].split(message.bar), 8).startswith("ORU"):
            raise Undecodable(Reason.NOT_AN_ECG, "The message is no result (ORU).")
        return message

    def part(self, segment: Sequence[str], number: int, component: int = 0) -> str:
        """Return the first repetition of a field, or a component of it; "" where absent."""
        first = segment[number].split(self.tilde)[0] if number < len(segment) else ""
        if not component:
            return first
        return (first.split(self.caret) + [""] * component)[component - 1]

    def observations(self) -> list[Observation]:
        """Return the observations, each with when it began.

        That is the time (TIM) of its sub-identifier, else OBX-14, else OBR-7.
        """
        found: list[Observation] = []
        times: dict[tuple[int, str], datetime] = {}
        order, ordered = 0, None
        for segment in self.segments:
            if segment.startswith("OBR" + self.bar):
                order += 1
                ordered = moment(self.part(segment.split(self.bar), 7))
            elif segment.startswith("OBX" + self.bar):
                each = self._observation(segment.split(self.bar), order, ordered)
                if each.type in {"TS", "DTM"} and (time := moment(each.value)):
                    times[order, each.place] = time
                found.append(each)
        return [replace(e, start=times.get((e.order, e.place), e.start)) for e in found]

    def _observation(
        self, segment: Sequence[str], order: int, ordered: datetime | None
    ) -> Observation:
        return Observation(
            type=self.part(segment, 2).strip(),
            identifier=[each.strip() for each in self.part(segment, 3).split(self.caret)],
            place=self.part(segment, 4).strip(),
            value=segment[5] if len(segment) > 5 else "",  # noqa: PLR2004 - OBX-5
            unit=[each.strip() for each in self.part(segment, 6).split(self.caret)],
            start=moment(self.part(segment, 14)) or ordered,
            order=order,
        )

    def unescaped(self, text: str) -> str:
        """Return a text with its separators where escape sequences stand for them (§2.7)."""
        marks = {"F": self.bar, "S": self.caret, "R": self.tilde, "T": self.ampersand}
        marks["E"] = self.escape
        bound = re.escape(self.escape)
        return re.sub(f"{bound}([FSRTE]){bound}", lambda found: marks[found[1]], text)

    def patient(self, recorded: datetime | None) -> tuple[Patient, tuple[str, ...]]:
        """Return what the PID segment says, copied as it stands, and notes."""
        lines = (each.split(self.bar) for each in self.segments if each.startswith("PID"))
        line = next(lines, ["PID"])
        parts = (self.unescaped(self.part(line, 5, number)) for number in range(1, 6))
        family, given, middle, suffix, prefix = parts
        family = family.split(self.ampersand)[0]
        patient, notes = fields.patient_of(
            age=None,
            birth_date=iso_day(self.part(line, 7)),
            recorded=recorded,
            sex="",
            identifier=self.unescaped(self.part(line, 3, 1)),
            name=[family, given, middle, prefix, suffix],
        )
        return replace(patient, sex=SEXES.get(self.part(line, 8))), notes


_CHARACTER_SETS: Final[Mapping[str, str]] = {
    **{f"8859/{part}": f"iso8859-{part}" for part in (1, 2, 3, 4, 5, 6, 7, 8, 9, 15)},
    "GB 18030-2000": "gb18030",
    "BIG-5": "big5",
    "KS X 1001": "euc_kr",
}
"""MSH-18 (table 0211)."""


def _text(data: bytes) -> tuple[str, tuple[str, ...]]:
    """Return the text by UTF-8, else by MSH-18, and a note where it is neither."""
    stripped = data.removeprefix(b"\xef\xbb\xbf").lstrip(b"\x0b \t\r\n")
    with suppress(UnicodeDecodeError):
        return stripped.decode("utf-8"), ()
    text = stripped.decode("latin-1")
    stated = (re.split(r"[\r\n]", text)[0].split(text[3:4] or "|") + [""] * 18)[17]
    with suppress(KeyError, UnicodeDecodeError):
        return stripped.decode(_CHARACTER_SETS[stated.split(text[5:6] or "~")[0]]), ()
    return text, ("The character set is unknown; texts may be misspelt.",)
