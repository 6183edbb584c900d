"""The whole story in a real browser: from a file on a desk to a model that speaks, and back."""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cheroot import wsgi
from installed import simulated
from node import Node, free_port, poll
from pydicom import dcmread
from pypdf import PdfReader
from support import need_file, need_program
from tiny_model import packed
from wsgidav.wsgidav_app import WsgiDAVApp

import analysis
from analysis.ecg import ECG, STANDARD_12, Lead
from analysis.synthetic import Kind
from dicom_node import scu
from dicom_node.pacs import Pacs
from training.corpus import KEY
from training.registry import CORPUS

sync_api = pytest.importorskip("playwright.sync_api")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PASSWORD = "a long enough password"
BROWSER = "/usr/bin/chromium"
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
WIDTHS = {"desk": (1280, 800), "tablet": (1024, 768)}
HEARTS = 64
PATIENCE = 420.0
OURS = 3
"""Objects that the node makes of one ECG."""


_WIDE = """() => Math.max(document.documentElement.scrollWidth,
  ...[...document.querySelectorAll(".main-svg")].map((svg) => svg.getBoundingClientRect().right))"""


_DRAWN = """() => {
  const found = {};
  let label = null;
  for (const item of document.querySelectorAll("#paper > *")) {
    if (item.matches("text.lead")) label = item.textContent;
    if (!label || !item.matches("path.trace:not(.pulse)")) continue;
    const points = [...item.getAttribute("d").matchAll(/[ML](-?[\\d.]+) (-?[\\d.]+)/g)];
    found[label] = points.map(([, x, y]) => [Number(x), Number(y)]);
    label = null;
  }
  return found;
}"""
"""Points of each curve, mm, by the label that stands at it."""
_FAULTS = Path(__file__).with_name("accessible.js").read_text()
"""What a reader by keyboard, by ear or with weak eyes would stumble over (WCAG 2.2, AA)."""
_WORD = r'<word xMin="([\d.]+)" yMin="([\d.]+)"[^>]*>([^<]+)</word>'
MILLIMETRES_PER_POINT = 25.4 / 72


@dataclass
class House(Node):
    """A node with its companions: the admin service and the train worker."""

    admin_port: int = field(default_factory=free_port)
    shelf: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        lines = ["[admin]", f"port = {self.admin_port}"]
        if self.shelf:
            lines += ["[[exchanges]]", 'name = "sites"', f'url = "{self.shelf}"']
        with self.config.open("a") as file:
            file.write("\n".join(lines) + "\n")
        key = self.folder / "data" / CORPUS / KEY  # one that is known: the split is always the same
        key.parent.mkdir(parents=True)
        key.touch(0o600)
        key.write_bytes(bytes(32))

    def launch(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "dicom_node", "run", "-c", str(self.config)],
                env=self.environment,
                stdout=log,
                stderr=log,
            )

    def add_person(self, name: str) -> None:
        roles = ("viewer", "operator", "reviewer", "trainer", "admin")
        named = [word for role in roles for word in ("--role", role)]
        made = self.command("admin", "user", "add", name, "--password", PASSWORD, *named)
        assert made.returncode == 0, made.stderr

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.admin_port}"


@dataclass
class Walk:
    """A browser at the pages, and where its pictures go."""

    page: Any
    house: House
    pictures: Path
    seen: int = 0

    def open(self, path: str) -> None:
        self.page.goto(f"{self.house.url}{path}")

    def picture(self, name: str) -> None:
        """Keep a picture of the page at both widths."""
        self.seen += 1
        for device, (width, height) in WIDTHS.items():
            self.page.set_viewport_size({"width": width, "height": height})
            fits = poll(lambda most=width: self.wide() <= most, 10.0)
            path = self.pictures / f"{self.seen:02}-{name}-{device}.png"
            self.page.screenshot(path=path, full_page=True)
            assert fits, f"{name} is wider than {width} px"
        assert self.page.evaluate(_FAULTS) == [], name
        self.page.set_viewport_size({"width": 1280, "height": 800})

    def wide(self) -> int:
        """Return how wide the page and its widest chart are, px."""
        return int(self.page.evaluate(_WIDE))

    def sign_in(self, name: str) -> None:
        self.open("/signin")
        self.page.fill("input[name=name]", name)
        self.page.fill("input[name=password]", PASSWORD)
        self.page.click("form button.main")
        self.page.wait_for_url(f"{self.house.url}/")

    def until(self, selector: str, seconds: float = 30.0) -> Any:
        return self.page.wait_for_selector(selector, timeout=seconds * 1000)

    def again(self, path: str, text: str, seconds: float = 60.0) -> None:
        """Open a page again and again until it says something."""

        def said() -> bool:
            self.open(path)
            return text in self.page.content()

        assert poll(said, seconds, 1.0), f"{path} does not say {text!r}"


@contextmanager
def dav(folder: Path) -> Iterator[str]:
    """Run a WebDAV server; its address."""
    port = free_port()
    config = {
        "provider_mapping": {"/models": str(folder)},
        "simple_dc": {"user_mapping": {"*": True}},
        "logging": {"enable": False},
        "verbose": 0,
    }
    server = wsgi.Server(("127.0.0.1", port), WsgiDAVApp(config), numthreads=2)
    server.prepare()
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}/models/"
    finally:
        server.stop()
        thread.join(10)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = Path(os.environ.get("SINUSNODE_SCREENSHOTS", tmp_path / "screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def pacs() -> Iterator[Pacs]:
    with Pacs(free_port()) as made:
        yield made


@contextmanager
def walking(house: House, pictures: Path) -> Iterator[Walk]:
    """Start everything and sign somebody in; no page may meet an error or leave this machine."""
    need_file(BROWSER)
    house.add_person("ada")
    try:
        house.start()
        with sync_api.sync_playwright() as play:
            browser = play.chromium.launch(executable_path=BROWSER, args=ARGUMENTS)
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            page.set_default_timeout(60_000)
            faults: list[str] = []
            page.on("pageerror", lambda error: faults.append(str(error)))
            page.on(
                "request",
                lambda asked: (
                    faults.append(asked.url)
                    if not asked.url.startswith((house.url, "data:", "blob:"))
                    else None
                ),
            )
            walk = Walk(page, house, pictures)
            assert poll(lambda: _answers(walk), 60.0, 0.3)
            walk.sign_in("ada")
            yield walk
            browser.close()
            assert not faults
    finally:
        house.stop()


def _answers(walk: Walk) -> bool:
    try:
        walk.open("/signin")
    except sync_api.Error:
        return False
    return True


def hearts(folder: Path) -> list[Path]:
    """Write ECGs with and without atrial fibrillation, and the table that says which.

    Most patients are of one age, so that a part of the test set can be judged by itself.
    """
    folder.mkdir()
    rows = ["file_name,label,value"]
    for number in range(HEARTS):
        kind = Kind.ATRIAL_FIBRILLATION if number % 2 else Kind.SINUS
        age = "070Y" if number // 2 % 8 == 0 else "055Y"
        (folder / f"heart{number:02}.dcm").write_bytes(simulated(kind, number, PatientAge=age))
        rows.append(f"heart{number:02}.dcm,AFIB,{'present' if number % 2 else 'absent'}")
    (folder / "labels.csv").write_text("\n".join(rows))
    (folder / "letter.dcm").write_text("Dear colleague, the ECG is in the post.")
    return sorted(folder.iterdir())


def upload(walk: Walk, files: list[Path]) -> None:
    walk.open("/upload")
    walk.page.set_input_files("#files", files)
    walk.until("#message.fine", 120)


def send(walk: Walk, pacs: Pacs, folder: Path, number: int) -> str:
    """Send an ECG as a cart does; return the text of what the PACS got for it."""
    path = folder / f"cart{number}.dcm"
    path.write_bytes(simulated(Kind.ATRIAL_FIBRILLATION, 500 + 2 * number, PatientID="WALK-1"))
    before = len(pacs.files)
    assert [sent.status for sent in scu.send([path], walk.house.address, "CART")] == [0]
    assert pacs.wait(before + OURS, 60)
    return "".join(str(dcmread(path)) + str(item) for item in pacs.objects()[before:])


def hold_results_back(walk: Walk) -> None:
    """Switch the destination off and on again."""
    walk.open("/system")
    walk.page.click("tr:has-text('PACS') button:text-is('Switch off')")
    walk.until("tr:has-text('PACS') .state:text-is('off')")
    walk.page.click("tr:has-text('PACS') button:text-is('Switch on')")
    walk.until("tr:has-text('PACS') button:text-is('Switch off')")


def look_at_one(walk: Walk) -> None:
    """Open the first uploaded ECG and every view of it."""
    walk.page.click("#outcomes tr[data-href] a")
    walk.until("#ecg[data-ready=true]")
    walk.picture("ecg")
    print_to_scale(walk)
    for key, name in (("2", "ecg-rows"), ("3", "ecg-medians"), ("4", "ecg-aligned")):
        walk.page.keyboard.press(key)
        walk.picture(name)
    for key in ("1", "f", "c", "r", "ArrowRight"):
        walk.page.keyboard.press(key)
    assert " ms" in walk.page.inner_text("#readings")
    walk.picture("ecg-calipers")
    walk.page.keyboard.press("Escape")


def print_to_scale(walk: Walk) -> None:
    """Print both layouts: each is one sheet, and a ruler laid on it is right."""
    need_program("pdftotext")
    for key, (first, last), apart in (
        ("1", ("I", "V1"), (2 * 62.5, 0.0)),
        ("2", ("I", "V6"), (0.0, 11 * 12.0)),
    ):
        walk.page.keyboard.press(key)
        file = walk.pictures / f"print-{key}.pdf"
        walk.page.pdf(path=file, prefer_css_page_size=True)
        assert len(PdfReader(file).pages) == 1
        said = subprocess.run(["pdftotext", "-bbox", file, "-"], check=True, capture_output=True)
        at = {
            word: np.array([float(x), float(y)]) * MILLIMETRES_PER_POINT
            for x, y, word in re.findall(_WORD, said.stdout.decode())
        }
        assert at[last] - at[first] == pytest.approx(np.array(apart), abs=0.2)
        assert {"mm/s", "10", "Unverified"} <= at.keys()
    walk.page.keyboard.press("1")


def correct_a_label(walk: Walk) -> None:
    """Say what the program did not, find it again, and go on to the next ECG."""
    page = walk.page
    page.fill("form[data-label=more] input[name=key]", "low_voltage")
    page.click("form[data-label=more] button[value=absent]")
    walk.until("form[data-label=more] output:has-text('Kept')")
    page.keyboard.press("Escape")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("j")
    page.keyboard.press("a")
    walk.until("[data-finding] output:has-text('Kept: present.')")
    page.reload()
    assert "Low QRS voltage: absent" in page.inner_text("[aria-label=Notes]")
    walk.until("#ecg[data-ready=true]")
    walk.picture("ecg-labelled")
    here = page.url
    page.keyboard.press("ArrowRight")
    page.wait_for_url(lambda url: url != here)


def ask_for(walk: Walk, name: str) -> None:
    """Fill in a plan that is short, and learns all the same."""
    page = walk.page
    page.fill("[data-plan=name]", name)
    page.check("input[value=atrial_fibrillation]")
    page.select_option("[data-plan=base]", "xceptiontime")
    assert page.input_value("[data-plan=mode]") == "scratch"
    page.fill("[data-plan=epochs]", "4")
    page.click("summary:has-text('Details')")
    page.fill("[data-plan=learning_rate]", "0.01")


def learn(walk: Walk, name: str) -> None:
    """Start a short run, follow it to its end, and read its report and its verdict."""
    page = walk.page
    walk.open("/training")
    ask_for(walk, name)
    walk.picture("training-form")
    page.click("button:has-text('Start the run')")
    page.wait_for_url(f"{walk.house.url}/training/1")
    walk.until("#run-state:not([data-state=QUEUED]):not([data-state=RUNNING])", PATIENCE)
    assert page.get_attribute("#run-state", "data-state") == "DONE", page.inner_text("#run")
    walk.until("#loss .main-svg")
    walk.picture("run")
    assert "The promotion gate: passed" in page.inner_text("#run")
    with page.expect_popup() as opened:
        page.click("a:has-text('Read the report')")
    report = opened.value
    report.wait_for_load_state()
    assert name in report.content()
    report.screenshot(path=walk.pictures / "90-report.png", full_page=True)
    report.close()


def test_from_an_upload_to_a_model_that_speaks_and_back(
    tmp_path: Path, pictures: Path, pacs: Pacs
) -> None:
    house = House(tmp_path / "house", {"PACS": pacs.port}, overrides={"WORK__WORKERS": "1"})
    with walking(house, pictures) as walk:
        page = walk.page
        page.on("dialog", lambda dialog: dialog.accept("The story of the walk."))
        assert "twelve-lead" in send(walk, pacs, tmp_path, 0)
        walk.again("/", 'data-href="/ecg/1"')
        walk.picture("live")
        hold_results_back(walk)

        upload(walk, hearts(tmp_path / "hearts"))
        assert "no encoding of an ECG" in page.inner_text("#outcomes")
        walk.picture("upload")
        look_at_one(walk)
        correct_a_label(walk)
        learn(walk, "walked")

        page.click("a:has-text('The candidate model')")
        walk.until("h1 .state:has-text('candidate')")
        walk.picture("candidate")
        candidate = page.url.removeprefix(walk.house.url)
        page.click("button:has-text('Let it shadow')")
        walk.until("h1 .state:has-text('shadow')")
        assert "walked" not in send(walk, pacs, tmp_path, 1)
        walk.again(candidate, " read by both", 120)
        walk.picture("shadow")

        page.click("button.main:text-is('Promote')")  # no objection, so that no reason is asked
        walk.until("h1 .state:has-text('current')")
        walk.again("/models", "New ECGs are read by <b>walked", 60)
        walk.picture("promoted")
        assert "walked" in send(walk, pacs, tmp_path, 2)
        walk.again("/", 'data-href="/ecg/3"')
        walk.open("/ecg/3")
        assert "Model walked" in page.inner_text("[aria-label=Findings]")
        walk.until("#ecg[data-ready=true]")
        page.keyboard.press("5")
        assert page.locator("#paper-before path.trace").count() > 12
        walk.picture("ecg-with-previous")

        walk.open("/models")
        page.click("button:has-text('Roll back')")
        walk.again("/models", "New ECGs are read by <b>Sinusnode twelve-lead", 60)
        walk.picture("rolled-back")
        assert "walked" not in send(walk, pacs, tmp_path, 3)


def tuned(path: Path) -> Path:
    """Write an ECG whose leads, in an odd order, each have a frequency of their own: 1 mV each."""
    leads = tuple(reversed(STANDARD_12))
    seconds = np.arange(5000) / 500.0
    rows = [np.sin(2 * np.pi * _tune(lead) * seconds) for lead in leads]
    ecg = ECG(signal=np.array(rows, np.float32), leads=leads, sampling_frequency=500.0)
    analysis.write(analysis.Recording(ecg=ecg, format="tuned"), path)
    return path


def _tune(lead: Lead) -> float:
    return 1.0 + STANDARD_12.index(lead) / 2


def drop_a_letter(walk: Walk) -> None:
    """Drop a file that is no ECG, and read why it is refused."""
    walk.open("/upload")
    dropped = walk.page.evaluate_handle(
        """() => {
          const carried = new DataTransfer();
          carried.items.add(new File(["Dear colleague"], "letter.dcm"));
          return carried;
        }"""
    )
    walk.page.dispatch_event("#drop", "drop", {"dataTransfer": dropped})
    walk.until("#outcomes :has-text('The bytes are no encoding of an ECG')")


def hold_a_ruler_to_the_paper(walk: Walk, folder: Path) -> None:
    """Measure every curve of an ECG of known leads: whose it is, and whether it is to scale."""
    upload(walk, [tuned(folder / "tuned.npz")])
    walk.page.click("#outcomes tr[data-href] a")
    walk.until("#ecg[data-ready=true]")
    walk.page.keyboard.press("2")
    drawn = {lead: np.array(points) for lead, points in walk.page.evaluate(_DRAWN).items()}
    assert list(drawn) == [str(lead) for lead in STANDARD_12]
    for lead in STANDARD_12:
        x, y = drawn[lead].T
        crossings = np.count_nonzero(np.diff(np.signbit(y - (y.max() + y.min()) / 2)))
        assert crossings == pytest.approx(20 * _tune(lead), abs=1.5), lead
        assert np.ptp(y) == pytest.approx(20.0, abs=0.1)  # 2 mV at 10 mm/mV
        assert np.ptp(x) == pytest.approx(250.0, abs=0.1)  # 10 s at 25 mm/s
    box = walk.page.locator("#paper").bounding_box()
    assert box["width"] == pytest.approx(260 * 96 / 25.4, abs=3)  # CSS: 96 px are an inch
    walk.picture("paper")


def change_a_setting(walk: Walk) -> None:
    """Change what drift is worth a sentence, see who did it, and let the file count again."""
    page = walk.page
    row = "tr:has(td:text-is('drift.share'))"
    for button, value, said in (("Change", "0.2", "ada"), ("Let the file", "0.2", "–")):
        page.click("summary:has-text('Change one')")
        page.select_option("#change-setting [name=key]", "drift.share")
        page.fill("#change-setting [name=value]", value)
        page.fill("#change-setting [name=reason]", "Another ward joined.")
        with page.expect_navigation():
            page.click(f"#change-setting button:has-text('{button}')")
        walk.until(f"{row} td:nth-child(5):has-text('{said}')")


def look_at_the_rest(walk: Walk) -> None:
    """Open the corpus, its charts, a model's curve on it, and the system with its audit chain."""
    walk.open("/recordings")
    walk.picture("recordings")
    walk.open("/datasets")
    walk.until("#quality .main-svg")
    walk.page.click("#judge button")
    walk.until("#roc .main-svg", 120)
    walk.picture("data-sets")
    walk.open("/system")
    walk.page.click("#verify")
    walk.until("output:has-text('the chain holds')")
    walk.picture("system")
    change_a_setting(walk)


def keep_a_schedule(walk: Walk) -> None:
    """Add a schedule, pause it, and remove it again."""
    page = walk.page
    walk.open("/schedule")
    page.fill("input[name=schedule_name]", "Mondays")
    page.fill("input[name=new_labelled]", "100")
    page.fill("input[name=window]", "20:00-06:00")
    page.check("input[value=atrial_fibrillation]")
    page.click("button:has-text('Add the schedule')")
    walk.until("td:has-text('Mondays')")
    assert "of 100 new labelled ECGs" in page.content()
    walk.picture("schedule")
    page.click("button:has-text('Pause')")
    walk.until("button:has-text('Go on')")
    page.click("button:has-text('Remove')")
    walk.until("p:has-text('There is none yet.')")


def schedule_the_next_minute(walk: Walk) -> None:
    """Add a schedule that comes due within some twenty to eighty seconds."""
    walk.open("/schedule")
    soon = datetime.now().astimezone() + timedelta(seconds=80)
    walk.page.fill("input[name=schedule_name]", "Soon")
    walk.page.fill("input[name=cron]", f"{soon.minute} {soon.hour} * * *")
    ask_for(walk, "routine")
    walk.page.click("button:has-text('Add the schedule')")
    walk.until("td:has-text('Soon')")


def see_what_it_made(walk: Walk) -> None:
    """Find the run of the schedule, the notice of it, and its candidate in shadow."""
    page = walk.page
    walk.again("/schedule", '<span class="state good">DONE</span>', PATIENCE)
    walk.picture("schedule-ran")
    page.click("td a[href='/training/1']")
    said = page.inner_text("#run")
    assert "by schedule 1 at" in said
    assert "it passes the gate" in said
    assert "It shadows from the next ECG on." in said
    page.evaluate("sessionStorage.clear()")
    page.reload()
    walk.until("#waiting:not(.hidden)")
    page.click("#waiting summary")
    walk.until("#waiting a:has-text('It shadows from the next ECG on.')")
    walk.picture("notice")
    walk.open("/models")
    assert "shadow" in page.inner_text("tr:has-text('routine')")


def exchange_models(walk: Walk, shelf: Path) -> None:
    """Push the model in service, and pull one that another site left."""
    page = walk.page
    (shelf / "tiny.onnx").write_bytes(packed())
    walk.open("/models")
    page.click("button:has-text('Push')")
    walk.until("#message.fine")
    walk.until("[data-list=sites] td:has-text('installed')")
    assert len(list(shelf.rglob("*.onnx"))) == 2
    walk.picture("exchange")
    page.click("[data-list=sites] tr:has-text('installed') button:has-text('Verify')")
    walk.until("#message:has-text('what its description says')")
    page.click("[data-list=sites] tr:has-text('tiny.onnx') button:has-text('Pull')")
    page.wait_for_url("**/models/*", timeout=120_000)  # it is examined in a process of its own
    walk.until("h1:has-text('Tiny 1')")
    assert "It has no verdict of the promotion gate." in page.inner_text("main")
    walk.picture("pulled")


def test_schedule_that_comes_due_and_models_that_travel(tmp_path: Path, pictures: Path) -> None:
    folder = tmp_path / "shelf"
    folder.mkdir()
    overrides = {"WORK__WORKERS": "1"}
    with dav(folder) as shelf:
        house = House(tmp_path / "house", overrides=overrides, shelf=shelf)
        with walking(house, pictures) as walk:
            walk.seen = 40
            walk.page.on("dialog", lambda dialog: dialog.accept())
            upload(walk, hearts(tmp_path / "hearts"))
            keep_a_schedule(walk)
            schedule_the_next_minute(walk)
            drop_a_letter(walk)
            hold_a_ruler_to_the_paper(walk, tmp_path)
            exchange_models(walk, folder)
            look_at_the_rest(walk)
            see_what_it_made(walk)
