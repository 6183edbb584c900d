"""The figures of a card that no model answers: sinus rhythm at the measured rate."""

from collections.abc import Mapping

import numpy as np

from analysis.features import names
from training.shipped.corpus import LABELS
from training.shipped.examples import Example
from training.shipped.figures import RATES, rates
from training.shipped.plans import TWELVE_LEAD


def example(source: str, rate: float, *, led: bool, stated: Mapping[str, bool]) -> Example:
    features = np.full(len(names()), np.nan, dtype=np.float32)
    features[names().index("heart_rate")] = rate
    features[names().index("led_by_p")] = led
    nothing = np.full(len(LABELS), np.nan, dtype=np.float32)
    return Example(
        source=source,
        patient=f"{source} {rate}",
        signal=np.empty((12, 0), dtype=np.float32),
        windows=np.empty((0, 12, 0), dtype=np.float32),
        labels=nothing,
        withheld=nothing,
        features=features,
        silent=frozenset(),
        rates=stated,
    )


def areas(examples: list[Example]) -> dict[tuple[str, str], float]:
    return {
        (item.label, item.data): item.value
        for item in rates(TWELVE_LEAD, examples)
        if item.measure == "AUROC"
    }


FAST, SLOW = {"sinus_tachycardia": True}, {"sinus_tachycardia": False}


def test_fast_fibrillation_stands_behind_every_sinus_tachycardia() -> None:
    sinus = [example("SPH", 101.0 + at, led=True, stated=FAST) for at in range(4)]
    others = [example("SPH", 150.0, led=False, stated=SLOW) for _ in range(4)]
    slow = [example("LUDB", 70.0, led=True, stated=SLOW) for _ in range(4)]
    found = areas([*sinus, *others, *slow])
    assert found["sinus_tachycardia", RATES] == 1.0
    assert found["sinus_tachycardia", "Chapman-Ningbo + SPH"] == 1.0


def test_a_source_that_names_no_rates_has_no_say() -> None:
    stated = [example("SPH", 101.0 + at, led=True, stated=FAST) for at in range(4)]
    stated += [example("SPH", 80.0, led=True, stated=SLOW) for _ in range(4)]
    silent = [example("CPSC2018", 150.0, led=True, stated={}) for _ in range(4)]
    assert areas([*stated, *silent]) == areas(stated)


def test_a_tachycardia_that_is_not_seen_as_sinus_counts_no_further_than_the_limit() -> None:
    unseen = example("SPH", 130.0, led=False, stated=FAST)
    seen = [example("SPH", 90.0, led=True, stated=SLOW) for _ in range(3)]
    fast = [example("SPH", 104.0, led=True, stated=SLOW)]
    assert areas([unseen, *seen, *fast])["sinus_tachycardia", RATES] == 0.75
