"""What a C-STORE status means for delivery, and how long the sender waits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.deliver import judge, pause
from dicom_node.reasons import Delivery
from dicom_node.settings import Destination

PACS = Destination(ae_title="PACS", host="127.0.0.1", port=104, retry_first=15, retry_longest=300)


@pytest.mark.parametrize("status", [0x0000, 0x0111, 0xB000, 0xB006, 0xB007])
def test_success_duplicates_and_warnings_are_delivered(status: int) -> None:
    assert judge(status) is None


@pytest.mark.parametrize("status", [0xA700, 0xA701, 0xA7FF])
def test_full_pacs_is_tried_again(status: int) -> None:
    failure = judge(status)
    assert failure is not None
    assert (failure.reason, failure.permanent) == (Delivery.OUT_OF_RESOURCES, False)


@pytest.mark.parametrize("status", [0x0122, 0x0117, 0x0124, 0xA900, 0xC000, 0xCFFF, 0xFE00, 0xFF00])
def test_refusals_are_for_good(status: int) -> None:
    failure = judge(status)
    assert failure is not None
    assert (failure.reason, failure.permanent) == (Delivery.REFUSED, True)


@given(st.integers(0, 0xFFFF))
def test_every_status_has_a_meaning_and_keeps_its_number(status: int) -> None:
    failure = judge(status)
    assert failure is None or failure.status == status


@given(attempts=st.integers(1, 10_000), chance=st.floats(0, 1))
def test_pauses_grow_and_stay_within_the_longest(attempts: int, chance: float) -> None:
    middle = pause(attempts, PACS, 0.5)
    assert 15 <= round(middle, 9) <= round(pause(attempts + 1, PACS, 0.5), 9) <= 300
    assert abs(pause(attempts, PACS, chance) / middle - 1) <= 0.2 + 1e-9


def test_pauses_double() -> None:
    pauses = [pause(number, PACS, 0.5) for number in range(1, 7)]
    assert pauses == pytest.approx([15, 30, 60, 120, 240, 300])
