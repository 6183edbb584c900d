"""UIDs that follow from what they name: the same row gives the same UIDs, always.

``2.25.`` and a name-based UUID (PS3.5 B.2, RFC 9562 version 5). The fields are joined with their
lengths: joined bare, ("1.2", "3") and ("1.23", "") would name the same object.
"""

import re
from enum import StrEnum
from typing import Final
from uuid import UUID, uuid5

_LONGEST: Final = 64
_UID: Final = re.compile(r"[0-9]+(\.[0-9]+)+")
_NAMESPACE: Final = UUID("5b1d35a8-4f1c-5f0e-9a55-73696e757300")


class Level(StrEnum):
    """What a UID names."""

    INSTANCE = "instance"
    SERIES = "series"
    DEVICE = "device"


def is_uid(value: object) -> bool:
    """Return whether the value is a UID (PS3.5 9.1); leading zeros of real carts are tolerated."""
    return len(str(value)) <= _LONGEST and _UID.fullmatch(str(value)) is not None


def derive(*fields: str) -> str:
    """Return the UID of these fields, in this order; at most 44 characters."""
    name = "".join(f"{len(field)}:{field}" for field in fields)
    return f"2.25.{uuid5(_NAMESPACE, name).int}"


def object_uid(
    level: Level, *, source_uid: str, source_sha256: str, plan_digest: str, role: str
) -> str:
    """Return the SOP Instance UID or Series Instance UID of one result object."""
    return derive(level, source_uid, source_sha256, plan_digest, role)


def device_uid(digest: str) -> str:
    """Return the Device UID (0018,1002) of a model: another export is another device.

    References
    ----------
    IHE RAD AIR, Contributing Equipment: a modified model takes a new Device UID.
    """
    return derive(Level.DEVICE, digest)


IMPLEMENTATION_CLASS_UID: Final = derive("implementation", "sinusnode")
"""Implementation Class UID (0002,0012)."""
