"""Train, judge and pack the shipped delineator, from open records, by one command.

``python -m training.delineator --data ../shared/data --out analysis/models/delineator.onnx``

The subjects of LUDB fall into five parts; for each a network learns from the four others and is
judged on it. The network that is shipped learns from all of them. ``--folds FOLDER`` keeps the
five networks, with which ``tests/bench/accuracy.py`` prints its tables.
"""

import argparse
import io
import json
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, huber_loss
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from analysis.beats import median
from analysis.card import Source
from analysis.delineator import (
    INPUT,
    OUTPUTS,
    SAMPLING_FREQUENCY,
    Beat,
    Card,
    Delineator,
    Error,
    load_delineator,
    pack,
)
from analysis.ecg import STANDARD_12
from analysis.result import FIDUCIAL_KINDS
from training.delineator_card import INTENDED_USE, LIMITS, write_card
from training.delineator_data import Array, Batch, Example, draw, read_ludb, simulated
from training.delineator_net import STRIDE, Net, positions

Records = Mapping[str, Sequence[Example]]

log = logging.getLogger(__name__)

SEED: Final = 31
FOLDS: Final = 5
STEPS: Final = 2000
ROWS: Final = 192
"""Leads in a batch; of a hundred beats at most."""
LEADS: Final = (12, 12, 12, 12, 12, 8, 8, 3, 2, 1)
"""On how many leads the batches are, each as often."""
SIMULATED: Final = 300
PART_SIMULATED: Final = 0.15
LEARNING_RATE: Final = 3e-3
WEIGHT_DECAY: Final = 0.05
EMA_DECAY: Final = 0.995
FREEZE: Final = 0.6
"""From which part of the steps on the statistics of normalisation stand still."""
POLISH: Final = 700
"""Steps in which simulated hearts count for more, so that exact marks are met exactly."""
POLISH_SHIPPED: Final = 2600
"""The same for the network that is shipped."""
POLISH_SIMULATED: Final = 0.5
POLISH_RATE: Final = 5e-4
PLAIN: Final = 0.7
"""Part of these batches that is served as simulated."""
P_THRESHOLDS: Final = (0.05, 0.1, 0.2, 0.3, 0.5)
"""One of them is chosen, on the subjects that the network learned from."""
WINDOW: Final = 150.0
"""ms within which a mark counts as found."""
OPSET: Final = 17
PARITY: Final = 0.02
"""Samples."""

_P_PEAK = FIDUCIAL_KINDS.index("p_peak")
_MS = 1000 / SAMPLING_FREQUENCY
_STEP_MS = STRIDE * _MS
_OUTLYING = 25.0  # ms from where on an error counts in proportion only
_UNIT = 15.0  # ms, errors are of this size
_ENTROPY, _GLOBAL, _P_WAVE = 0.3, 3.0, 0.3  # weights in the loss


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of labelled databases")
    parser.add_argument("--out", type=Path, required=True, help="the ONNX file to write")
    parser.add_argument("--folds", type=Path, help="folder for the networks of the five parts")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--processes", type=int, default=1, help="networks fitted at a time")
    parser.add_argument("--created", default=datetime.now(UTC).date().isoformat())
    arguments = parser.parse_args()
    _log()
    records = read_ludb(arguments.data)
    job = partial(_fitted, records, arguments.steps)
    with ProcessPoolExecutor(
        arguments.processes, mp_context=get_context("spawn"), initializer=_log
    ) as pool:
        *parts, whole = pool.map(job, [*range(FOLDS), None])
    content, judges = packed(records, parts, whole, arguments.created)
    arguments.out.write_bytes(content)
    report = write_card(load_delineator(content), arguments.out.stat().st_size)
    arguments.out.with_name(f"CARD-{arguments.out.stem}.md").write_text(report)
    if arguments.folds:
        keep(arguments.folds, judges, list(records))


def _log() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(process)d %(message)s")


def split(names: Sequence[str]) -> dict[str, int]:
    """Return the part of each record; a record of LUDB is a subject."""
    order = np.random.default_rng(SEED).permutation(len(names))
    return {names[at]: place % FOLDS for place, at in enumerate(order)}


@dataclass(frozen=True, slots=True)
class Fitted:
    """A network as an ONNX file, and from which answer on there is a P wave."""

    graph: bytes
    p_threshold: float


def _fitted(records: Records, steps: int, part: int | None) -> Fitted:
    """Return what all records but those of the part taught."""
    of = split(list(records))
    chosen = [item for name, items in records.items() if of[name] != part for item in items]
    seed = SEED + (FOLDS if part is None else part)
    polishing = POLISH_SHIPPED if part is None else POLISH
    net = polish(fit(chosen, seed=seed, steps=steps), chosen, seed=seed, steps=polishing)
    graph = export(net, chosen, mean_error(net, seed=seed))
    return Fitted(graph, p_threshold(net, chosen))


def packed(
    records: Records, parts: Sequence[Fitted], whole: Fitted, created: str
) -> tuple[bytes, list[bytes]]:
    """Return the package to ship, and those of the parts, which judged it."""
    test = [simulated(1, np.random.default_rng(seed))[0].beats[0] for seed in range(2)]
    beats = [test[0], test[1][1:2]]
    card = _card(len(records), created)
    judges = [_pack(part, card, beats) for part in parts]
    errors = judge(records, [load_delineator(content) for content in judges])
    for error in errors:
        log.info("%s: %+.1f ± %.1f ms (%d)", error.kind, error.mean, error.deviation, error.marks)
    return _pack(whole, replace(card, errors=tuple(errors)), beats), judges


def _pack(fitted: Fitted, card: Card, beats: Sequence[Beat]) -> bytes:
    return pack(fitted.graph, replace(card, p_threshold=fitted.p_threshold), beats)


def _card(records: int, created: str) -> Card:
    return Card(
        name="Sinusnode delineator",
        version="0.1.0",
        created=created,
        intended_use=INTENDED_USE,
        limits=LIMITS,
        p_threshold=P_THRESHOLDS[0],
        training_data=(
            Source(
                name="LUDB",
                records=records,
                licence="ODC-By 1.0",
                citation="Kalyakulina AI et al., IEEE Access 2020;8:186181-186190",
            ),
        ),
        errors=(),
    )


def judge(records: Records, delineators: Sequence[Delineator]) -> list[Error]:
    """Return the errors per beat and lead on the records that each network did not see.

    The marks are those of the median beat of each shape, as served; what lies further than
    ``WINDOW`` from the reference was not found.
    """
    part = split(list(records))
    errors = np.concatenate([
        _errors(item, delineators[part[name]])
        for name, items in records.items()
        for item in items
    ])  # fmt: skip
    found = (column[np.abs(column) <= WINDOW] for column in errors.T)
    return [
        Error(
            kind=kind,
            data=f"LUDB, {FOLDS} parts by subject",
            mean=round(float(near.mean()), 2),
            deviation=round(float(near.std()), 2),
            marks=near.size,
        )
        for kind, near in zip(FIDUCIAL_KINDS, found, strict=True)
        if near.size
    ]


def _errors(example: Example, delineator: Delineator) -> Array:
    """Return ``(beats × leads, 9)`` in ms."""
    marks = delineator.mark(median(example.beats)).marks[:-1]
    return (_MS * (marks - example.marks)).reshape(-1, len(FIDUCIAL_KINDS))


def fit(examples: Sequence[Example], *, seed: int, steps: int) -> Net:
    """Return a net fitted to the examples and to simulated hearts, in evaluation mode.

    The weights are averaged exponentially over the steps. Normalisation stands still in the last
    part, since its statistics depend on how many leads there are. The same seed and versions
    give the same weights.
    """
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    hearts = simulated(SIMULATED, random)
    net = Net().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(net.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, LEARNING_RATE, total_steps=steps, pct_start=0.15
    )
    average = get_ema_multi_avg_fn(EMA_DECAY)  # type: ignore[no-untyped-call]
    averaged = AveragedModel(net, multi_avg_fn=average, use_buffers=True)
    net.train()
    recent = 0.0
    for step in range(steps):
        if step == round(FREEZE * steps):
            _freeze(net)
        leads = int(random.choice(LEADS))
        source = hearts if random.random() < PART_SIMULATED else examples
        value = loss(net, draw(source, min(ROWS // leads, 32), leads, random))
        optimiser.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        averaged.update_parameters(net)
        recent += (value.item() - recent) / min(step + 1, 200)
        if (step + 1) % 200 == 0:
            log.info("step %d: loss %.3f", step + 1, recent)
    fitted = averaged.module.eval()
    assert isinstance(fitted, Net)  # noqa: S101 - for the type checker
    return fitted


def polish(net: Net, examples: Sequence[Example], *, seed: int, steps: int) -> Net:
    """Return the net fitted a little further, on simulated hearts as they are for the most part.

    Their intervals are spread evenly, lest the net lean towards the usual. Its normalisation is
    folded into the convolutions first.
    """
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    hearts = simulated(SIMULATED, random, even=True)
    net = fused(net).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.Adam(net.parameters(), POLISH_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        leads = int(random.choice(LEADS))
        made = random.random() < POLISH_SIMULATED
        batch = draw(
            hearts if made else examples,
            min(ROWS // leads, 32),
            leads,
            random,
            plain=made and random.random() < PLAIN,
        )
        value = loss(net, batch)
        optimiser.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    return net.eval()


def fused(net: Net) -> Net:
    """Return the net with each normalisation folded into the convolution before it."""
    plain = deepcopy(net).eval()
    for module in plain.modules():
        if isinstance(module, nn.Sequential) and len(module) == 2:  # noqa: PLR2004 - convolution and normalisation
            first, second = module
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                module[0], module[1] = fuse_conv_bn_eval(first, second), nn.Identity()
    return plain


def _freeze(net: Net) -> None:
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()


def loss(net: Net, batch: Batch) -> Tensor:
    """Return how far the distributions over time are from the marks, where there are any."""
    logits, p_wave = net(torch.from_numpy(batch.beats))
    marks = torch.from_numpy(batch.marks).permute(0, 2, 1) / STRIDE
    known = torch.isfinite(marks)
    wanted = torch.where(known, marks, 0.0)
    steps = torch.arange(logits.shape[-1])
    target = torch.softmax(-0.5 * (steps - wanted[..., None]) ** 2, dim=-1)
    entropy = -(target * torch.log_softmax(logits, dim=-1)).sum(dim=-1)
    error = _STEP_MS * (positions(logits) / STRIDE - wanted)
    far = huber_loss(error, torch.zeros_like(error), delta=_OUTLYING, reduction="none") / _UNIT**2
    weight = known.float()
    weight[:, :, -1] *= _GLOBAL
    of_marks = ((_ENTROPY * entropy + far) * weight).sum() / weight.sum()
    of_p = binary_cross_entropy_with_logits(p_wave, torch.from_numpy(batch.p_wave))
    return of_marks + _P_WAVE * of_p


def p_threshold(net: Net, examples: Sequence[Example]) -> float:
    """Return which of :data:`P_THRESHOLDS` tells best which beats have a P wave in any lead.

    By F1 over the beats of the examples, each shape answered by its median beat; of equals the
    lowest, since what has been learned by heart is answered too surely.
    """
    with torch.no_grad():
        logits = [net(torch.from_numpy(median(item.beats))[None])[1].item() for item in examples]
    answers = 1 / (1 + np.exp(-np.array(logits)))
    beats = np.array([len(item.beats) for item in examples])
    with_p = np.array([
        np.isfinite(item.marks[:, :, _P_PEAK]).any(axis=1).sum() for item in examples
    ])  # fmt: skip
    scores = [
        2 * with_p[found].sum() / (beats[found].sum() + with_p.sum())
        for found in (answers >= threshold for threshold in P_THRESHOLDS)
    ]
    return P_THRESHOLDS[int(np.argmax(scores))]


def mean_error(net: Net, *, seed: int) -> Tensor:
    """Return by how much the marks of all leads together are late on simulated hearts.

    ``(9,)`` in samples, 0 where these have no mark.
    """
    random = np.random.default_rng([seed, 1])
    hearts = simulated(SIMULATED, random, even=True)
    batch = draw(hearts, SIMULATED, len(STANDARD_12), random, plain=True)
    with torch.no_grad():
        found = positions(net(torch.from_numpy(batch.beats))[0])[..., -1]
    late = found - torch.from_numpy(batch.marks[:, -1])
    return torch.nan_to_num(torch.nanmean(late, dim=0))


class Served(nn.Module):
    """The net as the runtime sees it: one beat in, marks and the probability of P out.

    Parameters
    ----------
    net
        What marks.
    late
        ``(9,)`` in samples: taken from the marks of all leads together.
    """

    late: Tensor

    def __init__(self, net: Net, late: Tensor) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("late", late)

    def forward(self, beat: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``(leads + 1, 9)`` in samples, and ``(1,)``."""
        logits, p_wave = self.net(beat.unsqueeze(0))
        marks = positions(logits).squeeze(0).transpose(0, 1)
        return torch.cat([marks[:-1], marks[-1:] - self.late]), torch.sigmoid(p_wave)


def export(net: Net, examples: Sequence[Example], late: Tensor) -> bytes:
    """Return the net as an ONNX file, after the runtime gave torch's answers.

    Raises
    ------
    ArithmeticError
        If a mark differs by more than ``PARITY``.
    """
    served = Served(net.to(memory_format=torch.contiguous_format), late).eval()  # type: ignore[call-overload]
    beats = [torch.from_numpy(item.beats[0]) for item in examples[:3]]
    file = io.BytesIO()
    torch.onnx.export(
        served,
        (beats[0],),
        file,  # type: ignore[arg-type]  # the signature forgets file objects
        dynamo=False,
        opset_version=OPSET,
        input_names=[INPUT],
        output_names=list(OUTPUTS),
        dynamic_axes={INPUT: {0: "leads"}, OUTPUTS[0]: {0: "rows"}},
    )
    check_parity(file.getvalue(), served, [*beats, beats[0][:1]])
    return file.getvalue()


def check_parity(content: bytes, served: Served, beats: Sequence[Tensor]) -> None:
    """Raise ArithmeticError unless the runtime's marks are torch's, on any number of leads."""
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    for beat in beats:
        with torch.no_grad():
            wanted = served(beat)[0].numpy()
        found = session.run([OUTPUTS[0]], {INPUT: beat.numpy()})[0]
        if not np.abs(found - wanted).max() <= PARITY:
            raise ArithmeticError("the exported graph does not give torch's marks")


def keep(folder: Path, packages: Sequence[bytes], names: Sequence[str]) -> None:
    """Write the networks of the parts, and which record belongs to which."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, content in enumerate(packages):
        (folder / f"{part}.onnx").write_bytes(content)
    (folder / "parts.json").write_text(json.dumps(split(names)))


if __name__ == "__main__":
    main()
