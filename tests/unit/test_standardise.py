from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.ecg import CHEST, ECG, STANDARD_12, Lead
from analysis.recipe import Baseline, Length, Normalisation, Recipe, Unit, strict_json
from analysis.standardise import resampling_ratio, standardise

PLAIN = Recipe(
    sampling_frequency=100.0, samples=1000, stride=1000, minimum_seconds=2.0, allowed_missing=0
)
RATES = (100.0, 125.0, 200.0, 250.0, 257.3, 360.0, 400.0, 500.0, 1000.0, 2000.0)


def sines(rate: float, seconds: float = 10.0, leads: tuple[Lead, ...] = STANDARD_12) -> ECG:
    """Lead number k is a sine of k + 1 Hz and 1 mV."""
    time = np.arange(round(seconds * rate)) / rate
    hertz = np.arange(1, len(leads) + 1)[:, None]
    return ECG(
        signal=np.sin(2 * np.pi * hertz * time).astype(np.float32),
        leads=leads,
        sampling_frequency=rate,
    )


@pytest.mark.parametrize("rate", RATES)
def test_every_rate_gives_the_same_signal_without_delay(rate: float) -> None:
    standard = standardise(sines(rate), PLAIN)
    assert standard.signal.shape == (12, 1000)
    assert standard.signal.dtype == np.float32
    inner = np.s_[:, 50:950]
    expected = sines(100.0).signal
    assert np.abs(standard.signal[inner] - expected[inner]).max() < 0.01


def test_an_odd_rate_is_taken_as_the_decimal_number_it_is() -> None:
    assert resampling_ratio(257.3, 100.0) == Fraction(1000, 2573)


def test_a_ratio_too_fine_to_keep_is_off_by_less_than_a_millisecond_in_ten_seconds() -> None:
    ratio = resampling_ratio(499.9871, 100.0)
    assert ratio.denominator <= 10_000
    assert abs(10 * ratio * 499.9871 / 100 - 10) < 0.001


@pytest.mark.parametrize("hum", [60.0, 75.0, 120.0])
def test_what_the_lower_rate_cannot_hold_does_not_come_back_as_something_else(
    hum: float,
) -> None:
    time = np.arange(5000) / 500
    signal = np.tile(np.sin(2 * np.pi * hum * time), (12, 1))
    ecg = ECG(signal=signal, leads=STANDARD_12, sampling_frequency=500.0)
    assert np.abs(standardise(ecg, PLAIN).signal[:, 50:950]).max() < 0.002


def test_leads_are_put_in_the_order_of_the_recipe() -> None:
    shuffled = sines(100.0).select(tuple(reversed(STANDARD_12)))
    assert np.array_equal(
        standardise(shuffled, PLAIN).signal, standardise(sines(100.0), PLAIN).signal
    )


def test_limb_leads_that_two_others_determine_are_derived_and_said_to_be() -> None:
    whole = sines(100.0, leads=(Lead.I, Lead.II, *CHEST))
    standard = standardise(whole, PLAIN)
    assert not standard.missing_leads
    assert standard.unusable is None
    assert any("derived" in step and "aVF" in step for step in standard.steps)
    np.testing.assert_allclose(standard.signal[2], whole[Lead.II] - whole[Lead.I], atol=1e-6)


def test_a_missing_lead_is_named_and_the_ecg_refused_unless_the_recipe_allows_it() -> None:
    eleven = sines(100.0).select(lead for lead in STANDARD_12 if lead != Lead.V4)
    assert standardise(eleven, PLAIN).missing_leads == (Lead.V4,)
    assert "V4" in str(standardise(eleven, PLAIN).unusable)
    allowed = standardise(eleven, replace(PLAIN, allowed_missing=1))
    assert allowed.unusable is None
    assert not allowed.signal[STANDARD_12.index(Lead.V4)].any()
    assert not allowed.mask[STANDARD_12.index(Lead.V4)].any()


def test_a_lead_without_a_single_sample_is_missing() -> None:
    signal = sines(100.0).signal.copy()
    signal[6] = np.nan
    ecg = ECG(signal=signal, leads=STANDARD_12, sampling_frequency=100.0)
    assert standardise(ecg, PLAIN).missing_leads == (Lead.V1,)


def test_a_gap_is_zero_and_masked_and_does_not_spread() -> None:
    signal = sines(500.0).signal.copy()
    signal[:, 2000:2250] = np.nan
    ecg = ECG(signal=signal, leads=STANDARD_12, sampling_frequency=500.0)
    standard = standardise(ecg, PLAIN)
    assert np.isfinite(standard.signal).all()
    assert not standard.signal[:, 400:450].any()
    assert not standard.mask[:, 400:450].any()
    assert standard.mask[:, :399].all()
    assert any("without a value" in step for step in standard.steps)
    assert np.abs(standard.signal[:, 500:900] - sines(100.0).signal[:, 500:900]).max() < 0.01


def test_a_short_recording_is_followed_by_zeros() -> None:
    standard = standardise(sines(100.0, seconds=6.0), PLAIN)
    assert standard.windows.shape == (1, 12, 1000)
    assert not standard.signal[:, 600:].any()
    assert standard.mask[:, :600].all()
    assert not standard.mask[:, 600:].any()
    assert any("400 zeros" in step for step in standard.steps)


def test_a_recording_that_is_too_short_is_refused_in_the_recipes_shape() -> None:
    standard = standardise(sines(100.0, seconds=1.5), PLAIN)
    assert "1.5 s" in str(standard.unusable)
    assert standard.signal.shape == (12, 1000)
    assert not standard.signal.any()


@pytest.mark.parametrize("rate", [0.001, 10.0, 1e9])
def test_a_rate_that_no_ecg_has_is_refused_before_any_work(rate: float) -> None:
    ecg = ECG(signal=np.zeros((12, 20_000)), leads=STANDARD_12, sampling_frequency=rate)
    assert standardise(ecg, PLAIN).unusable


def test_windows_cover_a_long_recording_to_its_last_sample() -> None:
    windows = standardise(sines(100.0, seconds=25.0), PLAIN).windows
    whole = sines(100.0, seconds=25.0).signal
    assert windows.shape == (3, 12, 1000)
    assert np.array_equal(windows[1], whole[:, 1000:2000])
    assert np.array_equal(windows[2], whole[:, 1500:])


@pytest.mark.parametrize(("length", "start"), [(Length.CROP_START, 0), (Length.CROP_CENTRE, 750)])
def test_a_crop_keeps_the_part_it_names(length: Length, start: int) -> None:
    standard = standardise(sines(100.0, seconds=25.0), replace(PLAIN, length=length))
    assert np.array_equal(
        standard.signal, sines(100.0, seconds=25.0).signal[:, start : start + 1000]
    )
    assert any(f"samples {start} to" in step for step in standard.steps)


def test_the_pass_band_takes_away_wander_and_keeps_the_beat() -> None:
    time = np.arange(5000) / 500
    beat, wander = np.sin(2 * np.pi * 8 * time), 2 + 3 * np.sin(2 * np.pi * 0.1 * time)
    signal = np.tile(beat + wander, (12, 1))
    ecg = ECG(signal=signal, leads=STANDARD_12, sampling_frequency=500.0)
    filtered = standardise(ecg, replace(PLAIN, high_pass=0.5, low_pass=40.0))
    expected = np.sin(2 * np.pi * 8 * np.arange(1000) / 100)
    assert np.abs(filtered.signal[:, 150:850] - expected[150:850]).max() < 0.06


@pytest.mark.parametrize("edge", [{"high_pass": 0.5}, {"low_pass": 40.0}])
def test_a_recipe_may_cut_off_one_end_alone(edge: dict[str, float]) -> None:
    made = standardise(sines(500.0), replace(PLAIN, **edge))
    assert np.isfinite(made.signal).all()
    assert any("-pass" in step for step in made.steps)


@pytest.mark.parametrize("baseline", [Baseline.MEDIAN, Baseline.MOVING_MEDIAN])
def test_a_baseline_is_subtracted(baseline: Baseline) -> None:
    signal = sines(100.0).signal + 5
    ecg = ECG(signal=signal, leads=STANDARD_12, sampling_frequency=100.0)
    standard = standardise(ecg, replace(PLAIN, baseline=baseline))
    assert np.abs(np.median(standard.signal, axis=1)).max() < 0.1


def test_microvolts_are_a_thousand_to_the_millivolt() -> None:
    micro = standardise(sines(100.0), replace(PLAIN, unit=Unit.MICROVOLT))
    np.testing.assert_allclose(micro.signal, 1000 * sines(100.0).signal, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("normalisation", [Normalisation.LEAD, Normalisation.RECORDING])
def test_a_normalised_flat_lead_is_zero_and_no_division_by_zero(
    normalisation: Normalisation,
) -> None:
    flat = ECG(signal=np.ones((12, 1000)), leads=STANDARD_12, sampling_frequency=100.0)
    assert not standardise(flat, replace(PLAIN, normalisation=normalisation)).signal.any()
    standard = standardise(sines(100.0), replace(PLAIN, normalisation=normalisation))
    assert standard.signal.std() == pytest.approx(1.0, abs=0.01)


@settings(max_examples=40, deadline=None)
@given(
    rate=st.floats(50.0, 2000.0),
    seconds=st.floats(0.1, 30.0),
    seed=st.integers(0, 2**32 - 1),
    gaps=st.floats(0.0, 1.0),
)
def test_whatever_is_recorded_the_form_is_the_recipes(
    rate: float, seconds: float, seed: int, gaps: float
) -> None:
    random = np.random.default_rng(seed)
    signal = random.standard_normal((12, max(1, round(seconds * rate))))
    signal[random.random(signal.shape) < gaps] = np.nan
    ecg = ECG(signal=signal, leads=STANDARD_12, sampling_frequency=rate)
    recipe = replace(PLAIN, high_pass=0.5, low_pass=40.0, allowed_missing=6)
    standard = standardise(ecg, recipe)
    again = standardise(ecg, recipe)
    assert standard.windows.shape[1:] == (12, 1000)
    assert np.isfinite(standard.signal).all()
    assert not standard.signal[~standard.mask].any()
    assert np.array_equal(standard.signal, again.signal)
    assert standard.steps == again.steps


def test_a_recipe_survives_its_json_form_and_its_digest_tells_it_from_others() -> None:
    recipe = replace(PLAIN, high_pass=0.5, unit=Unit.MICROVOLT)
    assert Recipe.from_mapping(recipe.to_mapping()) == recipe
    assert Recipe.from_mapping(recipe.to_mapping()).digest == recipe.digest
    assert replace(recipe, high_pass=0.67).digest != recipe.digest


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"filter": "notch"}, "does not know 'filter'"),
        ({"samples": "1000"}, "whole number"),
        ({"samples": True}, "whole number"),
        ({"sampling_frequency": float("nan")}, "positive"),
        ({"sampling_frequency": -100.0}, "positive"),
        ({"leads": ["I", "I"]}, "twice"),
        ({"leads": ["left arm"]}, "left arm"),
        ({"leads": 12}, "not a recipe"),
        ({"unit": "volt"}, "volt"),
        ({"low_pass": 60.0}, "half the sampling frequency"),
        ({"high_pass": 40.0, "low_pass": 0.5}, "rise"),
        ({"allowed_missing": 12}, "at least one lead"),
        ({"minimum_seconds": 11.0}, "longer"),
    ],
)
def test_a_recipe_that_cannot_be_kept_is_refused(change: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Recipe.from_mapping(PLAIN.to_mapping() | change)


def test_a_recipe_with_something_left_out_is_refused() -> None:
    document = PLAIN.to_mapping()
    del document["unit"]
    with pytest.raises(ValueError, match="lacks 'unit'"):
        Recipe.from_mapping(document)


@pytest.mark.parametrize("text", ['{"a":1,"a":2}', '{"a":NaN}', "[" * 100_000, "{"])
def test_json_that_could_mean_two_things_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        strict_json(text)
