"""Drawings of an evaluation: small, alike, and told apart without seeing colour.

Colours are those of Okabe & Ito (Color Universal Design, 2008), and whatever they tell, a shape,
a dash or a word tells too. The same evaluation gives the same bytes. Nothing is drawn of a single
patient but the pairs of a regression, which carry no name.
"""

import io
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator, ScalarFormatter

from training.epochs import Epoch
from training.evaluation import RANKED, Difference, Evaluation, OfKey, name_of
from training.intervals import Interval
from training.plan import Task

BLUE, ORANGE, GREEN, PINK, SKY, GREY = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#6B7280",
)
PANELS: Final = 24
"""Findings that get a panel of their own, the most frequent first."""
ROWS: Final = 60
"""Parts of the recordings that get a line of their own, the largest first."""

_WIDTH: Final = 9.6
"""Inches, of every figure."""
_COLUMNS: Final = 4
_ROW: Final = 0.27
"""Inches of a line in a list."""
_SERIES: Final = ((BLUE, "o", "-"), (ORANGE, "s", "--"), (GREEN, "^", "-."), (PINK, "D", ":"))
_STYLE: Final[Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#9CA3AF",
    "axes.grid": True,
    "axes.labelcolor": "#374151",
    "axes.labelsize": 9,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "figure.dpi": 100,
    "font.sans-serif": ["DejaVu Sans", "Helvetica", "Arial", "sans-serif"],
    "font.size": 9,
    "grid.color": "#E5E7EB",
    "grid.linewidth": 0.8,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "savefig.dpi": 160,
    "svg.fonttype": "none",
    "text.parse_math": False,  # the name of a cart may hold a dollar
    "svg.hashsalt": "sinusnode",
    "xtick.color": "#374151",
    "xtick.labelsize": 8,
    "ytick.color": "#374151",
    "ytick.labelsize": 8,
}


@contextmanager
def _styled() -> Iterator[None]:
    """Draw in the house's style, whatever alphabet a site writes its names in."""
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        yield


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Drawing:
    """A figure with what is written beside it."""

    name: str
    title: str
    caption: str
    figure: Figure
    svg: str = field(init=False, repr=False)
    """An element for a page; its ids begin with the name."""

    def __post_init__(self) -> None:
        self.figure.draw_without_rendering()
        self.figure.set_layout_engine(None)  # it is laid out, once
        file = io.StringIO()
        self.figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
        text = file.getvalue().partition("<svg ")[2]
        named = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{self.name}-", text)
        svg = f'<svg role="img" aria-label="{self.title}" {named}'
        object.__setattr__(self, "svg", svg)

    def save(self, folder: Path) -> None:
        """Write it as SVG and as PNG."""
        (folder / f"{self.name}.svg").write_text(self.svg, encoding="utf-8")
        with _styled():
            self.figure.savefig(folder / f"{self.name}.png", metadata={"Software": None})


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """How good a model is that learned from so many examples."""

    series: str
    """For example "pretrained" or "scratch"."""
    count: int
    figure: Interval


def drawings(
    evaluation: Evaluation,
    *,
    epochs: Sequence[Epoch] = (),
    metric: str = "metric",
    difference: Difference | None = None,
    margin: float | None = None,
    curve: Sequence[CurvePoint] = (),
) -> tuple[Drawing, ...]:
    """Return what there is to draw of a run, in the order of reading.

    Parameters
    ----------
    epochs, metric
        Of the training; what was watched in it.
    difference, margin
        From the current model; how much worse is allowed.
    curve
        Of models that learned from more and more examples.
    """
    with _styled():
        return tuple(
            drawing
            for drawing in (
                *_of_task(evaluation),
                _differences(difference, margin) if difference else None,
                _subgroups(evaluation),
                learning_curve(curve, evaluation.leading) if curve else None,
                _epochs(epochs, metric) if epochs else None,
            )
            if drawing is not None
        )


def _of_task(evaluation: Evaluation) -> Iterator[Drawing | None]:
    if evaluation.task is Task.REGRESSION:
        yield from map(_pairs, [item for item in evaluation.keys if item.pairs])
        return
    if evaluation.figure(RANKED).value is None:
        return
    yield _findings(evaluation)
    yield from (_panels(evaluation, kind) for kind in _KINDS)
    yield _classes(evaluation) if evaluation.confusion else None


# Lists of intervals


@dataclass(frozen=True, slots=True)
class _Row:
    label: str
    figure: Interval
    mark: float | None = None
    """What it is held against."""
    bold: bool = False


def _list(axes: Axes, rows: Sequence[_Row], label: str) -> None:
    """Draw each row as a point with its interval, the first on top, the number beside it."""
    for place, row in enumerate(rows):
        figure = row.figure
        if figure.value is None:
            axes.text(0.01, place, "too few", transform=axes.get_yaxis_transform(), **_SMALL)
            continue
        if figure.low is not None and figure.high is not None:
            axes.plot([figure.low, figure.high], [place] * 2, color=BLUE, lw=2, alpha=0.55)
        shape = "D" if row.bold else "o"
        axes.plot([figure.value], [place], shape, color=BLUE, ms=6 if row.bold else 5)
        if row.mark is not None:
            axes.plot([row.mark], [place], "|", color=ORANGE, ms=11, mew=2)
        axes.text(1.01, place, str(figure), transform=axes.get_yaxis_transform(), **_SMALL)
    axes.set_yticks(range(len(rows)), [row.label for row in rows])
    for tick, row in zip(axes.get_yticklabels(), rows, strict=True):
        tick.set_fontweight("bold" if row.bold else "normal")
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(label)


def _short(label: str, most: int = 44) -> str:
    return label if len(label) <= most else f"{label[: most - 1]}…"


_SMALL: Final[Mapping[str, Any]] = {"fontsize": 8, "va": "center", "color": "#374151"}


def _list_figure(rows: Sequence[_Row], label: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(_WIDTH, 0.75 + _ROW * len(rows)), layout="constrained")
    axes = figure.subplots()
    _list(axes, rows, label)
    return figure, axes


def _findings(evaluation: Evaluation) -> Drawing:
    ordered = sorted(evaluation.keys, key=lambda item: -(item.figures[RANKED].value or 0))
    mean = _Row("Mean of the findings", evaluation.figure(RANKED), bold=True)
    rows = [mean] if len(ordered) > 1 else []
    for item in ordered:
        name = f"{_short(name_of(item.key))}  ({item.positives} of {item.records})"
        rows.append(_Row(name, item.figures[RANKED]))
    figure, axes = _list_figure(rows, "AUROC, 95 % interval over patients")
    axes.axvline(0.5, color=GREY, ls="--", lw=1)
    axes.set_xlim(min([0.45, *_lows(rows)]), 1.0)
    return Drawing(
        name="findings",
        title="How well each finding is told from its absence",
        caption=(
            "AUROC of each finding with its 95 % interval, in brackets the recordings that have it"
            " of those whose truth is known. The dashed line is chance."
        ),
        figure=figure,
    )


def _lows(rows: Iterable[_Row]) -> list[float]:
    return [row.figure.low for row in rows if row.figure.low is not None]


def _subgroups(evaluation: Evaluation) -> Drawing | None:
    if not evaluation.subgroups:
        return None
    leading = evaluation.leading
    parts = evaluation.subgroups
    largest = sorted(range(len(parts)), key=lambda at: -parts[at].records)[:ROWS]
    rows = [_Row("Everyone", evaluation.figure(leading), bold=True)]
    for part in (parts[at] for at in sorted(largest)):
        name = f"{_short(f'{part.by}: {part.name}')}  ({part.records})"
        rows.append(_Row(name, part.macro[leading], mark=part.everyone))
    figure, axes = _list_figure(rows, f"{leading}, 95 % interval over patients")
    if leading == RANKED:
        axes.set_xlim(min([0.45, *_lows(rows)]), 1.0)
    return Drawing(
        name="subgroups",
        title="Whom it serves less well",
        caption=(
            f"Mean {leading} in each part of the recordings, in brackets how many. The orange tick"
            " is everyone's mean over the same findings: a part whose whole interval lies on the"
            " wrong side of it is served worse."
            + (f" Shown are the {ROWS} largest of {len(parts)} parts." if len(parts) > ROWS else "")
        ),
        figure=figure,
    )


def _differences(difference: Difference, margin: float | None) -> Drawing:
    rows = [_Row("Mean", difference.macro, bold=True)] if len(difference.keys) > 1 else []
    rows += [_Row(_short(name_of(key)), figure) for key, figure in difference.keys.items()]
    figure, axes = _list_figure(rows, f"{difference.measure} gained, 95 % interval over patients")
    axes.axvline(0, color=GREY, ls="--", lw=1)
    if margin is not None and difference.measure == RANKED:
        axes.axvline(-margin, color=ORANGE, ls=":", lw=1.5)
    return Drawing(
        name="difference",
        title="Against the current model",
        caption=(
            "What the candidate gains on the same recordings, by a paired bootstrap over patients."
            " Right of the dashed line it is better; the mean's interval must end right of the"
            " dotted one."
        ),
        figure=figure,
    )


# A panel for each finding


@dataclass(frozen=True, slots=True)
class _Kind:
    """What a panel shows of each finding."""

    name: str
    title: str
    across: str
    up: str
    caption: str
    draw: Callable[[Axes, OfKey], None]


def _panels(evaluation: Evaluation, kind: _Kind) -> Drawing | None:
    judged = [item for item in evaluation.keys if item.roc]
    if not judged:
        return None
    shown = sorted(judged, key=lambda item: -item.positives)[:PANELS]
    caption = kind.caption
    if len(judged) > len(shown):
        caption += f" Shown are the {PANELS} most frequent of {len(judged)} findings."
    rows = -(-len(shown) // _COLUMNS)
    figure = Figure(figsize=(_WIDTH, 2.4 * rows + 0.2), layout="constrained")
    grid = figure.subplots(rows, _COLUMNS, squeeze=False)
    for axes, item in zip(grid.flat, shown, strict=False):
        axes.set_title(_short(name_of(item.key), 30))
        axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
        axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
        kind.draw(axes, item)
    for axes in grid.flat[len(shown) :]:
        axes.set_axis_off()
    figure.supxlabel(kind.across, fontsize=9)
    figure.supylabel(kind.up, fontsize=9)
    handles, labels = grid.flat[0].get_legend_handles_labels()
    if labels:
        figure.legend(handles, labels, loc="outside upper right", ncols=len(labels))
    return Drawing(name=kind.name, title=kind.title, caption=caption, figure=figure)


def _roc(axes: Axes, item: OfKey) -> None:
    axes.plot([0, 1], [0, 1], color=GREY, ls="--", lw=1)
    axes.plot(*zip(*item.roc, strict=True), color=BLUE, lw=1.8)
    shapes = zip(item.operating_points, ("o", "s", "^"), (ORANGE, GREEN, PINK), strict=True)
    for point, shape, colour in shapes:
        look: dict[str, Any] = {
            "color": colour,
            "ms": 7,
            "mec": "white",
            "mew": 0.8,
            "clip_on": False,
        }
        axes.plot(1 - point.specificity, point.sensitivity, shape, label=point.name, **look)
    _stored(axes, item, "specificity", "sensitivity", lambda specificity: 1 - specificity)
    axes.text(0.97, 0.05, f"AUROC {item.figures['AUROC'].value:.2f}", ha="right", fontsize=8)


def _recall(axes: Axes, item: OfKey) -> None:
    axes.axhline(item.positives / item.records, color=GREY, ls="--", lw=1)
    axes.plot(*zip(*item.precision_recall, strict=True), color=BLUE, lw=1.8, drawstyle="steps-pre")
    _stored(axes, item, "sensitivity", "PPV", float)
    axes.text(0.97, 0.92, f"AUPRC {item.figures['AUPRC'].value:.2f}", ha="right", fontsize=8)


def _stored(axes: Axes, item: OfKey, across: str, up: str, place: Callable[[float], float]) -> None:
    """Mark what is decided: by the stored threshold, or for the likeliest class."""
    x, y = item.figures[across].value, item.figures[up].value
    if x is not None and y is not None:
        label = "likeliest class" if item.threshold is None else "stored threshold"
        look: dict[str, Any] = {"color": "black", "ms": 6, "mew": 1.6, "clip_on": False}
        axes.plot(place(x), y, "x", label=label, **look)


def _reliability(axes: Axes, item: OfKey) -> None:
    axes.plot([0, 1], [0, 1], color=GREY, ls="--", lw=1)
    most = max(part.records for part in item.reliability)
    for part in item.reliability:
        observed = part.observed
        if observed.low is not None and observed.high is not None:
            axes.plot([part.expected] * 2, [observed.low, observed.high], color=BLUE, alpha=0.5)
        if observed.value is not None:
            size = 2.5 + 5 * np.sqrt(part.records / most)
            axes.plot(part.expected, observed.value, "o", color=BLUE, ms=size, mec="white", mew=0.6)
    axes.text(0.03, 0.92, f"ECE {item.figures['ECE'].value:.2f}", fontsize=8)


_KINDS: Final = (
    _Kind(
        "roc",
        "ROC curves",
        "1 − specificity",
        "sensitivity",
        "The points of most F1 and of 90 % sensitivity and specificity were chosen on these same"
        " recordings and flatter; the cross is what is decided, and was not.",
        _roc,
    ),
    _Kind(
        "precision-recall",
        "Precision and recall",
        "sensitivity (recall)",
        "positive predictive value (precision)",
        "The dashed line is the share of recordings that have the finding, which is what guessing"
        " would reach.",
        _recall,
    ),
    _Kind(
        "reliability",
        "Reliability",
        "probability given",
        "share with the finding",
        "Of the recordings that were given a probability, the share that has the finding; on the"
        " dashed line every probability means what it says. Bars: 95 % interval; the larger the"
        " point, the more recordings.",
        _reliability,
    ),
)


def _classes(evaluation: Evaluation) -> Drawing:
    counts = np.array(evaluation.confusion, dtype=float)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = min(_WIDTH, 3 + 0.55 * len(counts))
    figure = Figure(figsize=(size, size * 0.9), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        dark = shares[row, column] > 0.5  # noqa: PLR2004 - half of the colour scale
        colour = "white" if dark else "#111827"
        axes.text(column, row, f"{count:.0f}", ha="center", va="center", color=colour, fontsize=8)
    names = [_short(name_of(item.key), 30) for item in evaluation.keys]
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="likeliest", ylabel="truth")
    axes.grid(visible=False)
    return Drawing(
        name="confusion",
        title="Which class is taken for which",
        caption="Recordings of each class by the class that was likeliest; shaded by row.",
        figure=figure,
    )


def _pairs(item: OfKey) -> Drawing:
    truth, answer = np.array(item.pairs).T
    figure = Figure(figsize=(_WIDTH, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    ends = [min(truth.min(), answer.min()), max(truth.max(), answer.max())]
    left.plot(ends, ends, color=GREY, ls="--", lw=1)
    left.plot(truth, answer, "o", color=BLUE, ms=4, alpha=0.5, mew=0)
    left.set(xlabel=f"{name_of(item.key)}, true", ylabel="answer", aspect="equal")
    error = answer - truth
    right.plot((answer + truth) / 2, error, "o", color=BLUE, ms=4, alpha=0.5, mew=0)
    right.axhline(0, color=GREY, lw=1)
    for value, dash in ((error.mean(), "-"), *((error.mean() + s, ":") for s in _limits(error))):
        right.axhline(value, color=ORANGE, ls=dash, lw=1.5)
    right.set(xlabel="mean of both", ylabel="answer − truth")
    return Drawing(
        name="pairs",
        title="Answer and truth",
        caption=(
            "Left: each recording's answer beside the truth. Right: their difference (Bland &"
            " Altman, Lancet 1986), with its mean and, dotted, 1.96 standard deviations."
        ),
        figure=figure,
    )


def _limits(error: np.ndarray) -> tuple[float, float]:
    spread = 1.96 * float(error.std())
    return -spread, spread


# Of the training


def _epochs(epochs: Sequence[Epoch], metric: str) -> Drawing:
    figure = Figure(figsize=(_WIDTH, 2.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    numbers = [epoch.number for epoch in epochs]
    left.plot(numbers, [epoch.train_loss for epoch in epochs], "-", color=BLUE, label="training")
    validation = [epoch.validation_loss for epoch in epochs]
    left.plot(numbers, validation, "--", color=ORANGE, label="validation")
    left.set(xlabel="epoch", ylabel="loss")
    left.legend()
    right.plot(numbers, [epoch.metric for epoch in epochs], "-", color=GREEN)
    right.set(xlabel="epoch", ylabel=f"{metric}, validation")
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return Drawing(
        name="epochs",
        title="Training",
        caption="Loss of the training and validation parts, and the metric that chose the epoch.",
        figure=figure,
    )


def learning_curve(points: Sequence[CurvePoint], measure: str) -> Drawing:
    """Return how good models become with more examples, a line for each series."""
    with _styled():
        figure = Figure(figsize=(_WIDTH, 3.4), layout="constrained")
        axes = figure.subplots()
        for (name, line), look in zip(_series(points).items(), _SERIES * len(points), strict=False):
            _curve(axes, name, line, look)
        counts = sorted({point.count for point in points})
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticks(counts, [str(count) for count in counts])
        axes.set(xlabel="examples with the finding", ylabel=measure)
        axes.legend()
        return Drawing(
            name="learning-curve",
            title="What more examples are worth",
            caption=f"{measure} by how many examples taught; shaded: 95 % interval.",
            figure=figure,
        )


def _curve(axes: Axes, name: str, line: Sequence[CurvePoint], look: tuple[str, str, str]) -> None:
    colour, shape, dash = look
    known = [point for point in line if point.figure.value is not None]
    counts = [point.count for point in known]
    values = [point.figure.value or 0.0 for point in known]
    axes.plot(counts, values, dash, marker=shape, color=colour, label=name)
    ends = [
        (point.count, point.figure.low, point.figure.high)
        for point in known
        if point.figure.low is not None and point.figure.high is not None
    ]
    if ends:
        places, low, high = (np.array(part) for part in zip(*ends, strict=True))
        axes.fill_between(places, low, high, color=colour, alpha=0.15, lw=0)


def curve_table(points: Sequence[CurvePoint], measure: str) -> str:
    """Return a learning curve as a Markdown table, a column for each series."""
    lines = _series(points)
    cells = {(point.series, point.count): str(point.figure) for point in points}
    head = f"| examples | {' | '.join(f'{measure}, {name}' for name in lines)} |"
    rows = [
        f"| {count} | {' | '.join(cells.get((name, count), '–') for name in lines)} |"
        for count in sorted({point.count for point in points})
    ]
    return "\n".join([head, "|---" * (len(lines) + 1) + "|", *rows]) + "\n"


def _series(points: Sequence[CurvePoint]) -> dict[str, list[CurvePoint]]:
    names = dict.fromkeys(point.series for point in points)
    ordered = sorted(points, key=lambda point: point.count)
    return {name: [point for point in ordered if point.series == name] for name in names}
