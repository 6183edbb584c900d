"""The worker process: takes leases, keeps limits, and is the one place that catches.

A worker that runs over its time is killed by the supervisor, one that runs over its memory
dies or fails here; either way the attempt counts, and after the last one the object is set
aside with its bytes and its reason. A poison object delays no other.
"""

import resource
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import structlog

from analysis.errors import ModelRejected
from dicom_node.archive import Archive
from dicom_node.ledger import Lease, LeaseLost, Ledger
from dicom_node.models import ModelStore
from dicom_node.pipeline import Pipeline, Quarantined, rehearse
from dicom_node.plan import Plan
from dicom_node.reasons import Quarantine, sentence
from dicom_node.report import Message
from dicom_node.settings import Settings, Work
from dicom_node.spool import Spool

log = structlog.get_logger()

_MODELS_AT_HAND = 4
_POLL = 0.5  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Signals:
    """How a worker hears of work and shows that it lives."""

    wait: Callable[[float], object]
    """Returns when there may be work, or after some seconds."""
    busy_since: Callable[[float], None]
    """Told the monotonic time at which an attempt began; 0 when it ended."""
    reported: Callable[[], object]
    """Called when deliveries are waiting."""
    stopping: Callable[[], bool]


def run(settings: Settings, owner: str, signals: Signals) -> None:
    """Work until told to stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_AS, (settings.work.memory, settings.work.memory))
    ledger = Ledger(settings.database_url)
    store = ModelStore(settings.storage.folder / "models", ledger)
    pipeline = Pipeline(
        ledger=ledger,
        spool=Spool(settings.storage.folder / "spool"),
        model=lru_cache(_MODELS_AT_HAND)(store.load),
        destinations=tuple(item.name for item in settings.destinations),
        clock=time.time,
        messages=_messages(settings),
        archive=Archive.of(settings),
        routes=settings.routes,
    )
    succession = Succession(store, pipeline, settings)
    succession.begin(time.time())
    while not signals.stopping():
        now = time.time()
        signals.busy_since(time.monotonic())
        succession.look(now)
        signals.busy_since(0.0)
        lease = ledger.lease(owner, now, now + 2 * settings.work.wall_time)
        signals.wait(0.0 if lease else _POLL)
        if lease is None:
            continue
        signals.busy_since(time.monotonic())
        attempt(pipeline, lease, settings.work)
        signals.busy_since(0.0)
        signals.reported()


def _messages(settings: Settings) -> dict[Message, tuple[str, ...]]:
    """Return where each kind of message goes, of those that go somewhere."""
    named = {
        Message.HL7: tuple(item.name for item in settings.hl7),
        Message.FHIR: tuple(item.name for item in settings.fhir),
    }
    return {kind: names for kind, names in named.items() if names}


@dataclass(slots=True)
class Succession:
    """Lets a promoted model speak once a worker found it well; the one before speaks until then.

    A model that speaks and is found damaged at the start falls silent: what comes is measured and
    judged by the criteria alone, and every report says so, until a person promotes another.
    """

    store: ModelStore
    pipeline: Pipeline
    settings: Settings
    _seen: tuple[tuple[Any, ...], ...] = ()

    def begin(self, now: float) -> None:
        """Load the models that speak, and make everything warm; a damaged one speaks no more."""
        for digest in self.store.speaking():
            self._try(digest, now)
        self._rehearse(())

    def look(self, now: float) -> None:
        """Swap to what was promoted since the last look, if it comes through every check."""
        generation = self.store.generation()
        if generation == self._seen:
            return
        self._seen = generation
        for digest in self.store.current():
            if digest in self.store.speaking():
                self._load(digest)
            elif self.store.claim(digest, now) and self._try(digest, now):
                self.store.serve(digest, now)
                log.info("model_speaks", digest=digest)

    def _load(self, digest: str) -> None:
        """Have a model at hand that another worker found well."""
        try:
            self.pipeline.model(digest)
        except ModelRejected as error:
            log.error("model_refused", digest=digest, reason=error.reason)  # noqa: TRY400

    def _try(self, digest: str, now: float) -> bool:
        """Return whether a model brings a simulated ECG to a report; it is refused if not."""
        try:
            self._rehearse((digest,))
        except ModelRejected as error:
            log.error("model_refused", digest=digest, reason=error.reason)  # noqa: TRY400
            self.store.refuse(digest, error.message, now)
        except Exception as error:  # noqa: BLE001 - whatever it is, the node works without it
            log.error("model_refused", digest=digest, error=without_data(error))  # noqa: TRY400
            self.store.refuse(digest, "It does not bring a simulated ECG to a report.", now)
        else:
            return True
        return False

    def _rehearse(self, digests: tuple[str, ...]) -> None:
        plan = Plan.of(self.settings, models=digests)
        rehearse([self.pipeline.model(digest) for digest in digests], plan)


def attempt(pipeline: Pipeline, lease: Lease, limits: Work) -> None:
    """Process one object; whatever happens, its row tells."""
    try:
        _attempt(pipeline, lease, limits)
    except LeaseLost:
        log.warning("lease_lost", row=lease.id)


def _attempt(pipeline: Pipeline, lease: Lease, limits: Work) -> None:
    try:
        pipeline.process(lease)
    except LeaseLost:
        raise
    except Quarantined as error:
        log.warning("quarantined", row=lease.id, reason=error.reason)
        pipeline.ledger.quarantine(lease, error.reason, error.message)
    except Exception as error:  # noqa: BLE001 - the one place that catches
        log.error("attempt_failed", row=lease.id, error=without_data(error))  # noqa: TRY400
        settle(pipeline.ledger, lease, limits, Quarantine.FAILED, pipeline.clock())
    else:
        log.info("reported", row=lease.id)


def settle(ledger: Ledger, lease: Lease, limits: Work, reason: Quarantine, now: float) -> None:
    """Let a failed attempt be tried again later, or set the object aside after the last."""
    if lease.attempts >= limits.attempts:
        ledger.quarantine(lease, reason, sentence(reason))
    else:
        waits = limits.retry_after
        ledger.postpone(lease, now + waits[min(lease.attempts, len(waits)) - 1])


def without_data(error: BaseException) -> str:
    """Return where an exception came from; its message could hold patient data."""
    frames = []
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        frames.append(f"{code.co_name}:{trace.tb_lineno}")
        trace = trace.tb_next
    return f"{type(error).__name__} in {' > '.join(frames[-6:])}"
