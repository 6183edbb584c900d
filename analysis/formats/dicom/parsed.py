"""The walked elements as pydicom's Dataset, for those who copy from the object.

pydicom decodes a value when it is first asked for, and may fail then. So each value is looked at
here: one that pydicom decodes for certain, and without a warning, stays the bytes that came; any
other is decoded at once.
"""

import re
import warnings
from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Final

from pydicom.charset import convert_encodings, default_encoding, python_encoding
from pydicom.datadict import DicomDictionary
from pydicom.dataelem import DataElement, RawDataElement, convert_raw_data_element
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag
from pydicom.uid import ExplicitVRLittleEndian

from analysis.formats.dicom.elements import Encoded, Item, damaged

_Check = Callable[[bytes], object]

_CHARACTER_SET: Final = BaseTag(0x00080005)
_DEFAULT: Final = [default_encoding]
_ENCODINGS: Final = frozenset(python_encoding.values())


def parsed(encoded: Encoded) -> FileDataset:
    """Return the dataset of a file; nothing that is read from it later can fail.

    Raises
    ------
    Undecodable
        DAMAGED, or TOO_LARGE.
    Exception
        Whatever pydicom raises for a value that it cannot decode.
    """
    elements = encoded.dataset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        body = _dataset(elements, _DEFAULT, implicit=encoded.implicit)
        meta = FileMetaDataset(_dataset(encoded.meta, _DEFAULT, implicit=False))
    if encoded.big_endian:
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(
        BytesIO(),
        body,
        file_meta=meta,
        is_implicit_VR=encoded.implicit,
        is_little_endian=True,
    )
    dataset.set_original_encoding(encoded.implicit, True, body.original_character_set)  # noqa: FBT003 - pydicom's signature
    return dataset


def _dataset(item: Item, outer: list[str], *, implicit: bool) -> Dataset:
    """Return an item; ``outer`` are the character encodings of the one that holds it."""
    encodings = _encodings(item, outer, implicit=implicit)
    elements = {
        tag: _sequence(tag, value, encodings, implicit=implicit or vr == b"UN")
        if isinstance(value, list)
        else _raw(tag, vr, value, implicit=implicit)
        for tag, (vr, value) in zip(map(BaseTag, item), item.values(), strict=True)
    }
    dataset = Dataset(elements, parent_encoding=outer)
    dataset.set_original_encoding(implicit, True, encodings)  # noqa: FBT003 - pydicom's signature
    checks = _CHECKS if _ENCODINGS.issuperset(encodings) else _CHECKS_OF_BYTES
    for tag, element in elements.items():
        if element.is_raw and not _is_certain(element, checks):
            str(dataset[tag].value)
    return dataset


def _encodings(item: Item, outer: list[str], *, implicit: bool) -> list[str]:
    if _CHARACTER_SET not in item:
        return outer
    vr, value = item[_CHARACTER_SET]
    if isinstance(value, list):
        raise damaged("SpecificCharacterSet is a sequence; the object was altered.")
    stated = _raw(_CHARACTER_SET, vr, value, implicit=implicit)
    return list(convert_encodings(convert_raw_data_element(stated).value))


def _sequence(
    tag: BaseTag, items: list[Item], encodings: list[str], *, implicit: bool
) -> DataElement:
    datasets = [_dataset(item, encodings, implicit=implicit) for item in items]
    return DataElement(tag, "SQ", Sequence(datasets), already_converted=True)


def _raw(tag: BaseTag, vr: bytes, value: bytes, *, implicit: bool) -> RawDataElement:
    return RawDataElement(
        tag,
        vr.decode() or None,
        len(value),
        value,
        value_tell=0,
        is_implicit_VR=implicit,
        is_little_endian=True,
    )


def _is_certain(element: RawDataElement, checks: Mapping[str, _Check]) -> bool:
    """Return whether pydicom decodes a value for certain and without a warning."""
    vr = element.VR or DicomDictionary.get(element.tag, ("",))[0]
    return vr in checks and bool(checks[vr](element.value))


def _anything(_: bytes) -> bool:
    return True


def _multiple(size: int) -> _Check:
    return lambda value: len(value) % size == 0


def _form(pattern: bytes) -> _Check:
    return re.compile(pattern).fullmatch


_CHECKS_OF_BYTES: Final[Mapping[str, _Check]] = {
    **dict.fromkeys(("AE", "AS", "CS", "DA", "DT", "TM", "UR"), _anything),  # any Latin-1
    **dict.fromkeys(("OB", "OD", "OF", "OL", "OV", "OW"), _anything),
    **dict.fromkeys(("SS", "US"), _multiple(2)),
    **dict.fromkeys(("AT", "FL", "SL", "UL"), _multiple(4)),
    **dict.fromkeys(("FD", "SV", "UV"), _multiple(8)),
    "DS": _form(rb"(?=.{0,16}$)( *[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,2})? *)?"),
    "IS": _form(rb"([+-]?\d{1,9} {0,2})?"),
    "UI": _form(rb"(?=.{0,64}$)((0|[1-9]\d*)(\.(0|[1-9]\d*))*\0?)?"),
}
"""By VR (PS3.5 §6.2), what is certain whatever the character set."""

_CHECKS: Final[Mapping[str, _Check]] = {
    **_CHECKS_OF_BYTES,
    "LO": _form(rb"[ -~]{0,64}"),
    "LT": _form(rb"[\r\n -~]{0,10240}"),
    "PN": _form(rb"[ -<>-~]{0,64}"),
    "SH": _form(rb"[ -~]{0,16}"),
    "ST": _form(rb"[\r\n -~]{0,1024}"),
    "UC": _form(rb"[ -~]*"),
    "UT": _form(rb"[\r\n -~]*"),
}
"""The same with what is certain in the character sets of the standard: plain ASCII."""
