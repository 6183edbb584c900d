"""XML as carts really write it: wrong declarations, marks, entities, endless nesting."""

import pytest

from analysis.errors import Reason, Undecodable
from analysis.formats.markup import parse, root_of, text_of

DOCUMENT = '<?xml version="1.0" encoding="{}"?>\n<a:ecg xmlns:a="urn:x"><name>Ö</name></a:ecg>'


@pytest.mark.parametrize(
    ("declared", "written"),
    [
        ("UTF-8", "utf-8"),
        ("UTF-8", "utf-8-sig"),
        ("UTF-16", "utf-16"),
        ("UTF-16", "utf-16-le"),
        ("UTF-16", "utf-16-be"),
        ("UTF-16", "utf-8"),
        ("ISO8859-1", "latin-1"),
        ("ISO-8859-1", "latin-1"),
        ("no-such-encoding", "latin-1"),
    ],
)
def test_the_bytes_decide_what_encoding_a_document_has(declared: str, written: str) -> None:
    data = DOCUMENT.format(declared).encode(written)
    assert root_of(data) == "ecg"
    assert text_of(parse(data), "name") == "Ö"


@pytest.mark.parametrize("before", ["", "<!-- a > b -->", "<!DOCTYPE x SYSTEM 'restecg.dtd'>"])
def test_the_root_is_found_behind_comments_and_document_types(before: str) -> None:
    assert root_of(f"<?xml version='1.0'?>{before}\n<RestingECG/>".encode()) == "RestingECG"


@pytest.mark.parametrize("data", [b"", b"SCPECG", b"\x00\x01<", b"<", b"< 5 mV"])
def test_what_is_no_markup_has_no_root(data: bytes) -> None:
    assert root_of(data) is None


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"<a><b></a>", Reason.DAMAGED),
        (b"<!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a>", Reason.DAMAGED),
        (b"<a>" * 900_000, Reason.TOO_LARGE),
    ],
)
def test_cut_documents_entities_and_endless_nesting_are_refused(
    data: bytes, reason: Reason
) -> None:
    with pytest.raises(Undecodable) as refused:
        parse(data)
    assert refused.value.reason is reason
