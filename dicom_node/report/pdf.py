"""The page as an Encapsulated PDF (PS3.3 A.45.1): the one object that every viewer shows."""

from typing import Final

from pydicom.dataset import Dataset

from dicom_node.report.concepts import ECG_REPORT, coded
from dicom_node.report.objects import Inputs, Role
from dicom_node.report.shell import acquired_at, date_time, equip, identity, place, reference

ENCAPSULATED_PDF: Final = "1.2.840.10008.5.1.4.1.1.104.1"
TITLE: Final = "ECG report by AI, not verified"


def encapsulated_pdf(inputs: Inputs) -> Dataset:
    """Return the page as an Encapsulated PDF Storage instance."""
    dataset = identity(inputs.source)
    equip(dataset, inputs)
    place(dataset, inputs, Role.PDF, ENCAPSULATED_PDF)
    dataset.Modality = "DOC"
    dataset.SeriesDescription = TITLE
    dataset.ConversionType = "SYN"
    dataset.ContentDate, dataset.ContentTime = date_time(inputs.written_at)
    dataset.AcquisitionDateTime = acquired_at(inputs.source)
    dataset.BurnedInAnnotation = "YES"
    dataset.RecognizableVisualFeatures = "NO"
    dataset.SourceInstanceSequence = [reference(inputs.source)]
    dataset.DocumentTitle = TITLE
    dataset.ConceptNameCodeSequence = [coded(ECG_REPORT)]
    dataset.VerificationFlag = "UNVERIFIED"
    dataset.MIMETypeOfEncapsulatedDocument = "application/pdf"
    dataset.EncapsulatedDocumentLength = len(inputs.page)
    dataset.EncapsulatedDocument = inputs.page + b"\0" * (len(inputs.page) % 2)
    return dataset
