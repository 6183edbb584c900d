"""Amplitudes, durations and ST levels on median beats whose every wave is known."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from analysis.analyse import analyse
from analysis.ecg import ECG, STANDARD_12, Lead
from analysis.morphology import complete, depth, height, of_leads
from analysis.result import LEAD_QUANTITIES, LeadMeasurements, Result
from analysis.synthetic import Kind, simulate

RATE = 500.0
MARKS = {
    "p_onset": 100.0, "p_offset": 150.0, "qrs_onset": 180.0, "r_peak": 200.0,
    "qrs_offset": 230.0, "t_onset": 280.0, "t_offset": 380.0,
}  # fmt: skip
Array = npt.NDArray[np.float64]


def arch(first: int, last: int, height_mv: float) -> Array:
    """Return half a sine between two samples."""
    time = np.arange(600)
    inside = np.clip((time - first) / (last - first), 0, 1)
    return height_mv * np.sin(np.pi * inside)


def measured(*waves: Array, level: float = 0.0, rate: float = RATE) -> LeadMeasurements:
    """Return what is measured in one lead that is the sum of these waves."""
    row = level + np.sum(waves, axis=0)
    return of_leads(ECG(signal=row[None], leads=(Lead.V1,), sampling_frequency=rate), MARKS)


def value(found: LeadMeasurements, name: str) -> float:
    return found.value(Lead.V1, name)


def test_each_deflection_of_a_qrsr_complex_has_its_height_and_duration() -> None:
    found = measured(
        arch(182, 190, -0.2), arch(190, 205, 1.2), arch(205, 215, -0.5), arch(215, 228, 0.4)
    )
    heights = [value(found, f"{wave}_amplitude") for wave in ("q", "r", "s", "r2")]
    durations = [value(found, f"{wave}_duration") for wave in ("q", "r", "s", "r2")]
    assert heights == pytest.approx([0.2, 1.2, 0.5, 0.4], abs=0.01)
    assert durations == pytest.approx([16, 30, 20, 26], abs=4)
    assert value(found, "r_peak_time") == pytest.approx(35, abs=2)


def test_a_qs_complex_is_a_q_wave_without_r_and_counts_as_depth() -> None:
    found = measured(arch(182, 226, -1.0))
    assert value(found, "q_amplitude") == pytest.approx(1.0, abs=0.01)
    assert value(found, "r_amplitude") == value(found, "s_amplitude") == 0
    assert np.isnan(value(found, "r_peak_time"))
    assert depth(found, Lead.V1) == pytest.approx(1.0, abs=0.01)
    assert height(found, Lead.V1) == 0


def test_st_elevation_at_the_end_of_the_qrs_is_no_second_r_wave() -> None:
    rise = 0.3 * np.clip((np.arange(600) - 220) / 10, 0, 1) * (np.arange(600) < 260)
    found = measured(arch(182, 200, 1.0), arch(200, 218, -0.6), rise)
    assert value(found, "r2_amplitude") == 0
    assert value(found, "st_j") == pytest.approx(0.3, abs=0.01)


@given(level=st.floats(-2, 2), lift=st.floats(-0.5, 0.5), slope=st.floats(-0.002, 0.002))
def test_st_levels_are_against_the_level_before_the_qrs(
    level: float, lift: float, slope: float
) -> None:
    time = np.arange(600)
    segment = np.where((time >= 230) & (time < 275), lift + slope * (time - 230), 0)
    found = measured(arch(182, 228, 1.0), segment, level=level)
    for name, after in (("st_j", 0), ("st_20", 10), ("st_60", 30), ("st_80", 40)):
        assert value(found, name) == pytest.approx(lift + slope * after, abs=1e-5)


@given(t=st.floats(-1, 1), p=st.floats(-0.4, 0.4))
def test_t_and_p_amplitudes_are_signed(t: float, p: float) -> None:
    found = measured(arch(182, 228, 1.0), arch(280, 380, t), arch(100, 150, p))
    assert value(found, "t_amplitude") == pytest.approx(t, abs=1e-3)
    assert value(found, "p_amplitude") == pytest.approx(p, abs=1e-3)


def test_the_terminal_force_of_p_is_the_depth_times_the_duration_of_its_negative_end() -> None:
    found = measured(arch(182, 228, 1.0), arch(100, 125, 0.1), arch(125, 150, -0.1))
    assert value(found, "p_terminal_force") == pytest.approx(0.1 * 50, rel=0.05)
    upright = measured(arch(182, 228, 1.0), arch(100, 150, 0.1))
    assert value(upright, "p_terminal_force") == 0


def test_a_notch_is_the_dip_between_two_peaks_of_r() -> None:
    found = measured(arch(182, 228, 1.0), arch(196, 214, -0.3))
    assert value(found, "r_notch") > 0.1
    assert value(measured(arch(182, 228, 1.0)), "r_notch") == pytest.approx(0, abs=1e-6)


def test_a_lead_without_samples_has_reasons_instead_of_numbers() -> None:
    signal = np.stack([np.full(600, np.nan), arch(182, 228, 1.0)])
    ecg = ECG(signal=signal, leads=(Lead.V1, Lead.V2), sampling_frequency=RATE)
    found = of_leads(ecg, MARKS)
    assert all(item.value is None and item.reason for item in found[Lead.V1].values())
    assert found[Lead.V2]["r_amplitude"].value == pytest.approx(1.0, abs=0.01)
    with pytest.raises(KeyError):
        found[Lead.V3]


def test_without_fiducials_nothing_is_measured() -> None:
    ecg = ECG(signal=arch(182, 228, 1.0)[None], leads=(Lead.V1,), sampling_frequency=RATE)
    for marks in ({}, dict.fromkeys(MARKS, np.nan), dict.fromkeys(MARKS, 1e9)):
        assert np.isnan(of_leads(ecg, marks).values).all()
    assert of_leads(None, MARKS).leads == ()


@settings(deadline=None)
@given(
    signal=arrays(np.float32, (3, 50), elements=st.floats(-5, 5, width=32) | st.just(np.nan)),
    marks=st.lists(st.floats(-10, 60) | st.just(np.nan), min_size=7, max_size=7),
    rate=st.sampled_from([100.0, 250.0, 500.0, 1000.0]),
)
def test_nothing_raises_on_any_signal_and_any_marks(
    signal: Array, marks: list[float], rate: float
) -> None:
    ecg = ECG(signal=signal, leads=STANDARD_12[:3], sampling_frequency=rate)
    found = of_leads(ecg, dict(zip(MARKS, marks, strict=True)))
    assert found.values.shape == (3, len(LEAD_QUANTITIES))
    heights = found.values[:, [list(LEAD_QUANTITIES).index("r_amplitude")]]
    assert not (heights < 0).any()


@pytest.mark.parametrize("kind", [Kind.SINUS, Kind.LBBB])
def test_voltages_and_jt_are_sums_and_differences_of_what_is_shown(kind: Kind) -> None:
    result = analyse(simulate(kind, noise=0.0).ecg, [])
    quantities, leads = result.measurements, result.leads
    jt, qt, qrs = quantities.jt_interval, quantities.qt_interval, quantities.qrs_duration
    assert jt.value is not None and qt.value is not None and qrs.value is not None  # noqa: PT018 - narrows three types
    assert jt.value == pytest.approx(qt.value - qrs.value)
    expected = depth(leads, Lead.V1) + max(height(leads, Lead.V5), height(leads, Lead.V6))
    assert quantities.sokolow_lyon.value == pytest.approx(expected)
    assert quantities.cornell_voltage.value == pytest.approx(
        height(leads, Lead.aVL) + depth(leads, Lead.V3)
    )


def test_amplitudes_of_the_simulated_heart_are_those_of_its_signal() -> None:
    made = simulate(Kind.SINUS, noise=0.0)
    leads = analyse(made.ecg, []).leads
    for lead in (Lead.II, Lead.V2, Lead.V5):
        assert height(leads, lead) == pytest.approx(float(made.ecg[lead].max()), rel=0.05)


def test_the_table_of_leads_survives_storage_exactly() -> None:
    result = analyse(simulate(Kind.SINUS).ecg, [])
    again = Result.from_json(result.to_json(), result.recording)
    assert again.leads.leads == result.leads.leads
    assert again.leads.beats == result.leads.beats
    np.testing.assert_array_equal(again.leads.values, result.leads.values)


def test_a_result_stored_before_leads_were_measured_can_still_be_read() -> None:
    result = analyse(simulate(Kind.SINUS).ecg, [])
    old = result.to_json().replace('"leads":{"beats"', '"former":{"beats"')
    assert Result.from_json(old, result.recording).leads.leads == ()


def test_without_beats_voltages_have_reasons() -> None:
    flat = ECG(signal=np.zeros((12, 5000)), leads=STANDARD_12, sampling_frequency=RATE)
    measurements = analyse(flat, []).measurements
    completed = complete(measurements, LeadMeasurements(), RATE)
    assert completed.sokolow_lyon.reason
    assert completed.qt_dispersion.reason
    assert completed.jt_interval.reason
