"""The loop, from outside: what changes, what stays, and what a kill leaves behind."""

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from corpora import small_corpus
from learning import FULL, PLAN, TRAIN, VALIDATION, examples, net
from sklearn import metrics
from torch import nn

from training import embeddings, epochs
from training.caches import read_ids
from training.convert import Imported, fingerprints, replace_head, to_onnx, to_torch
from training.fit import BEST, EPOCHS, LAST, Epoch, Examples, Fitted, NothingLearned, fit, predict
from training.fit import trainer_options as options_of
from training.losses import auroc, class_weights, make_loss, score, settled
from training.optimise import factor, find_learning_rate, groups, stages, thaw
from training.plan import (
    Loss,
    Metric,
    Mode,
    Optimiser,
    Precision,
    Schedule,
    Task,
)


def curve(fitted: Fitted) -> list[tuple[float, ...]]:
    return [
        (epoch.number, epoch.train_loss, epoch.validation_loss, epoch.metric, epoch.learning_rate)
        for epoch in fitted.epochs
    ]


def changed(before: dict[str, str], module: nn.Module) -> set[str]:
    after = fingerprints(module)
    return {name for name in before if before[name] != after[name]}


# Modes


@pytest.mark.parametrize("mode", Mode)
def test_every_mode_learns_and_leaves_its_curves(mode: Mode, tmp_path: Path) -> None:
    reported: list[Epoch] = []
    plan = replace(PLAN, mode=mode, epochs=6)
    fitted = fit(net(), plan, TRAIN, VALIDATION, tmp_path, report=reported.append)
    assert fitted.best.metric > (0.6 if mode is Mode.HEAD else 0.8)  # of a random backbone
    assert tuple(reported) == fitted.epochs
    lines = (tmp_path / EPOCHS).read_text().splitlines()
    assert [Epoch(**json.loads(line)) for line in lines] == reported
    logits = predict(fitted.net, VALIDATION.waveforms)
    again = score(Metric.AUROC, logits, VALIDATION.targets, Task.MULTI_LABEL)
    assert again == pytest.approx(fitted.best.metric, abs=1e-6)


@pytest.mark.parametrize("classes", [12, 32])
@pytest.mark.parametrize("source", ["architecture", "ONNX"])
def test_a_head_alone_leaves_every_tensor_of_the_backbone(
    classes: int, source: str, tmp_path: Path
) -> None:
    """As many classes as leads, or as channels: the case that wipes weights found by shape."""
    few, plan = {"leads": 12, "samples": 64, "keys": classes}, replace(PLAN, mode=Mode.HEAD)
    keys = tuple(f"key{number}" for number in range(classes))
    learner: nn.Module = net(leads=12, outputs=5, width=32)
    if source == "ONNX":
        learner = to_torch(to_onnx(learner, leads=12, samples=64))
    assert learner.width == 32
    replace_head(learner, classes)
    before = dict(fingerprints(learner))
    fit(
        learner,
        replace(plan, keys=keys, epochs=2),
        examples(64, 1, **few),
        examples(64, 2, **few),
        tmp_path,
    )
    assert changed(before, learner) == {"head.weight", "head.bias"}
    assert any("running_mean" in name for name in before)


def test_a_head_that_came_with_a_file_learns_too_and_the_rest_stays(tmp_path: Path) -> None:
    class Deep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Conv1d(3, 8, 5), nn.BatchNorm1d(8), nn.ReLU())
            self.last = nn.Conv1d(8, 2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(self.body(x)).mean(dim=2)

    torch.manual_seed(0)
    learner = to_torch(to_onnx(Deep(), leads=3, samples=100))
    assert isinstance(learner, Imported)
    assert not isinstance(learner.head, nn.Linear)
    before = dict(fingerprints(learner))
    fitted = fit(learner, replace(PLAN, mode=Mode.HEAD), TRAIN, VALIDATION, tmp_path)
    assert all(name.startswith("head.") for name in changed(before, learner))
    assert fitted.epochs[-1].train_loss < fitted.epochs[0].train_loss


def test_embeddings_are_made_once_and_kept_where_a_withdrawal_finds_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = small_corpus(tmp_path, patients=4, each=2)
    ids = tuple(record.id for record in corpus.records)
    train, validation = examples(6, 1), examples(2, 2)
    parts = replace(train, ids=ids[:6]), replace(validation, ids=ids[6:])
    plan = replace(PLAN, mode=Mode.HEAD, metric=Metric.LOSS, epochs=1)
    made: list[int] = []
    embed = embeddings.embed

    def counted(learner: nn.Module, waveforms: np.ndarray) -> np.ndarray:
        made.append(len(waveforms))
        return embed(learner, waveforms)

    monkeypatch.setattr(embeddings, "embed", counted)
    first = fit(net(), plan, *parts, tmp_path / "a", embeddings=corpus.embeddings)
    assert made == [6, 2]
    again = fit(net(), plan, *parts, tmp_path / "b", embeddings=corpus.embeddings)
    assert made == [6, 2, 2, 2]  # a few, to see that what is kept still holds
    assert curve(first) == curve(again)
    (folder,) = (corpus.folder / "embeddings").iterdir()
    assert sorted(read_ids(folder)) == sorted(ids)
    assert corpus.withdraw(corpus.records[0].patient).embeddings == 1
    assert not folder.exists()


def test_embeddings_that_no_longer_hold_are_made_anew(tmp_path: Path) -> None:
    rows = embeddings.kept(net(), TRAIN.waveforms, TRAIN.ids, tmp_path / "kept")
    other = embeddings.kept(net(), -TRAIN.waveforms, TRAIN.ids, tmp_path / "kept")
    np.testing.assert_array_equal(other, embeddings.embed(net(), -TRAIN.waveforms))
    assert not np.allclose(rows, other)


def test_windows_of_one_recording_keep_their_order_in_the_embeddings(tmp_path: Path) -> None:
    ids = ("a", "a", "b", "b", "b", "c")
    waveforms = TRAIN.waveforms[:6]
    whole = embeddings.embed(net(), waveforms)
    for _ in range(2):
        kept = embeddings.kept(net(), waveforms, ids, tmp_path / "kept")
        np.testing.assert_allclose(kept, whole, atol=1e-5)


def test_layers_thaw_from_the_head_and_learn_slower_towards_the_signal(tmp_path: Path) -> None:
    learner = net()
    seen: list[set[str]] = []
    before = dict(fingerprints(learner))

    def look(epoch: Epoch) -> None:
        seen.append({name.split(".")[0] for name in changed(before, learner)})

    plan = replace(PLAN, mode=Mode.ALL, epochs=9)
    fit(learner, plan, TRAIN, VALIDATION, tmp_path, report=look)
    assert seen[0] == {"head"}
    assert seen[-1] == {"head", "backbone"}
    parts = stages(learner)
    thaw(learner, 1, 9)
    assert [next(part[0].parameters()).requires_grad for part in parts] == [False, True, True]
    assert not parts[0][0].training
    rates = [group["lr"] for group in groups(learner, Mode.ALL, 1.0)]
    assert rates == sorted(rates)
    assert rates[-1] == 1.0
    assert len(set(rates)) == len(parts)


# The same result


def test_one_seed_gives_one_result_and_another_seed_another(tmp_path: Path) -> None:
    plans = [replace(FULL, epochs=2, seed=seed) for seed in (0, 0, 1)]
    first, again, other = (
        fit(net(dropout=0.2), plan, TRAIN, VALIDATION, tmp_path / str(number))
        for number, plan in enumerate(plans)
    )
    assert curve(first) == curve(again)
    assert fingerprints(first.net) == fingerprints(again.net)
    assert curve(first) != curve(other)


def test_the_caller_keeps_its_own_chance(tmp_path: Path) -> None:
    torch.manual_seed(5)
    wanted = torch.rand(1)
    torch.manual_seed(5)
    fit(net_left_alone(), replace(PLAN, epochs=1), TRAIN, VALIDATION, tmp_path)
    assert torch.equal(torch.rand(1), wanted)


def net_left_alone() -> nn.Module:
    with torch.random.fork_rng():
        return net()


@pytest.mark.parametrize(
    ("mode", "schedule"), [(Mode.ALL, Schedule.ONE_CYCLE), (Mode.HEAD, Schedule.PLATEAU)]
)
def test_stopped_again_and_again_it_comes_to_the_same_weights(
    mode: Mode, schedule: Schedule, tmp_path: Path
) -> None:
    plan = replace(FULL, mode=mode, schedule=schedule)
    whole = fit(net(dropout=0.2), plan, TRAIN, VALIDATION, tmp_path / "whole")
    asked = 0

    def stopping() -> bool:
        nonlocal asked
        asked += 1
        return asked % 7 == 0  # four batches an epoch

    endings = []
    while not endings or endings[-1] == "asked":
        fitted = fit(
            net(dropout=0.2), plan, TRAIN, VALIDATION, tmp_path / "often", stopping=stopping
        )
        endings.append(fitted.stopped)
    assert len(endings) > 2
    assert curve(fitted) == curve(whole)
    assert fingerprints(fitted.net) == fingerprints(whole.net)
    assert len((tmp_path / "often" / EPOCHS).read_text().splitlines()) == 4


def test_stopped_before_an_epoch_is_complete_there_is_nothing_to_give(tmp_path: Path) -> None:
    with pytest.raises(NothingLearned, match="before its first epoch"):
        fit(net(), PLAN, TRAIN, VALIDATION, tmp_path, stopping=lambda: True)
    assert fit(net(), PLAN, TRAIN, VALIDATION, tmp_path).stopped == "epochs"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    """A run that nobody disturbed."""
    return fit(net(), PLAN, TRAIN, VALIDATION, tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize("file", [f".{LAST}", f".{BEST}", f".{EPOCHS}"])
def test_a_death_between_two_files_changes_nothing(
    file: str, whole: Fitted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Died(BaseException):
        pass

    move = Path.replace
    moved: list[str] = []

    def die(path: Path, target: Path) -> Path:
        if path.name == file:
            moved.append(path.name)
            if len(moved) == 2:
                raise Died
        return move(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", die)
        with pytest.raises(Died):
            fit(net(), PLAN, TRAIN, VALIDATION, tmp_path / "died")
    fitted = fit(net(), PLAN, TRAIN, VALIDATION, tmp_path / "died")
    assert curve(fitted) == curve(whole)
    assert fingerprints(fitted.net) == fingerprints(whole.net)


KILLED = replace(FULL, epochs=10)


def learn(folder: Path) -> None:
    torch.set_num_threads(1)
    fit(net(dropout=0.2), KILLED, TRAIN, VALIDATION, folder)


@pytest.mark.slow
def test_killed_at_ten_random_moments_it_comes_to_the_same_metrics(tmp_path: Path) -> None:
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["training.fit"])
    whole = fit(net(dropout=0.2), KILLED, TRAIN, VALIDATION, tmp_path / "whole")
    chance = random.Random(0)
    folder, kills = tmp_path / "killed", 0
    while kills < 10:
        process = processes.Process(target=learn, args=(folder,))
        process.start()
        process.join(chance.uniform(0.0, whole.seconds))
        process.kill()
        process.join()
        kills += process.exitcode == -signal.SIGKILL
        process.close()
    fitted = fit(net(dropout=0.2), KILLED, TRAIN, VALIDATION, folder)
    np.testing.assert_allclose(curve(fitted), curve(whole), atol=1e-3)


def test_a_finished_run_is_not_learned_again(tmp_path: Path) -> None:
    first = fit(net(), PLAN, TRAIN, VALIDATION, tmp_path)
    reported: list[Epoch] = []
    again = fit(net(), PLAN, TRAIN, VALIDATION, tmp_path, report=reported.append)
    assert reported == []
    assert again.epochs == first.epochs
    assert fingerprints(again.net) == fingerprints(first.net)


def test_the_run_of_another_plan_or_net_is_not_gone_on_with(tmp_path: Path) -> None:
    fit(net(), replace(PLAN, epochs=1), TRAIN, VALIDATION, tmp_path)
    with pytest.raises(ValueError, match="another plan"):
        fit(net(), PLAN, TRAIN, VALIDATION, tmp_path)
    with pytest.raises(ValueError, match="another net"):
        fit(net(width=8), replace(PLAN, epochs=1), TRAIN, VALIDATION, tmp_path)


# When it ends

OVERSHOOTING = replace(PLAN, mode=Mode.HEAD, metric=Metric.LOSS, learning_rate=0.5)


def test_it_ends_when_the_metric_no_longer_rises_and_keeps_the_best(tmp_path: Path) -> None:
    plan = replace(OVERSHOOTING, epochs=200, patience=3, schedule=Schedule.CONSTANT)
    fitted = fit(net(), plan, TRAIN, VALIDATION, tmp_path)
    assert fitted.stopped == "patience"
    assert len(fitted.epochs) == fitted.best.number + 3
    assert fitted.best.metric == min(epoch.validation_loss for epoch in fitted.epochs)


def test_it_ends_when_another_epoch_would_not_fit_into_its_minutes(tmp_path: Path) -> None:
    plan = replace(PLAN, minutes=0.001, epochs=10_000)
    fitted = fit(net(), plan, TRAIN, VALIDATION, tmp_path)
    assert fitted.stopped == "budget"
    assert fit(net(), plan, TRAIN, VALIDATION, tmp_path).epochs == fitted.epochs


def test_a_net_that_diverges_keeps_what_it_learned_before(tmp_path: Path) -> None:
    plan = replace(PLAN, epochs=50)
    learner = net()

    def spoil(epoch: Epoch) -> None:
        if epoch.number == 2:
            learner.head.bias.data.fill_(torch.nan)

    fitted = fit(learner, plan, TRAIN, VALIDATION, tmp_path, report=spoil)
    assert fitted.stopped == "diverged"
    assert len(fitted.epochs) == 2
    assert np.isfinite(predict(fitted.net, VALIDATION.waveforms)).all()


def test_rates_fall_on_a_plateau(tmp_path: Path) -> None:
    plan = replace(OVERSHOOTING, schedule=Schedule.PLATEAU, epochs=20)
    rates = [epoch.learning_rate for epoch in fit(net(), plan, TRAIN, VALIDATION, tmp_path).epochs]
    assert rates[0] == 0.5
    assert rates[-1] < 0.2
    assert rates == sorted(rates, reverse=True)


def test_one_cycle_rises_then_falls_and_exponential_only_falls() -> None:
    cycle = [factor(Schedule.ONE_CYCLE, 100)(step) for step in range(101)]
    assert cycle[0] == pytest.approx(0.04)
    assert max(cycle) == cycle[25] == 1.0
    assert cycle[-1] < 0.002
    falling = [factor(Schedule.EXPONENTIAL, 100)(step) for step in range(101)]
    assert falling[0] == 1.0
    assert falling == sorted(falling, reverse=True)


# Tasks and losses


def test_what_is_unknown_neither_costs_nor_teaches() -> None:
    for task, kind in ((t, k) for t in Task for k in Loss):
        targets = np.float32([[1, 0, 0], [0, 1, 0], [np.nan] * 3])
        if task is not Task.MULTI_CLASS:
            targets[0, 1] = np.nan
        loss = make_loss(task, kind, class_weights(targets, task))
        logits = torch.randn(3, 3, requires_grad=True)
        cost = loss(logits, torch.from_numpy(targets))
        cost.backward()
        assert logits.grad is not None
        unknown = torch.from_numpy(targets).isnan()
        assert (logits.grad[unknown] == 0).all()
        assert (logits.grad[~unknown] != 0).all()
        other = torch.where(unknown, torch.full_like(logits, 50.0), logits)
        assert loss(other, torch.from_numpy(targets)).item() == pytest.approx(cost.item())
        nothing = loss(logits, torch.full((3, 3), torch.nan))
        assert nothing.item() == 0


def test_focal_loss_is_cross_entropy_with_what_is_told_right_weighing_less() -> None:
    logits, targets = torch.tensor([[2.0], [-1.0]]), torch.tensor([[1.0], [1.0]])
    likely = torch.sigmoid(logits)
    wanted = (-((1 - likely) ** 2) * likely.log()).mean()
    got = make_loss(Task.MULTI_LABEL, Loss.FOCAL)(logits, targets)
    torch.testing.assert_close(got, wanted)


def test_class_weights_make_rare_and_frequent_count_alike() -> None:
    targets = np.float32([[1], [0], [0], [0], [np.nan]])
    absent, present = class_weights(targets, Task.MULTI_LABEL)[:, 0]
    assert present == pytest.approx(3 * absent)
    assert absent * 3 + present == pytest.approx(4)


def test_cross_entropy_over_classes_is_torchs_own() -> None:
    logits = torch.randn(5, 3)
    truth = torch.tensor([0, 1, 2, 1, 1])
    targets = nn.functional.one_hot(truth, 3).float()
    weights = class_weights(targets.numpy(), Task.MULTI_CLASS)
    got = make_loss(Task.MULTI_CLASS, Loss.BCE, weights)(logits, targets)
    wanted = nn.functional.cross_entropy(logits, truth, torch.from_numpy(weights[1]))
    torch.testing.assert_close(got, wanted)


def test_one_class_that_is_present_makes_the_others_absent_and_two_make_a_row_unknown() -> None:
    targets = np.float32([[1, np.nan, 0], [1, 1, 0], [0, np.nan, 0]])
    found = settled(targets, Task.MULTI_CLASS)
    np.testing.assert_array_equal(found[0], [1, 0, 0])
    assert np.isnan(found[1:]).all()


def test_classes_that_exclude_each_other_are_learned(tmp_path: Path) -> None:
    def exclusive(part: Examples) -> Examples:
        present = np.nan_to_num(part.targets)
        only = present * (present.sum(axis=1, keepdims=True) == 1)
        neither = 1 - only.sum(axis=1, keepdims=True)
        return replace(part, targets=np.hstack([only, neither]))

    plan = replace(PLAN, task=Task.MULTI_CLASS, keys=("a", "b", "none"), metric=Metric.F1, epochs=8)
    parts = exclusive(TRAIN), exclusive(VALIDATION)
    fitted = fit(net(outputs=3), plan, *parts, tmp_path)
    assert fitted.best.metric > 0.6


def numbers(part: Examples) -> Examples:
    size = part.waveforms[:, :1].std(axis=2)
    return replace(part, targets=60 + 20 * size.astype(np.float32))


def test_a_number_is_learned_in_its_own_unit_and_gone_on_with(tmp_path: Path) -> None:
    parts = numbers(TRAIN), numbers(VALIDATION)
    plan = replace(PLAN, task=Task.REGRESSION, keys=("age",), metric=None, epochs=8)
    fitted = fit(net(outputs=1), plan, *parts, tmp_path / "first")
    spread = np.abs(parts[1].targets - parts[0].targets.mean()).mean()
    errors = np.abs(predict(fitted.net, parts[1].waveforms) - parts[1].targets)
    assert fitted.best.metric < spread / 2
    assert errors.mean() == pytest.approx(fitted.best.metric, rel=1e-3)
    more = replace(plan, mode=Mode.CONTINUE, epochs=1, learning_rate=1e-6)
    further = fit(fitted.net, more, *parts, tmp_path / "further")
    assert further.best.metric < spread / 2


def test_the_metrics_are_those_of_the_field() -> None:
    chance = np.random.default_rng(0)
    scores = chance.standard_normal((200, 2)).round(1)
    truth = (chance.random((200, 2)) < 0.3).astype(np.float32)
    for metric, wanted in (
        (Metric.AUROC, metrics.roc_auc_score(truth, scores, average="macro")),
        (Metric.AUPRC, metrics.average_precision_score(truth, scores, average="macro")),
        (Metric.F1, metrics.f1_score(truth, scores > 0, average="macro")),
    ):
        assert score(metric, scores, truth, Task.MULTI_LABEL) == pytest.approx(wanted)
    assert np.isnan(auroc(scores[:, 0], np.ones(200)))


# Settings


@pytest.mark.parametrize("optimiser", Optimiser)
def test_every_optimiser_learns(optimiser: Optimiser, tmp_path: Path) -> None:
    plan = replace(PLAN, optimiser=optimiser, mode=Mode.HEAD, epochs=5)
    fitted = fit(net(), plan, TRAIN, VALIDATION, tmp_path)
    assert fitted.epochs[-1].train_loss < fitted.epochs[0].train_loss


def test_the_search_for_a_rate_finds_one_that_learns_and_leaves_the_net(tmp_path: Path) -> None:
    learner = net()
    before = fingerprints(learner)
    batches = list(epochs.Batches(TRAIN, PLAN, epoch=lambda: 0))
    rate = find_learning_rate(learner, PLAN, make_loss(Task.MULTI_LABEL, Loss.BCE), batches)
    assert fingerprints(learner) == before
    assert 1e-5 < rate < 0.3
    fitted = fit(learner, replace(PLAN, learning_rate="find"), TRAIN, VALIDATION, tmp_path)
    assert fitted.best.metric > 0.8
    assert fitted.learning_rate != PLAN.learning_rate


def test_precision_reaches_the_arithmetic(tmp_path: Path) -> None:
    seen: set[torch.dtype] = set()
    learner = net()
    learner.head.register_forward_hook(lambda *values: seen.add(values[-1].dtype))
    plan = replace(PLAN, precision=Precision.BFLOAT, epochs=1)
    fit(learner, plan, TRAIN, VALIDATION, tmp_path)
    assert seen == {torch.bfloat16}


def test_devices_and_machines_reach_the_trainer() -> None:
    many = replace(PLAN, devices=4, machines=2, precision=Precision.HALF)
    assert options_of(many, launched=True) == {
        "precision": "16-mixed",
        "devices": 4,
        "num_nodes": 2,
        "strategy": "ddp",
    }
    assert options_of(replace(PLAN, devices="auto"), launched=True)["devices"] == "auto"
    for devices in (1, "auto"):
        alone = options_of(replace(PLAN, devices=devices), launched=False)
        assert (alone["devices"], alone["strategy"]) == (1, "auto")


def test_several_processes_that_nobody_started_are_refused_and_not_started(tmp_path: Path) -> None:
    """Lightning would run the command of this process again."""
    with pytest.raises(ValueError, match="start as many processes by torchrun or Slurm"):
        fit(net(), replace(PLAN, devices=2), TRAIN, VALIDATION, tmp_path)


SHARED_BY_TWO = """
from learning import PLAN, TRAIN, VALIDATION, net
from training.fit import fit
from dataclasses import replace
from pathlib import Path
import sys, torch
torch.set_num_threads(1)
plan = replace(PLAN, devices=2, mode="all", epochs=3)
fitted = fit(net(), plan, TRAIN, VALIDATION, Path(sys.argv[1]))
print(len(fitted.epochs), fitted.best.metric)
"""


@pytest.mark.slow
def test_two_processes_learn_together_and_one_of_them_says_so(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SHARED_BY_TWO)
    paths = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run"),
            *("--standalone", "--nproc-per-node", "2", str(script), str(tmp_path / "run")),
        ],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    epochs, metric = line.split()
    assert epochs == "3"
    assert float(metric) > 0.6
    assert len((tmp_path / "run" / EPOCHS).read_text().splitlines()) == 3


def test_processes_share_an_epoch_evenly_and_leave_nothing_out() -> None:
    shares = [
        epochs.Batches(TRAIN.take(range(61)), PLAN, epoch=lambda: 3, share=(rank, 4))
        for rank in range(4)
    ]
    assert len({len(share) for share in shares}) == 1
    counts = [[len(targets) for _, targets in share] for share in shares]
    assert [sum(count) for count in counts] == [16] * 4
    rows = np.concatenate([share._order(3) for share in shares])
    assert set(rows) == set(range(61))


def test_it_says_nothing_and_leaves_no_other_files(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    fit(net(), replace(PLAN, epochs=1), TRAIN, VALIDATION, tmp_path)
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")
    assert {path.name for path in tmp_path.iterdir()} == {EPOCHS, LAST, BEST}


# Bad input


def nothing_known(part: Examples) -> Examples:
    return replace(part, targets=np.full_like(part.targets, np.nan))


def one_class(part: Examples) -> Examples:
    return replace(part, targets=np.ones_like(part.targets))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda a, b: (nothing_known(a), b), "Nothing is known of any recording of the train part"),
        (lambda a, b: (a, one_class(b)), "no finding is both present and absent"),
        (lambda a, b: (a, a), "A patient stands both"),
        (lambda a, b: (replace(a, targets=a.targets[:, :1]), b), "names 2 keys"),
    ],
)
def test_what_cannot_be_learned_is_said_before_a_minute_is_spent(
    change: Callable[[Examples, Examples], tuple[Examples, Examples]],
    sentence: str,
    tmp_path: Path,
) -> None:
    with pytest.raises(ValueError, match=sentence):
        fit(net(), PLAN, *change(TRAIN, VALIDATION), tmp_path)


def test_a_recording_that_holds_no_numbers_is_said(tmp_path: Path) -> None:
    broken = replace(TRAIN, waveforms=np.where(TRAIN.waveforms > 1, np.nan, TRAIN.waveforms))
    with pytest.raises(ValueError, match="The loss is no number in the first epoch"):
        fit(net(), PLAN, broken, VALIDATION, tmp_path)


def test_a_target_that_never_changes_is_refused(tmp_path: Path) -> None:
    plan = replace(PLAN, task=Task.REGRESSION, keys=("age",), metric=None)
    same = [
        replace(part, targets=np.full((len(part), 1), 60, np.float32))
        for part in (TRAIN, VALIDATION)
    ]
    with pytest.raises(ValueError, match="the same in every recording"):
        fit(net(outputs=1), plan, *same, tmp_path)


def test_examples_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="as many as each other"):
        replace(TRAIN, ids=TRAIN.ids[:-1])
