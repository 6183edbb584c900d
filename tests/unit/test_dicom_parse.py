"""The parsed Dataset: what pydicom would read, and nothing left in it that can fail later."""

import warnings
from io import BytesIO

import pytest
from dicom_objects import dataset, group, synthetic, written
from hypothesis import example, given
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32, STANDARD_VR

from analysis.errors import Undecodable
from analysis.formats.dicom import parse

CHARACTER_SET = b"\x08\0\x05\0"
PRIVATE = b"\x99\x40\x01\x10"
KNOWN = {
    "CS": b"\x08\0\x60\0",
    "DS": b"\x10\0\x30\x10",
    "IS": b"\x20\0\x13\0",
    "LO": b"\x08\0\x70\0",
    "PN": b"\x10\0\x10\0",
    "SH": b"\x08\0\x50\0",
    "UI": b"\x08\0\x18\0",
    "UN": b"\x08\0\x70\0",
    "US": b"\x28\0\x10\0",
}
SIMPLE = sorted(vr.value for vr in STANDARD_VR if vr.value != "SQ")
PLAUSIBLE = st.text("0123456789.+-eE ABC^=\\", max_size=20).map(str.encode)


def element(vr: str, value: bytes, tag: bytes | None = None) -> bytes:
    """Return one element in Explicit VR Little Endian."""
    long = vr in EXPLICIT_VR_LENGTH_32
    size = len(value).to_bytes(4 if long else 2, "little")
    return (tag or KNOWN.get(vr, PRIVATE)) + vr.encode() + (b"\0\0" if long else b"") + size + value


def file(*elements: bytes) -> bytes:
    """Return a file of these elements in Explicit VR Little Endian."""
    syntax = element("UI", ExplicitVRLittleEndian.encode() + b"\0", b"\x02\0\x10\0")
    return bytes(128) + b"DICM" + syntax + b"".join(elements)


def values(item: Dataset) -> list[object]:
    """Return tag, VR and value of everything in an item, as words."""
    return [
        (e.tag, e.VR, [values(i) for i in e.value] if e.VR == "SQ" else repr(e.value)) for e in item
    ]


@given(
    vr=st.sampled_from(SIMPLE),
    value=st.binary(max_size=70) | PLAUSIBLE,
    charset=st.sampled_from([b"", b"ISO_IR 100", b"ISO_IR 192", b"\\ISO 2022 IR 87", b"utf_16"]),
)
@example(vr="DS", value=b"1e999", charset=b"")
@example(vr="DS", value=b"12345678901234567", charset=b"")
@example(vr="IS", value=b"99999999999999999999", charset=b"")
@example(vr="UI", value=b"1.02", charset=b"")
@example(vr="UI", value=b"1.2\n", charset=b"")
@example(vr="PN", value=b"A=B=C=D", charset=b"")
@example(vr="LO", value=b"plain", charset=b"utf_16")
@example(vr="SH", value=b"\x1b$B1", charset=b"\\ISO 2022 IR 87")
def test_a_value_reads_as_pydicom_reads_it_or_the_object_is_refused(
    vr: str, value: bytes, charset: bytes
) -> None:
    data = file(element("CS", charset, CHARACTER_SET), element(vr, value))
    try:
        parsed = parse(data)
    except Undecodable:
        return
    read = values(parsed)  # with warnings as errors
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert read == values(dcmread(BytesIO(data)))


def test_a_broken_value_is_refused_when_parsed_and_not_when_read() -> None:
    with pytest.raises(Undecodable):
        parse(file(element("US", b"abc")))


def test_plain_values_stay_the_bytes_that_came() -> None:
    parsed = parse(file(element("SH", b"1 "), element("LO", b"Maker "), element("DS", b"70.50 ")))
    assert [item.value for item in parsed.values()] == [b"1 ", b"Maker ", b"70.50 "]


def test_texts_of_an_item_are_read_in_the_characters_of_what_holds_it() -> None:
    item = Dataset()
    item.ChannelLabel = "für Übung"
    parent = dataset([], SpecificCharacterSet="ISO_IR 192", WaveformSequence=[item])
    parsed = parse(written(parent))
    assert parsed.WaveformSequence[0].ChannelLabel == "für Übung"


def test_a_sequence_of_unknown_representation_is_read_as_implicit() -> None:
    inner = b"\x3a\0\x03\x02\x02\0\0\0II"
    item = b"\xfe\xff\0\xe0" + len(inner).to_bytes(4, "little") + inner
    parsed = parse(file(element("UN", item, b"\x00\x54\x00\x01")))
    assert parsed.WaveformSequence[0].ChannelLabel == "II"


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_numbers_of_other_transfer_syntaxes_keep_their_value(syntax: str) -> None:
    parsed = parse(written(dataset([group(synthetic())]), syntax))
    rhythm = parsed.WaveformSequence[0]
    assert (rhythm.NumberOfWaveformChannels, rhythm.NumberOfWaveformSamples) == (12, 2000)
    assert parsed.original_encoding == (syntax == ImplicitVRLittleEndian, True)
