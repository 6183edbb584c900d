"""One page on a run: the verdict first, then why. Self-contained, to be mailed or printed.

Everything in it is of groups: nothing names a patient. Beside the page, each figure is written as
SVG and PNG, and the card as Markdown.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePath
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from analysis.card import Card
from training.card_text import USE, card_text
from training.epochs import Epoch
from training.evaluation import MEASURES, Difference, Evaluation, name_of
from training.figures import CurvePoint, drawings
from training.gate import MARGIN, Verdict
from training.plan import Plan, Task
from training.splits import Order, Split

PAGE: Final = "report.html"
CARD: Final = "CARD.md"
FIGURES: Final = "figures"

_TOP: Final = dict(MEASURES) | dict.fromkeys(
    (Task.MULTI_LABEL, Task.MULTI_CLASS), ("AUROC", "AUPRC", "sensitivity", "specificity", "ECE")
)
"""What stands above everything."""
_AVERAGES: Final = {"macro": "Mean", "weighted": "Mean, weighted", "micro": "All at once"}


def write_report(
    folder: Path,
    *,
    plan: Plan,
    evaluation: Evaluation,
    verdict: Verdict,
    split: Split | None = None,
    epochs: Sequence[Epoch] = (),
    difference: Difference | None = None,
    card: Card | None = None,
    margin: float = MARGIN,
    curve: Sequence[CurvePoint] = (),
    notes: Iterable[str] = (),
) -> Path:
    """Return the page, written beside ``CARD.md`` and a folder ``figures``.

    Parameters
    ----------
    difference, margin
        From the current model, and how much worse was allowed.
    card
        Of the package, where there is one.
    curve
        Of models that learned from more and more examples, where they were made.
    notes
        What else limits the result, one sentence each.
    """
    figures = folder / FIGURES
    figures.mkdir(parents=True, exist_ok=True)
    drawn = drawings(
        evaluation,
        epochs=epochs,
        metric=plan.watched,
        difference=difference,
        margin=margin,
        curve=curve,
    )
    for drawing in drawn:
        drawing.save(figures)
    title = f"{card.name} {card.version}" if card else plan.name
    titles = {drawing.name: drawing.title for drawing in drawn}
    text = card_text(title, evaluation, verdict, card=card, figures=titles)
    (folder / CARD).write_text(text, encoding="utf-8")
    points = [item.operating_points for item in evaluation.keys if item.operating_points]
    several = len(evaluation.keys) > 1
    page = _ENVIRONMENT.get_template(PAGE).render(
        title=title,
        use=USE,
        subtitle=f"{plan.task}, {_counted(len(plan.keys))}, by {_base(plan)}, {plan.mode}",
        plan=plan,
        evaluation=evaluation,
        verdict=verdict,
        card=card,
        drawings=drawn,
        likeliest=all(item.threshold is None for item in evaluation.keys),
        regression=evaluation.task is Task.REGRESSION,
        measures=MEASURES[evaluation.task],
        averages=[(_AVERAGES[n], part) for n, part in evaluation.averages.items() if several],
        tiles=list(_tiles(evaluation)),
        points=[point.name for point in points[0]] if points else [],
        making=list(_making(plan, split, epochs)),
        limits=[*notes, *(split.warnings if split else ()), *evaluation.notes],
    )
    path = folder / PAGE
    path.write_text(page, encoding="utf-8")
    return path


_ENVIRONMENT: Final = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=True,
    undefined=StrictUndefined,
)
_ENVIRONMENT.filters["finding"] = name_of


def _base(plan: Plan) -> str:
    """Return what was learned from, of a file its name alone."""
    return PurePath(plan.base).name


def _counted(number: int) -> str:
    return "one finding" if number == 1 else f"{number} findings"


def _tiles(evaluation: Evaluation) -> Iterator[tuple[str, str, str]]:
    """Yield what stands on top: name, value and interval."""
    for measure in _TOP[evaluation.task]:
        figure = evaluation.figure(measure)
        if figure.value is None:
            yield measure, "–", figure.reason or ""
        elif figure.low is None or figure.high is None:
            yield measure, f"{figure.value:.3g}", figure.reason or ""
        else:
            yield measure, f"{figure.value:.2f}", f"95 %: {figure.low:.2f} to {figure.high:.2f}"


def _making(plan: Plan, split: Split | None, epochs: Sequence[Epoch]) -> Iterator[tuple[str, str]]:
    recipe = plan.recipe
    yield "Net", f"{_base(plan)}, {plan.mode}"
    yield (
        "Input",
        f"{len(recipe.leads)} leads, {recipe.samples} samples at {recipe.sampling_frequency:g} Hz",
    )
    yield "Labels of", ", ".join(plan.origins)
    if split:
        parts = ", ".join(f"{name} {len(ids)}" for name, ids in split.parts.items())
        yield "Recordings", f"{parts}; by patient, {split.way}, seed {split.seed}"
    elif isinstance(plan.split, Order):
        yield "Split", f"by patient, {plan.split.way}, seed {plan.split.seed}"
    yield (
        "Loop",
        (
            f"{plan.optimiser}, learning rate {plan.learning_rate}, {plan.schedule}, batches of"
            f" {plan.batch_size}, {plan.loss}, seed {plan.seed}"
        ),
    )
    if epochs:
        minutes = sum(epoch.seconds for epoch in epochs) / 60
        yield "Epochs", f"{len(epochs)} of {plan.epochs}, {minutes:.1f} minutes"
    if plan.task is not Task.REGRESSION:
        yield "Calibration", f"{plan.calibration}, on a part of its own"
        yield "Thresholds", f"{plan.threshold_purpose}, on the same part"
