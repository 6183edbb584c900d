"""The coded concepts of our objects, each with the context group it comes from.

Decided here: the document title of an ECG report is (28010-7, LN, "ECG Report"), which the public
implementations of TID 3700 use and whose LOINC check digit holds. pydicom's dictionary offers
(11524-0, LN), which fails the check digit; the valid number beside it, 11524-6, is "EKG study",
the procedure and not its report. The RR interval is (2:16168, MDC) of CID 3228, where the other
global intervals come from, and not (2:16000, MDC) of CID 3689.
"""

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from highdicom.sr import CodedConcept

from analysis.ecg import Code
from analysis.result import Overall


def coded(code: Code) -> CodedConcept:
    """Return the code as a Code Sequence item (PS3.3 8.8); it is shared: do not change it."""
    return _coded(code.scheme, code.value, code.meaning)


@lru_cache(maxsize=1024)
def _coded(scheme: str, value: str, meaning: str) -> CodedConcept:
    return CodedConcept(value=value, scheme_designator=scheme, meaning=meaning)


def _dcm(value: str, meaning: str) -> Code:
    return Code("DCM", value, meaning)


def _ln(value: str, meaning: str) -> Code:
    return Code("LN", value, meaning)


def _mdc(value: str, meaning: str) -> Code:
    return Code("MDC", value, meaning)


def _sct(value: str, meaning: str) -> Code:
    return Code("SCT", value, meaning)


def _ucum(value: str, meaning: str) -> Code:
    return Code("UCUM", value, meaning)


ECG_REPORT: Final = _ln("28010-7", "ECG Report")
LANGUAGE: Final = _dcm("121049", "Language of Content Item and Descendants")
OBSERVER_TYPE: Final = _dcm("121005", "Observer Type")
OBSERVER_DEVICE: Final = _dcm("121007", "Device")
OBSERVER_UID: Final = _dcm("121012", "Device Observer UID")
OBSERVER_NAME: Final = _dcm("121013", "Device Observer Name")
OBSERVER_MANUFACTURER: Final = _dcm("121014", "Device Observer Manufacturer")
OBSERVER_MODEL_NAME: Final = _dcm("121015", "Device Observer Model Name")
OBSERVER_SERIAL_NUMBER: Final = _dcm("121016", "Device Observer Serial Number")
PROCEDURE_REPORTED: Final = _dcm("121058", "Procedure reported")
PROCEDURE_DESCRIPTIONS: Final = _ln("55111-9", "Current Procedure Descriptions")
PROCEDURE_DATETIME: Final = _dcm("122146", "Procedure DateTime")
SOURCE_OF_MEASUREMENT: Final = _dcm("121112", "Source of Measurement")
LEAD_SYSTEM: Final = _mdc("10:11345", "Lead System")
SAMPLE_RATE: Final = _mdc("10:11393", "Sample rate")
ALGORITHM_NAME: Final = _dcm("111001", "Algorithm Name")
ALGORITHM_PARAMETERS: Final = _dcm("111002", "Algorithm Parameters")
ALGORITHM_VERSION: Final = _dcm("111003", "Algorithm Version")
QUANTITATIVE_ANALYSIS: Final = _dcm("122144", "Quantitative Analysis")
GLOBAL_MEASUREMENTS: Final = _dcm("122158", "ECG Global Measurements")
QUALITATIVE_ANALYSIS: Final = _dcm("122145", "Qualitative Analysis")
ECG_FINDING: Final = _sct("271921002", "ECG finding")
EQUIVALENT_MEANING: Final = _dcm("121051", "Equivalent Meaning of Value")
PROBABILITY: Final = _dcm("122157", "Probability")
THRESHOLD: Final = _dcm("122411", "Threshold Value")
COMMENT: Final = _dcm("121106", "Comment")
FINDINGS_SUMMARY: Final = _dcm("111017", "CAD Processing and Findings Summary")
QUALITY_ASSESSMENT: Final = _dcm("111050", "Quality Assessment")
SUMMARY: Final = _ln("55112-7", "Summary")
OVERALL_FINDING: Final = _ln("18810-2", "ECG overall finding")
PROCESSING_EQUIPMENT: Final = _dcm("109102", "Processing Equipment")

TWELVE_LEAD_ECG: Final = _sct("268400002", "12-Lead ECG")
"""CID 3670."""
ELECTROCARDIOGRAM: Final = _sct("29303009", "Electrocardiographic procedure")
"""For what is no 12-lead ECG; CID 3670 is extensible and holds none."""
UNSPECIFIED_12_LEAD: Final = _mdc("10:11264", "Unspecified 12-lead system")
"""CID 3263. The source says which leads, and not how the electrodes were placed."""

WITHOUT_FINDINGS: Final = _dcm("111241", "All algorithms succeeded; without findings")
PARTLY_WITHOUT_FINDINGS: Final = _dcm("111243", "Not all algorithms succeeded; without findings")
NOTHING_SUCCEEDED: Final = _dcm("111245", "No algorithms succeeded; without findings")
"""CID 6047, all three."""

NON_DIAGNOSTIC: Final = _dcm("122753", "Non-diagnostic ECG")
OVERALL: Final[Mapping[Overall, Code]] = MappingProxyType(
    {
        Overall.NORMAL: _sct("164854000", "Normal ECG"),
        Overall.ABNORMAL: _sct("102594003", "Abnormal ECG"),
        Overall.NON_DIAGNOSTIC: NON_DIAGNOSTIC,
    }
)
"""CID 3677. No listed finding is not Normal: it has no code."""

UNITS: Final[Mapping[str, Code]] = MappingProxyType(
    {
        "ms": _ucum("ms", "millisecond"),
        "deg": _ucum("deg", "degree"),
        "mV": _ucum("mV", "millivolt"),
        "{H.B.}/min": _ucum("{H.B.}/min", "heart beats per minute"),
        "Hz": _ucum("Hz", "hertz"),
        "1": _ucum("1", "no units"),
    }
)

_QTC: Final = _mdc("2:15876", "QTc interval global")
MEASUREMENTS: Final[Mapping[str, Code]] = MappingProxyType(
    {
        "heart_rate": _mdc("2:16016", "Ventricular Heart Rate"),
        "rr_interval": _mdc("2:16168", "RR interval global"),
        "p_duration": _mdc("2:16184", "P duration global"),
        "pr_interval": _mdc("2:15872", "PR interval global"),
        "qrs_duration": _mdc("2:16156", "QRS duration global"),
        "qt_interval": _mdc("2:16160", "QT interval global"),
        "qtc_bazett": _QTC,
        "qtc_fridericia": _QTC,
        "qtc_framingham": _QTC,
        "qtc_hodges": _QTC,
        "p_axis": _mdc("2:16128", "P Axis"),
        "qrs_axis": _mdc("2:16132", "QRS axis"),
        "t_axis": _mdc("2:16136", "T axis"),
    }
)
"""Global measurements by name (TID 3713; CID 3228, 3229)."""

FORMULAS: Final[Mapping[str, Code]] = MappingProxyType(
    {
        "qtc_bazett": _dcm("122730", "Bazett QT Correction Algorithm"),
        "qtc_hodges": _dcm("122731", "Hodges QT Correction Algorithm"),
        "qtc_fridericia": _dcm("122732", "Fridericia QTc Algorithm"),
        "qtc_framingham": _dcm("122733", "Framingham QTc Algorithm"),
    }
)
"""How a QTc was corrected (CID 3678)."""

MARKS: Final[Mapping[str, Code]] = MappingProxyType(
    {name: code for name, code in MEASUREMENTS.items() if name not in FORMULAS}
    | {
        "qtc_bazett": _mdc("2:15880", "QTc global using Bazett formula"),
        "qtc_fridericia": _mdc("2:15892", "QTc global using Fredericia formula"),
    }
)
"""Measurements as annotations: no child can name the formula, so the code does (CID 3227)."""

P_WAVE: Final = _mdc("10:256", "P wave")
R_WAVE: Final = _mdc("10:576", "R wave")
QRS_COMPLEX: Final = _mdc("10:1600", "Entire QRS (excluding P, T and U)")
T_WAVE: Final = _mdc("10:1024", "T wave")
"""CID 3335, all four."""
