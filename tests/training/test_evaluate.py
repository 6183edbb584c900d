import numpy as np
import pytest
import sklearn.metrics as judges
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from analysis.ecg import Lead, Sex
from training import measures
from training.corpus import Record
from training.evaluate import Difference, Evaluation, age_band, compare, evaluate, groups_of
from training.intervals import bootstrap, interval, weights
from training.plan import Task

KEYS = ("atrial_fibrillation", "lbbb", "normal")


def answers(
    records: int = 120, keys: int = 3, *, skill: float = 1.5, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return probabilities that mean what they say, truths, and patients of two records each."""
    random = np.random.default_rng(seed)
    probabilities = 1 / (1 + np.exp(-skill * random.standard_normal((records, keys))))
    truths = (random.random(probabilities.shape) < probabilities).astype(float)
    return probabilities, truths, [f"patient {number // 2}" for number in range(records)]


def judged(*args: np.ndarray, patients: list[str], **options: object) -> Evaluation:
    options = {"resamples": 50, "keys": KEYS, "thresholds": (0.5,) * 3} | options
    return evaluate(*args, patients=patients, **options)  # type: ignore[arg-type]


# Many resamples at once against scikit-learn, one by one


Case = tuple[np.ndarray, np.ndarray, np.ndarray]


@st.composite
def weighted(draw: st.DrawFn) -> Case:
    records = draw(st.integers(2, 40))
    levels = st.sampled_from([0.0, 0.05, 0.1, 0.25, 0.5, 0.51, 0.9, 1.0])  # ties on purpose
    probabilities = draw(arrays(np.float64, records, elements=levels))
    positive = draw(arrays(np.bool_, records))
    rows = draw(arrays(np.int64, (3, records), elements=st.integers(0, 3))).astype(float)
    return probabilities, positive, rows


@given(weighted())
@settings(deadline=None, max_examples=50)
def test_each_resample_is_ranked_as_scikit_learn_ranks_it(case: Case) -> None:
    probabilities, positive, rows = case
    auroc, auprc = measures.ranking(probabilities, positive, rows)
    for row, area, precision in zip(rows, auroc, auprc, strict=True):
        drawn = row > 0
        both = len(set(positive[drawn])) == 2
        assert np.isfinite(area) == both
        if both:
            common = {"y_true": positive, "y_score": probabilities, "sample_weight": row}
            assert area == pytest.approx(judges.roc_auc_score(**common))
            assert precision == pytest.approx(judges.average_precision_score(**common))


@given(weighted())
@settings(deadline=None, max_examples=50)
def test_each_resample_is_counted_as_scikit_learn_counts_it(case: Case) -> None:
    probabilities, positive, rows = case
    calls = probabilities >= 0.5
    counts = measures.confusion(calls, positive, rows)
    found = {
        "recall": measures.sensitivity(counts),
        "precision": measures.predictive_value(counts),
        "f1": measures.f1(counts),
        "brier": measures.brier(probabilities, positive, rows),
    }
    for at, row in enumerate(rows):
        if not row.sum():
            assert np.isnan([values[at] for values in found.values()]).all()
            continue
        common = {"sample_weight": row}
        table = judges.confusion_matrix(positive, calls, labels=[False, True], **common)
        assert counts[at].tolist() == table.ravel()[[3, 1, 2, 0]].tolist()
        squares = judges.mean_squared_error(positive.astype(float), probabilities, **common)
        assert found["brier"][at] == pytest.approx(squares)
        for name in ("recall", "precision", "f1"):
            score = getattr(judges, f"{name}_score")
            value = score(positive, calls, zero_division=np.nan, **common)
            assert found[name][at] == pytest.approx(value, nan_ok=True), name


@given(weighted())
@settings(deadline=None, max_examples=50)
def test_calibration_error_is_the_weighted_gap_of_its_bins(case: Case) -> None:
    probabilities, positive, rows = case
    errors, _ = measures.reliability(probabilities, positive, rows)
    for row, error in zip(rows, errors, strict=True):
        if not row.sum():
            assert np.isnan(error)
            continue
        place = np.minimum(np.floor(probabilities * 10), 9)
        gaps = [
            abs((row * (positive - probabilities))[place == number].sum()) for number in range(10)
        ]
        assert error == pytest.approx(sum(gaps) / row.sum())


def test_numbers_are_judged_as_scikit_learn_judges_them() -> None:
    random = np.random.default_rng(0)
    truth, rows = random.normal(60, 15, 50), random.integers(0, 3, (4, 50)).astype(float)
    given = truth + random.normal(2, 5, 50)
    found = measures.deviation(given, truth, rows)
    for at, row in enumerate(rows):
        common = {"sample_weight": row}
        assert found["MAE"][at] == pytest.approx(judges.mean_absolute_error(truth, given, **common))
        rmse = judges.root_mean_squared_error(truth, given, **common)
        assert found["RMSE"][at] == pytest.approx(rmse)
        together = np.cov(truth, given, fweights=row.astype(int))
        r = together[0, 1] / np.sqrt(together[0, 0] * together[1, 1])
        assert found["r"][at] == pytest.approx(r)


# Patients, not recordings


def test_all_recordings_of_a_patient_are_drawn_together() -> None:
    patients = ["a", "b", "b", "c", "c", "c"]
    first, *drawn = weights(patients, 200, seed=0)
    rows = np.concatenate(drawn)
    assert first.tolist() == [[1.0] * 6]
    assert rows.shape == (200, 6)
    assert (rows[:, 1] == rows[:, 2]).all()
    assert (rows[:, 3:] == rows[:, 3:4]).all()
    assert (rows[:, [0, 1, 3]].sum(axis=1) == 3).all()


def test_copies_of_a_record_of_one_patient_make_nothing_surer() -> None:
    probabilities, truths, _ = answers(60)
    once = judged(probabilities, truths, patients=[str(n) for n in range(60)], resamples=400)
    often = judged(
        *(np.repeat(part, 5, axis=0) for part in (probabilities, truths)),
        patients=[str(n // 5) for n in range(300)],
        resamples=400,
    )
    for key in KEYS:
        first, second = once.figure("AUROC", key), often.figure("AUROC", key)
        assert first.value == pytest.approx(second.value)
        assert second.high - second.low > 0.8 * (first.high - first.low)  # type: ignore[operator]


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    held = 0
    for seed in range(100):
        probabilities, truths, patients = answers(200, 1, seed=seed)
        found = evaluate(
            probabilities, truths, keys=["lbbb"], patients=patients, resamples=200, seed=seed
        ).figure("Brier")
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 0.1723 <= found.high  # the mean of p (1 - p)
    assert held / 100 > 0.9


def test_the_same_seed_gives_the_same_evaluation_to_the_last_digit() -> None:
    probabilities, truths, patients = answers()
    first, again, other = (
        judged(probabilities, truths, patients=patients, seed=seed) for seed in (1, 1, 2)
    )
    assert first.to_json() == again.to_json()
    assert first.figure("AUROC").value == other.figure("AUROC").value
    assert first.figure("AUROC").low != other.figure("AUROC").low


# What is found


def test_each_figure_is_that_of_scikit_learn_with_its_interval_around_it() -> None:
    probabilities, truths, patients = answers()
    found = judged(probabilities, truths, patients=patients)
    calls = probabilities >= 0.5
    for at, item in enumerate(found.keys):
        y, p = truths[:, at], probabilities[:, at]
        wanted = {
            "AUROC": judges.roc_auc_score(y, p),
            "AUPRC": judges.average_precision_score(y, p),
            "F1": judges.f1_score(y, calls[:, at]),
            "sensitivity": judges.recall_score(y, calls[:, at]),
            "specificity": judges.recall_score(y, calls[:, at], pos_label=0),
            "Brier": judges.brier_score_loss(y, p),
        }
        for measure, value in wanted.items():
            figure = item.figures[measure]
            assert figure.value == pytest.approx(value)
            assert figure.low < figure.value < figure.high  # type: ignore[operator]
    for average in ("macro", "weighted", "micro"):
        figures = found.averages[average]
        f1 = judges.f1_score(truths, calls, average=average)
        auroc = judges.roc_auc_score(truths, probabilities, average=average)
        assert figures["F1"].value == pytest.approx(f1)
        assert figures["AUROC"].value == pytest.approx(auroc)


def test_operating_points_keep_what_their_names_promise() -> None:
    probabilities, truths, patients = answers(400)
    for at, item in enumerate(judged(probabilities, truths, patients=patients).keys):
        for point in item.operating_points:
            calls = probabilities[:, at] >= point.threshold
            recall = judges.recall_score(truths[:, at], calls)
            without = judges.recall_score(truths[:, at], calls, pos_label=0)
            assert point.sensitivity == pytest.approx(recall)
            assert point.specificity == pytest.approx(without)
            for measure in ("sensitivity", "specificity"):
                figure = point.figures[measure]
                assert figure.value == pytest.approx(getattr(point, measure))
                assert figure.low < figure.value < figure.high  # type: ignore[operator]
        best, sensitive, specific = item.operating_points
        assert sensitive.sensitivity >= 0.9
        assert specific.specificity >= 0.9
        others = [
            judges.f1_score(truths[:, at], probabilities[:, at] >= t)
            for t in np.linspace(0.02, 0.98, 49)
        ]
        assert best.f1 >= max(others)


def test_answers_that_mean_what_they_say_err_no_more_than_chance() -> None:
    probabilities, truths, patients = answers(400)
    honest = judged(probabilities, truths, patients=patients)
    boasting = judged(probabilities**0.3, truths, patients=patients)
    for sound, wrong in zip(honest.keys, boasting.keys, strict=True):
        assert sound.chance_ece == pytest.approx(sound.figures["ECE"].value, abs=0.05)
        assert wrong.figures["ECE"].value > wrong.chance_ece + 0.1  # type: ignore[operator]
        assert sum(part.records for part in sound.reliability) == 400


def test_a_bin_of_two_records_is_not_drawn_as_sure() -> None:
    truths = np.arange(20.0)[:, None] % 2
    probabilities = np.where(np.arange(20) < 18, 0.45, 0.95)[:, None]
    found = evaluate(probabilities, truths, keys=["a"], patients=list("abcdefghijklmnopqrst"))
    many, few = found.keys[0].reliability
    assert (few.records, few.observed.value, few.observed.low) == (2, 0.5, None)
    assert many.observed.low is not None


def test_classes_are_told_by_the_likeliest_and_counted_in_a_table() -> None:
    probabilities, _, patients = answers(150)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    random = np.random.default_rng(0)
    truth = np.array([random.choice(3, p=row) for row in probabilities])
    found = judged(
        probabilities, np.eye(3)[truth], patients=patients, task=Task.MULTI_CLASS, thresholds=None
    )
    likeliest = probabilities.argmax(axis=1)
    assert found.confusion is not None
    assert np.array_equal(found.confusion, judges.confusion_matrix(truth, likeliest))
    macro = judges.f1_score(truth, likeliest, average="macro")
    assert found.figure("F1").value == pytest.approx(macro)
    right = judges.accuracy_score(truth, likeliest)
    assert found.averages["micro"]["F1"].value == pytest.approx(right)


def test_a_regression_has_errors_and_no_probabilities() -> None:
    random = np.random.default_rng(0)
    age = random.uniform(20, 90, (80, 1))
    found = evaluate(
        age + random.normal(0, 8, age.shape),
        age,
        keys=["age"],
        patients=[str(n) for n in range(80)],
        task=Task.REGRESSION,
        resamples=50,
    )
    assert set(found.keys[0].figures) == {"MAE", "RMSE", "bias", "r"}
    assert 4 < found.figure("MAE").value < 9  # type: ignore[operator]
    assert found.figure("AUROC").value is None
    assert len(found.keys[0].pairs) == 80
    assert Evaluation.from_json(found.to_json()) == found


def test_an_evaluation_survives_being_stored() -> None:
    probabilities, truths, patients = answers()
    probabilities[:5, 0] = np.nan
    found = judged(probabilities, truths, patients=patients, groups={"sex": ["F", "M"] * 60})
    assert Evaluation.from_json(found.to_json()) == found
    with pytest.raises(ValueError, match="Evaluation"):
        Evaluation.from_json("{}")


# Groups


def test_each_subgroup_is_judged_as_if_it_were_alone_and_beside_everyone() -> None:
    probabilities, truths, patients = answers(200)
    sexes = ["F"] * 100 + ["M"] * 100
    found = judged(probabilities, truths, patients=patients, groups={"sex": sexes})
    female, male = found.subgroups
    alone = judged(probabilities[:100], truths[:100], patients=patients[:100])
    assert (female.name, male.name) == ("F", "M")
    assert female.macro == alone.averages["macro"]
    assert female.everyone == pytest.approx(found.figure("AUROC").value)


def test_an_empty_subgroup_says_so_and_the_others_are_judged() -> None:
    probabilities, truths, patients = answers()
    truths[:10] = np.nan
    groups = {"device": ["silent cart"] * 10 + ["other cart"] * 110}
    other, silent = judged(probabilities, truths, patients=patients, groups=groups).subgroups
    assert other.macro["AUROC"].value is not None
    assert silent.records == 10
    assert silent.everyone is None
    assert silent.macro["AUROC"].reason == "There are too few patients to judge anything."


def test_a_group_that_holds_everyone_divides_nothing() -> None:
    probabilities, truths, patients = answers()
    found = judged(probabilities, truths, patients=patients, groups={"site": ["A"] * 120})
    assert found.subgroups == ()


def test_records_fall_into_groups_by_what_is_known_of_them() -> None:
    common = {
        "patient": "p",
        "site": "",
        "device": "cart",
        "quarter": None,
        "sampling_frequency": 500.0,
        "leads": (Lead.I,),
        "samples": 10,
        "format": "",
        "sha256": "",
        "ai_visible": False,
        "patient_stated": True,
    }
    records = [
        Record(id="1", age=39.9, sex=Sex.FEMALE, **common),
        Record(id="2", age=None, sex=None, **common),
    ]
    groups = groups_of(records)
    assert groups["age"] == ("18 to 39", "unknown")
    assert groups["device"] == ("cart", "cart")
    assert groups["site"] == ("unknown", "unknown")
    assert groups["sex"][1] == "unknown"
    assert [age_band(age) for age in (3, 18, 64, 80, 91)] == [
        "under 18",
        "18 to 39",
        "40 to 64",
        "80 and over",
        "80 and over",
    ]


# What cannot be judged


def test_one_class_alone_gets_no_ranking_and_the_reason() -> None:
    probabilities, truths, patients = answers()
    truths[:, 1] = 0
    found = judged(probabilities, truths, patients=patients)
    figures = found.keys[1].figures
    assert figures["AUROC"].value is None
    assert figures["AUROC"].reason == "Patients with it: 0; 3 are needed."
    assert figures["specificity"].value is not None
    assert found.keys[1].roc == ()
    both = [found.figure("AUROC", key).value for key in (KEYS[0], KEYS[2])]
    assert found.figure("AUROC").value == pytest.approx(sum(both) / 2)  # type: ignore[arg-type]
    assert "Left bundle branch block: Patients with it: 0; 3 are needed." in found.notes


@pytest.mark.parametrize("records", [0, 1, 3, 5])
@pytest.mark.parametrize("task", list(Task))
def test_a_few_patients_are_too_few_for_any_figure_and_no_error(records: int, task: Task) -> None:
    probabilities, truths, _ = answers(records)
    found = judged(
        probabilities,
        truths,
        patients=["same"] * records,
        task=task,
        groups={"sex": ["F"] * records},
    )
    assert all(
        figure.value is None and figure.reason for figure in found.averages["macro"].values()
    )
    assert "There are too few patients to judge anything." in found.notes
    assert Evaluation.from_json(found.to_json()) == found


def test_unknown_truths_are_left_out_and_not_taken_for_absent() -> None:
    probabilities, truths, patients = answers()
    truths[:40, 0] = np.nan
    found = judged(probabilities, truths, patients=patients)
    wanted = judges.roc_auc_score(truths[40:, 0], probabilities[40:, 0])
    assert found.figure("AUROC", KEYS[0]).value == pytest.approx(wanted)
    assert (found.keys[0].unknown, found.keys[0].records) == (40, 80)


def test_records_without_an_answer_are_left_out_counted_and_said() -> None:
    probabilities, truths, patients = answers()
    probabilities[:7, 2] = np.nan
    found = judged(probabilities, truths, patients=patients)
    assert found.keys[2].unanswered == 7
    assert "Normal ECG: records without an answer, left out: 7." in found.notes
    wanted = judges.roc_auc_score(truths[7:, 2], probabilities[7:, 2])
    assert found.figure("AUROC", KEYS[2]).value == pytest.approx(wanted)


def test_the_same_answer_for_everyone_is_worth_a_half() -> None:
    _, truths, patients = answers()
    found = judged(np.full((120, 3), 0.3), truths, patients=patients)
    auroc = found.figure("AUROC")
    assert (auroc.value, auroc.low, auroc.high) == (0.5, 0.5, 0.5)
    assert found.figure("PPV").reason is not None


@pytest.mark.parametrize(
    ("probabilities", "thresholds", "said"),
    [
        (np.full((4, 3), 1.5), None, "outside 0 to 1"),
        (np.zeros((4, 2)), None, "4 records by 3 keys"),
        (np.zeros((4, 3)), [0.5], "1 thresholds are not one for each of 3 keys"),
    ],
)
def test_answers_that_fit_nothing_are_refused_in_a_sentence(
    probabilities: np.ndarray, thresholds: list[float] | None, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        evaluate(
            probabilities,
            np.zeros((4, 3)),
            keys=KEYS,
            patients=list("abcd"),
            thresholds=thresholds,
        )


def test_a_figure_that_most_resamples_lack_has_no_interval() -> None:
    assert interval(np.array([0.7, np.nan, np.nan, 0.6])).low is None
    assert interval(np.array([np.nan, 0.5])).value is None


# Two models


def test_a_model_is_level_with_itself_and_ahead_of_a_worse_one() -> None:
    probabilities, truths, patients = answers(300, skill=3)
    noise = np.random.default_rng(1).random(probabilities.shape)
    common = {"keys": KEYS, "patients": patients, "resamples": 200}
    level = compare(probabilities, probabilities, truths, **common)
    ahead = compare(probabilities, noise, truths, **common)
    behind = compare(noise, probabilities, truths, **common)
    assert (level.macro.value, level.macro.low, level.macro.high) == (0, 0, 0)
    assert ahead.macro.low > 0.2  # type: ignore[operator]
    assert behind.macro.value == pytest.approx(-ahead.macro.value)  # type: ignore[operator]
    assert Difference.from_json(ahead.to_json()) == ahead


def test_pairing_shows_a_difference_that_two_single_intervals_would_hide() -> None:
    probabilities, truths, patients = answers(300)
    blunter = np.clip(probabilities + np.random.default_rng(0).normal(0, 0.1, (300, 3)), 0, 1)
    alone = [judged(p, truths, patients=patients).figure("AUROC") for p in (probabilities, blunter)]
    paired = compare(probabilities, blunter, truths, keys=KEYS, patients=patients).macro
    assert paired.value == pytest.approx(alone[0].value - alone[1].value)  # type: ignore[operator]
    widths = [figure.high - figure.low for figure in (paired, *alone)]  # type: ignore[operator]
    assert widths[0] < 0.7 * min(widths[1:])


def test_models_are_compared_where_both_answered() -> None:
    probabilities, truths, patients = answers()
    silent = probabilities.copy()
    silent[:30, 0] = np.nan
    silent[:, 1] = np.nan
    found = compare(silent, probabilities, truths, keys=KEYS, patients=patients, resamples=50)
    assert found.keys[KEYS[0]].value == 0
    assert found.keys[KEYS[1]].value is None
    assert found.keys[KEYS[1]].reason is not None


def test_a_regression_is_ahead_when_it_errs_less() -> None:
    truth = np.random.default_rng(0).uniform(20, 90, (60, 1))
    found = compare(
        truth + 3,
        truth + 5,
        truth,
        keys=["age"],
        patients=[str(n) for n in range(60)],
        task=Task.REGRESSION,
        resamples=50,
    )
    assert found.measure == "MAE"
    assert found.macro.value == pytest.approx(2)


def test_a_bootstrap_counts_the_sample_itself_first() -> None:
    found = bootstrap(lambda rows: {"sum": rows.sum(axis=1)}, list("aab"), resamples=10, seed=0)
    assert found["sum"].shape == (11,)
    assert found["sum"][0] == 3
