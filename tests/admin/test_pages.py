"""What each reader sees on the pages, and what he must not."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from installed import Installation, cart_ecg, encoded, simulated
from office import Desk, opened
from tiny_model import packed

from analysis.synthetic import Kind
from dicom_node.settings import Role
from training.admin.pages import training
from training.admin.pages.assets import PLOTLY, STATIC
from training.admin.pages.training import Choice
from training.admin.policy import PAGES
from training.admin.tables import recordings
from training.architectures import ARCHITECTURES
from training.plan import Plan

NAME = "<b>O'Neil</b>^<script>alert(1)</script>"
WHEN = "20200212080000"
PATIENT = "642341"
SCRIPTS = Path(__file__).parents[2] / "training" / "admin" / "pages" / "static"


@dataclass
class Reader:
    """Somebody who opens pages."""

    desk: Desk
    keys: dict[tuple[Role, ...], str] = field(default_factory=dict)

    def _key(self, roles: tuple[Role, ...]) -> str:
        if roles not in self.keys:
            office = self.desk.office
            self.keys[roles] = office.accounts.add_key("reader", list(roles), office.clock())[1]
        return self.keys[roles]

    def get(self, path: str, *roles: Role) -> tuple[int, str]:
        headers = {"Authorization": f"Bearer {self._key(roles)}"} if roles else {}
        answer = self.desk.client.get(path, headers=headers, follow_redirects=False)
        return answer.status_code, answer.text


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """Return a reader of an installation with five ECGs; the third follows the second."""
    folder = tmp_path_factory.mktemp("pages")
    made = Installation(folder)
    earlier = cart_ecg(
        SOPInstanceUID="2.25.1", StudyInstanceUID="2.25.2", AcquisitionDateTime="20190212080000"
    )
    later = cart_ecg(
        SOPInstanceUID="2.25.3",
        StudyInstanceUID="2.25.4",
        AcquisitionDateTime=WHEN,
        PatientName=NAME,
        PatientSex="F",
        PatientAge="048Y",
    )
    sent = [simulated(Kind.LBBB, 1), encoded(earlier), encoded(later)]
    made.receive([*sent, simulated(Kind.NOISE, 4), b"no DICOM object at all" * 9])
    made.close()
    with opened(folder) as desk:
        yield Reader(desk)


def pages() -> list[str]:
    return [name.split(" ")[1] for name, rule in PAGES.items() if rule.roles is not None]


SAMPLES = {"{instance}": "3", "{record}": "0" * 32, "{upload}": "0" * 16, "{run}": "1"}


def address(path: str, digest: str) -> str:
    for name, value in {**SAMPLES, "{digest}": digest}.items():
        path = path.replace(name, value)
    return f"{path}?model={digest}" if path.endswith("/evaluation") else path


def model_of(reader: Reader) -> str:
    return next(
        item["digest"] for item in reader.desk.get("/models", Role.ADMIN).json if item["speaks"]
    )


def test_table_names_every_page_and_no_other() -> None:
    from training.admin.pages.routes import router  # noqa: PLC0415

    made = {f"{method} {route.path}" for route in router.routes for method in route.methods}
    assert made == set(PAGES)


@pytest.mark.parametrize("role", list(Role))
def test_each_role_opens_exactly_the_pages_of_the_table(reader: Reader, role: Role) -> None:
    digest = model_of(reader)
    for path in pages():
        status, text = reader.get(address(path, digest), role)
        assert status < 500, (path, text)
        assert (status != 403) == PAGES[f"GET {path}"].admits([role]), path


def test_every_page_says_that_it_is_research_and_nobody_has_verified_it(reader: Reader) -> None:
    for path in ("/", "/ecg/3", "/upload", "/training", "/models", "/datasets", "/system"):
        status, text = reader.get(path, *Role)
        assert status == 200, path
        assert "Research use. Unverified AI." in text


def test_pages_hold_no_script_or_style_of_their_own_and_name_no_other_origin(
    reader: Reader,
) -> None:
    digest = model_of(reader)
    for path in pages():
        _, text = reader.get(address(path, digest), *Role)
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=", text), path
        assert not re.search(r"(?:src|href)=\"(?:https?:)?//", text), path


def test_every_file_that_a_page_asks_for_is_there(reader: Reader) -> None:
    asked: set[str] = set()
    for path in ("/", "/ecg/3", "/upload", "/training", "/models", "/datasets", "/schedule",
                 "/system", "/signin"):  # fmt: skip
        _, text = reader.get(path, *Role)
        asked |= set(re.findall(r"\"(/static/[^\"]+|/plotly\.js[^\"]*)\"", text))
    for script in SCRIPTS.glob("*.js"):
        asked |= {
            f"{STATIC}/{name}" for name in re.findall(r"from \"\./([^\"]+)\"", script.read_text())
        }
    assert PLOTLY in asked
    for path in asked:
        assert reader.get(path)[0] == 200, path


def test_browser_keeps_scripts_for_good_and_pages_not_at_all(reader: Reader) -> None:
    kept = "public, max-age=31536000, immutable"
    for path, said in ((f"{STATIC}/ecg.js", kept), (PLOTLY, kept), ("/signin", "no-store")):
        assert reader.desk.client.get(path).headers["cache-control"] == said, path
    older = "/static/0123456789abcdef/ecg.js"
    assert reader.get(older)[0] == 404  # never another version under the same address


def test_nobody_is_sent_to_sign_in_and_back(reader: Reader) -> None:
    answer = reader.desk.client.get("/ecg/3?blind=1", follow_redirects=False)
    assert answer.status_code == 303
    assert answer.headers["location"] == "/signin?next=/ecg/3%3Fblind%3D1"
    status, text = reader.get("/signin?next=/ecg/3%3Fblind%3D1")
    assert status == 200
    assert 'data-next="/ecg/3?blind=1"' in text


def test_wrong_role_reads_a_sentence_and_not_the_ecg(reader: Reader) -> None:
    status, text = reader.get("/ecg/3", Role.VIEWER)
    assert status == 403
    assert "This needs the role operator or reviewer or trainer" in text
    assert "O&#39;Neil" not in text


# Whose ECG


def test_html_in_a_patient_name_is_text(reader: Reader) -> None:
    _, text = reader.get("/ecg/3", Role.OPERATOR)
    assert "&lt;b&gt;O&#39;Neil&lt;/b&gt;, &lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "<script>alert" not in text


def test_who_sees_no_patients_finds_none_anywhere_on_the_page(reader: Reader) -> None:
    for role in (Role.TRAINER, Role.REVIEWER):
        for path in ("/ecg/3", "/ecg/3/tracing", "/ecg/3?blind=1", "/"):
            status, text = reader.get(path, role)
            assert status == 200
            for told in ("Neil", PATIENT, "2020-02-12", WHEN, "RITMO SINUSALE", "2026-01-01"):
                assert told not in text, (role, path, told)
        _, text = reader.get("/ecg/3", role)
        assert "2020Q1" in text
        assert "female · 48 years" in text


def test_viewer_sees_times_and_no_pseudonyms(reader: Reader) -> None:
    _, viewer = reader.get("/", Role.VIEWER)
    _, trainer = reader.get("/", Role.TRAINER)
    assert "2027-01-15 08:0" in viewer
    assert "/?patient=" not in viewer
    assert "/ecg/3" not in viewer
    assert "2027-01-15" not in trainer
    assert "/?patient=" in trainer


# What it shows


def test_list_shows_rate_statements_and_state_and_filters_by_finding(reader: Reader) -> None:
    _, text = reader.get("/", Role.OPERATOR)
    assert text.count('data-href="/ecg/') == 4
    assert "Left bundle branch block" in text
    _, text = reader.get("/?statement=lbbb", Role.OPERATOR)
    assert re.findall(r'data-href="(/ecg/\d+)"', text) == ["/ecg/1"]
    _, text = reader.get("/?statement=%3Cscript%3E&state=NONE&first=never", Role.OPERATOR)
    assert text.count('data-href="/ecg/') == 4


def test_quarantine_is_shown_with_its_sentence_and_operators_may_retry(reader: Reader) -> None:
    _, text = reader.get("/", Role.OPERATOR)
    assert "The bytes are no DICOM object." in text
    assert "POST /api/v1/queue/5/retry" in text
    _, text = reader.get("/", Role.VIEWER)
    assert "The bytes are no DICOM object." in text
    assert "/retry" not in text


def test_ecg_stands_beside_the_previous_one_of_the_patient(reader: Reader) -> None:
    _, text = reader.get("/ecg/3", Role.OPERATOR)
    assert 'data-before="/ecg/2/tracing"' in text
    assert "Previous ECG: 2019-02-12 08:00" in text
    _, text = reader.get("/ecg/1", Role.OPERATOR)
    assert "data-before" not in text
    assert "No earlier ECG of this patient is known here." in text


def test_findings_come_with_probability_threshold_and_reasons(reader: Reader) -> None:
    _, text = reader.get("/ecg/1", Role.REVIEWER)
    assert "Model Sinusnode twelve-lead" in text
    assert re.search(r"probability 0\.\d\d, threshold 0\.\d\d", text)
    assert 'action="/api/v1/recordings/1/labels"' in text
    assert "<summary>Not present:" in text
    _, text = reader.get("/ecg/3", Role.TRAINER)
    assert "labels" not in text.split("<nav")[1].split("</nav>")[0]
    assert "data-judge" not in text  # a trainer is no reviewer


def test_poor_ecg_says_so_and_states_nothing(reader: Reader) -> None:
    _, text = reader.get("/ecg/4", Role.OPERATOR)
    assert "Non-diagnostic ECG" in text
    assert 'class="finding' not in text


def test_who_may_change_settings_sees_them_with_what_the_file_says(reader: Reader) -> None:
    status, text = reader.get("/system", Role.ADMIN)
    assert status == 200
    assert re.search(r'<td class="mono">drift\.share</td>.*?<td[^>]*>0\.05</td>', text, re.DOTALL)
    assert "drift.share" not in reader.get("/system", Role.OPERATOR)[1]


def test_arrows_lead_to_the_neighbours_that_were_analysed(reader: Reader) -> None:
    _, text = reader.get("/ecg/3", Role.OPERATOR)
    assert 'rel="prev" href="/ecg/4"' in text
    assert 'rel="next" href="/ecg/2"' in text
    _, text = reader.get("/ecg/4", Role.OPERATOR)
    assert 'rel="prev"' not in text


def test_who_reads_blind_is_told_nothing_that_the_program_found(reader: Reader) -> None:
    _, text = reader.get("/ecg/1?blind=1", Role.REVIEWER)
    page = text.split("<main")[1].split("<datalist")[0]
    for told in ("bundle branch", "QRS duration", "Heart rate", "twelve-lead", "probability"):
        assert told not in page
    document = reader.desk.get("/recordings/1/waveform", Role.REVIEWER).json
    assert document["r_peaks"]
    status, _ = reader.get("/ecg/1/tracing?blind=1", Role.REVIEWER)
    blind = reader.desk.client.get(
        "/ecg/1/tracing?blind=1",
        headers={"Authorization": f"Bearer {reader.desk.keys[Role.REVIEWER]}"},
    ).json()
    assert status == 200
    assert not blind["r_peaks"]
    assert not blind["fiducials"]
    assert blind["median"] is None
    assert blind["signal"] == document["signal"]


def test_label_given_on_the_page_is_shown_when_it_is_opened_again(reader: Reader) -> None:
    body = {"labels": [{"key": "lbbb", "value": "absent"}], "ai_visible": False}
    assert reader.desk.post("/recordings/1/labels", Role.REVIEWER, json=body).status == 201
    _, text = reader.get("/ecg/1", Role.REVIEWER)
    assert re.search(r"<li>Left bundle branch block: absent \(reviewer [^)]+\)</li>", text)
    assert ", AI seen)" not in text


def test_page_of_what_is_not_there_is_a_sentence(reader: Reader) -> None:
    for path in ("/ecg/99", f"/recordings/{'0' * 32}", f"/upload/{'0' * 16}", "/training/99",
                 f"/models/{'0' * 64}"):  # fmt: skip
        status, text = reader.get(path, *Role)
        assert status == 404, path
        assert "There is no " in text


def test_what_lists_are_made_from_fits_columns_of_a_database_that_counts(reader: Reader) -> None:
    rows = reader.desk.office.ledger.query(recordings.select())
    assert len(rows) >= 4
    for row in rows:
        for column, value in zip(recordings.c, row, strict=True):
            if isinstance(column.type, sa.String) and column.type.length:
                assert len(value or "") <= column.type.length, column.name


# Learning


@pytest.mark.parametrize("models", [(), (Choice("current", "The model in service"),)])
def test_form_offers_every_architecture_and_its_defaults_are_a_plan(
    models: tuple[Choice, ...],
) -> None:
    assert set(training.ARCHITECTURES) == set(ARCHITECTURES)
    document: dict[str, object] = {"name": "a", "keys": ["lbbb"]}
    for question in training.questions(training.bases(models)):
        names = question.name.split(".")
        if question.choices and question.kind == "choice":
            assert question.value in [choice.value for choice in question.choices]
        place = document.setdefault(names[0], {}) if len(names) > 1 else document
        place[names[-1]] = question.value  # type: ignore[index]
    plan = Plan.from_mapping(document)
    assert (plan.base, plan.mode) == (
        ("current", "head") if models else ("inceptiontime", "scratch")
    )


@pytest.mark.parametrize("name", training.ARCHITECTURES)
def test_run_may_begin_with_every_architecture_of_the_form(reader: Reader, name: str) -> None:
    plan = {"name": "a", "keys": ["lbbb"], "base": name, "mode": "scratch"}
    assert reader.desk.post("/runs", Role.TRAINER, json={"plan": plan}).status == 201


def test_form_offers_the_models_that_can_be_learned_from(reader: Reader) -> None:
    detail = reader.desk.get(f"/models/{model_of(reader)}", Role.TRAINER).json
    tiny = reader.desk.post("/models", Role.TRAINER, content=packed()).json["digest"]
    _, text = reader.get("/training", Role.TRAINER)
    assert f'<option value="{tiny}"' in text
    reads_measurements = bool(detail["card"].get("features"))
    assert ('<option value="current"' in text) is not reads_measurements


def test_model_in_service_is_judged_on_the_labelled_recordings(reader: Reader) -> None:
    digest = model_of(reader)
    headers = {
        "Authorization": f"Bearer {reader.desk.keys[Role.TRAINER]}", "Accept": "application/json",
    }  # fmt: skip
    path = f"/datasets/evaluation?model={digest}"
    refused = reader.desk.client.get(path, headers=headers)
    assert refused.status_code == 409
    assert refused.json()["detail"].startswith("No recording of the corpus has a label")
    files = [("files", (f"{n}.dcm", simulated(kind, 20 + n))) for n, kind in enumerate(
        (Kind.SINUS, Kind.SINUS, Kind.LBBB, Kind.LBBB))]  # fmt: skip
    table = "file_name,label,value\n" + "".join(
        f"{n}.dcm,CLBBB,{'present' if n > 1 else 'absent'}\n{n}.dcm,RBBB,absent\n" for n in range(4)
    )
    files.append(("files", ("labels.csv", table.encode())))
    made = reader.desk.post("/uploads", Role.REVIEWER, files=files).json
    done = reader.desk.get(f"/uploads/{made['id']}/events", Role.REVIEWER)
    assert '"state":"DONE"' in done.text
    status, text = reader.get(path, Role.TRAINER)
    assert status == 200, text
    assert '"key":"rbbb"' in text
    assert reader.get(f"{path}&site=upload", Role.TRAINER)[0] == 200
    assert reader.get(f"{path}&site=elsewhere", Role.TRAINER)[0] == 409
    _, text = reader.get("/datasets", Role.TRAINER)
    assert "Left bundle branch block" in text
    _, text = reader.get("/training", Role.TRAINER)
    assert re.search(r'value="lbbb" id="key-\d+">', text)
    _, text = reader.get("/recordings?label=lbbb", Role.TRAINER)
    assert text.count('data-href="/recordings/') == 2


def test_samples_arrive_within_half_a_step(reader: Reader) -> None:
    import base64  # noqa: PLC0415

    from training.admin.sources import result_of, row_of  # noqa: PLC0415

    office = reader.desk.office
    ecg = result_of(office, row_of(office, 3)).recording.ecg
    document = reader.desk.get("/recordings/3/waveform", Role.OPERATOR).json
    counts = np.frombuffer(base64.b64decode(document["signal"]), "<i2").reshape(len(ecg.leads), -1)
    assert document["leads"] == [str(lead) for lead in ecg.leads]
    steps = np.array(document["steps"])[:, None]
    assert (
        np.abs(counts * steps - ecg.signal[:, : counts.shape[1]]).max() <= 0.5 * steps.max() + 1e-6
    )
