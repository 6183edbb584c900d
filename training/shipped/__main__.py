"""Make and judge the shipped models from open records, by one command.

``python -m training.shipped --data ../shared/data --out analysis/models``

Each group of databases is held out once; what the cards say was measured there. Then everything
is fitted once more on all records. ``--work`` names a folder where networks are kept on the way,
so that a run that was broken off goes on where it stopped.
"""

import argparse
import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
import torch

from analysis.card import Activation, Card, Label, Metric, Source
from analysis.ecg import ECG, Lead
from analysis.features import names
from analysis.model import load_model, pack
from analysis.synthetic import Kind, simulate
from training.shipped.build import Workshop, answers_of, held_out, make
from training.shipped.card import INTENDED_USE, LIMITS, write_card
from training.shipped.corpus import LABELS, SOURCES, read_auxiliary, read_corpus
from training.shipped.examples import Example, alone, prepare
from training.shipped.figures import figures, not_shipped, rates
from training.shipped.graph import Graph, export
from training.shipped.judge import MIN_AUROC, SPECIFICITIES, SPECIFICITY, calibrate, judge
from training.shipped.plans import ANY_LEAD, TWELVE_LEAD, Plan

log = logging.getLogger(__name__)

VERSION: Final = "0.3.0"
MINIMUM_AGE: Final = 18.0
_PURPOSE: Final = (
    f"Specificity {SPECIFICITY} for each finding, {SPECIFICITIES['atrial_fibrillation']} for "
    "atrial fibrillation, pooled over databases held out of training, so that few sound ECGs "
    "are flagged."
)
"""Of the thresholds."""


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of labelled databases")
    parser.add_argument("--out", type=Path, required=True, help="folder of the packages")
    parser.add_argument("--work", type=Path, help="folder where networks are kept on the way")
    parser.add_argument("--created", default=datetime.now(UTC).date().isoformat())
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(mode=True)
    if arguments.work:
        arguments.work.mkdir(parents=True, exist_ok=True)
    records = list(read_corpus(arguments.data))
    whole = prepare(records, TWELVE_LEAD.recipe)
    single = prepare(alone(records), ANY_LEAD.recipe)
    auxiliary = prepare(read_auxiliary(arguments.data), ANY_LEAD.recipe)
    workshop, created = Workshop(arguments.work), arguments.created
    for plan, examples, extra in (
        (ANY_LEAD, [*whole, *single, *auxiliary], []),
        (TWELVE_LEAD, whole, auxiliary),
    ):
        content, report = produce(plan, examples, extra, workshop, created)
        (arguments.out / f"{plan.stem}.onnx").write_bytes(content)
        (arguments.out / f"CARD-{plan.stem}.md").write_text(report)


def produce(
    plan: Plan,
    examples: Sequence[Example],
    extra: Sequence[Example],
    workshop: Workshop,
    created: str,
) -> tuple[bytes, str]:
    """Return the packed model and its card as Markdown.

    Parameters
    ----------
    examples
        Each database of the plan is held out once.
    extra
        For training only.
    created
        ISO date for the card.
    """
    log.info("%s: %d examples, %d more for training", plan.stem, len(examples), len(extra))
    found = held_out(plan, examples, extra, workshop)
    answers = answers_of(plan, examples, found)
    judged = {item.key: judge(item) for item in answers}
    for key, item in judged.items():
        log.info("%s: AUROC %.3f, held out", key, item.area)
    shipped = [key for key, item in judged.items() if item.assessable and item.area >= MIN_AUROC]
    if not shipped:
        raise SystemExit("The data carry none of the labels: no model was written.")
    final = replace(plan, labels={key: plan.labels[key] for key in shipped})
    parts = make(final, examples, extra, workshop)
    calibrations = [calibrate(item) for item in answers if item.key in shipped]
    places = [LABELS.index(key) if key in final.shapes else None for key in final.labels]
    graph = Graph(parts.forests, parts.nets, places, calibrations)
    card = _card(
        final,
        [Label.of(key, item.threshold) for key, item in zip(shipped, calibrations, strict=True)],
        [
            *(
                metric
                for item in answers
                if item.key in shipped
                for metric in figures(plan, examples, item)
            ),
            *(() if plan.alone else rates(plan, examples)),
        ],
        [item.source for item in (*examples, *extra) if not item.alone],
        created,
    )
    some = examples[:7]
    waveforms = np.concatenate([item.windows[:1] for item in some])
    content = export(graph, waveforms, np.stack([item.features for item in some]))
    packed = pack(content, card, _self_test(plan))
    left_out = not_shipped(plan, examples, judged, shipped)
    return packed, write_card(load_model(packed), plan, left_out)


def _card(
    plan: Plan,
    labels: Sequence[Label],
    metrics: Sequence[Metric],
    sources: Sequence[str],
    created: str,
) -> Card:
    return Card(
        name=plan.name,
        version=VERSION,
        created=created,
        intended_use=INTENDED_USE,
        limits=LIMITS[plan.stem],
        input="waveform",
        output="logits",
        recipe=plan.recipe,
        activation=Activation.SIGMOID,
        labels=tuple(labels),
        threshold_purpose=_PURPOSE,
        minimum_age=MINIMUM_AGE,
        training_data=tuple(
            Source(name=name, records=sources.count(name), licence=licence, citation=citation)
            for name, (licence, citation) in SOURCES.items()
            if name in sources
        ),
        metrics=tuple(metrics),
        features=names(),
    )


def _self_test(plan: Plan) -> list[ECG]:
    """Return simulated ECGs: one at another rate, one with fewer leads."""
    eight = (Lead.I, Lead.II, Lead.V1, Lead.V2, Lead.V3, Lead.V4, Lead.V5, Lead.V6)
    few = (Lead.I,) if plan.alone else eight
    return [
        simulate(Kind.SINUS, sampling_frequency=250.0).ecg,
        simulate(Kind.ATRIAL_FIBRILLATION, sampling_frequency=360.0).ecg.select(few),
    ]


if __name__ == "__main__":
    main()
