"""Train, judge and pack the first shipped 12-lead model, from open records, by one command.

``python -m training.first_model --data ../shared/data --out analysis/models/twelve-lead.onnx``

Each database is held out once; what the card says was measured there. Calibration and
thresholds rest on the same held-out answers. Then the net is fitted once more on everything.
"""

import argparse
import io
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from scipy.stats import rankdata
from sklearn.linear_model import LogisticRegression

from analysis.card import Activation, Card, Label, Metric, Source
from analysis.ecg import ECG, Lead
from analysis.model import load_model, pack
from analysis.recipe import Recipe
from analysis.synthetic import Kind, simulate
from training.first_card import INTENDED_USE, LIMITS, SOURCES, write_card
from training.first_corpus import LABELS, read_auxiliary, read_corpus
from training.first_fit import Array, Example, fit, logits, prepare
from training.first_net import Net

log = logging.getLogger(__name__)

GROUPS: Final = (
    ("CPSC2018", "CPSC-Extra"),
    ("Chapman-Ningbo", "SPH"),
    ("PTB-XL", "PTB"),
    ("LUDB",),
)
"""Databases held out together; those of one origin are never on both sides."""

RECIPE: Final = Recipe(
    sampling_frequency=100.0,
    samples=1000,
    stride=1000,
    minimum_seconds=5.0,
    allowed_missing=2,
    high_pass=0.5,
    low_pass=40.0,
)
_AUXILIARY_RECIPE = Recipe(**RECIPE.to_mapping() | {"allowed_missing": 11})

SEED: Final = 20
SPECIFICITY: Final = 0.95
MINIMUM_AGE: Final = 18.0
OPSET: Final = 17
PARITY: Final = 1e-4

MIN_POSITIVES: Final = 20
MIN_POSITIVES_ELSEWHERE: Final = 8
MIN_AUROC: Final = 0.75
MIN_PER_GROUP: Final = 3
BOOTSTRAPS: Final = 1000

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Judged:
    """One label, judged on the records of held-out databases that say something of it."""

    key: str
    truth: Bools
    logit: Array
    group: npt.NDArray[np.intp]
    scale: float
    offset: float
    """Platt's calibration: the probability is the sigmoid of ``scale * logit + offset``."""

    @property
    def probability(self) -> Array:
        """Calibrated."""
        return np.asarray(1 / (1 + np.exp(-(self.scale * self.logit + self.offset))))

    @property
    def threshold(self) -> float:
        """Lowest probability that no more than 1 − SPECIFICITY of the negatives exceed."""
        return float(np.quantile(self.probability[~self.truth], SPECIFICITY, method="higher"))

    @property
    def supported(self) -> bool:
        """Whether the data carry this label: enough positives, in more than one database."""
        counts = [int(self.truth[self.group == index].sum()) for index in range(len(GROUPS))]
        return (
            sum(counts) >= MIN_POSITIVES
            and sum(counts) - max(counts) >= MIN_POSITIVES_ELSEWHERE
            and auroc(self.truth, self.logit) >= MIN_AUROC
        )


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of labelled databases")
    parser.add_argument("--out", type=Path, required=True, help="the ONNX file to write")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--created", default=datetime.now(UTC).date().isoformat())
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(mode=True)
    examples = prepare(read_corpus(arguments.data), RECIPE)
    auxiliary = prepare(read_auxiliary(arguments.data), _AUXILIARY_RECIPE)
    content, report = train(examples, auxiliary, arguments.epochs, arguments.created)
    arguments.out.write_bytes(content)
    arguments.out.with_name(f"CARD-{arguments.out.stem}.md").write_text(report)


def train(
    examples: Sequence[Example], auxiliary: Sequence[Example], epochs: int, created: str
) -> tuple[bytes, str]:
    """Return the packed model and its card as Markdown.

    Parameters
    ----------
    examples
        12-lead records; each database of ``GROUPS`` is held out once.
    auxiliary
        Records for training only.
    epochs
        Of every fit.
    created
        ISO date for the card.
    """
    answers = held_out(examples, auxiliary, epochs)
    truths = np.stack([item.labels for item in examples]).T
    judged = [
        judge(key, examples, answers)
        for key, truth in zip(LABELS, truths, strict=True)
        if {0.0, 1.0} <= set(truth)
    ]
    for label in judged:
        log.info("%s: AUROC %.3f, held out", label.key, auroc(label.truth, label.logit))
    chosen = [label for label in judged if label.supported]
    if not chosen:
        raise SystemExit("The data carry none of the labels: no model was written.")
    log.info("labels that the data carry: %s", ", ".join(label.key for label in chosen))
    net = _calibrated(_fit(examples, auxiliary, epochs, SEED), chosen)
    card = _card(chosen, examples, auxiliary, created)
    packed = pack(export(net, examples), card, _self_test())
    return packed, write_card(load_model(packed), LABELS)


def held_out(examples: Sequence[Example], auxiliary: Sequence[Example], epochs: int) -> Array:
    """Return logits ``(examples, labels)``, each from a net that never saw its database."""
    answers = np.empty((len(examples), len(LABELS)))
    groups = _groups(examples)
    for index, names in enumerate(GROUPS):
        rest = [item for item, group in zip(examples, groups, strict=True) if group != index]
        net = _fit(rest, auxiliary, epochs, SEED + 1 + index)
        for at in np.flatnonzero(groups == index):
            answers[at] = logits(net, examples[int(at)])
        log.info("held out %s", " and ".join(names))
    return answers


def _fit(examples: Sequence[Example], auxiliary: Sequence[Example], epochs: int, seed: int) -> Net:
    return fit(examples, auxiliary, seed=seed, epochs=epochs, samples=RECIPE.samples)


def _groups(examples: Sequence[Example]) -> npt.NDArray[np.intp]:
    index = {name: at for at, names in enumerate(GROUPS) for name in names}
    return np.array([index[item.source] for item in examples])


def judge(key: str, examples: Sequence[Example], answers: Array) -> Judged:
    """Return one label with its truth, its held-out logits and their calibration."""
    column = LABELS.index(key)
    truth = np.array([item.labels[column] for item in examples])
    known = ~np.isnan(truth)
    logit = answers[known, column]
    platt = LogisticRegression(C=1e4).fit(logit[:, None], truth[known])
    return Judged(
        key=key,
        truth=truth[known] == 1,
        logit=logit,
        group=_groups(examples)[known],
        scale=float(platt.coef_[0, 0]),
        offset=float(platt.intercept_[0]),
    )


def _calibrated(net: Net, chosen: Sequence[Judged]) -> Net:
    """Return the net with a head of the chosen labels, their calibration folded in."""
    rows = [LABELS.index(label.key) for label in chosen]
    scale = torch.tensor([label.scale for label in chosen])
    offset = torch.tensor([label.offset for label in chosen])
    head = torch.nn.Linear(net.head.in_features, len(rows))
    with torch.no_grad():
        head.weight.copy_(net.head.weight[rows] * scale[:, None])
        head.bias.copy_(net.head.bias[rows] * scale + offset)
    net.head = head
    return net.eval()


def export(net: Net, examples: Sequence[Example]) -> bytes:
    """Return the net as one ONNX file, after the runtime gave torch's answers.

    Raises
    ------
    ArithmeticError
        If a logit differs by more than ``PARITY``.
    """
    sample = torch.from_numpy(np.concatenate([item.windows[:1] for item in examples[:7]]))
    file = io.BytesIO()
    torch.onnx.export(
        net.to(memory_format=torch.contiguous_format),  # type: ignore[call-overload]
        (sample[:2],),
        file,  # type: ignore[arg-type]  # the signature forgets file objects
        dynamo=False,
        opset_version=OPSET,
        training=torch.onnx.TrainingMode.PRESERVE,
        do_constant_folding=False,
        input_names=["waveform"],
        output_names=["logits"],
        dynamic_axes={"waveform": {0: "batch"}, "logits": {0: "batch"}},
    )
    check_parity(file.getvalue(), net, sample)
    return file.getvalue()


def check_parity(content: bytes, net: Net, sample: torch.Tensor) -> None:
    """Raise ArithmeticError unless the runtime's logits are torch's, alone and in a batch."""
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    for batch in (sample[:1], sample):
        with torch.no_grad():
            wanted = net(batch).numpy()
        found = session.run(None, {"waveform": batch.numpy()})[0]
        if not np.abs(found - wanted).max() <= PARITY:
            raise ArithmeticError("the exported graph does not give torch's answers")


def _card(
    chosen: Sequence[Judged],
    examples: Sequence[Example],
    auxiliary: Sequence[Example],
    created: str,
) -> Card:
    names = [item.source for item in (*examples, *auxiliary)]
    return Card(
        name="Sinusnode twelve-lead",
        version="0.1.0",
        created=created,
        intended_use=INTENDED_USE,
        limits=LIMITS,
        input="waveform",
        output="logits",
        recipe=RECIPE,
        activation=Activation.SIGMOID,
        labels=tuple(Label.of(label.key, label.threshold) for label in chosen),
        threshold_purpose=(
            f"Specificity {SPECIFICITY} for each finding, pooled over databases held out of "
            "training, so that few sound ECGs are flagged."
        ),
        minimum_age=MINIMUM_AGE,
        training_data=tuple(
            Source(name=name, records=names.count(name), licence=licence, citation=citation)
            for name, (licence, citation) in SOURCES.items()
            if name in names
        ),
        metrics=tuple(metric for label in chosen for metric in _metrics(label)),
    )


def _metrics(label: Judged) -> list[Metric]:
    pooled = np.ones(len(label.truth), dtype=np.bool_)
    found = [
        _metric(label, pooled, "all held-out databases", name, measure)
        for name, measure in (
            ("AUROC", auroc),
            ("sensitivity", _part_of(label.threshold, of=True)),
            ("specificity", _part_of(label.threshold, of=False)),
            ("ECE", calibration_error),
        )
    ]
    for index, names in enumerate(GROUPS):
        part = label.group == index
        positives = int(label.truth[part].sum())
        if min(positives, int(part.sum()) - positives) >= MIN_PER_GROUP:
            found.append(_metric(label, part, " + ".join(names), "AUROC", auroc))
    return found


Measure = Callable[[Bools, Array], float]


def _metric(label: Judged, part: Bools, data: str, name: str, measure: Measure) -> Metric:
    truth, probability = label.truth[part], label.probability[part]
    low, high = interval(measure, truth, probability)
    return Metric(
        label=label.key,
        data=data,
        measure=name,
        value=round(measure(truth, probability), 4),
        low=round(low, 4),
        high=round(high, 4),
        positives=int(truth.sum()),
        negatives=int((~truth).sum()),
    )


def interval(measure: Measure, truth: Bools, probability: Array) -> tuple[float, float]:
    """Return the 95 % bootstrap interval over records."""
    random = np.random.default_rng(SEED)
    values: list[float] = []
    while len(values) < BOOTSTRAPS:
        drawn = random.integers(len(truth), size=len(truth))
        if 0 < truth[drawn].sum() < len(truth):
            values.append(measure(truth[drawn], probability[drawn]))
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def auroc(truth: Bools, score: Array) -> float:
    """Return the area under the ROC curve, ties counting half (Mann and Whitney 1947)."""
    positives, negatives = int(truth.sum()), int((~truth).sum())
    if not positives or not negatives:
        return 0.0
    above = rankdata(score)[truth].sum() - positives * (positives + 1) / 2
    return float(above / (positives * negatives))


def _part_of(threshold: float, *, of: bool) -> Measure:
    """Return sensitivity (``of`` the positives) or specificity at the threshold."""

    def measure(truth: Bools, probability: Array) -> float:
        return float(((probability >= threshold) == of)[truth == of].mean())

    return measure


def calibration_error(truth: Bools, probability: Array) -> float:
    """Return the expected calibration error over ten bins of equal width (Guo 2017)."""
    bins = np.minimum((10 * probability).astype(np.intp), 9)
    gaps = [abs((probability[bins == at] - truth[bins == at]).sum()) for at in np.unique(bins)]
    return float(sum(gaps) / len(truth))


def _self_test() -> list[ECG]:
    """Return simulated ECGs: one at another rate, one with eight leads."""
    eight = (Lead.I, Lead.II, Lead.V1, Lead.V2, Lead.V3, Lead.V4, Lead.V5, Lead.V6)
    return [
        simulate(Kind.SINUS, sampling_frequency=250.0).ecg,
        simulate(Kind.ATRIAL_FIBRILLATION, sampling_frequency=360.0).ecg.select(eight),
    ]


if __name__ == "__main__":
    main()
