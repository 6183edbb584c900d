import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import wfdb
from support import shared

from analysis.classify import classify
from analysis.ecg import LIMB, STANDARD_12, Lead, Patient
from analysis.features import names
from analysis.model import load_model, shipped_models
from analysis.standardise import standardise
from analysis.synthetic import Kind, simulate
from training.convert import to_torch
from training.shipped import card, forest
from training.shipped import fit as fitting
from training.shipped import judge as judging
from training.shipped.__main__ import produce
from training.shipped.build import Workshop, make
from training.shipped.corpus import (
    LABELS,
    SCHEMES,
    Record,
    Statements,
    read_auxiliary,
    read_corpus,
)
from training.shipped.examples import Example, alone, prepare
from training.shipped.fit import fit, logits
from training.shipped.forest import DEPTH, SoftForests, grow, scale
from training.shipped.graph import Graph, export, network
from training.shipped.judge import (
    Answers,
    Calibration,
    calibrate,
    calibration_error,
    chance_error,
    interval,
    judge,
)
from training.shipped.net import Net
from training.shipped.plans import (
    ANY_LEAD,
    TWELVE_LEAD,
    TWELVE_LEAD_GROUPS,
    Family,
    Plan,
    columns,
)

legacy_exporter = pytest.mark.filterwarnings(
    "ignore:You are using the legacy TorchScript:DeprecationWarning",
    "ignore:The feature will be removed:DeprecationWarning",
)


def said(source: str, *statements: str) -> dict[str, bool]:
    return SCHEMES[source].labels(Statements(statements))


def record(source: str, number: int, kind: Kind, **labels: bool) -> Record:
    return Record(
        source=source,
        patient=f"{source} {number}",
        ecg=simulate(kind, seed=number).ecg,
        labels=labels,
        age=60.0,
    )


def two_rhythms(count: int = 8) -> list[Record]:
    """Every group sees sinus rhythm, which is normal here, and LBBB, which is not."""
    return [
        record(
            sources[0],
            number,
            Kind.LBBB if number % 2 else Kind.SINUS,
            normal=not number % 2,
            conduction_disturbance=bool(number % 2),
        )
        for sources in TWELVE_LEAD_GROUPS
        for number in range(count)
    ]


def small_plan() -> Plan:
    return replace(
        TWELVE_LEAD,
        labels={"normal": Family.SHAPE, "conduction_disturbance": Family.CONDUCTION},
    )


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    return prepare(two_rhythms(), TWELVE_LEAD.recipe)


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


def test_a_code_that_means_aberrant_beats_or_a_block_leaves_conduction_open() -> None:
    assert "conduction_disturbance" not in said("Chapman-Ningbo", "698252002", "284470004")
    assert said("Chapman-Ningbo", "698252002", "59118001")["conduction_disturbance"] is True
    assert said("CPSC-Extra", "698252002")["conduction_disturbance"] is True


def test_ischaemia_that_may_be_a_scar_is_no_infarction_for_certain() -> None:
    labels = said("LUDB", "Sinus rhythm", "Undefined ischemia/scar/supp.NSTEMI")
    assert "myocardial_infarction" not in labels
    assert said("LUDB", "Sinus rhythm", "STEMI")["myocardial_infarction"] is True


@pytest.mark.parametrize("statement", ["425856008", "10370003"])
def test_silence_on_shapes_says_nothing_in_ventricular_tachycardia_or_when_paced(
    statement: str,
) -> None:
    labels = said("Chapman-Ningbo", statement)
    assert labels["pac"] is False
    assert not {"rbbb", "conduction_disturbance", "st_t_abnormality"} & set(labels)


def test_silence_on_st_and_t_says_nothing_beside_an_infarction() -> None:
    assert "st_t_abnormality" not in said("CPSC-Extra", "164867002")
    assert said("CPSC-Extra", "164867002", "428750005")["st_t_abnormality"] is True


# --- the records


@pytest.fixture(scope="module")
def corpus() -> list[Record]:
    return list(read_corpus(shared("data")))


def test_each_ecg_comes_once_and_no_patient_is_in_two_groups(corpus: list[Record]) -> None:
    groups = {name: at for at, names in enumerate(TWELVE_LEAD_GROUPS) for name in names}
    of_patient: dict[str, set[int]] = {}
    for item in corpus:
        of_patient.setdefault(item.patient, set()).add(groups[item.source])
    assert all(len(found) == 1 for found in of_patient.values())
    digests = {item.ecg.signal.tobytes() for item in corpus}
    assert len(digests) == len(corpus)


def test_ptb_xl_records_at_two_rates_come_once(corpus: list[Record]) -> None:
    with (shared("data") / "multisource12" / "labels.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["dataset"].startswith("PTB-XL")]
    ours = [item for item in corpus if item.source == "PTB-XL"]
    assert len(rows) == 101
    assert len(ours) == 70  # one of the 101 has no statements and is another's copy
    assert {item.ecg.sampling_frequency for item in ours} == {500.0}


def test_every_record_is_a_12_lead_ecg_of_millivolts(corpus: list[Record]) -> None:
    for item in corpus:
        assert set(item.ecg.leads) == set(STANDARD_12)
        law = item.ecg[Lead.I] + item.ecg[Lead.III] - item.ecg[Lead.II]
        assert np.nanmedian(np.abs(law)) < 0.1  # LUDB's leads were each filtered alone
        assert 0.1 < np.nanmax(np.abs(item.ecg.select(LIMB).signal)) < 30


def test_nothing_learns_hypertrophy_from_recordings_of_one_voltage(corpus: list[Record]) -> None:
    ludb = [item for item in corpus if item.source == "LUDB"]
    assert not any({"lvh", "hypertrophy"} & set(item.labels) for item in ludb)
    assert sum(item.withheld.get("hypertrophy", False) for item in ludb) > 100
    hidden = [item for item in ludb if "normal" in item.withheld]
    assert 20 < len(hidden) < 30
    assert not any(item.withheld["normal"] or "normal" in item.labels for item in hidden)


def test_training_and_serving_see_the_same_samples_and_measurements(corpus: list[Record]) -> None:
    (model, _) = shipped_models()
    for item, example in zip(corpus[:3], prepare(corpus[:3], TWELVE_LEAD.recipe), strict=True):
        served = standardise(item.ecg, model.card.recipe)
        assert np.array_equal(example.windows, served.windows)
        (findings,) = classify([model], [item.ecg], [Patient(age=60.0)])
        tiled = np.tile(example.features, (len(example.windows), 1))
        found = model.probabilities(example.windows, tiled)
        wanted = found[:, 1:].max(axis=0)
        assert [finding.probability for finding in findings[1:]] == pytest.approx(wanted)


def test_auxiliary_windows_say_what_their_beats_say() -> None:
    records = [r for r in read_auxiliary(shared("data")) if r.patient == "MIT-BIH 106"]
    marks = wfdb.rdann(str(shared("data", "mitdb_ds1", "106.atr").with_suffix("")), "atr")
    first = {s for s, at in zip(marks.symbol, marks.sample, strict=True) if at < 3600}
    assert len(records) == 60
    assert records[0].labels["pvc"] is ("V" in first)
    assert not any(item.labels["atrial_fibrillation"] for item in records)


def test_a_record_read_by_one_lead_keeps_its_patient_and_its_labels() -> None:
    whole = record("LUDB", 3, Kind.SINUS, pvc=False)
    parts = list(alone([whole]))
    assert {len(part.ecg.leads) for part in parts} == {1}
    assert all((part.patient, part.labels) == (whole.patient, whole.labels) for part in parts)


# --- trees


def test_soft_trees_answer_as_the_trees_they_were_made_from() -> None:
    random = np.random.default_rng(0)
    features = random.standard_normal((300, 6))
    truth = (features[:, 1] + 0.3 * random.standard_normal(300) > 0).astype(float)
    measured = scale(features)
    trees = grow(features, truth, np.ones(300), range(6), seed=1)
    soft = SoftForests([trees], measured)
    far = features[np.abs(features[:, 1]) > 0.5]
    with torch.no_grad():
        found = soft(torch.from_numpy(far).float())[:, 0].numpy()
    assert ((found > 0) == (far[:, 1] > 0)).mean() > 0.98
    hard = [_walk(trees, row) for row in far]
    assert np.abs(1 / (1 + np.exp(-found)) - hard).mean() < 0.05


def _walk(trees, row):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 - a plain reading of the trees
    answers = []
    for column, limit, leaf in zip(trees.column, trees.limit, trees.leaf, strict=True):
        place = 0
        for _ in range(DEPTH):
            place = 2 * place + 1 + int(row[column[place]] > limit[place])
        answers.append(leaf[place - (2**DEPTH - 1)])
    return np.mean(answers)


def test_a_feature_that_was_not_measured_counts_as_its_median() -> None:
    random = np.random.default_rng(0)
    features = random.standard_normal((100, 3))
    features[:, 2] = np.nan  # never measured
    measured = scale(features)
    truth = (features[:, 0] > 0).astype(float)
    trees = grow(measured.fill(features), truth, np.ones(100), range(3), seed=1)
    soft = SoftForests([trees], measured)
    unknown = torch.full((1, 3), torch.nan)
    median = torch.from_numpy(measured.median[None]).float()
    with torch.no_grad():
        assert torch.equal(soft(unknown), soft(median))
        assert torch.isfinite(soft(unknown)).all()


def test_a_feature_a_little_off_moves_the_answer_a_little() -> None:
    random = np.random.default_rng(0)
    features = random.standard_normal((200, 4))
    truth = (features[:, 0] > 0).astype(float)
    measured = scale(features)
    soft = SoftForests([grow(features, truth, np.ones(200), range(4), seed=1)], measured)
    there = torch.from_numpy(features).float()
    with torch.no_grad():
        change = (soft(there * (1 + 1e-6)) - soft(there)).abs().max()
    assert change < 1e-3


def test_a_margin_moves_its_own_label_as_far_as_it_counts_and_no_other() -> None:
    random = np.random.default_rng(0)
    features = random.standard_normal((100, 3))
    truth = (features[:, 0] > 0).astype(float)
    trees = grow(features, truth, np.ones(100), range(2), seed=1)
    soft = SoftForests([trees, trees], scale(features), (2, None))
    there = torch.zeros(3, 3)
    there[:, 2] = torch.tensor([0.0, 1.5, 50.0])
    with torch.no_grad():
        found = soft(there)
    assert torch.allclose(found[:, 0] - found[0, 0], torch.tensor([0.0, 1.5, 2.0]))
    assert torch.equal(found[:, 1], found[:1, 1].expand(3))


def test_families_look_at_what_their_name_says() -> None:
    known = names()
    rhythm = {known[at] for at in columns(Family.RHYTHM)}
    conduction = {known[at] for at in columns(Family.CONDUCTION)}
    assert {"irregularity", "p_constancy", "oddest.deviation", "rr_early"} <= rhythm
    assert not any("V1." in name for name in rhythm)
    assert {"V1.r2_duration", "pr_interval", "qrs_duration"} <= conduction
    assert not any("st_" in name or "t_amp" in name for name in conduction)
    bundle = {known[at] for at in columns(Family.BUNDLE)}
    assert {"V1.r2_duration", "V6.s_duration", "qrs_duration"} <= bundle
    assert not any(name.startswith("aVF.") or "st_" in name for name in bundle)
    assert len(columns(Family.SHAPE)) == len(columns(Family.MEASURED)) == len(known)


# --- networks and graphs


def test_the_net_is_about_half_a_million_parameters_and_reads_any_batch() -> None:
    net = Net(leads=12, labels=len(LABELS)).eval()
    assert 3e5 < sum(weight.numel() for weight in net.parameters()) < 6e5
    with torch.no_grad():
        assert net(torch.zeros(3, 12, 1000)).shape == (3, len(LABELS))


def test_the_same_seed_gives_the_same_weights(examples: list[Example]) -> None:
    torch.set_num_threads(1)
    first, again = (fit(examples, seed=1, epochs=1) for _ in range(2))
    for left, right in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(left, right)


def test_a_kept_network_is_not_fitted_again(
    examples: list[Example], tmp_path_factory: pytest.TempPathFactory
) -> None:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("work")
    first = Workshop(folder, epochs=1).net(examples, 1)
    (kept,) = folder.iterdir()
    written = kept.stat().st_mtime_ns
    again = Workshop(folder, epochs=1).net(examples, 1)
    assert kept.stat().st_mtime_ns == written
    assert all(
        torch.equal(left, right) and left.stride() == right.stride()  # else sums round otherwise
        for left, right in zip(first.parameters(), again.parameters(), strict=True)
    )
    Workshop(folder, epochs=1).net(examples[1:], 1)
    assert len(list(folder.iterdir())) == 2  # other records, another network


@legacy_exporter
@pytest.mark.parametrize("nets", [0, 2])
def test_an_exported_graph_gives_torchs_answers_in_the_runtime(
    nets: int, examples: list[Example]
) -> None:
    parts = make(small_plan(), examples, [], Workshop(None, epochs=1, nets=0))
    fresh = [Net(leads=12, labels=len(LABELS)).eval() for _ in range(nets)]
    same = [Calibration(1.0, 0.0, 0.5)] * 2
    graph = Graph(parts.forests, fresh, [0 if nets else None, None], same)
    waveforms = np.concatenate([item.windows[:1] for item in examples[:3]])
    content = export(graph, waveforms, np.stack([item.features for item in examples[:3]]))
    assert b"waveform" in content


@legacy_exporter
def test_the_network_inside_can_be_trained_on(examples: list[Example]) -> None:
    parts = make(small_plan(), examples, [], Workshop(None, epochs=1, nets=0))
    net, same = Net(leads=12, labels=len(LABELS)).eval(), [Calibration(1.0, 0.0, 0.5)] * 2
    waveforms = np.concatenate([item.windows[:1] for item in examples[:3]])
    features = np.stack([item.features for item in examples[:3]])
    whole = export(Graph(parts.forests, [net], [0, None], same), waveforms, features)
    converted = to_torch(network(whole))
    with torch.no_grad():
        found, wanted = (part(torch.from_numpy(waveforms)) for part in (converted, net))
    assert torch.allclose(found, wanted, atol=1e-4)
    with pytest.raises(ValueError, match="no network"):
        network(export(Graph(parts.forests, [], [None, None], same), waveforms, features))


def test_logits_of_several_windows_are_joined_as_serving_joins_them(
    examples: list[Example],
) -> None:
    item = examples[0]
    windows = np.concatenate([item.windows, 3 * item.windows, 0 * item.windows])
    long = replace(item, windows=windows)
    nets = [Net(leads=12, labels=len(LABELS)).eval() for _ in range(2)]
    with torch.no_grad():
        each = torch.stack([net(torch.from_numpy(windows)) for net in nets]).mean(dim=0).numpy()
    joined = logits(nets, long)
    assert joined[0] == pytest.approx(each[:, 0].min(), abs=1e-5)
    assert joined[1:] == pytest.approx(each[:, 1:].max(axis=0), abs=1e-5)


# --- judging


def answers(truth: np.ndarray, logit: np.ndarray, group: np.ndarray) -> Answers:
    return Answers(
        key="pvc",
        truth=truth.astype(float),
        logit=logit,
        group=group,
        answered=np.ones(len(truth), np.bool_),
    )


def test_a_label_with_few_positives_or_from_one_source_is_not_assessable() -> None:
    random = np.random.default_rng(0)
    truth = np.arange(200) % 8 == 0
    group = np.arange(200) // 50
    logit = truth * 3 + random.standard_normal(200)
    assert judge(answers(truth, logit, group)).assessable
    assert not judge(answers(truth & (group == 0), logit, group)).assessable


def test_nothing_of_a_group_decides_its_own_threshold() -> None:
    random = np.random.default_rng(1)
    truth, group = random.random(800) < 0.3, np.arange(800) // 200
    logit = 2 * truth + random.standard_normal(800)
    first = judge(answers(truth, logit, group))
    changed = np.where(group == 0, ~truth, truth)
    again = judge(answers(changed, logit, group))
    here = group == 0
    assert np.array_equal(first.present[here], again.present[here])
    assert np.array_equal(first.probability[here], again.probability[here])


def test_the_threshold_keeps_the_specificity_it_was_chosen_for() -> None:
    random = np.random.default_rng(1)
    truth = random.random(2000) < 0.2
    logit = truth + random.standard_normal(2000)
    found = calibrate(answers(truth, logit, np.zeros(2000, dtype=np.intp)))
    below = found.probability(logit[~truth]) < found.threshold
    assert below.mean() == pytest.approx(0.95, abs=2e-3)


def test_what_the_analysis_abstains_on_decides_no_threshold() -> None:
    random = np.random.default_rng(1)
    truth = random.random(500) < 0.2
    logit = truth + random.standard_normal(500)
    plain = answers(truth, logit, np.zeros(500, dtype=np.intp))
    silent = replace(plain, answered=np.arange(500) < 400)
    assert calibrate(silent) == calibrate(plain.where(np.arange(500) < 400))


def test_intervals_hold_the_value_and_calibration_error_is_zero_for_the_calibrated() -> None:
    random = np.random.default_rng(3)
    probability = random.random(4000)
    truth = random.random(4000) < probability
    low, high = interval(calibration_error, truth[:300], probability[:300])
    assert 0 <= low < high < 0.2
    assert calibration_error(truth, probability) < 0.03


def test_perfect_probabilities_show_the_calibration_error_that_chance_leaves() -> None:
    random = np.random.default_rng(4)
    probability = random.random(250)
    drawn = [calibration_error(random.random(250) < probability, probability) for _ in range(400)]
    assert chance_error(probability > 2, probability) == pytest.approx(np.mean(drawn), rel=0.05)


# --- the whole


@pytest.mark.slow
@pytest.mark.timeout(600)
@legacy_exporter
def test_a_small_training_ends_in_a_package_that_tells_the_two_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr(fitting, "EMA_DECAY", 0.8)  # a few dozen steps, not a thousand
    monkeypatch.setattr(forest, "TREES", 20)
    monkeypatch.setattr(judging, "BOOTSTRAPS", 20)
    monkeypatch.setattr(card, "_TRIED", 1)
    workshop = Workshop(None, epochs=6, nets=1)
    examples = prepare(two_rhythms(16), TWELVE_LEAD.recipe)
    content, report = produce(small_plan(), examples, [], workshop, "2026-01-02")
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


def test_the_shipped_models_are_the_plans_and_small() -> None:
    twelve, few = shipped_models()
    assert {label.key for label in twelve.card.labels} <= set(TWELVE_LEAD.labels)
    assert {label.key for label in few.card.labels} <= set(ANY_LEAD.labels)
    assert (twelve.card.recipe, few.card.recipe) == (TWELVE_LEAD.recipe, ANY_LEAD.recipe)


@pytest.mark.slow
def test_answers_of_the_shipped_model_are_far_apart_on_what_it_learned(
    corpus: list[Record],
) -> None:
    model, some = load_model(), corpus[::3]
    patients = [Patient(age=60.0)] * len(some)
    found = classify([model], [item.ecg for item in some], patients)
    for at, label in enumerate(model.card.labels):
        pairs = [
            (item.labels[label.key], findings[at].probability)
            for item, findings in zip(some, found, strict=True)
            if label.key in item.labels and findings[at].probability is not None
        ]
        present = np.mean([probability for truth, probability in pairs if truth])
        absent = np.mean([probability for truth, probability in pairs if not truth])
        assert present > absent + 0.2
