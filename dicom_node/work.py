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
    while not signals.stopping() and not _warm(pipeline, Plan.of(settings, models=store.current())):
        time.sleep(1.0)  # without a sign of life: the node is not ready, what comes waits
    while not signals.stopping():
        now = time.time()
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


def _warm(pipeline: Pipeline, plan: Plan) -> bool:
    """Load the models that speak now and rehearse; return whether there are such."""
    try:
        rehearse([pipeline.model(digest) for digest in plan.models], plan)
    except ModelRejected as error:
        log.error("model_refused", reason=error.reason)  # noqa: TRY400 - no trace
        return False
    return True


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
