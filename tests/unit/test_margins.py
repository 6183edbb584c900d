"""How far an ECG stands from the limits of conduction and repolarisation."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.criteria.margins import (
    conduction_margin,
    rbbb_margin,
    repolarisation_margin,
    soundness_margin,
)
from analysis.ecg import ECG, STANDARD_12, Lead
from analysis.measure import Everything, everything
from analysis.quality import examine
from analysis.result import LEAD_QUANTITIES, LeadMeasurements
from analysis.synthetic import Kind, simulate


def measured(ecg: ECG) -> Everything:
    return everything(ecg, examine(ecg, expected=STANDARD_12))


@pytest.fixture(scope="module")
def sound() -> Everything:
    return measured(simulate(Kind.SINUS).ecg)


def changed(leads: LeadMeasurements, **values: tuple[Lead, float]) -> LeadMeasurements:
    """Return the table with one number of one lead put in the place of what was measured."""
    table = leads.values.copy()
    for name, (lead, value) in values.items():
        table[leads.leads.index(lead), list(LEAD_QUANTITIES).index(name)] = value
    return replace(leads, values=table)


def test_a_sound_heart_stays_within_every_limit(sound: Everything) -> None:
    assert conduction_margin(sound.measurements, sound.leads) < 0
    assert rbbb_margin(sound.measurements, sound.leads) < 0
    assert repolarisation_margin(sound.leads) < 0
    assert soundness_margin(sound.measurements, sound.leads) > 0


@pytest.mark.parametrize(("pr", "passed"), [(185.0, False), (216.0, True)])
def test_a_long_pr_passes_the_limit_of_conduction(pr: float, passed: bool) -> None:  # noqa: FBT001 - a row of the table
    seen = measured(simulate(Kind.SINUS, pr_interval=pr).ecg)
    assert (conduction_margin(seen.measurements, seen.leads) > 0) is passed


def test_left_bundle_branch_block_is_a_block_and_not_a_right_one() -> None:
    seen = measured(simulate(Kind.LBBB).ecg)
    assert conduction_margin(seen.measurements, seen.leads) > 0
    assert rbbb_margin(seen.measurements, seen.leads) < 0
    assert soundness_margin(seen.measurements, seen.leads) < 0


def test_a_wide_qrs_with_a_second_r_in_v1_is_a_right_block() -> None:
    wide = measured(simulate(Kind.LBBB).ecg)
    leads = changed(wide.leads, r2_duration=(Lead.V1, 60.0), r2_amplitude=(Lead.V1, 0.8))
    assert rbbb_margin(wide.measurements, leads) > 0


@given(st.floats(0.1, 3.0), st.floats(-1.0, 1.0))
def test_a_t_wave_below_a_tenth_of_its_r_passes_the_limit(
    sound: Everything, r_wave: float, share: float
) -> None:
    leads = changed(
        sound.leads, r_amplitude=(Lead.V5, r_wave), t_amplitude=(Lead.V5, share * r_wave)
    )
    margin = repolarisation_margin(leads)
    assert margin == pytest.approx(max(repolarisation_margin(sound.leads), (0.1 - share) / 0.1))


def test_a_lowered_st_segment_passes_the_limit_in_any_lead_but_avr(sound: Everything) -> None:
    assert repolarisation_margin(changed(sound.leads, st_80=(Lead.aVL, -0.08))) == pytest.approx(1)
    assert repolarisation_margin(changed(sound.leads, st_80=(Lead.aVR, -0.2))) < 0


def test_what_was_not_measured_has_no_margin(sound: Everything) -> None:
    nothing = LeadMeasurements()
    assert np.isnan(repolarisation_margin(nothing))
    assert conduction_margin(sound.measurements, nothing) < 0  # PR, QRS and axis are known
