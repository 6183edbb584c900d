"""The page as an Encapsulated PDF (PS3.3 A.45.1): the one object that every viewer shows."""

from typing import Final

from dicom_node.report.concepts import ECG_REPORT
from dicom_node.report.draft import Attributes, Draft
from dicom_node.report.objects import Inputs, Role
from dicom_node.report.shell import (
    acquired_at,
    date_time,
    equipment,
    identity,
    placement,
    reference,
)

ENCAPSULATED_PDF: Final = "1.2.840.10008.5.1.4.1.1.104.1"
TITLE: Final = "ECG report by AI, not verified"


def encapsulated_pdf(inputs: Inputs) -> Draft:
    """Return the page as an Encapsulated PDF Storage instance."""
    brought = identity(inputs.source)
    ours = equipment(inputs.device) | placement(inputs, Role.PDF, ENCAPSULATED_PDF)
    return Draft(brought, ours | _document(inputs))


def _document(inputs: Inputs) -> Attributes:
    """SC Equipment and Encapsulated Document (PS3.3 C.8.6.1, C.24.2)."""
    date, time = date_time(inputs.written_at)
    return {
        "Modality": "DOC",
        "SeriesDescription": TITLE,
        "ConversionType": "SYN",
        "ContentDate": date,
        "ContentTime": time,
        "AcquisitionDateTime": acquired_at(inputs.source),
        "BurnedInAnnotation": "YES",
        "RecognizableVisualFeatures": "NO",
        "SourceInstanceSequence": [reference(inputs.source)],
        "DocumentTitle": TITLE,
        "ConceptNameCodeSequence": ECG_REPORT,
        "VerificationFlag": "UNVERIFIED",
        "MIMETypeOfEncapsulatedDocument": "application/pdf",
        "EncapsulatedDocumentLength": len(inputs.page),
        "EncapsulatedDocument": inputs.page + b"\0" * (len(inputs.page) % 2),
    }
