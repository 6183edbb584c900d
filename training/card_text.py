"""The card of a model for people: what a package says of itself, as Markdown with figures."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from analysis.card import Card
from analysis.recipe import Recipe
from training.evaluation import MEASURES, Evaluation, OfKey, name_of
from training.gate import Verdict
from training.intervals import Interval

USE: Final = (
    "Research use. A physician reviews every finding; this is no alarm and triggers no treatment."
)


def card_text(
    name: str,
    evaluation: Evaluation,
    verdict: Verdict | None = None,
    *,
    card: Card | None = None,
    figures: Mapping[str, str] | None = None,
) -> str:
    """Return the card as Markdown.

    Parameters
    ----------
    card
        Of the package, where there is one.
    figures
        Titles of what lies in the folder ``figures`` beside it, by name.
    """
    parts = [
        f"# {name}",
        *(_about(card) if card else [f"**Use.** {USE}"]),
        f"## Results\n\n{_results(card, evaluation)}",
        *_parts(evaluation),
        *_gate(verdict),
        *(f"![{title}](figures/{name}.svg)" for name, title in (figures or {}).items()),
    ]
    if card:
        parts.append(f"## Training data\n\n{_sources(card)}")
    return "\n\n".join(parts) + "\n"


def _about(card: Card) -> list[str]:
    return [
        f"Made {card.created}. **Research use.**",
        f"**Use.** {card.intended_use}",
        f"**Limits.** {card.limits}",
        f"**Input.** {_input(card.recipe)}{_age(card)}",
    ]


def _input(recipe: Recipe) -> str:
    band = f", pass band {recipe.high_pass or 0:g}–{recipe.low_pass or 0:g} Hz"
    return (
        f"{' '.join(recipe.leads)}; {recipe.samples} samples at {recipe.sampling_frequency:g} Hz"
        f" in {recipe.unit}{band if recipe.low_pass else ''}; at least"
        f" {recipe.minimum_seconds:g} s recorded; at most {recipe.allowed_missing} leads missing."
    )


def _age(card: Card) -> str:
    return "" if card.minimum_age is None else f" From {card.minimum_age:g} years of age."


def _results(card: Card | None, evaluation: Evaluation) -> str:
    measures = MEASURES[evaluation.task]
    head = ["finding", "with it / known", *measures, "threshold"]
    mean = ["**mean**", "", *(_cell(evaluation.figure(measure)) for measure in measures), ""]
    rows = [mean, *(_row(item, measures) for item in evaluation.keys)]
    said = (
        f"On {evaluation.records} recordings of {evaluation.patients} patients who taught nothing;"
        f" in brackets 95 % intervals of {evaluation.resamples} resamples of patients."
    )
    purpose = f" Thresholds: {card.threshold_purpose}" if card else ""
    return f"{said}{purpose}\n\n{_table(head, rows)}"


def _row(item: OfKey, measures: Sequence[str]) -> list[str]:
    figures = (_cell(item.figures[measure]) for measure in measures)
    threshold = "–" if item.threshold is None else f"{item.threshold:.3f}"
    return [name_of(item.key), f"{item.positives} / {item.records}", *figures, threshold]


def _parts(evaluation: Evaluation) -> Iterator[str]:
    if evaluation.subgroups:
        leading = evaluation.leading
        rows = [
            [part.by, part.name, str(part.records), _cell(part.macro[leading])]
            for part in evaluation.subgroups
        ]
        yield f"## Subgroups\n\n{_table(['by', 'part', 'recordings', f'mean {leading}'], rows)}"


def _gate(verdict: Verdict | None) -> Iterator[str]:
    if verdict:
        marks = {True: "passed", False: "**refused**"}
        rows = [[check.name, marks[check.passed], check.sentence] for check in verdict.checks]
        yield f"## Gate\n\n{_table(['check', 'verdict', 'number and limit'], rows)}"


def _sources(card: Card) -> str:
    rows = [
        [source.name, str(source.records), source.licence, source.citation]
        for source in card.training_data
    ]
    return _table(["source", "recordings", "licence", "citation"], rows)


def _cell(figure: Interval) -> str:
    if figure.value is None or figure.low is None or figure.high is None:
        return "–" if figure.value is None else f"{figure.value:.2f}"
    return f"{figure.value:.2f} ({figure.low:.2f}–{figure.high:.2f})"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(_plain(cell) for cell in line)} |" for line in lines)


def _plain(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", " ")
