"""The code of each lead (PS3.16 CID 3001), read in both schemes and written in one."""

import re
from collections.abc import Mapping
from typing import Final

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from analysis.ecg import CHEST, Code, Lead

# MDC 2:n and SCPECG 5.6.3-9-n share their n (ISO/IEEE 11073-10102, SCP-ECG §5.6.3).
_NUMBERS: Final[Mapping[Lead, int]] = {
    Lead.ECG: 0,
    Lead.I: 1,
    Lead.II: 2,
    **{lead: number for number, lead in enumerate(CHEST, 3)},
    Lead.V7: 9,
    Lead.V3R: 11,
    Lead.V4R: 12,
    Lead.V5R: 13,
    Lead.V6R: 14,
    Lead.V7R: 15,
    Lead.X: 16,
    Lead.Y: 17,
    Lead.Z: 18,
    Lead.III: 61,
    Lead.aVR: 62,
    Lead.aVL: 63,
    Lead.aVF: 64,
    Lead.V8: 66,
    Lead.V9: 67,
    Lead.V8R: 68,
    Lead.V9R: 69,
    Lead.MLII: 126,
}
_LEADS: Final = {number: lead for lead, number in _NUMBERS.items()}
_MEANINGS: Final[Mapping[Lead, str]] = {
    Lead.ECG: "Unspecified lead",
    Lead.aVR: "aVR, augmented voltage, right",
    Lead.aVL: "aVL, augmented voltage, left",
    Lead.aVF: "aVF, augmented voltage, foot",
    Lead.MLII: "Modified limb lead",
}
_PATTERNS: Final = {
    "MDC": re.compile(r"2:(\d{1,3})"),
    "SCPECG": re.compile(r"5\.6\.3-9-(\d{1,3})"),
}


def lead_code(lead: Lead) -> Code:
    """Return the MDC code of a lead (PS3.16 CID 3001)."""
    return Code("MDC", f"2:{_NUMBERS[lead]}", _MEANINGS.get(lead, f"Lead {lead}"))


def lead_source_sequence(lead: Lead) -> Sequence:
    """Return the Channel Source Sequence (003A,0208) that names a lead."""
    return Sequence([code_item(lead_code(lead))])


def code_item(code: Code) -> Dataset:
    """Return a code as an item of a code sequence (PS3.3 §8)."""
    item = Dataset()
    item.CodeValue = code.value
    item.CodingSchemeDesignator = code.scheme
    item.CodeMeaning = code.meaning
    return item


def lead_number(code: Code) -> int | None:
    """Return the number of a lead in either scheme, or None where the code names none."""
    pattern = _PATTERNS.get(code.scheme)
    match = pattern.fullmatch(code.value) if pattern else None
    return int(match[1]) if match else None


def lead_from_number(number: int) -> Lead | None:
    """Return the lead of a number, or None where this library has no such lead."""
    return _LEADS.get(number)
