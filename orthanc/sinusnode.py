"""Sinusnode in Orthanc: every new ECG goes to the node once, whatever crashes in between.

Orthanc's own log of changes is the queue's source: an instance stands in it from the moment it
is stored, so nothing is missed between two breaths, or while the plugin was not loaded. What
was seen and what is still to be sent stands in a small SQLite file beside Orthanc's index.

Runs in Orthanc's interpreter: system Python, standard library only. Settings stand in
orthanc.json under "Sinusnode" (see README.md).
"""

import html
import json
import random
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orthanc

Tags = dict[str, Any]

DEFAULTS: Tags = {
    "Modality": "sinusnode",  # its name under DicomModalities
    "StorageCommitment": False,  # ask the node to confirm what it took
    "MaximumAttempts": 1000,  # then the ECG counts as failed, visibly
    "LongestPause": 300,  # seconds between two attempts
    "SendPast": False,  # also what was stored before the first start
}

WAVEFORMS = {
    "1.2.840.10008.5.1.4.1.1.9.1.1": "12-lead ECG",
    "1.2.840.10008.5.1.4.1.1.9.1.2": "General ECG",
    "1.2.840.10008.5.1.4.1.1.9.1.3": "Ambulatory ECG",
    "1.2.840.10008.5.1.4.1.1.9.1.4": "General 32-bit ECG",
}
REPORT = "1.2.840.10008.5.1.4.1.1.88.33"
PAGE = "1.2.840.10008.5.1.4.1.1.104.1"
PRODUCT = "sinusnode"

WAITING, ASKED, FAILED = "waiting", "asked", "failed"
BATCH = 100
COMMITMENT_WAIT = 60.0  # seconds for the node's word before the ECG is sent again
IDLE = 5.0  # seconds between two looks at the queue when nothing rings

SCHEMA = """
CREATE TABLE IF NOT EXISTS cursor (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS queue (
    instance TEXT PRIMARY KEY,
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    due REAL NOT NULL DEFAULT 0,
    commitment TEXT,
    error TEXT NOT NULL DEFAULT ''
);
"""


def ask(path: str) -> Any:
    """Return the JSON that Orthanc's REST API answers to GET."""
    return json.loads(orthanc.RestApiGet(path))


def tell(path: str, document: Any) -> Any:
    """Return the JSON that Orthanc's REST API answers to POST."""
    return json.loads(orthanc.RestApiPost(path, json.dumps(document)) or "null")


class Queue:
    """What is still to be sent, durable in one SQLite file.

    Parameters
    ----------
    path
        The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        with self.open() as database:
            database.executescript(SCHEMA)

    @contextmanager
    def open(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection whose work is committed together."""
        database = sqlite3.connect(self.path, timeout=30)
        try:
            with database:
                yield database
        finally:
            database.close()

    def cursor(self) -> int | None:
        """Return the sequence number of the last change that was looked at, or None."""
        with self.open() as database:
            row = database.execute("SELECT value FROM cursor WHERE name = 'changes'").fetchone()
        return row and row[0]

    def advance(self, value: int, instances: Iterable[str] = ()) -> None:
        """Add instances and remember how far the changes were read, in one transaction."""
        with self.open() as database:
            database.executemany(
                "INSERT OR IGNORE INTO queue (instance, state) VALUES (?, ?)",
                [(instance, WAITING) for instance in instances],
            )
            database.execute("INSERT OR REPLACE INTO cursor VALUES ('changes', ?)", (value,))

    def again(self, instances: Iterable[str]) -> None:
        """Put instances at the head of the queue, whatever became of them before."""
        with self.open() as database:
            database.executemany(
                "INSERT OR REPLACE INTO queue (instance, state) VALUES (?, ?)",
                [(instance, WAITING) for instance in instances],
            )

    def due(self, now: float) -> list[Any]:
        """Return the rows to look at now."""
        with self.open() as database:
            return database.execute(
                "SELECT instance, state, attempts, commitment FROM queue"
                " WHERE state != ? AND due <= ? ORDER BY due, rowid LIMIT ?",
                (FAILED, now, BATCH),
            ).fetchall()

    def asked(self, instance: str, commitment: str, due: float) -> None:
        """Remember that the node has the instance and was asked to confirm it."""
        with self.open() as database:
            database.execute(
                "UPDATE queue SET state = ?, commitment = ?, due = ?, error = ''"
                " WHERE instance = ?",
                (ASKED, commitment, due, instance),
            )

    def later(
        self, instance: str, attempts: int, due: float, error: str, state: str = WAITING
    ) -> None:
        """Remember why an attempt failed, and when the next is due."""
        with self.open() as database:
            database.execute(
                "UPDATE queue SET state = ?, attempts = ?, due = ?, error = ?,"
                " commitment = NULL WHERE instance = ?",
                (state, attempts, due, error[:200], instance),
            )

    def done(self, instance: str) -> None:
        """Forget an instance."""
        with self.open() as database:
            database.execute("DELETE FROM queue WHERE instance = ?", (instance,))

    def counts(self) -> dict[str, int]:
        """Return how many instances stand in each state."""
        with self.open() as database:
            return dict(database.execute("SELECT state, count(*) FROM queue GROUP BY state"))

    def states(self, instances: set[str]) -> dict[str, tuple[str, int, str]]:
        """Return state, attempts and error of each instance that is in the queue."""
        with self.open() as database:
            rows = database.execute("SELECT instance, state, attempts, error FROM queue")
            return {row[0]: row[1:] for row in rows if row[0] in instances}


class Courier(threading.Thread):
    """The one thread that reads the changes and sends what is due."""

    def __init__(self, queue: "Queue", settings: Tags) -> None:
        super().__init__(name="sinusnode", daemon=True)
        self.queue = queue
        self.settings = settings
        self.bell = threading.Event()
        self.first_asked: dict[str, float] = {}
        self.ended = threading.Event()

    def run(self) -> None:
        """Work until Orthanc stops; no fault ends the thread."""
        while not self.ended.is_set():
            self.bell.clear()
            try:
                self.read_changes()
                self.send_due()
            except Exception as error:  # noqa: BLE001 - whatever it was, the queue stays
                orthanc.LogError("sinusnode: " + describe(error))
            self.bell.wait(IDLE)

    def stop(self) -> None:
        """End the thread after what it is doing."""
        self.ended.set()
        self.bell.set()
        self.join(10)

    def read_changes(self) -> None:
        """Put every new ECG of the log of changes into the queue."""
        since = self.queue.cursor()
        if since is None:
            since = 0 if self.settings["SendPast"] else ask("/changes?last")["Last"]
            self.queue.advance(since)
        while not self.ended.is_set():
            page = ask(f"/changes?since={since}&limit={BATCH}")
            new = [item["ID"] for item in page["Changes"] if item["ChangeType"] == "NewInstance"]
            since = page["Last"]
            self.queue.advance(since, [instance for instance in new if is_wanted(instance)])
            if page["Done"]:
                return

    def send_due(self) -> None:
        """Send what is waiting, and hear what became of what was sent."""
        for instance, state, attempts, commitment in self.queue.due(time.time()):
            if self.ended.is_set():
                return
            try:
                if state == ASKED:
                    self.hear(instance, attempts, commitment)
                else:
                    self.send(instance, attempts)
            except Exception as error:  # noqa: BLE001 - one instance must not stop the others
                self.failed(instance, attempts, describe(error))

    def send(self, instance: str, attempts: int) -> None:
        """Store one instance at the node; done only when the node has answered."""
        if not exists(instance):
            self.queue.done(instance)
            return
        commits = self.settings["StorageCommitment"]
        answer = tell(
            f"/modalities/{self.settings['Modality']}/store",
            {"Resources": [instance], "Synchronous": True, "StorageCommitment": commits},
        )
        commitment = answer.get("StorageCommitmentTransactionUID")
        if commits and commitment:
            self.queue.asked(instance, commitment, time.time() + 1)
            self.hear(instance, attempts, commitment)
        else:
            self.queue.done(instance)

    def hear(self, instance: str, attempts: int, commitment: str) -> None:
        """Look whether the node has confirmed what it took."""
        status = ask(f"/storage-commitment/{commitment}")["Status"]
        if status == "Success":
            self.queue.done(instance)
        elif status == "Failure":
            self.failed(instance, attempts, "the node did not commit to the instance")
        else:
            self.wait(instance, attempts, commitment)

    def wait(self, instance: str, attempts: int, commitment: str) -> None:
        """Ask again soon; without a word for long, send the instance once more."""
        started = self.first_asked.setdefault(commitment, time.time())
        if time.time() - started > COMMITMENT_WAIT:
            self.first_asked.pop(commitment)
            self.failed(instance, attempts, "the node did not answer the storage commitment")
        else:
            self.queue.asked(instance, commitment, time.time() + 1)

    def failed(self, instance: str, attempts: int, error: str) -> None:
        """Try again later, or give up after many attempts."""
        attempts += 1
        if attempts >= self.settings["MaximumAttempts"]:
            self.queue.later(instance, attempts, 0, error, FAILED)
            orthanc.LogError(f"sinusnode: given up {instance}: {error}")
            return
        pause = min(2 ** min(attempts, 16), self.settings["LongestPause"])
        jitter = random.uniform(0.8, 1.2)  # noqa: S311 - spreads the load, keeps no secret
        self.queue.later(instance, attempts, time.time() + jitter * pause, error)
        orthanc.LogWarning(f"sinusnode: {instance} waits {pause} s: {error}")


def describe(error: Exception) -> str:
    """Return an error of Orthanc's API in its own words; they hold no patient data."""
    words = [str(part) for part in getattr(error, "args", ()) if not isinstance(part, int)]
    return ", ".join(words) or type(error).__name__


def exists(instance: str) -> bool:
    """Return whether Orthanc still holds an instance."""
    try:
        ask(f"/instances/{instance}")
    except orthanc.OrthancException:
        return False
    return True


def sop_class(instance: str) -> str:
    """Return the SOP Class UID of an instance, without reading its file."""
    try:
        return orthanc.RestApiGet(f"/instances/{instance}/metadata/SopClassUid").decode()
    except orthanc.OrthancException:
        return ""  # deleted since


def is_wanted(instance: str) -> bool:
    """Return whether an instance is an ECG that a cart sent, and none of the node's results."""
    return sop_class(instance) in WAVEFORMS and not is_own(instance)


def is_own(instance: str) -> bool:
    """Return whether the node wrote an instance: its equipment says so."""
    try:
        tags = ask(f"/instances/{instance}/simplified-tags")
    except orthanc.OrthancException:
        return False
    equipment = [tags, *(tags.get("ContributingEquipmentSequence") or [])]
    names = (str(item.get("ManufacturerModelName") or "") for item in equipment)
    return any(name.strip(" \0").lower() == PRODUCT for name in names)


# The pages: JSON for programs, one page for people


def answer_json(output: Any, document: Any) -> None:
    """Answer with a JSON document."""
    output.AnswerBuffer(json.dumps(document, indent=2), "application/json")


def health(output: Any, uri: str, **request: Any) -> None:
    """GET /sinusnode/health: whether the node answers, and what is waiting."""
    try:
        tell(f"/modalities/{SETTINGS['Modality']}/echo", {"Timeout": 5})
        answers, error = True, ""
    except orthanc.OrthancException as problem:
        answers, error = False, describe(problem)
    counts = QUEUE.counts()
    answer_json(
        output,
        {
            "node": SETTINGS["Modality"],
            "answers": answers,
            "error": error,
            "running": COURIER.is_alive(),
            "queue": {state: counts.get(state, 0) for state in (WAITING, ASKED, FAILED)},
        },
    )


def analyze(output: Any, uri: str, **request: Any) -> None:
    """POST /sinusnode/analyze/{study}: send the ECGs of a study (again)."""
    if request["method"] != "POST":
        output.SendMethodNotAllowed("POST")
        return
    ecgs = [instance for instance in instances_of(request["groups"][0]) if is_wanted(instance)]
    QUEUE.again(ecgs)
    COURIER.bell.set()
    answer_json(output, {"study": request["groups"][0], "queued": len(ecgs)})


def retry(output: Any, uri: str, **request: Any) -> None:
    """POST /sinusnode/retry: try again what was given up."""
    if request["method"] != "POST":
        output.SendMethodNotAllowed("POST")
        return
    with QUEUE.open() as database:
        changed = database.execute(
            "UPDATE queue SET state = ?, attempts = 0, due = 0 WHERE state = ?", (WAITING, FAILED)
        ).rowcount
    COURIER.bell.set()
    answer_json(output, {"queued": changed})


def study_page(output: Any, uri: str, **request: Any) -> None:
    """GET /sinusnode/study/{study}: each ECG's state, the report's words, the page."""
    study = request["groups"][0]
    classes = {instance: sop_class(instance) for instance in instances_of(study)}
    ecgs = [item for item, uid in classes.items() if uid in WAVEFORMS and not is_own(item)]
    reports = [item for item, uid in classes.items() if uid == REPORT and is_own(item)]
    pages = [item for item, uid in classes.items() if uid == PAGE and is_own(item)]
    states = QUEUE.states(set(ecgs))
    parts = [
        state_row(item, classes[item], states.get(item), reported=bool(pages)) for item in ecgs
    ]
    parts += [report_lines(item) for item in reports]
    parts += [
        f'<iframe title="ECG page" src="../../instances/{item}/pdf"></iframe>' for item in pages
    ]
    body = "\n".join(parts) or "<p>The study holds no ECG waveform.</p>"
    output.AnswerBuffer(PAGE_TEMPLATE.replace("{body}", body), "text/html; charset=utf-8")


def state_row(
    instance: str, uid: str, state: tuple[str, int, str] | None, *, reported: bool
) -> str:
    """Return one line on what becomes of an ECG."""
    if state is None:
        words = "reported" if reported else "sent to the node; no result has come back yet"
    else:
        words = {WAITING: "waiting to be sent", ASKED: "sent", FAILED: "given up"}[state[0]]
        words += f", {state[1]} attempts" if state[1] else ""
        words += ": " + state[2] if state[2] else ""
    return f"<p>{WAVEFORMS[uid]} {instance[:8]}: <strong>{html.escape(words)}</strong></p>"


def report_lines(instance: str) -> str:
    """Return the coded and written words of a structured report as a list."""
    tags = ask(f"/instances/{instance}/simplified-tags")
    lines = [f"<li>{html.escape(line)}</li>" for line in words_of(tags)]
    return f"<ul>{''.join(lines)}</ul>"


def words_of(item: Tags) -> Iterator[str]:
    """Yield the texts, codes and numbers of an SR content tree, in its order."""
    for child in item.get("ContentSequence") or []:
        name = meaning(child.get("ConceptNameCodeSequence"))
        kind = child.get("ValueType")
        if kind == "TEXT":
            yield f"{name}: {child.get('TextValue', '')}"
        elif kind == "CODE":
            yield f"{name}: {meaning(child.get('ConceptCodeSequence'))}"
        elif kind == "NUM":
            for value in child.get("MeasuredValueSequence") or []:
                unit = meaning(value.get("MeasurementUnitsCodeSequence"), "CodeValue")
                yield f"{name}: {value.get('NumericValue', '')} {unit}"
        yield from words_of(child)


def meaning(sequence: Sequence[Tags] | None, field: str = "CodeMeaning") -> str:
    """Return what a code of one item says."""
    return str((sequence or [{}])[0].get(field, ""))


def instances_of(study: str) -> list[str]:
    """Return the instances of a study, by its Orthanc identifier."""
    return [item["ID"] for item in ask(f"/studies/{study}/instances")]


PAGE_TEMPLATE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>ECG result</title><style>
body { font: 16px/1.4 sans-serif; margin: 1.5rem; }
iframe { width: 100%; height: 80vh; border: 1px solid #888; }
ul { columns: 2 22rem; font-size: 14px; }
</style></head><body>
<h1>ECG result</h1>
<p><strong>AI result, not verified by a clinician. For research use. Not an alarm.</strong></p>
{body}
</body></html>
"""

EXPLORER = """
$('#study').live('pagebeforeshow', function () {
  if ($('#sinusnode').length || !$.mobile.pageData) { return; }
  var study = $.mobile.pageData.uuid;
  var list = $('<ul>', { id: 'sinusnode', 'data-role': 'listview', 'data-inset': 'true' });
  list.append($('<li>', { 'data-role': 'list-divider', text: 'Sinusnode' }));
  list.append($('<li>').append($('<a>', { href: '#', text: 'Show the ECG result' }).click(
    function () { window.open('../sinusnode/study/' + $.mobile.pageData.uuid); })));
  list.append($('<li>').append($('<a>', { href: '#', text: 'Analyse again' }).click(
    function () { $.post('../sinusnode/analyze/' + $.mobile.pageData.uuid, '', function (answer) {
      alert(answer.queued + ' ECG(s) queued'); }); })));
  $('#study-info').after(list);
  list.listview();
});
"""


def on_change(change: int, level: int, resource: str) -> None:
    """Wake the courier for a new instance; begin and end with Orthanc."""
    if change == orthanc.ChangeType.NEW_INSTANCE:
        COURIER.bell.set()
    elif change == orthanc.ChangeType.ORTHANC_STARTED:
        COURIER.start()
    elif change == orthanc.ChangeType.ORTHANC_STOPPED:
        COURIER.stop()


def index_folder() -> Path:
    """Return where Orthanc keeps its index; it counts from the configuration's folder."""
    base = Path(orthanc.GetConfigurationPath())
    folder = CONFIGURATION.get("IndexDirectory") or CONFIGURATION.get("StorageDirectory") or "."
    return (base if base.is_dir() else base.parent) / folder


CONFIGURATION = json.loads(orthanc.GetConfiguration())
SETTINGS = dict(DEFAULTS, **CONFIGURATION.get("Sinusnode", {}))
QUEUE = Queue(index_folder() / "sinusnode-queue.sqlite")
COURIER = Courier(QUEUE, SETTINGS)

if unknown := sorted(set(SETTINGS) - set(DEFAULTS)):
    orthanc.LogError(f"sinusnode: unknown settings are ignored: {', '.join(unknown)}")

orthanc.RegisterOnChangeCallback(on_change)
orthanc.RegisterRestCallback("/sinusnode/health", health)
orthanc.RegisterRestCallback("/sinusnode/retry", retry)
orthanc.RegisterRestCallback("/sinusnode/analyze/([0-9a-f-]+)", analyze)
orthanc.RegisterRestCallback("/sinusnode/study/([0-9a-f-]+)", study_page)
orthanc.ExtendOrthancExplorer(EXPLORER)
