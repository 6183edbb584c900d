import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import tiny_model
from playwright.sync_api import sync_playwright
from support import need_file

from analysis.card import Label
from training import figures
from training.convert import Parity
from training.epochs import Epoch
from training.evaluate import Evaluation, compare, evaluate
from training.figures import CurvePoint, curve_table, learning_curve
from training.gate import Separation, judge
from training.intervals import Interval
from training.plan import Plan, Task
from training.report_html import write_report
from training.splits import Split

KEYS = ("atrial_fibrillation", "lbbb", "normal")
PATIENTS = [f"PSEUDONYM-{number // 2}" for number in range(120)]
GROUPS = {"sex": ["F", "M"] * 60, "device": ["cart <1>", "cart $2", "cart 心電"] * 40}
EPOCHS = [
    Epoch(
        number=number,
        train_loss=1 / number,
        validation_loss=1.1 / number,
        metric=1 - 1 / number,
        learning_rate=1e-3,
        seconds=3.0,
    )
    for number in range(1, 4)
]
APART = Separation(
    learned_patients=9,
    tested_patients=60,
    shared_patients=0,
    shared_recordings=0,
    learned="a" * 64,
    tested="b" * 64,
)


def answers(keys: int = 3) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    probabilities = random.random((120, keys))
    return probabilities, (random.random(probabilities.shape) < probabilities).astype(float)


def evaluated(task: Task = Task.MULTI_LABEL) -> Evaluation:
    probabilities, truths = answers()
    common = {"patients": PATIENTS, "groups": GROUPS, "resamples": 20, "task": task}
    if task is Task.REGRESSION:
        return evaluate(probabilities[:, :1] + 1, truths[:, :1], keys=["age"], **common)
    if task is Task.MULTI_CLASS:
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        truths = np.eye(3)[np.arange(120) % 3]
        return evaluate(probabilities, truths, keys=KEYS, **common)
    return evaluate(probabilities, truths, keys=KEYS, thresholds=(0.5,) * 3, **common)


def plan(evaluation: Evaluation, **changes: object) -> Plan:
    keys = tuple(item.key for item in evaluation.keys)
    values = {"name": "Our ward", "keys": keys, "task": evaluation.task} | changes
    return Plan(**values)  # type: ignore[arg-type]


def report(folder: Path, evaluation: Evaluation | None = None, **options: object) -> Path:
    found = evaluation or evaluated()
    parity = Parity(records=256, difference=1e-6, flipped=0)
    given = {
        "plan": plan(found),
        "evaluation": found,
        "verdict": judge(found, parity=parity, self_test=True, separation=APART),
    }
    return write_report(folder, **given | options)  # type: ignore[arg-type]


def full(folder: Path) -> Path:
    """Write a report of everything that there can be."""
    probabilities, truths = answers()
    difference = compare(
        probabilities, probabilities[::-1], truths, keys=KEYS, patients=PATIENTS, resamples=20
    )
    return report(
        folder,
        split=Split(train=("a",), test=("b", "c"), seed=0, warnings=("Few have it.",)),
        epochs=EPOCHS,
        difference=difference,
        card=tiny_model.card(labels=tuple(Label.of(key, 0.5) for key in KEYS)),
        curve=curve(),
        notes=["Two files were missing."],
    )


def curve() -> list[CurvePoint]:
    return [
        CurvePoint(series=name, count=count, figure=Interval(value=0.7, low=0.6, high=0.8))
        for name in ("pretrained", "scratch")
        for count in (10, 25, 50)
    ] + [CurvePoint(series="scratch", count=100, figure=Interval(reason="too few"))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a report of everything."""
    return full(tmp_path_factory.mktemp("report")).parent


class _Tags(HTMLParser):
    """Counts what is open, and keeps ids and addresses."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.ids += [named["id"] or ""] if "id" in named else []
        for name in ("href", "xlink:href", "src", "srcset", "data"):
            self.addresses += [named[name] or ""] if name in named else []
        if tag not in ("meta", "br", "img", "link"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def parsed(page: Path) -> _Tags:
    tags = _Tags()
    tags.feed(page.read_text())
    assert tags.open == []
    return tags


def test_the_page_needs_nothing_but_itself(folder: Path) -> None:
    page = folder / "report.html"
    tags = parsed(page)
    assert all(address.startswith("#") for address in tags.addresses)
    assert {address[1:] for address in tags.addresses} <= set(tags.ids)
    assert len(set(tags.ids)) == len(tags.ids)
    text = page.read_text()
    assert "<script" not in text
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)


def test_the_page_says_the_verdict_first_and_all_that_led_to_it(folder: Path) -> None:
    text = (folder / "report.html").read_text()
    assert "Research use" in text
    heads = re.findall(r"<h2[^>]*>([^<]+)", text)
    assert heads == ["The gate", "Judgement", "Subgroups", "How it was made", "Use and limits"]
    assert text.index("The gate lets it pass") < text.index("<h2")
    for said in (
        "Left bundle branch block",
        "Against the current model",
        "What more examples are worth",
        "Two files were missing.",
        "Few have it.",
        "train 1, test 2; by patient",
        "cart &lt;1&gt;",
    ):
        assert said in text
    assert re.search(r"sens\. 0\.\d{3} \(0\.\d{3} to [01]\.\d{3}\)", text)


def test_nothing_in_it_names_a_patient(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.suffix in {".html", ".svg", ".md"}:
            assert "PSEUDONYM" not in path.read_text()


def test_each_figure_lies_beside_it_as_svg_and_as_png(folder: Path) -> None:
    names = {path.stem for path in (folder / "figures").iterdir()}
    assert names >= {
        "findings", "roc", "precision-recall", "reliability", "difference", "subgroups",
        "learning-curve", "epochs",
    }  # fmt: skip
    for name in names:
        assert ET.parse(folder / "figures" / f"{name}.svg").getroot().tag.endswith("svg")
        assert (folder / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_the_card_is_written_with_its_figures(folder: Path) -> None:
    text = (folder / "CARD.md").read_text()
    assert text.startswith("# Tiny 1\n")
    for part in ("Research use", "## Results", "## Subgroups", "## Gate", "## Training data"):
        assert part in text
    shown = re.findall(r"!\[[^]]+\]\(([^)]+)\)", text)
    assert shown
    assert all((folder / path).is_file() for path in shown)
    rows = [line for line in text.splitlines() if line.startswith("| Left bundle")]
    assert len(rows) == 1
    assert "0.500" in rows[0]


def test_the_same_run_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    full(tmp_path)
    for path in folder.rglob("*.*"):
        assert (tmp_path / path.relative_to(folder)).read_bytes() == path.read_bytes(), path


@pytest.mark.parametrize("task", [Task.MULTI_CLASS, Task.REGRESSION])
def test_classes_and_numbers_have_a_report_too(task: Task, tmp_path: Path) -> None:
    page = report(tmp_path, evaluated(task))
    parsed(page)
    names = {path.stem for path in (tmp_path / "figures").iterdir()}
    assert ("confusion" if task is Task.MULTI_CLASS else "pairs") in names
    assert "Research use" in (tmp_path / "CARD.md").read_text()


def test_what_cannot_be_judged_still_has_a_report_that_says_so(tmp_path: Path) -> None:
    probabilities, truths = answers()
    few = evaluate(probabilities[:3], truths[:3], keys=KEYS, patients=["a", "b", "c"], resamples=5)
    page = report(tmp_path, few, verdict=judge(few))
    parsed(page)
    text = page.read_text()
    assert "The gate refuses it" in text
    assert "There are too few patients to judge anything." in text


def test_a_plan_of_hostile_names_and_paths_is_shown_as_text_and_without_the_path(
    tmp_path: Path,
) -> None:
    found = evaluated()
    page = report(
        tmp_path,
        found,
        plan=plan(found, name="<script>alert(1)</script>", base="/home/anna/secret/net.onnx"),
    )
    text = page.read_text()
    assert "<script" not in text
    assert "anna" not in text
    assert "net.onnx" in text


def test_many_findings_and_parts_are_drawn_up_to_a_bound_that_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(figures, "PANELS", 2)
    monkeypatch.setattr(figures, "ROWS", 3)
    drawn = {drawing.name: drawing for drawing in figures.drawings(evaluated())}
    assert "the 2 most frequent of 3 findings" in drawn["roc"].caption
    assert "the 3 largest of 5 parts" in drawn["subgroups"].caption
    assert len(drawn["subgroups"].figure.axes[0].get_yticklabels()) == 4


def test_a_name_of_any_length_leaves_room_for_the_figure() -> None:
    found = evaluated()
    part = replace(found.subgroups[0], name="a cart of a very long name " * 20)
    for drawing in figures.drawings(replace(found, subgroups=(part,))):
        assert drawing.figure.axes[0].get_position().width > 0.1


def test_a_learning_curve_is_drawn_and_tabled() -> None:
    drawing = learning_curve(curve(), "AUROC")
    assert "examples with the finding" in drawing.svg
    lines = curve_table(curve(), "AUROC").splitlines()
    assert lines[0] == "| examples | AUROC, pretrained | AUROC, scratch |"
    assert lines[2] == "| 10 | 0.700 (0.600 to 0.800) | 0.700 (0.600 to 0.800) |"
    assert lines[-1] == "| 100 | – | – |"


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 700])
def test_a_browser_shows_it_without_asking_for_anything_or_scrolling_sideways(
    folder: Path, width: int
) -> None:
    browser = need_file("/usr/bin/chromium")
    asked: list[str] = []
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(
            executable_path=browser, args=["--no-sandbox", "--disable-gpu"]
        )
        page = running.new_page(viewport={"width": width, "height": 900})
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: asked.append(message.text))
        page.goto((folder / "report.html").as_uri())
        across = page.evaluate("document.documentElement.scrollWidth")
        running.close()
    assert asked == [(folder / "report.html").as_uri()]
    assert across <= width
