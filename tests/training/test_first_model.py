import csv
import json

import numpy as np
import pytest
import torch
import wfdb
from support import shared

from analysis.classify import classify
from analysis.ecg import LIMB, STANDARD_12, Lead, Patient
from analysis.model import load_model
from analysis.standardise import standardise
from analysis.synthetic import Kind, simulate
from training import first_fit
from training.first_corpus import (
    LABELS,
    SCHEMES,
    Record,
    Statements,
    read_auxiliary,
    read_corpus,
)
from training.first_fit import Example, fit, logits, prepare
from training.first_model import (
    GROUPS,
    RECIPE,
    Judged,
    calibration_error,
    export,
    interval,
    judge,
    train,
)
from training.first_net import Net

legacy_exporter = pytest.mark.filterwarnings(
    "ignore:You are using the legacy TorchScript:DeprecationWarning",
    "ignore:The feature will be removed:DeprecationWarning",
)


def said(source: str, *statements: str) -> dict[str, bool]:
    return SCHEMES[source].labels(Statements(statements))


def example(source: str, number: int, kind: Kind, **labels: bool) -> Example:
    ecg = simulate(kind, seed=number).ecg
    record = Record(source=source, patient=f"{source} {number}", ecg=ecg, labels=labels)
    (prepared,) = prepare([record], RECIPE)
    return prepared


def two_rhythms(count: int = 12) -> list[Example]:
    """Every source sees sinus rhythm, which is normal here, and LBBB, which is not."""
    return [
        example(
            names[0],
            number,
            Kind.LBBB if number % 2 else Kind.SINUS,
            normal=not number % 2,
            conduction_disturbance=bool(number % 2),
        )
        for names in GROUPS
        for number in range(count)
    ]


# --- labels


def test_a_normal_ecg_has_none_of_the_other_findings() -> None:
    labels = said("CPSC2018", "426783006")
    assert labels["normal"] is True
    assert {labels[key] for key in LABELS[1:]} == {False}


def test_what_a_source_does_not_look_for_is_unknown_and_not_absent() -> None:
    labels = said("CPSC2018", "164889003")
    assert labels["atrial_fibrillation"] is True
    assert labels["pvc"] is False
    assert "lvh" not in labels
    assert "st_t_abnormality" not in labels


def test_what_stands_there_counts_even_where_the_source_need_not_look() -> None:
    assert said("CPSC2018", "429622005")["st_t_abnormality"] is True


def test_an_abnormal_rate_alone_leaves_normal_open() -> None:
    assert "normal" not in said("Chapman-Ningbo", "426177001")
    assert said("Chapman-Ningbo", "426177001", "284470004")["normal"] is False


def test_an_unlikely_diagnosis_is_in_doubt() -> None:
    labels = said("PTB-XL", "LVH?", "NDT")
    assert "lvh" not in labels
    assert "hypertrophy" not in labels
    assert labels["st_t_abnormality"] is True
    assert labels["myocardial_infarction"] is False


def test_a_clinical_diagnosis_says_nothing_of_a_normal_ecg() -> None:
    assert said("PTB", "426783006") == {}


def test_ischaemia_that_may_be_a_scar_is_no_infarction_for_certain() -> None:
    labels = said("LUDB", "Sinus rhythm", "Undefined ischemia/scar/supp.NSTEMI")
    assert "myocardial_infarction" not in labels
    assert said("LUDB", "Sinus rhythm", "STEMI")["myocardial_infarction"] is True


# --- the records


@pytest.fixture(scope="module")
def corpus() -> list[Record]:
    return list(read_corpus(shared("data")))


def test_each_ecg_comes_once_and_no_patient_is_in_two_groups(corpus: list[Record]) -> None:
    groups = {name: at for at, names in enumerate(GROUPS) for name in names}
    of_patient: dict[str, set[int]] = {}
    for record in corpus:
        of_patient.setdefault(record.patient, set()).add(groups[record.source])
    assert all(len(found) == 1 for found in of_patient.values())
    digests = {record.ecg.signal.tobytes() for record in corpus}
    assert len(digests) == len(corpus)


def test_ptb_xl_records_at_two_rates_come_once(corpus: list[Record]) -> None:
    with (shared("data") / "multisource12" / "labels.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["dataset"].startswith("PTB-XL")]
    ours = [record for record in corpus if record.source == "PTB-XL"]
    assert len(rows) == 101
    assert len(ours) == 70  # one of the 101 has no statements and is another's copy
    assert {record.ecg.sampling_frequency for record in ours} == {500.0}


def test_every_record_is_a_12_lead_ecg_of_millivolts(corpus: list[Record]) -> None:
    for record in corpus:
        assert set(record.ecg.leads) == set(STANDARD_12)
        law = record.ecg[Lead.I] + record.ecg[Lead.III] - record.ecg[Lead.II]
        assert np.nanmedian(np.abs(law)) < 0.1  # LUDB's leads were each filtered alone
        assert 0.1 < np.nanmax(np.abs(record.ecg.select(LIMB).signal)) < 30


def test_training_and_serving_see_the_same_samples(corpus: list[Record]) -> None:
    for record, prepared in zip(corpus[:5], prepare(corpus[:5], RECIPE), strict=True):
        served = standardise(record.ecg, load_model().card.recipe)
        assert np.array_equal(prepared.windows, served.windows)


def test_auxiliary_windows_say_what_their_beats_say() -> None:
    records = [r for r in read_auxiliary(shared("data")) if r.patient == "MIT-BIH 106"]
    marks = wfdb.rdann(str(shared("data", "mitdb_ds1", "106.atr").with_suffix("")), "atr")
    first = {s for s, at in zip(marks.symbol, marks.sample, strict=True) if at < 3600}
    assert len(records) == 60
    assert records[0].labels["pvc"] is ("V" in first)
    assert not any(record.labels["atrial_fibrillation"] for record in records)


# --- fitting and judging


def test_the_net_is_about_half_a_million_parameters_and_reads_any_batch() -> None:
    net = Net(leads=12, labels=len(LABELS)).eval()
    assert 3e5 < sum(weight.numel() for weight in net.parameters()) < 6e5
    with torch.no_grad():
        assert net(torch.zeros(3, 12, 1000)).shape == (3, len(LABELS))


def test_the_same_seed_gives_the_same_weights() -> None:
    torch.set_num_threads(1)
    first, again = (
        fit(two_rhythms(8), [], seed=1, epochs=1, samples=RECIPE.samples) for _ in range(2)
    )
    for left, right in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(left, right)


@legacy_exporter
def test_an_exported_net_gives_torchs_answers_in_the_runtime() -> None:
    examples = two_rhythms(2)
    content = export(Net(leads=12, labels=2).eval(), examples)
    assert b"waveform" in content


def test_a_label_with_few_positives_is_not_supported() -> None:
    random = np.random.default_rng(0)
    truth = np.arange(200) % 10 == 0
    group = np.arange(200) // 50
    logit = truth * 3 + random.standard_normal(200)
    label = Judged(key="pvc", truth=truth, logit=logit, group=group, scale=1.0, offset=0.0)
    assert label.supported
    alone = Judged(
        key="pvc", truth=truth & (group == 0), logit=logit, group=group, scale=1.0, offset=0.0
    )
    assert not alone.supported


def test_the_threshold_keeps_the_specificity_it_was_chosen_for() -> None:
    random = np.random.default_rng(1)
    truth = random.random(2000) < 0.2
    logit = truth + random.standard_normal(2000)
    group = np.zeros(2000, dtype=np.intp)
    label = Judged(key="pvc", truth=truth, logit=logit, group=group, scale=1.0, offset=-2.0)
    assert (label.probability[~truth] < label.threshold).mean() == pytest.approx(0.95, abs=2e-3)


def test_calibration_leaves_the_order_and_mends_the_level() -> None:
    examples = two_rhythms()
    random = np.random.default_rng(2)
    truth = np.array([item.labels[0] for item in examples])
    answers = np.tile((5 + truth + random.standard_normal(len(truth)))[:, None], len(LABELS))
    label = judge("normal", examples, answers)
    assert label.scale > 0
    assert label.probability.mean() == pytest.approx(truth.mean(), abs=0.02)


def test_intervals_hold_the_value_and_calibration_error_is_zero_for_the_calibrated() -> None:
    random = np.random.default_rng(3)
    probability = random.random(4000)
    truth = random.random(4000) < probability
    low, high = interval(calibration_error, truth[:300], probability[:300])
    assert 0 <= low < high < 0.2
    assert calibration_error(truth, probability) < 0.03


@pytest.mark.slow
@pytest.mark.timeout(600)
@legacy_exporter
def test_a_small_training_ends_in_a_package_that_tells_the_two_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr(first_fit, "EMA_DECAY", 0.8)  # a few dozen steps, not a thousand
    examples = two_rhythms(24)
    content, report = train(examples, [], epochs=16, created="2026-01-02")
    model = load_model(content)
    keys = [label.key for label in model.card.labels]
    assert keys == ["normal", "conduction_disturbance"]
    assert model.identity.digest in report
    (findings,) = classify([model], [simulate(Kind.LBBB, seed=99).ecg], [Patient(age=60.0)])
    assert {finding.key: finding.present for finding in findings} == {
        "normal": False,
        "conduction_disturbance": True,
    }
    assert json.loads(model.card.to_json())["created"] == "2026-01-02"


@pytest.mark.slow
def test_answers_of_the_shipped_model_are_far_apart_on_what_it_learned(
    corpus: list[Record],
) -> None:
    model = load_model()
    patients = [Patient(age=60.0)] * len(corpus)
    found = classify([model], [record.ecg for record in corpus], patients)
    for at, label in enumerate(model.card.labels):
        pairs = [
            (record.labels[label.key], findings[at].probability)
            for record, findings in zip(corpus, found, strict=True)
            if label.key in record.labels and findings[at].probability is not None
        ]
        present = np.mean([probability for truth, probability in pairs if truth])
        absent = np.mean([probability for truth, probability in pairs if not truth])
        assert present > absent + 0.2


def test_logits_of_several_windows_are_joined_as_serving_joins_them() -> None:
    item = example("LUDB", 1, Kind.SINUS, normal=True)
    long = Example(
        source=item.source,
        patient=item.patient,
        signal=item.signal,
        windows=np.concatenate([item.windows, 3 * item.windows, 0 * item.windows]),
        labels=item.labels,
    )
    net = Net(leads=12, labels=len(LABELS)).eval()
    with torch.no_grad():
        each = net(torch.from_numpy(long.windows)).numpy()
    joined = logits(net, long)
    assert joined[0] == pytest.approx(each[:, 0].min())
    assert joined[1:] == pytest.approx(each[:, 1:].max(axis=0))
