"""A run as a person at a terminal sees it: a bar, a sentence, and curves that grow."""

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from dicom_node.cli import _print_json
from training.runs import Run
from training.steps import Step

_BLOCKS: Final = "▁▂▃▄▅▆▇█"
_WIDTH: Final = 60
"""Epochs that a curve shows; of more, the latest."""
_CURVES: Final = {
    "metric": "metric",
    "train_loss": "loss, training",
    "validation_loss": "loss, validation",
    "learning_rate": "learning rate",
}


class Shown:
    """Shows the steps of a run: live on a terminal, else as lines of JSON or not at all.

    Parameters
    ----------
    console
        Standard error.
    as_json
        Whether each step is a line of JSON on standard output.
    """

    def __init__(self, console: Console, *, as_json: bool) -> None:
        self._as_json = as_json
        self._epochs: list[Mapping[str, Any]] = []
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        )
        self._task = self._bar.add_task("", total=None)
        self._live = Live(
            get_renderable=self._drawn, console=console, transient=True, refresh_per_second=4
        )
        self._visible = console.is_terminal and not as_json

    def __enter__(self) -> Self:
        if self._visible:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        if self._visible:
            self._live.stop()

    def told(self, run: Run, step: Step) -> None:
        """Show a step."""
        if self._as_json:
            _print_json({"kind": "step", "run": run.id, **step.to_mapping()})
        if step.figures:
            self._epochs.append(step.figures)
        self._bar.update(
            self._task,
            description=step.said,
            completed=step.epoch,
            total=step.epochs or None,
        )

    def _drawn(self) -> RenderableType:
        return Group(self._bar, curves(self._epochs)) if self._epochs else self._bar


def curves(epochs: Sequence[Mapping[str, Any]]) -> Table:
    """Return the curves of some epochs, each with its first and its last value."""
    table = Table.grid(padding=(0, 1))
    for name, title in _CURVES.items():
        values = [float(epoch[name]) for epoch in epochs]
        table.add_row(title, f"{values[0]:.3g}", spark(values[-_WIDTH:]), f"{values[-1]:.3g}")
    return table


def spark(values: Sequence[float]) -> str:
    """Return a curve as a line of blocks, as high as the values lie between least and greatest."""
    low, high = min(values), max(values)
    scale = (len(_BLOCKS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BLOCKS[round((value - low) * scale)] for value in values)
