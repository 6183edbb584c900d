"""The node: one supervisor and its processes. The one place that wires.

The supervisor has no threads and holds no connections, so that it may fork. Its children live
no longer than it does: each holds the reading end of a pipe that nobody writes to, and ends
when the supervisor's end closes, however that came about.
"""

import ctypes
import fcntl
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import resources
from multiprocessing import connection
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any, Final

import structlog
import uvicorn
from sqlalchemy.exc import SQLAlchemyError
from starlette.routing import Route

from analysis.errors import ModelRejected
from analysis.model import ANY_LEAD, SHIPPED
from dicom_node import logs, ops, retention, shadow, stow, tls, work
from dicom_node.commitment import Promiser, reply_to
from dicom_node.companions import Companion, Companions
from dicom_node.deliver import Courier, Sender
from dicom_node.dicomweb import WebSender
from dicom_node.fhir import FhirSender
from dicom_node.ledger import Event, LeaseLost, Ledger, SchemaMismatch
from dicom_node.live import Live, follow
from dicom_node.mllp import MllpSender
from dicom_node.models import ModelStore
from dicom_node.plan import Plan
from dicom_node.reasons import Quarantine
from dicom_node.receive import Committer, Intake, PinnedPlan, Receiver
from dicom_node.settings import AnyDestination, Fhir, Hl7, Settings, WebDestination
from dicom_node.spool import Spool

log = structlog.get_logger()

_FORK: Final = multiprocessing.get_context("fork")
_SHUTDOWN: Final = 20.0  # seconds for open associations, and for the attempt in hand
_LOCK_WAIT: Final = 10.0  # seconds for a killed node's children to let go of the folder
_SILENT: Final = 5.0  # seconds without a beat
_RESTART_PAUSE: Final = 0.5


class CannotStart(RuntimeError):
    """The node cannot run here; the message says what to do."""


def open_folder(settings: Settings, now: float) -> None:
    """Make the data folder ready: once, at start, under the lock."""
    folder = settings.storage.folder
    ledger = Ledger(settings.database_url)
    try:
        ledger.create()
        Live(settings, ledger).create()
        swept = Spool(folder / "spool").prepare(ledger.segments())
        forgiven = ledger.forgive()
        store = ModelStore(folder / "models", ledger)
        if not store.current():
            _install_first(store, settings, now)
        store.prepare(now)
        ledger.record(Event(event="started"), now)
    finally:
        ledger.close()
    log.info("folder_ready", folder=str(folder), swept=swept, forgiven=forgiven)


def _install_first(store: ModelStore, settings: Settings, now: float) -> None:
    """Have the model of the settings speak, or the shipped pair."""
    chosen, shipped = settings.models.initial, resources.files("analysis").joinpath("models")
    first = store.install((chosen or shipped.joinpath(SHIPPED)).read_bytes(), now)
    store.promote(first, now, "the node", override="The first model of the data folder.")
    if chosen is None:
        store.speak_beside(store.install(shipped.joinpath(ANY_LEAD).read_bytes(), now), first, now)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shared:
    """What the processes share: counting semaphores and plain memory, nothing one can hold."""

    work: Any
    deliveries: Any
    stopping: Any
    beats: Any
    """Monotonic time of each process's last sign of life."""
    busy: Any
    """Monotonic time at which each process began its attempt; 0 = idle."""

    def beat(self, slot: int) -> None:
        self.beats[slot] = time.monotonic()

    def stopped(self) -> bool:
        return bool(self.stopping.value)


class Supervisor:
    """Starts the processes, watches them, and stops them in order.

    Parameters
    ----------
    settings
        The node's.
    parent
        Process id whose end also ends the node; None for a node of its own.
    companions
        Services that are kept going beside it.
    """

    def __init__(
        self,
        settings: Settings,
        parent: int | None = None,
        companions: Sequence[Companion] = (),
    ) -> None:
        self._settings = settings
        self._parent = parent
        roles: list[tuple[str, Callable[[int], None]]] = [
            ("receiver", self._receive),
            ("sender", self._send),
            ("management", self._manage),
            *((f"worker-{n + 1}", self._work) for n in range(settings.work.workers)),
            (shadow.NAME, self._shadow),
        ]
        self._names = [name for name, _ in roles]
        self._targets = [target for _, target in roles]
        self._processes: dict[int, ForkProcess] = {}
        self._shared = _Shared(
            work=_FORK.Semaphore(0),
            deliveries=_FORK.Semaphore(0),
            stopping=_FORK.RawValue(ctypes.c_bool, False),  # noqa: FBT003
            beats=_FORK.RawArray(ctypes.c_double, len(roles)),
            busy=_FORK.RawArray(ctypes.c_double, len(roles)),
        )
        self._lifeline = os.pipe()
        self._companions = Companions(companions, self._lifeline[0])

    def run(self) -> int:
        """Return the exit status, when told to stop by SIGTERM or SIGINT.

        Raises
        ------
        CannotStart
            If the data folder, a port, the ledger, the model or the TLS files cannot be used.
        """
        folder = self._settings.storage.folder
        with ExitStack() as stack:
            with _starting():
                folder.mkdir(parents=True, exist_ok=True)
                lock = stack.enter_context((folder / "lock").open("w"))
                _take(lock.fileno(), folder)
                _probe_ports(self._settings)
                open_folder(self._settings, time.time())
            for signum in (signal.SIGTERM, signal.SIGINT):
                signal.signal(signum, self._on_signal)
            for slot in range(len(self._targets)):
                self._start(slot)
            while not self._shared.stopped():
                self._watch()
                self._shared.stopping.value |= self._orphaned()
            return self._stop()

    def _on_signal(self, _signum: int, _frame: object) -> None:
        self._shared.stopping.value = True

    def _orphaned(self) -> bool:
        return self._parent is not None and os.getppid() != self._parent

    # Watching

    def _start(self, slot: int) -> None:
        self._shared.beats[slot] = 0.0
        self._shared.busy[slot] = 0.0
        process = _FORK.Process(
            target=self._child, args=(slot,), name=f"sinusnode-{self._names[slot]}"
        )
        process.start()
        self._processes[slot] = process

    def _watch(self) -> None:
        sentinels = [process.sentinel for process in self._processes.values()]
        ended = connection.wait(sentinels, timeout=0.2)
        for slot in [n for n, process in self._processes.items() if process.sentinel in ended]:
            self._replace(slot)
        self._kill_overdue()
        self._companions.watch()

    def _replace(self, slot: int) -> None:
        process = self._processes.pop(slot)
        process.join()
        if self._shared.stopped():
            return
        log.error("process_died", process=self._names[slot], exitcode=process.exitcode)
        self._settle(self._names[slot])
        time.sleep(_RESTART_PAUSE)
        self._start(slot)

    def _settle(self, name: str) -> None:
        """Count the attempt that a dead worker had in hand."""
        ledger = Ledger(self._settings.database_url)
        try:
            for lease in ledger.leases_of(name):
                work.settle(ledger, lease, self._settings.work, Quarantine.CRASHED, time.time())
        except (LeaseLost, SQLAlchemyError) as error:  # its lease ends by itself
            log.error("not_settled", process=name, error=type(error).__name__)  # noqa: TRY400
        finally:
            ledger.close()

    def _kill_overdue(self) -> None:
        latest = time.monotonic() - self._settings.work.wall_time
        for slot, process in self._processes.items():
            if 0.0 < self._shared.busy[slot] < latest:
                log.error("attempt_overdue", process=self._names[slot])
                process.kill()

    def _stop(self) -> int:
        log.info("stopping")
        for _ in self._processes:
            self._shared.work.release()
            self._shared.deliveries.release()
        self._companions.stop()
        end = time.monotonic() + _SHUTDOWN + 2.0
        for process in self._processes.values():
            process.join(max(0.0, end - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()
        ledger = Ledger(self._settings.database_url)
        ledger.forgive()
        ledger.record(Event(event="stopped"), time.time())
        ledger.close()
        return 0

    def _silent(self) -> list[str]:
        """Return the processes that do not answer yet or any more; one worker is enough."""
        now = time.monotonic()
        silent = [
            name
            for slot, name in enumerate(self._names)
            if now - self._shared.beats[slot] > _SILENT
            and not self._shared.busy[slot]
            and name != shadow.NAME
        ]
        workers = [name for name in silent if name.startswith("worker")]
        if len(workers) < self._settings.work.workers:
            return [name for name in silent if name not in workers]
        return silent

    # Children

    def _child(self, slot: int) -> None:
        os.close(self._lifeline[1])
        threading.Thread(target=_die_with, args=(self._lifeline[0],), daemon=True).start()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        logs.configure(self._settings.log)
        if self._names[slot] != shadow.NAME:  # it forks, and a fork wants no second thread
            follow(self._settings)
        try:
            self._targets[slot](slot)
        except Exception as error:  # noqa: BLE001 - the supervisor starts another
            log.error("process_failed", error=work.without_data(error))  # noqa: TRY400
            sys.exit(1)

    def _receive(self, slot: int) -> None:
        settings = self._settings
        ledger = Ledger(settings.database_url)
        spool = Spool(settings.storage.folder / "spool")
        receiver = Receiver(
            settings.dicom,
            settings.storage,
            ledger=ledger,
            spool=spool,
            committer=self._committer(ledger, spool),
            tls=settings.tls,
            reply_to=partial(reply_to, settings),
        )
        receiver.start()
        log.info("listening", ae_title=settings.dicom.ae_title, port=settings.dicom.port)
        while not self._shared.stopped():
            self._shared.beat(slot)
            time.sleep(0.1)
        receiver.stop(_SHUTDOWN)

    def _committer(self, ledger: Ledger, spool: Spool) -> Committer:
        settings = self._settings
        store = ModelStore(settings.storage.folder / "models", ledger)

        live = Live(settings, ledger)

        def plan() -> PinnedPlan:
            models = store.speaking() if live.now().models.speak else ()
            made = Plan.of(settings, models=models)
            return PinnedPlan(made.text, made.digest)

        def ring(count: int) -> None:
            for _ in range(count):
                self._shared.work.release()

        return Committer(ledger, spool, plan, ring)

    def _work(self, slot: int) -> None:
        def wait(seconds: float) -> None:
            self._shared.beat(slot)
            self._shared.work.acquire(timeout=seconds)

        def busy_since(moment: float) -> None:
            self._shared.beat(slot)
            self._shared.busy[slot] = moment

        signals = work.Signals(
            wait=wait,
            busy_since=busy_since,
            reported=self._shared.deliveries.release,
            stopping=self._shared.stopped,
        )
        work.run(self._settings, self._names[slot], signals)

    def _shadow(self, _slot: int) -> None:
        shadow.run(self._settings, time.sleep, self._shared.stopped)

    def _send(self, slot: int) -> None:
        settings = self._settings
        spool = Spool(settings.storage.folder / "spool")
        threads = []
        promiser = Promiser(
            settings, ledger=Ledger(settings.database_url), spool=spool, clock=time.time
        )
        live = Live(settings, Ledger(settings.database_url))
        runs: list[Callable[..., None]] = [
            partial(self._courier(item, spool).run, held=partial(_held, live, item.name))
            for item in settings.outlets
        ]
        for run in (promiser.run, *runs):
            bell = threading.Semaphore(0)
            threads.append((_thread(run, self._shared.stopped, bell), bell))
        while not self._shared.stopped() and all(thread.is_alive() for thread, _ in threads):
            self._shared.beat(slot)
            if self._shared.deliveries.acquire(timeout=0.5):
                for _, bell in threads:
                    bell.release()
        if self._shared.stopped():
            for thread, _ in threads:
                thread.join()

    def _courier(self, destination: AnyDestination | Hl7 | Fhir, spool: Spool) -> Courier:
        settings = self._settings
        ledger = Ledger(settings.database_url)
        if isinstance(destination, WebDestination):
            return WebSender(destination, ledger=ledger, spool=spool, clock=time.time)
        if isinstance(destination, Fhir):
            return FhirSender(destination, ledger=ledger, spool=spool, clock=time.time)
        secure = tls.caller(settings.tls, destination)
        if isinstance(destination, Hl7):
            return MllpSender(
                destination, ledger=ledger, spool=spool, clock=time.time, secure=secure
            )
        return Sender(
            destination,
            settings.dicom.ae_title,
            secure=secure,
            ledger=ledger,
            spool=spool,
            clock=time.time,
        )

    def _manage(self, slot: int) -> None:
        settings = self._settings
        health = ops.Health(settings, Ledger(settings.database_url), self._silent)
        server = uvicorn.Server(
            uvicorn.Config(
                ops.application(health, self._doors(health.ledger)),
                host=settings.ops.host,
                port=settings.ops.port,
                log_config=None,
                access_log=False,
            )
        )
        threading.Thread(target=server.run, daemon=True).start()
        ended = threading.Event()
        keep = partial(retention.run, settings, self._shared.stopped, ended.wait)
        threading.Thread(target=keep, daemon=True).start()
        while not self._shared.stopped():
            self._shared.beat(slot)
            time.sleep(0.1)
        ended.set()
        server.should_exit = True

    def _doors(self, ledger: Ledger) -> list[Route]:
        """Return the routes by which objects come in over HTTP: none where that is off."""
        settings = self._settings
        if not settings.stow.enabled:
            return []
        spool = Spool(settings.storage.folder / "spool")
        committer = self._committer(ledger, spool)
        intake = Intake(settings.storage, ledger=ledger, spool=spool, committer=committer)
        return stow.routes(settings, intake)


def _held(live: Live, name: str) -> bool:
    """Return whether a destination is switched off."""
    return any(item.name == name and not item.active for item in live.now().outlets)


def _thread(
    run: Callable[..., None], stopping: Callable[[], bool], bell: threading.Semaphore
) -> threading.Thread:
    """Start and return the thread of one destination."""

    def wait(seconds: float) -> None:
        bell.acquire(timeout=seconds)

    thread = threading.Thread(target=run, args=(stopping, wait), daemon=True)
    thread.start()
    return thread


def _die_with(lifeline: int) -> None:
    """End this process at once when the supervisor is gone."""
    os.read(lifeline, 1)
    os._exit(1)


@contextmanager
def _starting() -> Iterator[None]:
    """Say in a sentence what keeps the node from starting."""
    try:
        yield
    except SQLAlchemyError as error:
        raise CannotStart(f"the ledger cannot be opened ({type(error).__name__})") from None
    except (SchemaMismatch, ModelRejected, OSError) as error:
        raise CannotStart(str(error)) from None


def _take(descriptor: int, folder: Path) -> None:
    end = time.monotonic() + _LOCK_WAIT
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                raise CannotStart(f"another node uses the data folder {folder}") from None
            time.sleep(0.05)
        else:
            return


def _probe_ports(settings: Settings) -> None:
    """Say in a sentence which port or certificate cannot be used."""
    if settings.dicom.plain:
        _probe("DICOM", settings.dicom.host, settings.dicom.port)
    if settings.tls.enabled:
        _probe("TLS", settings.dicom.host, settings.tls.port)
        try:
            tls.server(settings.tls)
        except OSError as error:
            raise CannotStart(f"the TLS files cannot be used ({tls.describe(error)})") from None
    _probe("management", settings.ops.host, settings.ops.port)


def _probe(what: str, host: str, port: int) -> None:
    """Bind the port for a moment, so that a taken one is a sentence and no dead process."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise CannotStart(
                f"the {what} port {host}:{port} cannot be opened ({error.strerror}); "
                "choose another in the settings"
            ) from None


def serve(
    settings: Settings, parent: int | None = None, companions: Sequence[Companion] = ()
) -> int:
    """Run the node until it is told to stop, or `parent` is gone; return the exit status."""
    logs.configure(settings.log)
    return Supervisor(settings, parent, companions).run()
