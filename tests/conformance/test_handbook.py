"""The integration guide says what the settings and reasons are."""

import pytest
from support import ROOT

from dicom_node.handbook import LISTS, tables
from dicom_node.settings import Settings

GUIDE = (ROOT / "dicom_node" / "INTEGRATION.md").read_text()


@pytest.mark.parametrize("title", list(tables()))
def test_table_of_the_guide_equals_the_code(title: str) -> None:
    assert f"### {title}\n" in GUIDE
    assert tables()[title] in GUIDE


def test_no_section_of_the_settings_is_left_out() -> None:
    titles = {title.strip("[]").split(" ")[0] for title in tables()}
    assert set(Settings.model_fields) <= titles
    assert {name.split(" ")[0] for name in LISTS} <= titles
