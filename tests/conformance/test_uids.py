"""UIDs follow from what they name."""

from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import UID

from dicom_node.report.uids import Level, derive, device_uid, object_uid

_TEXT = st.text(alphabet="0123456789.:\x1fab", max_size=8)
_FIELDS = st.lists(_TEXT, max_size=4)


@given(_FIELDS, _FIELDS)
def test_different_fields_never_share_a_uid(one: list[str], other: list[str]) -> None:
    assert (derive(*one) == derive(*other)) == (one == other)


def test_joining_the_fields_otherwise_is_another_uid() -> None:
    assert derive("1.2", "3") != derive("1.23", "")


@given(_FIELDS)
def test_a_uid_is_valid_and_short_enough(fields: list[str]) -> None:
    uid = UID(derive(*fields))
    assert uid.is_valid
    assert len(uid) <= 64


def test_the_uid_of_an_object_is_pinned_for_ever() -> None:
    uid = object_uid(
        Level.INSTANCE, source_uid="1.2.3", source_sha256="ab", plan_digest="cd", role="sr"
    )
    assert uid == "2.25.297374982829002440891334016941466521657"


def test_instance_series_and_role_have_uids_of_their_own() -> None:
    same = {"source_uid": "1.2.3", "source_sha256": "ab", "plan_digest": "cd"}
    uids = {
        object_uid(level, role=role, **same)
        for level in (Level.INSTANCE, Level.SERIES)
        for role in ("sr", "pdf", "ecg")
    }
    assert len(uids) == 6


def test_another_export_of_a_model_is_another_device() -> None:
    assert device_uid("ab" * 32) != device_uid("ac" * 32)
