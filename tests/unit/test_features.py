import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis import features
from analysis.ecg import ECG, STANDARD_12, Lead
from analysis.features import chosen, measure_features, names
from analysis.measure import measure
from analysis.synthetic import Kind, simulate


def test_the_table_is_closed_and_every_ecg_has_the_same_names() -> None:
    assert len(set(names())) == len(names())
    for kind in (Kind.SINUS, Kind.NOISE, Kind.FLAT_LEAD):
        assert tuple(measure_features(simulate(kind).ecg)) == names()


def test_measurements_stand_in_the_table_as_measured() -> None:
    ecg = simulate(Kind.FIRST_DEGREE_AV_BLOCK).ecg
    known, measured = measure_features(ecg), measure(ecg)
    for name in ("heart_rate", "pr_interval", "qrs_duration"):
        assert known[name] == getattr(measured, name).value


def test_without_beats_or_leads_everything_but_counts_is_unknown() -> None:
    nothing = ECG(signal=np.empty((0, 0)), leads=(), sampling_frequency=500.0)
    assert all(np.isnan(value) for value in measure_features(nothing).values())


def test_a_lead_that_was_not_recorded_is_unknown_and_the_others_stay() -> None:
    whole = simulate(Kind.SINUS).ecg
    without = whole.select(lead for lead in STANDARD_12 if lead is not Lead.V3)
    known = measure_features(without)
    assert np.isnan(known["V3.r_amplitude"])
    assert known["V2.r_amplitude"] == pytest.approx(
        measure_features(whole)["V2.r_amplitude"], rel=0.02
    )


def test_fibrillation_and_sinus_rhythm_are_told_apart_by_one_lead() -> None:
    sinus, fibrillation = (
        measure_features(simulate(kind, noise=0.02).ecg.select((Lead.I,)))
        for kind in (Kind.SINUS, Kind.ATRIAL_FIBRILLATION)
    )
    assert fibrillation["irregularity"] > 3 * sinus["irregularity"]
    assert fibrillation["rr_deviation"] > 3 * sinus["rr_deviation"]


def odd_beat(gain: float, shift: float) -> dict[str, float]:
    """Return the features of a sinus rhythm in which one beat comes earlier and is changed."""
    ecg = simulate(Kind.SINUS, noise=0.01).ecg
    rate = ecg.sampling_frequency
    peak = round(measure(ecg).r_peaks[5])
    signal = ecg.signal.copy()
    here = slice(peak - round(0.12 * rate), peak + round(0.45 * rate))
    beat = signal[:, here].copy()
    signal[:, here] = np.linspace(beat[:, 0], beat[:, -1], beat.shape[1], axis=1)
    early = slice(here.start - round(shift * rate), here.stop - round(shift * rate))
    signal[:, early] = gain * beat
    changed = ECG(signal=signal, leads=ecg.leads, sampling_frequency=rate)
    return dict(measure_features(changed))


def test_an_early_beat_of_the_usual_shape_and_one_of_another_shape_differ() -> None:
    alike, odd = odd_beat(1.0, 0.25), odd_beat(-1.5, 0.25)
    assert alike["alike_prematurity"] < 0.8
    assert alike["strangest.deviation"] < 0.3 < odd["strangest.deviation"]
    assert odd["strangest.prematurity"] < 0.8
    assert odd["strangest.energy"] > 0.3


def test_a_vector_has_the_order_asked_for_and_what_is_beyond_bounds_is_unknown() -> None:
    known = {"heart_rate": 61.0, "spike": np.inf, "irregularity": 1e30, "pr_interval": np.nan}
    found = chosen(known, ("spike", "heart_rate", "irregularity", "pr_interval"))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, [np.nan, 61.0, np.nan, np.nan])
    with pytest.raises(KeyError):
        chosen(known, ("shoe_size",))


@settings(max_examples=25, deadline=None)
@given(
    leads=st.integers(0, 12),
    samples=st.integers(0, 3000),
    scale=st.sampled_from([0.0, 0.1, 5.0, 1e5]),
    seed=st.integers(0, 9),
)
def test_no_signal_makes_the_table_raise(leads: int, samples: int, scale: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    signal = scale * random.standard_normal((leads, samples))
    signal[random.random(signal.shape) < 0.05] = np.nan
    ecg = ECG(signal=signal, leads=STANDARD_12[:leads], sampling_frequency=250.0)
    vector = chosen(features.measure_features(ecg), names())
    assert np.isfinite(vector[~np.isnan(vector)]).all()
