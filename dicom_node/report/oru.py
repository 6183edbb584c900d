r"""The result as an HL7 v2.5.1 message ORU^R01, unaddressed.

Written in UTF-8. What differs from one destination to the next, the sender fills in: who sends to
whom, the character set, and whether the page goes along (:func:`addressed`).

References
----------
HL7 v2.5.1 chapter 2 (MSH, escape sequences), 3 (PID), 7 (OBR, OBX).
"""

import base64
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from analysis.ecg import Code
from dicom_node.report import concepts as c
from dicom_node.report.objects import SAFETY_SENTENCE, Inputs, Message, spoken
from dicom_node.report.outside import IMPRESSION, STUDY, Order, Who, acquired, measured, remarks
from dicom_node.report.shell import ascii_text
from dicom_node.report.uids import Level

SEGMENT_END: Final = "\r"
_SEPARATOR: Final = "|"
_CONTROL_ID_LENGTH: Final = 20
_FRACTION: Final = 4
_DICOM_STUDY: Final = Code("DCM", "113014", "DICOM Study")
_ESCAPES: Final = str.maketrans(
    {sign: f"\\{letter}\\" for sign, letter in zip("\\|^&~", "EFSTR", strict=True)}
    | {chr(n): " " for n in (*range(32), 127)}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Who sends to whom, and how."""

    sending_application: str
    sending_facility: str
    receiving_application: str
    receiving_facility: str
    character_set: str
    """HL7 table 0211."""
    page: bool
    """Whether the PDF goes along."""


def oru_r01(inputs: Inputs) -> bytes:
    """Return the message; empty where the source has no Patient ID: then there is none."""
    who = Who.of(inputs.source)
    if not who.identifier:
        return b""
    lines = [_header(inputs), _patient(who), _request(inputs), *_notes(inputs)]
    lines += [_observation(n, fields) for n, fields in enumerate(_observations(inputs), 1)]
    return "".join(f"{line}{SEGMENT_END}" for line in lines).encode()


def control_id(message: bytes) -> str:
    """Return the Message Control ID (MSH-10)."""
    return message.split(b"\r", 1)[0].decode().split(_SEPARATOR)[9]


def addressed(message: bytes, address: Address, codec: str) -> bytes:
    """Return the message for one destination.

    Parameters
    ----------
    codec
        Python's name of the character set.

    Raises
    ------
    UnicodeEncodeError
        If the character set cannot write it.
    """
    first, *rest = message.decode().split(SEGMENT_END)
    fields = first.split(_SEPARATOR)
    fields[2:6] = [
        _escaped(text)
        for text in (
            address.sending_application, address.sending_facility,
            address.receiving_application, address.receiving_facility,
        )
    ]  # fmt: skip
    fields[17] = address.character_set
    kept = [line for line in rest if address.page or not _is_page(line)]
    return SEGMENT_END.join([_SEPARATOR.join(fields), *kept]).encode(codec)


def _is_page(line: str) -> bool:
    return line.startswith("OBX|") and line.split(_SEPARATOR, 3)[2] == "ED"


def _segment(name: str, fields: Mapping[int, str]) -> str:
    first = 2 if name == "MSH" else 1  # MSH-1 is the separator itself
    values = (fields.get(number, "") for number in range(first, max(fields) + 1))
    return _SEPARATOR.join([name, *values])


def _escaped(text: str) -> str:
    return text.translate(_ESCAPES)


def _ours(text: str) -> str:
    """Return our own words, which every character set can write."""
    return _escaped(ascii_text(text))


def _coded(code: Code, text: str = "") -> str:
    """Return a CWE; the words beside it where they say more than the code."""
    known = "^".join(map(_ours, (code.value, code.meaning, code.scheme)))
    return f"{known}^^^^^^{_ours(text)}" if text else known


def _time(digits: str, offset: str) -> str:
    """Return a TS of at most four decimals; a date has no offset."""
    whole, point, fraction = digits.partition(".")
    is_date = len(whole) <= len("YYYYMMDD")
    return whole if is_date else f"{whole}{point}{fraction[:_FRACTION]}{offset}"


def _written(inputs: Inputs) -> str:
    return f"{inputs.written_at:%Y%m%d%H%M%S%z}"


def _header(inputs: Inputs) -> str:
    named = inputs.uid(Level.INSTANCE, Message.HL7)
    control = hashlib.sha256(named.encode()).hexdigest()[:_CONTROL_ID_LENGTH]
    return _segment(
        "MSH",
        {
            2: "^~\\&", 7: _written(inputs), 9: "ORU^R01^ORU_R01", 10: control, 11: "P",
            12: "2.5.1", 18: "",
        },
    )  # fmt: skip


def _patient(who: Who) -> str:
    authority = "&".join(map(_escaped, (who.issuer, who.issuer_uid, who.issuer_kind))).rstrip("&")
    fields = {1: "1", 3: f"{_escaped(who.identifier)}^^^{authority}^PI", 5: _names(who.name)}
    return _segment("PID", fields | {7: _escaped(who.birth_date), 8: _escaped(who.sex)})


def _names(name: str) -> str:
    """Return an XPN for each component group: alphabetic, ideographic, phonetic (PS3.5 §6.2.1)."""
    groups = name.split("=")
    if len(groups) == 1:
        return _name(name)
    return "~".join(f"{_name(group)}^^^{kind}" for group, kind in zip(groups, "AIP", strict=False))


def _name(group: str) -> str:
    """Return the components; prefix and suffix stand the other way round in HL7."""
    family, given, middle, prefix, suffix = (*group.split("^"), "", "", "", "", "")[:5]
    return "^".join(map(_escaped, (family, given, middle, suffix, prefix)))


def _request(inputs: Inputs) -> str:
    order, moment = Order.of(inputs.source), _time(*acquired(inputs))
    return _segment(
        "OBR",
        {
            1: "1", 2: _escaped(order.placer), 3: inputs.uid(Level.INSTANCE, Message.HL7),
            4: _coded(STUDY), 7: moment, 18: _escaped(order.accession), 22: _written(inputs),
            24: "EC", 25: "P",
        },
    )  # fmt: skip


def _notes(inputs: Inputs) -> Iterator[str]:
    for number, line in enumerate(remarks(inputs.result), 1):
        yield _segment("NTE", {1: str(number), 3: _ours(line)})


def _observation(number: int, fields: dict[int, str]) -> str:
    return _segment("OBX", {1: str(number), 11: "P"} | fields)


def _observations(inputs: Inputs) -> Iterator[dict[int, str]]:
    """Yield the fields of each OBX; all preliminary, all by this device."""
    device, result = inputs.device, inputs.result
    by = {
        14: _time(*acquired(inputs)),
        18: f"{_escaped(device.station_name)}^^{device.device_uid}^ISO",
    }
    study = Order.of(inputs.source).study
    yield {2: "ST", 3: _coded(_DICOM_STUDY), 5: _escaped(study)} | by
    for item in measured(result):
        unit = {6: f"{_escaped(item.unit)}^^UCUM"}
        yield {2: "NM", 3: _coded(item.code), 5: f"{item.value:g}"} | unit | by
    for place, statement in enumerate(spoken(result), 1):
        said = _coded(statement.code, statement.text)
        yield {2: "CWE", 3: _coded(IMPRESSION), 4: str(place), 5: said} | by
    if result.overall in c.OVERALL:
        yield {2: "CWE", 3: _coded(c.OVERALL_FINDING), 5: _coded(c.OVERALL[result.overall])} | by
    page = base64.b64encode(inputs.page).decode("ascii")
    yield {2: "ED", 3: _coded(STUDY), 5: f"^application^pdf^Base64^{page}"} | by


# The checker's side


def oru_faults(message: bytes) -> Iterator[str]:
    """Yield what keeps a message from being sent, one sentence each."""
    lines = [line.split(_SEPARATOR) for line in message.decode().split(SEGMENT_END) if line]
    names = [fields[0] for fields in lines]
    if names[:3] != ["MSH", "PID", "OBR"] or set(names[3:]) != {"NTE", "OBX"}:
        yield "the segments are not MSH, PID, OBR, NTE and OBX"
        return
    header, patient, request = lines[:3]
    if header[8] != "ORU^R01^ORU_R01" or len(header[9]) != _CONTROL_ID_LENGTH:
        yield "the header names no ORU^R01 with a control id"
    if not patient[3].split("^")[0]:
        yield "there is no patient identifier"
    if request[25] != "P" or any(f[11] != "P" for f in lines if f[0] == "OBX"):
        yield "a result is not preliminary"
    if not any(f[0] == "NTE" and f[3] == _ours(SAFETY_SENTENCE) for f in lines):
        yield "it does not say what it is not"
    for fields in lines:
        if fields[0] == "OBX" and not (fields[3] and fields[5]):
            yield f"observation {fields[1]} has no name or no value"
