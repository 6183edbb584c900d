"""The coded concepts of our objects, each with the context group it comes from.

What was decided where PS3.16 could not be read, and on which source, stands in CONFORMANCE.md.
"""

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from highdicom.sr import CodedConcept

from analysis.ecg import Code, Sex
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


PRIVATE: Final = "99SINUS"
"""The coding scheme of what DICOM has no code for; CONFORMANCE.md declares each."""


def _own(value: str, meaning: str) -> Code:
    return Code(PRIVATE, value, meaning)


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
PRIOR_PROCEDURES: Final = _ln("55114-3", "Prior Procedure Descriptions")
COMPARISON_DONE: Final = _dcm("122140", "Comparison with Prior Study Done")
STUDY_UID: Final = _dcm("121018", "Procedure Study Instance UID")
PATIENT_CHARACTERISTICS: Final = _dcm("121118", "Patient Characteristics")
SUBJECT_AGE: Final = _dcm("121033", "Subject Age")
SUBJECT_SEX: Final = _dcm("121032", "Subject Sex")
PROCEDURE_DATETIME: Final = _dcm("122146", "Procedure DateTime")
SOURCE_OF_MEASUREMENT: Final = _dcm("121112", "Source of Measurement")
EQUIPMENT_IDENTIFICATION: Final = _dcm("121122", "Equipment Identification")
LEAD_SYSTEM: Final = _mdc("10:11345", "Lead System")
SAMPLE_RATE: Final = _mdc("10:11393", "Sample rate")
NOTCH_FREQUENCY: Final = _mdc("10:11408", "Notch filter frequency")
LOW_PASS_FREQUENCY: Final = _mdc("10:11403", "Low pass filter cutoff freq")
"""CID 3690, all three."""
ALGORITHM_NAME: Final = _dcm("111001", "Algorithm Name")
ALGORITHM_PARAMETERS: Final = _dcm("111002", "Algorithm Parameters")
ALGORITHM_VERSION: Final = _dcm("111003", "Algorithm Version")
ALGORITHM_MANUFACTURER: Final = _dcm("122405", "Algorithm Manufacturer")
QUANTITATIVE_ANALYSIS: Final = _dcm("122144", "Quantitative Analysis")
GLOBAL_MEASUREMENTS: Final = _dcm("122158", "ECG Global Measurements")
LEAD_MEASUREMENTS: Final = _dcm("122159", "ECG Lead Measurements")
LEAD_ID: Final = _dcm("122148", "Lead ID")
MEASUREMENT_METHOD: Final = _sct("370129005", "Measurement Method")
MEDIAN: Final = _sct("373099004", "Median")
"""CID 3676."""
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

YES: Final = _sct("373066001", "Yes")
NO: Final = _sct("373067005", "No")
"""CID 230."""

SEXES: Final[Mapping[Sex | None, Code]] = MappingProxyType(
    {
        Sex.MALE: _dcm("M", "Male"),
        Sex.FEMALE: _dcm("F", "Female"),
        Sex.OTHER: _dcm("121102", "Other sex"),
        None: _dcm("U", "Unknown sex"),
    }
)
"""CID 7455."""

MEASUREMENT_FAILURE: Final = _dcm("114006", "Measurement failure")
VALUE_UNKNOWN: Final = _dcm("114010", "Value unknown")
"""Why a number is absent (CID 42)."""

WITH_FINDINGS: Final = _dcm("111242", "All algorithms succeeded; with findings")
WITHOUT_FINDINGS: Final = _dcm("111241", "All algorithms succeeded; without findings")
PARTLY_WITH_FINDINGS: Final = _dcm("111244", "Not all algorithms succeeded; with findings")
PARTLY_WITHOUT_FINDINGS: Final = _dcm("111243", "Not all algorithms succeeded; without findings")
NOTHING_SUCCEEDED: Final = _dcm("111245", "No algorithms succeeded; without findings")
"""CID 6047, all five."""

NORMAL: Final = _sct("164854000", "Normal ECG")
NON_DIAGNOSTIC: Final = _dcm("122753", "Non-diagnostic ECG")
OVERALL: Final[Mapping[Overall, Code]] = MappingProxyType(
    {
        Overall.NORMAL: NORMAL,
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
        "mV.ms": _ucum("mV.ms", "millivolt millisecond"),
        "{H.B.}/min": _ucum("{H.B.}/min", "BPM"),
        "Hz": _ucum("Hz", "hertz"),
        "%": _ucum("%", "Percent"),
        "a": _ucum("a", "year"),
        "1": _ucum("1", "no units"),
    }
)

_QTC: Final = _mdc("2:15876", "QTc interval global")
MEASUREMENTS: Final[Mapping[str, Code]] = MappingProxyType(
    {
        "heart_rate": _mdc("2:16016", "Ventricular Heart Rate"),
        "atrial_rate": _mdc("2:16020", "Atrial Heart Rate"),
        "rr_interval": _mdc("2:16168", "RR interval global"),
        "p_duration": _mdc("2:16184", "P duration global"),
        "pr_interval": _mdc("2:15872", "PR interval global"),
        "qrs_duration": _mdc("2:16156", "QRS duration global"),
        "qt_interval": _mdc("2:16160", "QT interval global"),
        "qtc_bazett": _QTC,
        "qtc_fridericia": _QTC,
        "qtc_framingham": _QTC,
        "qtc_hodges": _QTC,
        "jt_interval": _own("JT", "JT interval global"),
        "qt_dispersion": _own("QT-DISPERSION", "QT dispersion"),
        "p_axis": _mdc("2:16128", "P Axis"),
        "qrs_axis": _mdc("2:16132", "QRS axis"),
        "t_axis": _mdc("2:16136", "T axis"),
        "sokolow_lyon": _own("SOKOLOW-LYON", "Sokolow-Lyon voltage"),
        "cornell_voltage": _own("CORNELL", "Cornell voltage"),
        "cornell_product": _own("CORNELL-PRODUCT", "Cornell voltage-duration product"),
        "sdnn": _own("SDNN", "SDNN"),
        "rmssd": _own("RMSSD", "RMSSD"),
        "pnn50": _own("PNN50", "pNN50"),
        "rr_variability": _own("RR-VARIABILITY", "RMSSD over the mean RR interval"),
    }
)
"""Global measurements by name (TID 3713; CID 3228, 3229), in the order of the report."""

ALWAYS_STATED: Final = (
    "heart_rate", "rr_interval", "pr_interval", "qrs_duration", "qt_interval",
)  # fmt: skip
"""Those that TID 3713 requires: where one was not measured, its absence is coded (CID 42)."""

MEASUREMENT_UNITS: Final[Mapping[str, str]] = MappingProxyType(
    dict.fromkeys(MEASUREMENTS, "ms")
    | dict.fromkeys(("heart_rate", "atrial_rate"), "{H.B.}/min")
    | dict.fromkeys(("p_axis", "qrs_axis", "t_axis"), "deg")
    | dict.fromkeys(("sokolow_lyon", "cornell_voltage"), "mV")
    | {"cornell_product": "mV.ms", "pnn50": "%", "rr_variability": "1"}
)

LEAD_DURATIONS: Final[Mapping[str, Code]] = MappingProxyType(
    {
        "q_duration": _mdc("2:7680", "Q duration, per lead"),
        "r_duration": _mdc("2:11264", "R1 duration, per lead"),
        "s_duration": _mdc("2:12032", "S1 duration, per lead"),
        "r2_duration": _mdc("2:11520", "R2 duration, per lead"),
        "r_peak_time": _mdc("2:11008", "Ventricular activation time, per lead"),
    }
)
"""CID 3687."""

LEAD_VOLTAGES: Final[Mapping[str, Code]] = MappingProxyType(
    {
        "q_amplitude": _mdc("2:1792", "Q amplitude, per lead"),
        "r_amplitude": _mdc("2:12800", "R1 amplitude, per lead"),
        "s_amplitude": _mdc("2:13568", "S1 amplitude, per lead"),
        "r2_amplitude": _mdc("2:13056", "R2 amplitude, per lead"),
        "st_j": _mdc("2:1024", "J point Amplitude, per lead"),
        "st_20": _mdc("2:14848", "Amplitude at 20 ms into ST segment, per lead"),
        "st_60": _mdc("2:14336", "Amplitude at 60 ms into ST segment, per lead"),
        "st_80": _mdc("2:14592", "Amplitude at 80 ms into ST segment, per lead"),
    }
)
P_MAXIMUM: Final = _mdc("2:1280", "P maximum amplitude, per lead")
P_MINIMUM: Final = _mdc("2:1536", "P minimum amplitude, per lead")
T_MAXIMUM: Final = _mdc("2:2560", "T maximum amplitude, per lead")
T_MINIMUM: Final = _mdc("2:2816", "T minimum amplitude, per lead")
"""CID 3688, all; P and T by the sign of their greatest deflection."""

CHANGES: Final[Mapping[str, Code]] = MappingProxyType(
    {
        "heart_rate": _own("CHANGE-RATE", "Change of ventricular rate since the prior ECG"),
        "pr_interval": _own("CHANGE-PR", "Change of PR interval since the prior ECG"),
        "qrs_duration": _own("CHANGE-QRS", "Change of QRS duration since the prior ECG"),
        "qt_interval": _own("CHANGE-QT", "Change of QT interval since the prior ECG"),
        "qtc_fridericia": _own("CHANGE-QTCF", "Change of QTc (Fridericia) since the prior ECG"),
        "qrs_axis": _own("CHANGE-QRS-AXIS", "Change of QRS axis since the prior ECG"),
    }
)
"""What is compared with an earlier ECG: a code of its own, lest a reader take it for a value."""

MEASUREMENT_REPORT: Final = _dcm("126000", "Imaging Measurement Report")
"""CID 7021."""
MEASUREMENTS_SECTION: Final = _dcm("126010", "Imaging Measurements")
MEASUREMENT_GROUP: Final = _dcm("125007", "Measurement Group")
TRACKING_IDENTIFIER: Final = _dcm("112039", "Tracking Identifier")
TRACKING_UID: Final = _dcm("112040", "Tracking Unique Identifier")

ECG_ANNOTATIONS: Final = _own("ANNOTATIONS", "ECG Automated Analysis Annotations")
"""CID 3048 has titles for neurophysiology alone."""
ECG_ANNOTATION: Final = _own("ANNOTATION", "ECG Annotation")
"""So has CID 3047."""

EVIDENCE: Final = _own("EVIDENCE", "Evidence of a finding")
NOT_ASSESSED: Final = _own("NOT-ASSESSED", "Not assessed, and why")

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
    {
        name: code
        for name, code in MEASUREMENTS.items()
        if name not in FORMULAS and code.scheme != PRIVATE
    }
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
