"""How often somebody may ask: a minute's worth, however it is spread."""

from hypothesis import given
from hypothesis import strategies as st

from training.admin.limits import Rate

LIMIT = 60


@given(st.lists(st.floats(0.0, 30.0), min_size=1, max_size=300))
def test_nobody_asks_more_often_than_a_minute_allows(pauses: list[float]) -> None:
    now = 0.0
    rate = Rate(lambda: LIMIT, lambda: now)
    admitted = []
    for pause in pauses:
        now += pause / 10
        if rate.take("ada") == 0.0:
            admitted.append(now)
    for first in admitted:
        within = [moment for moment in admitted if first <= moment < first + 60.0]
        assert len(within) <= 2 * LIMIT  # what was saved up, and what came in since


def test_who_asks_too_often_hears_when_he_may_and_then_may() -> None:
    now = 0.0
    rate = Rate(lambda: LIMIT, lambda: now)
    assert [rate.take("ada") for _ in range(LIMIT)] == [0.0] * LIMIT
    wait = rate.take("ada")
    assert 0.0 < wait <= 1.0
    assert rate.take("otto") == 0.0
    now += wait
    assert rate.take("ada") == 0.0
    assert rate.take("ada") > 0.0


def test_lower_limit_counts_at_once() -> None:
    limit, now = 1000, 0.0
    rate = Rate(lambda: limit, lambda: now)
    assert rate.take("ada") == 0.0
    limit = 2
    assert [rate.take("ada") == 0.0 for _ in range(3)] == [True, True, False]
