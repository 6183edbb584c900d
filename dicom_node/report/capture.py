"""Page one as a Secondary Capture image (PS3.3 A.8.1): for viewers that show pictures alone."""

from io import BytesIO
from typing import Final

from PIL import Image
from pydicom.dataelem import DataElement

from analysis import paper
from dicom_node.report import concepts as c
from dicom_node.report.draft import Attributes, Draft, attribute
from dicom_node.report.objects import Inputs, Role
from dicom_node.report.pdf import TITLE
from dicom_node.report.shell import (
    acquired_at,
    date_time,
    equipment,
    identity,
    placement,
    reference,
)

SECONDARY_CAPTURE: Final = "1.2.840.10008.5.1.4.1.1.7"
DPI: Final = 200
"""Dots per inch: the smallest letters are still read, and a millimetre has eight pixels."""

_MM_PER_INCH: Final = 25.4


def secondary_capture(inputs: Inputs) -> Draft:
    """Return the page as a Secondary Capture Image Storage instance, in true colour."""
    brought = identity(inputs.source)
    version = inputs.device.software_version
    page = Image.open(BytesIO(paper.render(inputs.result, "png", version=version, dpi=DPI)))
    pixels = page.convert("RGB").tobytes()
    tag = attribute("PixelData")[0]
    brought[tag] = DataElement(tag, "OW", pixels + b"\0" * (len(pixels) % 2))
    ours = equipment(inputs.device) | placement(inputs, Role.SC, SECONDARY_CAPTURE)
    return Draft(brought, ours | _image(inputs) | _pixels(page))


def _image(inputs: Inputs) -> Attributes:
    """SC Equipment, General Image and General Reference (PS3.3 C.8.6.1, C.7.6.1, C.12.4)."""
    date, time = date_time(inputs.written_at)
    origin = reference(inputs.source) | {"PurposeOfReferenceCodeSequence": c.SOURCE_OF_MEASUREMENT}
    return {
        "Modality": "OT",
        "SeriesDescription": TITLE,
        "ConversionType": "SYN",
        "ContentDate": date,
        "ContentTime": time,
        "AcquisitionDateTime": acquired_at(inputs.source),
        "BodyPartExamined": "HEART",  # unpaired: Laterality is absent
        "PatientOrientation": None,
        "ImageType": ["DERIVED", "SECONDARY"],
        "BurnedInAnnotation": "YES",
        "RecognizableVisualFeatures": "NO",
        "LossyImageCompression": "00",
        "ReferencedInstanceSequence": [origin],
    }


def _pixels(page: Image.Image) -> Attributes:
    """Image Pixel and SC Image (PS3.3 C.7.6.3, C.8.6.2): a pixel is as large as on paper."""
    spacing = f"{_MM_PER_INCH / DPI:g}"
    return {
        "SamplesPerPixel": 3,
        "PhotometricInterpretation": "RGB",
        "PlanarConfiguration": 0,
        "Rows": page.height,
        "Columns": page.width,
        "BitsAllocated": 8,
        "BitsStored": 8,
        "HighBit": 7,
        "PixelRepresentation": 0,
        "NominalScannedPixelSpacing": [spacing, spacing],
    }
