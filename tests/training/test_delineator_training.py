"""How the delineator learns: examples, variation, masked loss, parts by subject, the command."""

from pathlib import Path

import numpy as np
import pytest
import torch
from support import shared

from analysis.delineator import BEFORE, SAMPLES, load_delineator
from analysis.result import FIDUCIAL_KINDS
from training import delineator
from training.delineator import (
    P_THRESHOLDS,
    STRIDE,
    Fitted,
    Served,
    check_parity,
    export,
    fit,
    fused,
    judge,
    keep,
    loss,
    mean_error,
    p_threshold,
    packed,
    polish,
    split,
)
from training.delineator_card import write_card
from training.delineator_data import (
    Array,
    Batch,
    Example,
    draw,
    read_ludb,
    read_marks,
    simulated,
    with_global,
)
from training.delineator_net import Net, positions

legacy_exporter = pytest.mark.filterwarnings(
    "ignore:You are using the legacy TorchScript:DeprecationWarning",
    "ignore:The feature will be removed:DeprecationWarning",
)


def examples(count: int = 4) -> list[Example]:
    return simulated(count, np.random.default_rng(5))


def test_simulated_marks_lie_where_the_wave_is() -> None:
    for example in examples(6):
        for beat, marks in zip(example.beats, example.marks, strict=True):
            onset, offset = marks[0, 3], marks[0, 5]
            assert onset < BEFORE < offset
            steepest = np.abs(np.diff(beat[1]))[BEFORE - 40 : BEFORE + 40].argmax() + BEFORE - 40
            assert onset < steepest < offset


def test_all_leads_together_run_from_the_second_earliest_onset_to_the_second_latest_offset() -> (
    None
):
    marks = np.tile(np.arange(9.0) * 10, (1, 6, 1))
    marks[0, :, 3] = [24, 25, 26, 27, 28, np.nan]
    marks[0, :, 5] = [50, 51, 52, 53, 54, 55]
    together = with_global(marks)[0, -1]
    assert together[3] == 25
    assert together[5] == 54


def test_few_leads_together_run_from_the_first_onset_to_the_last_offset() -> None:
    marks = np.tile(np.arange(9.0) * 10, (1, 2, 1))
    marks[0, 1, [3, 5]] = [28, 57]
    assert with_global(marks)[0, -1, [3, 5]].tolist() == [28, 57]


def test_a_mark_that_no_lead_has_stays_unknown() -> None:
    marks = np.tile(np.arange(9.0) * 10, (2, 3, 1))
    marks[:, :, :3] = np.nan
    assert np.isnan(with_global(marks)[:, -1, :3]).all()


@pytest.mark.parametrize("leads", [1, 3, 12])
def test_variation_moves_the_marks_with_the_beat(leads: int) -> None:
    batch = draw(examples(), 24, leads, np.random.default_rng(2))
    assert batch.beats.shape == (24, leads, SAMPLES)
    assert batch.marks.shape == (24, leads + 1, len(FIDUCIAL_KINDS))
    known = batch.marks[np.isfinite(batch.marks)]
    assert ((known >= 0) & (known < SAMPLES)).all()
    onset, offset = batch.marks[:, -1, 3], batch.marks[:, -1, 5]
    power = (np.diff(batch.beats, axis=2) ** 2).mean(axis=1)
    steepest = power.argmax(axis=1)
    assert ((steepest > onset - 3) & (steepest < offset + 3)).mean() > 0.9


def test_unknown_marks_do_not_enter_the_loss() -> None:
    torch.manual_seed(0)
    net = Net().eval()
    batch = draw(examples(), 2, 2, np.random.default_rng(0))
    unknown = batch.marks.copy()
    unknown[:, 0] = np.nan
    elsewhere = np.where(np.isnan(unknown), np.nan, batch.marks)
    first = loss(net, Batch(batch.beats, unknown, batch.p_wave))
    assert torch.isfinite(first)
    assert first == loss(net, Batch(batch.beats, elsewhere, batch.p_wave))


def test_a_position_lies_between_two_steps() -> None:
    logits = torch.full((SAMPLES // STRIDE,), -1e9)
    logits[[40, 41]] = 0.0
    assert positions(logits).item() == pytest.approx(STRIDE * 40.5)


def test_no_subject_is_in_two_parts_and_the_parts_are_alike_in_size() -> None:
    names = [str(number) for number in range(140)]
    part = split(names)
    assert set(part) == set(names)
    assert np.bincount(list(part.values())).tolist() == [28] * 5


def test_the_same_seed_gives_the_same_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delineator, "SIMULATED", 2)
    first, again = (fit(examples(), seed=1, steps=3).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)


@legacy_exporter
def test_a_graph_of_other_weights_is_found_out() -> None:
    content = export(Net().eval(), examples(), torch.zeros(9))
    other = Served(Net().eval(), torch.zeros(9))
    with pytest.raises(ArithmeticError):
        check_parity(content, other, [torch.from_numpy(examples()[0].beats[0])])


@legacy_exporter
def test_the_command_packs_judges_and_describes(tmp_path: Path) -> None:
    records = {str(number): [example] for number, example in enumerate(examples(6))}
    graph = export(Net().eval(), examples(), torch.zeros(9))
    parts, whole = [Fitted(graph, 0.2)] * 5, Fitted(graph, 0.3)
    content, judges = packed(records, parts, whole, "2026-11-20")
    loaded = load_delineator(content)
    assert loaded.card.p_threshold == 0.3
    assert {error.kind for error in loaded.card.errors} <= {*FIDUCIAL_KINDS}
    report = write_card(loaded, len(content))
    assert loaded.identity.digest in report
    assert "| qrs_offset |" in report
    keep(tmp_path, judges, list(records))
    kept = load_delineator((tmp_path / "4.onnx").read_bytes()).card
    assert kept.errors == ()
    assert kept.p_threshold == 0.2
    assert len(content) < 1_000_000


class Sure:
    """A net that gives each beat the next of some logits."""

    def __init__(self, *probabilities: float) -> None:
        self.answers = iter(torch.logit(torch.tensor(probabilities)))

    def __call__(self, beats: torch.Tensor) -> tuple[None, torch.Tensor]:
        return None, next(self.answers)[None]


@pytest.mark.parametrize(
    ("answers", "chosen"),
    [((0.9, 0.01), P_THRESHOLDS[0]), ((0.25, 0.15), 0.2), ((0.97, 0.4), 0.5)],
)
def test_the_lowest_of_the_thresholds_that_tell_p_waves_best_is_chosen(
    answers: tuple[float, float], chosen: float
) -> None:
    with_p = next(item for item in examples(9) if np.isfinite(item.marks[0, 0, 1]))
    without = Example(with_p.beats, np.where(np.arange(9) < 3, np.nan, with_p.marks))
    assert p_threshold(Sure(*answers), [with_p, without]) == chosen


def test_evenly_spread_hearts_have_narrow_and_wide_qrs() -> None:
    hearts = simulated(40, np.random.default_rng(3), even=True)
    ms = [4 * np.nanmedian(item.marks[0, :, 5] - item.marks[0, :, 3]) for item in hearts]
    assert min(ms) < 66
    assert max(ms) > 130


class Exact:
    """A delineator that knows the answer, four milliseconds late."""

    def __init__(self, marks: Array) -> None:
        self.marks = np.concatenate([marks, marks[:1]]) + 1.0

    def mark(self, beat: Array) -> "Exact":
        return self


def test_the_judge_reports_mean_and_deviation_in_ms() -> None:
    example = examples(1)[0]
    marks = np.tile(np.arange(9.0) * 20, (*example.marks.shape[:2], 1))
    marks[0, 0, 0] += 100  # further off than the window: not found
    records = {"1": [Example(example.beats, marks)]}
    errors = judge(records, [Exact(marks[-1])] * 5)
    assert [error.mean for error in errors] == [4.0] * 9
    assert [error.deviation for error in errors] == [0.0] * 9
    assert errors[1].marks == errors[0].marks + 1


def test_ludb_is_read_with_the_ends_of_each_wave() -> None:
    record = shared("data", "ludb", "data", "1.hea").with_suffix("")
    waves = read_marks(record, "II")
    assert set(waves) == {"p", "N", "t"}
    assert (np.diff(waves["N"], axis=1) > 0).all()


@pytest.mark.slow
def test_every_record_of_ludb_gives_examples_on_twelve_leads() -> None:
    shared("data", "ludb", "data", "1.hea")
    records = read_ludb(shared("data"))
    assert len(records) == 140
    assert all(items for items in records.values())
    for items in records.values():
        for example in items:
            assert example.beats.shape[1:] == (12, SAMPLES)
            assert np.isfinite(example.beats).all()


@pytest.mark.slow
def test_a_short_fit_learns_simulated_hearts() -> None:
    hearts = simulated(20, np.random.default_rng(1))
    net = polish(fit(hearts, seed=0, steps=100), hearts, seed=0, steps=200)
    batch = draw(hearts, 16, 12, np.random.default_rng(9), plain=True)
    with torch.no_grad():
        found = positions(net(torch.from_numpy(batch.beats))[0]).permute(0, 2, 1).numpy()
    assert np.nanmedian(np.abs(found - batch.marks)[..., 3]) < 5  # samples; 47 without learning


def test_what_is_late_on_simulated_hearts_is_taken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delineator, "SIMULATED", 12)
    net = Net().eval()
    late = mean_error(net, seed=0)
    assert late[FIDUCIAL_KINDS.index("r_peak")] == 0
    beat = torch.from_numpy(examples()[0].beats[0])
    plain, shifted = (Served(net, by)(beat)[0] for by in (torch.zeros(9), late))
    assert torch.equal(plain[:-1], shifted[:-1])
    assert torch.allclose(plain[-1] - late, shifted[-1])


def test_folding_normalisation_into_the_convolutions_changes_no_mark() -> None:
    net = Net().eval()
    beat = torch.from_numpy(examples()[0].beats[:1])
    with torch.no_grad():
        assert torch.allclose(fused(net)(beat)[0], net(beat)[0], atol=1e-3)
