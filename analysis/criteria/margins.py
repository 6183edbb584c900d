"""By how much an ECG passes the limits of conduction and repolarisation, for models to read.

Where few records teach a model, a published limit crosses from one hospital to the next better
than what trees make of the same measurements. Each margin counts in steps of about what two
readings of the same ECG differ by: above 0 a limit is passed, NaN where nothing was measured.
"""

import numpy as np

from analysis.ecg import CHEST, Lead
from analysis.morphology import depth, height
from analysis.result import LeadMeasurements, Measurements

_PR, _PR_STEP = 200.0, 15.0  # ms
_QRS, _WIDE_QRS, _QRS_STEP = 110.0, 120.0, 8.0  # ms
_LEFT_AXIS, _AXIS_STEP = -45.0, 10.0  # degrees
_SECOND_R, _SECOND_R_STEP = 0.05, 0.05  # mV
_LONG_SECOND_R, _LATE_R, _LATE_STEP = 30.0, 50.0, 10.0  # ms
_FLAT_T = 0.1  # of the R in the same lead
_LEAST_R = 0.1  # mV
_DEPRESSION, _DEPRESSION_STEP = 0.05, 0.03  # mV
_UPRIGHT = (Lead.I, Lead.II, *CHEST[2:])
_ST_LEADS = (Lead.I, Lead.II, Lead.III, Lead.aVL, Lead.aVF, *CHEST)


def conduction_margin(measured: Measurements, leads: LeadMeasurements) -> float:
    """Return the most of what PR, QRS, left axis and R′ pass their limits by.

    PR 200 ms, QRS 110 ms, axis −45° (Surawicz 2009), R′ of 0.05 mV in V1.
    """
    axis = _number(measured.qrs_axis.value)
    second = leads.value(Lead.V1, "r2_amplitude")
    return _most(
        (_number(measured.pr_interval.value) - _PR) / _PR_STEP,
        (_number(measured.qrs_duration.value) - _QRS) / _QRS_STEP,
        (_LEFT_AXIS - axis) / _AXIS_STEP,
        (second - _SECOND_R) / _SECOND_R_STEP,
    )


def rbbb_margin(measured: Measurements, leads: LeadMeasurements) -> float:
    """Return by how much QRS is wide and its right part late, of both the lesser.

    QRS 120 ms, an R′ of 30 ms in V1 or V2, or a dominant R of V1 that peaks after 50 ms
    (Surawicz 2009).
    """
    wide = (_number(measured.qrs_duration.value) - _WIDE_QRS) / _QRS_STEP
    late = _most(
        (leads.value(Lead.V1, "r2_duration") - _LONG_SECOND_R) / _LATE_STEP,
        (leads.value(Lead.V2, "r2_duration") - _LONG_SECOND_R) / _LATE_STEP,
        (_dominant_r_time(leads, Lead.V1) - _LATE_R) / _LATE_STEP,
    )
    return float(np.fmin(wide, late))


def repolarisation_margin(leads: LeadMeasurements) -> float:
    """Return the more of what flat T waves and ST depression pass their limits by.

    A T below a tenth of its R in I, II or V3 to V6 (Rautaharju 2009); ST of −0.05 mV at 80 ms
    in any lead but aVR (Minnesota code 4-2).
    """
    shares = (_t_over_r(leads, lead) for lead in _UPRIGHT)
    levels = (-leads.value(lead, "st_80") for lead in _ST_LEADS)
    return _most(
        *((_FLAT_T - share) / _FLAT_T for share in shares),
        *((level - _DEPRESSION) / _DEPRESSION_STEP for level in levels),
    )


def soundness_margin(measured: Measurements, leads: LeadMeasurements) -> float:
    """Return by how much conduction and repolarisation stay within every limit."""
    return -_most(conduction_margin(measured, leads), repolarisation_margin(leads))


def _dominant_r_time(leads: LeadMeasurements, lead: Lead) -> float:
    dominant = height(leads, lead) > depth(leads, lead)
    return leads.value(lead, "r_peak_time") if dominant else np.nan


def _t_over_r(leads: LeadMeasurements, lead: Lead) -> float:
    r_wave = np.maximum(leads.value(lead, "r_amplitude"), _LEAST_R)
    return float(leads.value(lead, "t_amplitude") / r_wave)


def _most(*margins: float) -> float:
    """Return the greatest that is known."""
    return float(np.fmax.reduce(margins))


def _number(value: float | None) -> float:
    return np.nan if value is None else value
