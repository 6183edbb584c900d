"""Our own checker refuses what no validator sees; each defect is made from a good object."""

import io
from collections.abc import Callable
from functools import cache

import pydicom
import pytest
from pydicom.dataset import Dataset
from report_samples import cart_file, objects, result_for

from analysis.codes import VOCABULARY
from analysis.ecg import Code
from analysis.result import Overall
from dicom_node.report import Role, check
from dicom_node.report.tid3700 import known_codes

GENERAL = "1.2.840.10008.5.1.4.1.1.9.1.2"
TWELVE_LEAD = "1.2.840.10008.5.1.4.1.1.9.1.1"


@cache
def encoded(overall: Overall) -> dict[Role, bytes]:
    source = cart_file()
    return {r: o.data for r, o in objects(source, result_for(source, overall)).items()}


def made(role: Role, overall: Overall = Overall.ABNORMAL) -> Dataset:
    return pydicom.dcmread(io.BytesIO(encoded(overall)[role]))


def items(parent: Dataset) -> list[tuple[Dataset, Dataset]]:
    found = []
    for item in parent.get("ContentSequence") or ():
        found += [(parent, item), *items(item)]
    return found


def concept(item: Dataset) -> str:
    return str(item.ConceptNameCodeSequence[0].CodeValue)


def find(report: Dataset, value: str) -> Dataset:
    return next(item for _, item in items(report) if concept(item) == value)


def drop(report: Dataset, value: str) -> None:
    parent = next(parent for parent, item in items(report) if concept(item) == value)
    parent.ContentSequence = [i for i in parent.ContentSequence if concept(i) != value]


def put(dataset: Dataset, keyword: str, value: object) -> None:
    """Set a value that the standard forbids, without a warning of pydicom."""
    vr = pydicom.datadict.dictionary_VR(keyword)
    dataset[keyword] = pydicom.DataElement(
        keyword, vr, value, validation_mode=pydicom.config.IGNORE
    )


def unit(report: Dataset, value: str) -> Dataset:
    return find(report, value).MeasuredValueSequence[0]


def group(ecg: Dataset) -> Dataset:
    return ecg.WaveformSequence[0]


def ours(ecg: Dataset, keyword: str) -> Dataset:
    return next(i for i in reversed(ecg.WaveformAnnotationSequence) if keyword in i)


def rename(report: Dataset, value: str, scheme: str, new: str) -> None:
    name = find(report, value).ConceptNameCodeSequence[0]
    name.CodingSchemeDesignator, name.CodeValue = scheme, new


def become(dataset: Dataset, sop_class_uid: str) -> None:
    dataset.SOPClassUID = sop_class_uid
    dataset.file_meta.MediaStorageSOPClassUID = sop_class_uid


REPORT_DEFECTS: dict[str, Callable[[Dataset], object]] = {
    "an algorithm without version": lambda d: drop(d, "111003"),
    "a wrong relationship": lambda d: put(find(d, "122158"), "RelationshipType", "HAS PROPERTIES"),
    "a number without units": lambda d: unit(d, "2:16016").pop("MeasurementUnitsCodeSequence"),
    "no Completion Flag": lambda d: d.pop("CompletionFlag"),
    "VERIFIED without observer": lambda d: put(d, "VerificationFlag", "VERIFIED"),
    "not preliminary": lambda d: put(d, "PreliminaryFlag", "FINAL"),
    "no waveform information": lambda d: drop(d, "55111-9"),
    "no waveform reference": lambda d: drop(d, "121112"),
    "no observer": lambda d: (drop(d, "121005"), drop(d, "121012")),
    "an unknown concept": lambda d: rename(d, "2:15876", "99FOO", "XYZ"),
    "a concept of the wrong number": lambda d: rename(d, "122145", "DCM", "122147"),
    "units that are not UCUM": lambda d: put(
        unit(d, "2:16016").MeasurementUnitsCodeSequence[0], "CodeValue", "bpm"
    ),
    "numbers in a Basic Text SR": lambda d: become(d, "1.2.840.10008.5.1.4.1.1.88.11"),
    "no evidence": lambda d: d.pop("CurrentRequestedProcedureEvidenceSequence"),
    "evidence of another instance": lambda d: put(
        d.CurrentRequestedProcedureEvidenceSequence[0]
        .ReferencedSeriesSequence[0]
        .ReferencedSOPSequence[0],
        "ReferencedSOPInstanceUID",
        "1.2.3",
    ),
    "an invalid SNOMED code": lambda d: put(
        find(d, "271921002").ConceptCodeSequence[0], "CodeValue", "49436004999"
    ),
    "Modality ECG": lambda d: put(d, "Modality", "ECG"),
    "no language": lambda d: drop(d, "121049"),
    "no procedure": lambda d: drop(d, "121058"),
    "no procedure time": lambda d: drop(d, "122146"),
    "no summary": lambda d: drop(d, "55112-7"),
    "a section twice": lambda d: d.ContentSequence.append(find(d, "122144")),
    "another document title": lambda d: put(d.ConceptNameCodeSequence[0], "CodeValue", "11524-0"),
    "another template": lambda d: put(d.ContentTemplateSequence[0], "TemplateIdentifier", "1500"),
    "an overall finding that is none": lambda d: put(
        find(d, "18810-2").ConceptCodeSequence[0], "CodeValue", "49436004"
    ),
    "a diagnosis of a non-diagnostic ECG": lambda d: (
        put(find(d, "18810-2").ConceptCodeSequence[0], "CodeValue", "122753"),
        put(find(d, "18810-2").ConceptCodeSequence[0], "CodingSchemeDesignator", "DCM"),
    ),
    "neither findings nor none": lambda d: drop(d, "271921002"),
    "a QTc formula that is none": lambda d: put(
        find(d, "2:15876").ContentSequence[0].ConceptCodeSequence[0], "CodeValue", "122753"
    ),
    "an empty text": lambda d: put(find(d, "121106"), "TextValue", ""),
    "an unknown value type": lambda d: put(find(d, "121106"), "ValueType", "SCOORD"),
    "a contained item below a number": lambda d: put(
        find(d, "2:15876").ContentSequence[0], "RelationshipType", "CONTAINS"
    ),
    "a missing type 2 sequence": lambda d: d.pop("PerformedProcedureCodeSequence"),
    "no study": lambda d: put(d, "StudyInstanceUID", ""),
    "no patient identifier": lambda d: d.pop("PatientID"),
    "nobody who contributed": lambda d: d.pop("ContributingEquipmentSequence"),
    "no qualification": lambda d: d.pop("ContentQualification"),
    "file meta of another instance": lambda d: put(
        d.file_meta, "MediaStorageSOPInstanceUID", "1.2.3"
    ),
    "a private element": lambda d: d.private_block(9, "X", create=True).add_new(1, "LO", "Y"),
}

ECG_DEFECTS: dict[str, Callable[[Dataset], object]] = {
    "5000 Hz": lambda d: put(group(d), "SamplingFrequency", "5000"),
    "fewer samples than data": lambda d: put(group(d), "NumberOfWaveformSamples", 9000),
    "no units of sensitivity": lambda d: (
        group(d).ChannelDefinitionSequence[0].pop("ChannelSensitivityUnitsSequence")
    ),
    "no channel source": lambda d: (
        group(d).ChannelDefinitionSequence[0].pop("ChannelSourceSequence")
    ),
    "text and code in one annotation": lambda d: put(
        ours(d, "ConceptCodeSequence"), "UnformattedTextValue", "both"
    ),
    "an unknown temporal range": lambda d: put(
        ours(d, "TemporalRangeType"), "TemporalRangeType", "WINDOW"
    ),
    "a position outside the samples": lambda d: put(
        ours(d, "TemporalRangeType"), "ReferencedSamplePositions", [300, 99999]
    ),
    "position 0": lambda d: put(ours(d, "TemporalRangeType"), "ReferencedSamplePositions", 0),
    "24 channels as 12-Lead ECG": lambda d: become(d, TWELVE_LEAD),
    "no acquisition time": lambda d: d.pop("AcquisitionDateTime"),
    "Modality OT": lambda d: put(d, "Modality", "OT"),
    "unsigned samples": lambda d: put(group(d), "WaveformSampleInterpretation", "US"),
    "a reference to group 9": lambda d: put(
        d.WaveformAnnotationSequence[0], "ReferencedWaveformChannels", [9, 1]
    ),
    "a reference to channel 13": lambda d: put(
        d.WaveformAnnotationSequence[0], "ReferencedWaveformChannels", [1, 13]
    ),
    "half a reference": lambda d: put(
        d.WaveformAnnotationSequence[0], "ReferencedWaveformChannels", [1]
    ),
    "a number without units": lambda d: ours(d, "NumericValue").pop("MeasurementUnitsCodeSequence"),
    "five groups": lambda d: d.WaveformSequence.extend([group(d)] * 3),
    "a channel too few": lambda d: group(d).ChannelDefinitionSequence.pop(),
    "no originality": lambda d: put(group(d), "WaveformOriginality", ""),
    "no reference to the source": lambda d: d.pop("ReferencedInstanceSequence"),
    "a description like the original's": lambda d: put(d, "SeriesDescription", "ECG"),
    "no acquisition context": lambda d: d.pop("AcquisitionContextSequence"),
    "no AI annotation": lambda d: d.pop("WaveformAnnotationSequence"),
}

PAGE_DEFECTS: dict[str, Callable[[Dataset], object]] = {
    "Modality OT": lambda d: put(d, "Modality", "OT"),
    "another type of document": lambda d: put(d, "MIMETypeOfEncapsulatedDocument", "text/xml"),
    "bytes that are no PDF": lambda d: put(d, "EncapsulatedDocument", b"<html></html>"),
    "a wrong length": lambda d: put(d, "EncapsulatedDocumentLength", 4),
    "no source": lambda d: d.pop("SourceInstanceSequence"),
    "no title": lambda d: put(d, "DocumentTitle", ""),
    "no burned-in annotation": lambda d: put(d, "BurnedInAnnotation", "NO"),
    "another concept": lambda d: put(d.ConceptNameCodeSequence[0], "CodeValue", "11524-0"),
    "no series description": lambda d: d.pop("SeriesDescription"),
}

CASES = [
    pytest.param(role, defect, id=f"{role}-{name}")
    for role, defects in (
        (Role.SR, REPORT_DEFECTS),
        (Role.ECG, ECG_DEFECTS),
        (Role.PDF, PAGE_DEFECTS),
    )
    for name, defect in defects.items()
]


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("overall", Overall)
def test_what_build_makes_passes(role: Role, overall: Overall) -> None:
    assert check(made(role, overall)) == ()


@pytest.mark.parametrize(("role", "defect"), CASES)
def test_each_defect_is_refused(role: Role, defect: Callable[[Dataset], object]) -> None:
    dataset = made(role)
    defect(dataset)
    assert check(dataset)


def test_an_object_that_is_no_result_is_refused() -> None:
    dataset = Dataset()
    assert check(dataset) == ("SOP class absent is none of a result object",)


def test_an_empty_object_of_each_class_is_refused_and_not_stumbled_over() -> None:
    for role in Role:
        dataset = Dataset()
        dataset.SOPClassUID = made(role).SOPClassUID
        assert len(check(dataset)) > 5


def test_the_cart_object_itself_is_no_result() -> None:
    assert check(cart_file())


def test_every_code_of_the_vocabulary_is_known_and_an_invented_one_is_not() -> None:
    known = known_codes()
    assert all(entry.code in known for entry in VOCABULARY.values())
    assert Code("SCT", "49436004999", "") not in known
