"""The management port: whether the node is alive, whether it is ready, and how it does.

Everything is read from the ledger and the disk, so that a restart loses no count.
"""

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from dicom_node import ledger as tables
from dicom_node.ledger import Ledger, State
from dicom_node.models import Mark
from dicom_node.receive import disk_is_low
from dicom_node.settings import Settings

_STAGES = {
    "analyse": ("received_at", "analysed_at"),
    "report": ("analysed_at", "reported_at"),
    "deliver": ("reported_at", "delivered_at"),
}


_REFUSED_MODELS = sa.select(tables.model_marks.c.digest, tables.model_marks.c.detail).where(
    tables.model_marks.c.mark == Mark.REFUSED
)


@dataclass(frozen=True, slots=True)
class Health:
    """What can be asked of a running node."""

    settings: Settings
    ledger: Ledger
    silent: Callable[[], list[str]]
    """Returns the names of processes that do not answer."""

    def problems(self) -> list[str]:
        """Return one sentence for each reason why the node is not ready."""
        found = [f"The {name} process does not answer." for name in self.silent()]
        if disk_is_low(self.settings.storage):
            found.append("The disk is below the watermark: new objects are refused with A700.")
        try:
            if not self.ledger.slots():
                found.append("No model is installed.")
        except sa.exc.SQLAlchemyError:
            found.append("The ledger cannot be read.")
        return found

    def warnings(self) -> list[str]:
        """Return one sentence for each thing that needs a person, though the node works."""
        try:
            refused = self.ledger.query(_REFUSED_MODELS)
        except sa.exc.SQLAlchemyError:
            return []
        return [f"The model {digest[:12]} was refused: {why}" for digest, why in refused]


def application(health: Health, doors: Sequence[BaseRoute] = ()) -> Starlette:
    """Return the web application of the management port.

    Parameters
    ----------
    health
        What it tells of.
    doors
        Further routes: where objects come in, if they may.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Metrics(health))

    def healthz(_request: Request) -> Response:
        return JSONResponse({"alive": True})

    def readyz(_request: Request) -> Response:
        problems = health.problems()
        return JSONResponse(
            {"ready": not problems, "problems": problems, "warnings": health.warnings()},
            status_code=503 if problems else 200,
        )

    def metrics(_request: Request) -> Response:
        return Response(generate_latest(registry), media_type="text/plain; version=0.0.4")

    return Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/metrics", metrics),
            *doors,
        ]
    )


class _Metrics(Collector):
    """The ledger's counts in Prometheus' form; no label ever names an object or a patient."""

    def __init__(self, health: Health) -> None:
        self._health = health

    def describe(self) -> Iterator[Metric]:
        yield from ()

    def collect(self) -> Iterator[Metric]:
        yield self._received()
        yield self._refused()
        yield self._queue()
        yield self._oldest()
        yield self._deliveries()
        yield self._quarantined()
        yield self._purged()
        yield self._stages()
        yield self._models()
        yield self._refused_models()
        yield self._disk()

    def _received(self) -> Metric:
        metric = CounterMetricFamily(
            "ecg_received", "Objects acknowledged.", labels=["calling_ae", "outcome"]
        )
        column = tables.instances.c
        outcome = sa.case((column.state == State.QUARANTINED, "quarantined"), else_="accepted")
        query = sa.select(column.calling_ae, outcome, sa.func.count()).group_by(
            column.calling_ae, outcome
        )
        return self._counted(metric, query)

    def _refused(self) -> Metric:
        metric = CounterMetricFamily(
            "ecg_refused", "Associations and objects refused.", labels=["reason"]
        )
        column = tables.audit.c
        query = (
            sa.select(column.reason, sa.func.count())
            .where(column.event == "refused")
            .group_by(column.reason)
        )
        return self._counted(metric, query)

    def _queue(self) -> Metric:
        metric = GaugeMetricFamily("ecg_queue", "Objects in each state.", labels=["state"])
        for state, count in self._health.ledger.counts().items():
            metric.add_metric([state], count)
        return metric

    def _oldest(self) -> Metric:
        metric = GaugeMetricFamily(
            "ecg_oldest_seconds", "Age of the oldest object in a state.", labels=["state"]
        )
        column = tables.instances.c
        open_states = (State.RECEIVED, State.ANALYSED, State.REPORTED)
        query = (
            sa.select(column.state, sa.func.min(column.received_at))
            .where(column.state.in_(open_states))
            .group_by(column.state)
        )
        for row in self._health.ledger.query(query):
            metric.add_metric([row[0]], time.time() - row[1])
        return metric

    def _deliveries(self) -> Metric:
        metric = CounterMetricFamily(
            "ecg_delivery", "Result objects by where they stand.", labels=["destination", "state"]
        )
        column = tables.deliveries.c
        query = sa.select(column.destination, column.state, sa.func.count()).group_by(
            column.destination, column.state
        )
        return self._counted(metric, query)

    def _quarantined(self) -> Metric:
        metric = CounterMetricFamily(
            "ecg_quarantined", "Objects set aside, by reason.", labels=["reason"]
        )
        column = tables.instances.c
        query = (
            sa.select(column.reason, sa.func.count())
            .where(column.state == State.QUARANTINED)
            .group_by(column.reason)
        )
        return self._counted(metric, query)

    def _purged(self) -> Metric:
        metric = CounterMetricFamily(
            "ecg_purged", "Objects whose bytes retention gave up.", labels=["state", "part"]
        )
        for labels, count in self._health.ledger.purged().items():
            metric.add_metric([*labels], count)
        return metric

    def _stages(self) -> Metric:
        metric = SummaryMetricFamily("ecg_stage_seconds", "Time per stage.", labels=["stage"])
        for stage, (start, end) in _STAGES.items():
            took = tables.instances.c[end] - tables.instances.c[start]
            total = sa.select(sa.func.count(took), sa.func.sum(took))
            (row,) = self._health.ledger.query(total)
            metric.add_metric([stage], row[0], row[1] or 0.0)
        return metric

    def _models(self) -> Metric:
        metric = GaugeMetricFamily(
            "ecg_model_info", "The model in each slot.", labels=["slot", "digest"]
        )
        for slot, digest in self._health.ledger.slots().items():
            metric.add_metric([slot, digest], 1)
        return metric

    def _refused_models(self) -> Metric:
        metric = GaugeMetricFamily(
            "ecg_model_refused",
            "Promoted and not speaking, or given up as shadow.",
            labels=["digest"],
        )
        for digest, _why in self._health.ledger.query(_REFUSED_MODELS):
            metric.add_metric([digest], 1)
        return metric

    def _disk(self) -> Metric:
        usage = shutil.disk_usage(self._health.settings.storage.folder)
        return GaugeMetricFamily("ecg_disk_free_bytes", "Free space.", value=usage.free)

    def _counted(self, metric: CounterMetricFamily, query: sa.Executable) -> Metric:
        for row in self._health.ledger.query(query):
            metric.add_metric([str(label) for label in row[:-1]], row[-1])
        return metric
