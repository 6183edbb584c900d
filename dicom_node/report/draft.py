"""A data set in the making: what the source brought, and over it what we say.

What came passes as it came. Ours is plain values by keyword, and encoder and checker take them so:
pydicom takes some 8 µs to make an item and 10 µs to judge and set a value, and a report has some
hundred and sixty items.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, TypeAlias

from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag

from analysis.ecg import Code

Attributes: TypeAlias = dict[str, Any]
"""Values by keyword. A :class:`~analysis.ecg.Code` stands for its Code Sequence."""


@lru_cache(maxsize=1024)
def attribute(keyword: str) -> tuple[BaseTag, str]:
    """Return tag and value representation of an attribute of the standard (PS3.6)."""
    return Tag(keyword), dictionary_VR(keyword)


def value_of(dataset: Dataset, keyword: str) -> Any:
    """Return the value or None; by its tag, because pydicom is slow to find it by keyword."""
    element = dataset.get(attribute(keyword)[0])
    return None if element is None else element.value


@dataclass(frozen=True, slots=True, eq=False)
class Draft:
    """A data set or an item of a sequence; asked like one of pydicom's."""

    brought: Dataset
    ours: Attributes

    def get(self, keyword: str) -> Any:
        """Return the value, ours before what the source brought, or None."""
        return self.ours[keyword] if keyword in self.ours else value_of(self.brought, keyword)

    def __contains__(self, keyword: str) -> bool:
        """Return whether the attribute is there, with or without a value."""
        return keyword in self.ours or attribute(keyword)[0] in self.brought


AttributeSet: TypeAlias = Dataset | Draft | Attributes
"""What encoder and checker take: read from a file, in the making, or all ours."""


def first_code(sequence: Code | Iterable[AttributeSet] | None) -> Code | None:
    """Return the code, or the first item of a Code Sequence, or None."""
    if isinstance(sequence, Code):
        return sequence
    item = next(iter(sequence or ()), None)
    return None if item is None else Code(*(str(item.get(word) or "") for word in _CODE))


_CODE: Final = ("CodingSchemeDesignator", "CodeValue", "CodeMeaning")
