"""The shadow: a model that reads each ECG after its delivery, to be compared, never to be sent.

Two processes: one looks for what was delivered and writes what was found, finding by finding,
beside what the model that spoke had found; the other, at the lowest priority, runs the model and
never touches the ledger, so that it can hold no lock which the clinical path waits for. Its end
is a row; after a few such ends the model shadows no more.
"""

import json
import multiprocessing
import os
import resource
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import lru_cache, partial
from multiprocessing.connection import Connection
from multiprocessing.context import ForkProcess
from typing import Any, Final, Self

import numpy as np
import sqlalchemy as sa
import structlog

from analysis.analyse import analyse
from analysis.errors import ModelRejected
from analysis.model import Model
from analysis.result import Origin
from dicom_node.failpoints import reach
from dicom_node.ledger import BLOB, Ledger, State, instances, shadow_results
from dicom_node.models import ModelStore
from dicom_node.pipeline import read
from dicom_node.plan import Plan
from dicom_node.settings import Settings
from dicom_node.spool import BlobRef, Spool
from dicom_node.work import without_data

log = structlog.get_logger()

NAME: Final = "shadow"
"""Of the process."""
CRASHES: Final = 3
"""ECGs at which a model may end the process before it shadows no more."""
SHOWN: Final = 100
"""Disagreements that a report lists, the newest first."""
COMPARED: Final = 20_000
"""ECGs that a report looks at, the newest first."""
QUANTILES: Final = (0.05, 0.25, 0.5, 0.75, 0.95)

_FORK: Final = multiprocessing.get_context("fork")
_LOWEST_PRIORITY: Final = 19
_POLL: Final = 0.5  # seconds
_BEHIND: Final = 1000
"""ECGs that it may be behind; what is older is left out."""
_DELIVERED: Final = (State.DELIVERED, State.COMMITTED)


class Ending(StrEnum):
    """Why a row holds no findings of the shadow."""

    CRASHED = "crashed"
    """It ended its process, or took longer than `work.wall_time` of processor time."""
    FAILED = "failed"
    BYTES_GONE = "bytes-gone"
    NOT_CLASSIFIED = "not-classified"
    """No model read this ECG, and so no shadow does."""


Answers = Mapping[str, Mapping[str, Any]]
"""By finding: ``probability``, ``threshold`` and ``present``, each None where it abstained."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One delivered ECG that the shadow has not read."""

    id: int
    sop_instance_uid: str
    blob: BlobRef
    plan: str
    result: str


class Shadowed:
    """The rows of shadow results in one ledger.

    Parameters
    ----------
    ledger
        Created already.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def next(self, digest: str, since: float) -> Task | None:
        """Return the oldest ECG, of those received since and delivered, that is to be read."""
        newest = sa.select(sa.func.max(instances.c.id)).scalar_subquery()
        done = sa.exists().where(
            shadow_results.c.instance_id == instances.c.id, shadow_results.c.digest == digest
        )
        query = (
            sa.select(*(instances.c[name] for name in _TASK))
            .where(
                instances.c.id > newest - _BEHIND,
                instances.c.received_at >= since,
                instances.c.state.in_(_DELIVERED),
                ~done,
            )
            .order_by(instances.c.id)
            .limit(1)
        )
        return next((_task(row) for row in self._ledger.query(query)), None)

    def record(self, task: Task, digest: str, now: float, **values: Any) -> None:
        """Record how reading an ECG ended, by the columns of the row."""
        row = {"instance_id": task.id, "digest": digest, "at": now} | values
        with self._ledger.transaction(relaxed=True) as connection:
            connection.execute(shadow_results.insert().values(row))

    def crashes(self, digest: str, since: float) -> int:
        """Return at how many ECGs the model ended its process."""
        query = sa.select(sa.func.count()).where(
            shadow_results.c.digest == digest,
            shadow_results.c.reason == Ending.CRASHED,
            shadow_results.c.at >= since,
        )
        ((count,),) = self._ledger.query(query)
        return int(count)

    def rows(self, digest: str, limit: int = COMPARED) -> list[tuple[Any, ...]]:
        """Return instance, time, seconds, reason, findings, digest and findings of the other."""
        query = (
            sa.select(*(shadow_results.c[name] for name in _COMPARED))
            .where(shadow_results.c.digest == digest)
            .order_by(shadow_results.c.instance_id.desc())
            .limit(limit)
        )
        return self._ledger.query(query)


_TASK: Final = ("id", "sop_instance_uid", "plan", "result", *BLOB)
_COMPARED: Final = ("instance_id", "at", "seconds", "reason", "findings", "against", "current")


def _task(row: Sequence[Any]) -> Task:
    number, uid, plan, result, *blob = row
    return Task(
        id=number, sop_instance_uid=uid, plan=plan, result=result or "{}", blob=BlobRef(*blob)
    )


def run(settings: Settings, wait: Callable[[float], object], stopping: Callable[[], bool]) -> None:
    """Read what is delivered, while a model shadows, until told to stop."""
    ledger = Ledger(settings.database_url)
    store = ModelStore(settings.storage.folder / "models", ledger)
    with closing(Helper(partial(_serve, settings), ledger.close, stopping)) as helper:
        reader = Reader(store=store, rows=Shadowed(ledger), ask=helper.ask, clock=time.time)
        while not stopping():
            if not reader.step():
                wait(_POLL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """What the process does that keeps the rows."""

    store: ModelStore
    rows: Shadowed
    ask: Callable[[Task, str], "Reply"]
    """Returns what the model with a digest answers to an ECG."""
    clock: Callable[[], float]
    """Returns UTC, seconds since the epoch."""

    def step(self) -> bool:
        """Return whether there was an ECG to read; it is read then."""
        found = self.store.shadowing()
        if found is None:
            return False
        task = self.rows.next(*found)
        if task is not None:
            self._read(task, *found)
        return task is not None

    def _read(self, task: Task, digest: str, since: float) -> None:
        document = json.loads(task.result)
        spoke = [item["digest"] for item in document.get("models", ())]
        if not spoke:
            self.rows.record(task, digest, self.clock(), reason=Ending.NOT_CLASSIFIED)
            return
        started = time.monotonic()
        reply = self.ask(task, digest)
        if isinstance(reply, Ending):
            self.rows.record(task, digest, self.clock(), reason=reply)
            if reply is Ending.CRASHED and self.rows.crashes(digest, since) >= CRASHES:
                self._give_up(digest, f"It ended the process of the shadow {CRASHES} times.")
        elif isinstance(reply, ModelRejected):
            self._give_up(digest, reply.message)
        elif reply is not None:
            self.rows.record(
                task,
                digest,
                self.clock(),
                findings=json.dumps(reply, sort_keys=True),
                current=json.dumps(_answers(document["findings"]), sort_keys=True),
                against=spoke[0],
                seconds=time.monotonic() - started,
            )

    def _give_up(self, digest: str, why: str) -> None:
        log.error("shadow_given_up", digest=digest, reason=why)
        self.store.refuse(digest, why, self.clock())
        self.store.end_shadow(self.clock(), "the node", why)


# The process that runs the model

Reply = Answers | Ending | ModelRejected | None
"""What became of an ECG; None when told to stop before that was known."""


class Helper:
    """A process that answers, begun when it is first asked and anew after each end.

    Parameters
    ----------
    serve
        What it does, with its end of the pipe.
    before
        Called before it is begun: nothing that must not be shared may be open then.
    stopping
        Whether to wait no longer.
    """

    def __init__(
        self,
        serve: Callable[[Connection], None],
        before: Callable[[], None],
        stopping: Callable[[], bool],
    ) -> None:
        self._serve = serve
        self._before = before
        self._stopping = stopping
        self._process: ForkProcess | None = None
        self._pipe: Connection | None = None

    def ask(self, task: Task, digest: str) -> Reply:
        """Return what the model with this digest answers to an ECG."""
        pipe = self._pipe or self._begin()
        try:
            pipe.send((task, digest))
            while not pipe.poll(_POLL):
                if self._stopping():
                    return None
            reply: Reply = pipe.recv()
        except (EOFError, OSError):
            self.close()
            return Ending.CRASHED
        return reply

    def _begin(self) -> Connection:
        self._before()
        ours, theirs = _FORK.Pipe()
        self._process = _FORK.Process(target=_helping, args=(self._serve, ours, theirs))
        self._process.start()
        theirs.close()
        self._pipe = ours
        return ours

    def close(self) -> None:
        """End the process."""
        if self._process is not None and self._pipe is not None:
            self._process.kill()
            self._process.join()
            self._process.close()
            self._pipe.close()
        self._process = self._pipe = None


def _helping(serve: Callable[[Connection], None], other: Connection, pipe: Connection) -> None:
    """Serve until nobody holds the other end any more."""
    other.close()
    with suppress(EOFError, OSError):
        serve(pipe)


def _serve(settings: Settings, pipe: Connection) -> None:
    os.nice(_LOWEST_PRIORITY)
    resource.setrlimit(resource.RLIMIT_AS, (settings.work.memory, settings.work.memory))
    spool = Spool(settings.storage.folder / "spool")
    store = ModelStore(settings.storage.folder / "models", Ledger(settings.database_url))
    load = lru_cache(1)(store.load)
    while True:
        task, digest = pipe.recv()
        reach("in_shadow")
        with _limited(settings.work.wall_time):
            reply = answer(task, partial(load, digest), spool)
        pipe.send(reply)


def answer(task: Task, model: Callable[[], Model], spool: Spool) -> Reply:
    """Return what a model finds in an ECG, or why that is not known; nothing escapes."""
    try:
        _, recording = read(spool.read(task.blob), task.sop_instance_uid)
        options = Plan.from_json(task.plan).options
        result = analyse(recording, [model()], options=options)
    except ModelRejected as error:
        return error
    except OSError:
        return Ending.BYTES_GONE
    except Exception as error:  # noqa: BLE001 - its end is a row, and no one else's matter
        log.warning("shadow_failed", row=task.id, error=without_data(error))
        return Ending.FAILED
    return _answers(json.loads(result.to_json())["findings"])


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """End the process when so many seconds of its processor time have passed.

    Not by the clock: at the lowest priority it may wait long for its turn.
    """
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0.0)


def _answers(findings: Sequence[Mapping[str, Any]]) -> Answers:
    """Return what models answered, of findings as a stored result holds them."""
    return {
        item["key"]: {name: item[name] for name in ("probability", "threshold", "present")}
        for item in findings
        if item["origin"] == Origin.MODEL
    }


# The report


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How two models compare on one finding, over the ECGs where both gave an answer."""

    key: str
    both: int
    """ECGs."""
    agreement: float | None
    """Share on which both said present, or both absent."""
    current_rate: float | None
    """Share on which the model that spoke said present."""
    shadow_rate: float | None
    difference: Mapping[str, float]
    """Quantiles of the probability of the shadow less that of the other."""
    current_abstained: int
    """ECGs on which the shadow alone gave an answer."""
    shadow_abstained: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Disagreement:
    """One finding of one ECG that one model called present and the other absent."""

    row: int
    """Of `sinusnode queue`."""
    key: str
    current: float
    """Probability of the model that spoke."""
    shadow: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowReport:
    """What a shadow model found, beside what the models that spoke had found."""

    digest: str
    against: Mapping[str, int]
    """Digests of the models that spoke, with the number of ECGs."""
    ecgs: int
    """Read by both."""
    unread: Mapping[str, int]
    """Why the shadow gave no findings, with the number of ECGs."""
    first_at: float | None
    """UTC, seconds since the epoch; so is `last_at`."""
    last_at: float | None
    median_seconds: float | None
    findings: tuple[Agreement, ...]
    """Of the findings that both models know."""
    current_only: tuple[str, ...]
    """Findings that the shadow does not know."""
    shadow_only: tuple[str, ...]
    disagreed: int
    """All of them, of which the newest are listed."""
    disagreements: tuple[Disagreement, ...]

    @classmethod
    def of(cls, ledger: Ledger, digest: str) -> Self:
        """Return the report on the newest ECGs that a model has shadowed."""
        rows = Shadowed(ledger).rows(digest)
        read_rows = [row for row in rows if row[3] is None]
        pairs = [(row[0], json.loads(row[6]), json.loads(row[4])) for row in read_rows]
        current = {key for _, answers, _ in pairs for key in answers}
        shadow = {key for _, _, answers in pairs for key in answers}
        disagreements = [item for pair in pairs for item in _disagreements(*pair)]
        times = [row[1] for row in read_rows]
        return cls(
            digest=digest,
            against=dict(Counter(row[5] for row in read_rows)),
            ecgs=len(pairs),
            unread=dict(Counter(row[3] for row in rows if row[3] is not None)),
            first_at=min(times, default=None),
            last_at=max(times, default=None),
            median_seconds=float(np.median([row[2] for row in read_rows])) if pairs else None,
            findings=tuple(_agreement(key, pairs) for key in sorted(current & shadow)),
            current_only=tuple(sorted(current - shadow)),
            shadow_only=tuple(sorted(shadow - current)),
            disagreed=len(disagreements),
            disagreements=tuple(disagreements[:SHOWN]),
        )

    def to_mapping(self) -> dict[str, Any]:
        """Return the report as JSON holds it."""
        return asdict(self)

    @property
    def text(self) -> str:
        """The report to read."""
        return "\n".join(_lines(self))


Pair = tuple[int, Answers, Answers]
"""Row, what the model that spoke answered, what the shadow answered."""


def _disagreements(row: int, current: Answers, shadow: Answers) -> Iterator[Disagreement]:
    for key in sorted(current.keys() & shadow.keys()):
        said = current[key]["present"], shadow[key]["present"]
        if None not in said and said[0] != said[1]:
            yield Disagreement(
                row=row,
                key=key,
                current=current[key]["probability"],
                shadow=shadow[key]["probability"],
            )


def _agreement(key: str, pairs: Sequence[Pair]) -> Agreement:
    asked = [(now[key], then[key]) for _, now, then in pairs if key in now and key in then]
    both = [(a, b) for a, b in asked if a["present"] is not None and b["present"] is not None]
    present = np.array([(a["present"], b["present"]) for a, b in both], bool).reshape(-1, 2)
    chance = np.array([b["probability"] - a["probability"] for a, b in both])
    return Agreement(
        key=key,
        both=len(both),
        agreement=_mean(present[:, 0] == present[:, 1]),
        current_rate=_mean(present[:, 0]),
        shadow_rate=_mean(present[:, 1]),
        difference={f"{q:g}": float(np.quantile(chance, q)) for q in QUANTILES if both},
        current_abstained=sum(a["present"] is None and b["present"] is not None for a, b in asked),
        shadow_abstained=sum(b["present"] is None and a["present"] is not None for a, b in asked),
    )


def _mean(values: Any) -> float | None:
    return float(values.mean()) if len(values) else None


def _lines(report: ShadowReport) -> Iterator[str]:
    against = ", ".join(f"{digest[:12]} ({count})" for digest, count in report.against.items())
    yield f"Shadow {report.digest[:12]} beside {against or 'nothing yet'}: {report.ecgs} ECGs."
    for reason, count in sorted(report.unread.items()):
        yield f"Not read, {reason}: {count}."
    if report.median_seconds is not None:
        yield f"Median time for one ECG: {report.median_seconds:.2f} s."
    if report.findings:
        yield _row("finding", "ECGs", "agree", "current", "shadow", "5 %", "median", "95 %")
    for item in report.findings:
        spread = [item.difference.get(name) for name in ("0.05", "0.5", "0.95")]
        yield _row(
            item.key,
            str(item.both),
            *map(_percent, (item.agreement, item.current_rate, item.shadow_rate)),
            *("-" if value is None else f"{value:+.3f}" for value in spread),
        )
    for what, keys in (("the shadow does not know", report.current_only),
                       ("the shadow alone knows", report.shadow_only)):  # fmt: skip
        if keys:
            yield f"Findings that {what}: {', '.join(keys)}."
    yield f"Disagreements: {report.disagreed}."
    for line in report.disagreements:
        yield f"row {line.row}  {line.key}  {line.current:.3f} {line.shadow:.3f}"


def _row(name: str, *cells: str) -> str:
    return f"{name:<24}" + "".join(f"{cell:>9}" for cell in cells)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
