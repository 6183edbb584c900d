"""P waves followed by themselves: atria and ventricles made to beat as each block has it."""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import pytest
from hearts import RATE, beat, heart
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.analyse import analyse
from analysis.atria import conduction
from analysis.beats import detect, prepare
from analysis.ecg import ECG, Patient, Sex
from analysis.result import Finding, Result
from analysis.synthetic import Kind, simulate

Array = npt.NDArray[np.float64]

MAN = Patient(age=60.0, sex=Sex.MALE)
SINUS, QRS, WIDE = (
    beat(Kind.SINUS),
    beat(Kind.SINUS, with_p=False),
    beat(Kind.LBBB, with_p=False),
)
P_WAVE = SINUS - QRS


def atria(interval: float, first: float = 0.4, duration: float = 10.0) -> Array:
    """Return when sinus beats are due, s."""
    return np.arange(first, duration - 0.3, interval)


def blocked(due: Iterable[float], ventricles: Iterable[float], shape: Array = QRS) -> ECG:
    """Return a heart whose atria beat when they are due, its ventricles when they do."""
    return heart([(time, P_WAVE) for time in due] + [(time, shape) for time in ventricles])


def led(due: Sequence[float] | Array, delays: Sequence[float]) -> list[float]:
    """Return ventricles that follow with these delays in turn, and then leave one beat out."""
    cycle = len(delays) + 1
    return [
        time + delays[place % cycle] for place, time in enumerate(due) if place % cycle < cycle - 1
    ]


def finding(result: Result, key: str) -> Finding:
    return next(item for item in result.findings if item.key == key)


def judged(ecg: ECG) -> tuple[Finding, Finding]:
    """Return what is said of second- and of third-degree block."""
    result = analyse(ecg, [], patient=MAN)
    return finding(result, "av_block_2"), finding(result, "av_block_3")


def p_rate(found: Finding) -> float:
    """Return the rate that the evidence names."""
    return float(found.evidence[0].removeprefix("P waves ").removesuffix("/min"))


@pytest.mark.parametrize("interval", [0.7, 0.8, 0.9, 1.0])
@pytest.mark.parametrize(
    ("pattern", "kind"),
    [
        ((0.0,), "2:1 block"),
        ((0.0, 0.09, 0.13), "Mobitz I"),
        ((0.0, 0.08, 0.12, 0.14), "Mobitz I"),
        ((0.0, 0.0, 0.0), "Mobitz II"),
    ],
)
def test_dropped_beats_are_second_degree_block_of_their_kind(
    interval: float, pattern: tuple[float, ...], kind: str
) -> None:
    due = atria(interval)
    second, third = judged(blocked(due, led(due, pattern)))
    assert second.present
    assert p_rate(second) == pytest.approx(60 / interval, abs=1.5)
    assert second.evidence[1].endswith(kind)
    assert not third.present


def test_two_dropped_beats_in_a_row_are_advanced_block() -> None:
    due = atria(0.8)
    second, _ = judged(blocked(due, due[::3]))
    assert second.present
    assert second.evidence[1] == "2 P waves in a row without a QRS: advanced block"


@pytest.mark.parametrize("interval", [0.7, 0.8, 0.9])
@pytest.mark.parametrize(("escape", "shape"), [(1.25, QRS), (1.45, QRS), (1.7, WIDE)])
def test_atria_and_ventricles_without_relation_are_third_degree_block(
    interval: float, escape: float, shape: Array
) -> None:
    second, third = judged(blocked(atria(interval), np.arange(0.55, 9.7, escape), shape))
    assert third.present
    assert p_rate(third) == pytest.approx(60 / interval, abs=1.5)
    assert not second.present


def test_the_atrial_rate_in_block_is_that_of_the_p_waves_and_no_bradycardia_of_the_sinus_node() -> (
    None
):
    due = atria(0.8)
    result = analyse(blocked(due, due[::2]), [], patient=MAN)
    assert result.measurements.atrial_rate.value == pytest.approx(75, abs=1)
    assert "sinus_bradycardia" not in {line.key for line in result.statements}


def test_irregular_conduction_of_regular_p_waves_is_no_fibrillation() -> None:
    due = atria(0.75)
    result = analyse(blocked(due, led(due, (0.0, 0.09, 0.13))), [], patient=MAN)
    assert not finding(result, "atrial_fibrillation").present
    assert {line.key for line in result.statements} & {"pac", "sinus_arrhythmia"} == set()


@settings(deadline=None, max_examples=25)
@given(
    interval=st.floats(0.65, 1.05),
    first=st.floats(0.35, 0.7),
    noise=st.sampled_from([0.0, 0.01, 0.03]),
    scatter=st.sampled_from([0.0, 0.02]),
    seed=st.integers(0, 99),
)
def test_a_block_is_never_taken_for_another(
    *, interval: float, first: float, noise: float, scatter: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    due = atria(interval, first)
    due = due + scatter * interval * random.standard_normal(due.size)
    for pattern, kind in (((0.0,), "2:1"), ((0.0, 0.09, 0.13), "I"), ((0.0, 0.0, 0.0), "II")):
        made = blocked(due, led(due, pattern))
        signal = made.signal + noise * random.standard_normal(made.signal.shape)
        second, third = judged(ECG(signal=signal, leads=made.leads, sampling_frequency=RATE))
        assert not third.present
        assert not second.present or kind in second.evidence[1].split()


def sinus(times: Iterable[float], extra: Sequence[tuple[float, Array]] = ()) -> ECG:
    return heart([(time, SINUS) for time in times] + list(extra))


STEADY = atria(0.85)
NO_BLOCK = {
    "sinus rhythm": sinus(STEADY),
    "slow sinus rhythm": sinus(atria(1.3)),
    "breathing": sinus(0.5 + np.cumsum(0.9 + 0.12 * np.sin(np.arange(9) * 2 * np.pi / 5))),
    "an early atrial beat": sinus([*STEADY[:4], STEADY[3] + 0.5, *(STEADY[4:-1] + 0.35)]),
    "ventricular beats with full pauses": sinus(
        np.delete(STEADY, [3, 7]), [(STEADY[2] + 0.5, WIDE), (STEADY[6] + 0.5, WIDE)]
    ),
    "sinus pause": sinus(np.delete(STEADY, 5)),
    "fibrillation": simulate(Kind.ATRIAL_FIBRILLATION).ecg,
    "first-degree block": simulate(Kind.FIRST_DEGREE_AV_BLOCK).ecg,
    "bradycardia": simulate(Kind.BRADYCARDIA).ecg,
    "noise": simulate(Kind.NOISE).ecg,
}


@pytest.mark.parametrize("name", NO_BLOCK)
def test_what_is_no_block_is_none(name: str) -> None:
    assert not any(item.present for item in judged(NO_BLOCK[name]))


def test_a_pause_without_a_p_wave_is_not_explained() -> None:
    second, _ = judged(NO_BLOCK["sinus pause"])
    assert second.reason == "a pause may be a dropped beat or one of the sinus node"


def test_p_waves_that_lead_every_beat_are_one_to_each() -> None:
    prepared = prepare(NO_BLOCK["sinus rhythm"])
    seen = conduction(prepared, detect(prepared))
    assert seen is not None
    assert seen.interval == pytest.approx(850, abs=10)
    assert (seen.waves[1:] == 1).all()
    assert np.ptp(seen.delays[1:]) < 20


@pytest.mark.parametrize("kind", [Kind.ATRIAL_FIBRILLATION, Kind.NOISE])
def test_without_p_waves_there_is_nothing_to_follow(kind: Kind) -> None:
    prepared = prepare(simulate(kind).ecg)
    seen = conduction(prepared, detect(prepared))
    assert seen is None or (seen.waves <= 1).all()
