"""The conformance statement says what the code does."""

import pytest
from support import ROOT

from dicom_node.conformance import tables


@pytest.mark.parametrize("title", list(tables()))
def test_table_of_the_statement_equals_the_code(title: str) -> None:
    statement = (ROOT / "dicom_node" / "CONFORMANCE.md").read_text()
    assert f"### {title}\n" in statement
    assert tables()[title] in statement
