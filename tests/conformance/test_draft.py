"""What is written by hand equals what highdicom and pydicom make, item by item."""

import io
from collections.abc import Callable, Iterator
from dataclasses import replace

import highdicom.sr as hd
import pydicom
import pytest
from highdicom.sr import CodedConcept
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from report_samples import DEVICE, cart_file, objects, result_for, statement

from analysis.result import Overall
from dicom_node.report import Role, check


def report(overall: Overall) -> Dataset:
    source = cart_file()
    made = objects(source, result_for(source, overall))[Role.SR]
    return pydicom.dcmread(io.BytesIO(made.data))


def items(parent: Dataset) -> Iterator[Dataset]:
    for item in parent.get("ContentSequence") or ():
        yield item
        yield from items(item)


def coded(sequence: list[Dataset]) -> CodedConcept:
    (code,) = sequence
    return CodedConcept(code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning)


def measured(item: Dataset, **common: object) -> hd.ContentItem:
    if "NumericValueQualifierCodeSequence" in item:
        return nothing_measured(item, **common)
    (number,) = item.MeasuredValueSequence
    unit = coded(number.MeasurementUnitsCodeSequence)
    return hd.NumContentItem(value=number.FloatingPointValue, unit=unit, **common)


def nothing_measured(item: Dataset, **common: object) -> hd.ContentItem:
    """Return the item of highdicom without its number, of which highdicom always wants one."""
    why = coded(item.NumericValueQualifierCodeSequence)
    made = hd.NumContentItem(
        value=0, unit=CodedConcept("1", "UCUM", "no units"), qualifier=why, **common
    )
    made.MeasuredValueSequence = []
    return made


def waveform(item: Dataset, **common: object) -> hd.ContentItem:
    (instance,) = item.ReferencedSOPSequence
    return hd.WaveformContentItem(
        referenced_sop_class_uid=instance.ReferencedSOPClassUID,
        referenced_sop_instance_uid=instance.ReferencedSOPInstanceUID,
        **common,
    )


def container(item: Dataset, **common: object) -> hd.ContentItem:
    template = next(iter(item.get("ContentTemplateSequence") or ()), Dataset())
    return hd.ContainerContentItem(template_id=template.get("TemplateIdentifier"), **common)


BY_HIGHDICOM: dict[str, Callable[..., hd.ContentItem]] = {
    "TEXT": lambda item, **common: hd.TextContentItem(value=item.TextValue, **common),
    "CODE": lambda item, **common: hd.CodeContentItem(
        value=coded(item.ConceptCodeSequence), **common
    ),
    "UIDREF": lambda item, **common: hd.UIDRefContentItem(value=item.UID, **common),
    "DATETIME": lambda item, **common: hd.DateTimeContentItem(value=item.DateTime, **common),
    "NUM": measured,
    "WAVEFORM": waveform,
    "CONTAINER": container,
}


def by_highdicom(item: Dataset) -> hd.ContentItem:
    """Return the item that highdicom makes of the same words and numbers."""
    return BY_HIGHDICOM[item.ValueType](
        item,
        name=coded(item.ConceptNameCodeSequence),
        relationship_type=item.RelationshipType,
    )


def encoded(item: Dataset) -> bytes:
    """Return the item without those below it, as pydicom encodes it."""
    alone = Dataset({e.tag: e for e in item if e.keyword != "ContentSequence"})
    buffer = pydicom.filebase.DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    pydicom.filewriter.write_dataset(buffer, alone)
    return bytes(buffer.getvalue())


@pytest.mark.parametrize("overall", Overall)
def test_each_content_item_is_the_one_that_highdicom_makes(overall: Overall) -> None:
    written = list(items(report(overall)))
    assert {item.ValueType for item in written} == set(BY_HIGHDICOM)
    for item in written:
        assert encoded(item) == encoded(by_highdicom(item))


def test_the_observer_is_the_template_that_highdicom_makes() -> None:
    expected = hd.DeviceObserverIdentifyingAttributes(
        uid=DEVICE.device_uid,
        name=DEVICE.station_name,
        manufacturer_name=DEVICE.manufacturer,
        model_name=DEVICE.model_name,
        serial_number=DEVICE.serial_number,
    )
    written = report(Overall.ABNORMAL).ContentSequence[2 : 2 + len(expected)]
    assert [encoded(item) for item in written] == [encoded(item) for item in expected]


def garbled_label() -> Dataset:
    """Return the cart file with a channel label in bytes that its character set does not hold."""
    source = cart_file()
    source.SpecificCharacterSet = "ISO_IR 192"
    channel = source.WaveformSequence[0].ChannelDefinitionSequence[0]
    tag = pydicom.tag.Tag("ChannelLabel")
    channel[tag] = RawDataElement(tag, "SH", 8, b"Abl. \xfc ", 0, False, True)  # noqa: FBT003 - pydicom's signature
    return source


def test_bytes_of_a_channel_that_nobody_reads_are_kept_as_they_came() -> None:
    assert b"Abl. \xfc " in objects(garbled_label())[Role.ECG].data


def test_building_again_from_the_same_parsed_source_gives_the_same_bytes() -> None:
    source = garbled_label()
    result = result_for(source)
    first, *others = (objects(source, result) for _ in range(3))
    assert others == [first, first]


def test_a_text_of_nothing_but_blanks_is_said_to_be_missing() -> None:
    source = cart_file()
    blank = replace(statement("lvh"), text=" ", evidence=("\n ",))
    made = objects(source, result_for(source, statements=(blank,)))[Role.SR]
    written = pydicom.dcmread(io.BytesIO(made.data))
    assert check(written) == made.faults == ()
    assert "not stated" in {item.get("TextValue") for item in items(written)}
