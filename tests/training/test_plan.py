import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.recipe import Recipe
from training.labels import Origin
from training.plan import Augment, Metric, Mode, Plan, Precision, Schedule, Task
from training.splits import Order, Way

SMALL = {"name": "AF", "keys": ["atrial_fibrillation"]}
TOML = """
name = "AF in three leads"
keys = ["atrial_fibrillation", "atrial_flutter"]
mode = "all"
base = "current"
origins = ["over-read", "vendor"]
learning_rate = "find"
minutes = 90
threshold_purpose = "specificity 0.95"

[recipe]
leads = ["I", "II", "V1"]

[split]
way = "site"
sites = ["north"]
seed = 3

[augment]
mixup = 0.2
"""


def test_a_plan_says_only_what_it_must() -> None:
    plan = Plan.from_mapping(SMALL)
    assert plan.task is Task.MULTI_LABEL
    assert plan.watched is Metric.AUROC
    assert plan.origins == (Origin.OVER_READ, Origin.REVIEWER)
    assert plan.rate == 0.001
    assert Plan.from_mapping(SMALL | {"mode": "head"}).rate == 0.01
    assert plan.recipe.sampling_frequency == 100.0
    assert len(plan.recipe.leads) == 12


def test_toml_and_json_give_the_same_plan(tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text(TOML)
    plan = Plan.load(tmp_path / "plan.toml")
    assert plan.recipe.leads == ("I", "II", "V1")
    assert plan.recipe.samples == 1000
    assert isinstance(plan.split, Order)
    assert plan.split.way is Way.SITE
    assert plan.augment == Augment(mixup=0.2)
    (tmp_path / "plan.json").write_text(plan.to_json())
    again = Plan.load(tmp_path / "plan.json")
    assert again == plan
    assert again.digest == plan.digest


@given(
    st.builds(
        Plan,
        name=st.text(min_size=1).filter(str.strip),
        keys=st.lists(st.sampled_from(["lbbb", "rbbb", "age"]), min_size=2, unique=True).map(tuple),
        mode=st.sampled_from(Mode),
        schedule=st.sampled_from(Schedule),
        precision=st.sampled_from(Precision),
        seed=st.integers(0, 2**32 - 1),
        learning_rate=st.floats(1e-8, 1.0) | st.just("find"),
        minutes=st.none() | st.floats(1, 1000),
        split=st.just("split.json") | st.builds(Order, seed=st.integers(0, 9)),
        devices=st.integers(1, 8) | st.just("auto"),
    )
)
def test_a_stored_plan_comes_back_the_same(plan: Plan) -> None:
    assert Plan.from_json(plan.to_json()) == plan


def test_every_setting_changes_the_digest() -> None:
    plan = Plan.from_mapping(SMALL)
    others = [
        replace(plan, seed=1),
        replace(plan, augment=Augment.none()),
        replace(plan, recipe=replace(plan.recipe, low_pass=30.0)),
        replace(plan, split=Order(seed=1)),
    ]
    assert len({plan.digest, *(other.digest for other in others)}) == 5


def test_a_number_is_judged_by_its_error() -> None:
    plan = Plan(name="age", keys=("age",), task=Task.REGRESSION)
    assert plan.watched is Metric.MAE
    assert Plan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"keys": []}, "keys is empty: say what is to be learned."),
        ({"keys": "lbbb"}, "keys is a list of words."),
        ({"keys": ["lbbb", "lbbb"]}, "keys names something twice."),
        ({"name": " "}, "name is a text, and not empty."),
        ({"task": "guess"}, "task is 'guess'; it is one of multi-label, multi-class, regression."),
        ({"task": "multi-class"}, "keys needs two or more."),
        ({"task": "regression", "keys": ["age", "lvef"]}, "Regression learns one number"),
        ({"task": "regression", "metric": "auroc"}, "auroc is no metric of regression."),
        ({"metric": "mae"}, "mae is no metric of multi-label."),
        ({"balance": "equal", "keys": ["a", "b"]}, "that needs one finding"),
        ({"origins": ["ai"]}, "origins is 'ai'; it is one of over-read"),
        ({"origins": []}, "nobody's labels would teach"),
        ({"epochs": 0}, "epochs is 0; it is a whole number from 1 to 10000."),
        ({"epochs": True}, "epochs is True"),
        ({"batch_size": 2.5}, "batch_size is 2.5"),
        ({"learning_rate": 3}, "learning_rate is 3; it is a number from 1e-08 to 1."),
        ({"learning_rate": "best"}, "learning_rate is 'best'"),
        ({"minutes": 0}, "minutes is 0"),
        ({"devices": 0}, "devices is 0"),
        ({"class_weights": "yes"}, "class_weights is true or false."),
        ({"threshold_purpose": "specificity 95"}, "threshold_purpose is f-max, or"),
        ({"augment": {"noise": -1}}, "augment.noise is -1"),
        ({"augment": {"blur": 1}}, "augment has no blur; it has lead_dropout"),
        ({"recipe": {"samples": 0}}, "The recipe cannot be used: samples must be"),
        ({"recipe": {"leads": ["Z9"]}}, "The recipe cannot be used"),
        ({"split": {"fractions": {"train": 2}}}, "The split cannot be made"),
        ({"split": {"fractions": {}}}, "The split cannot be made"),
        ({"split": {"way": "luck"}}, "split.way is 'luck'"),
        ({"split": {"seed": -1}}, "split.seed is -1"),
        ({"epoch": 3}, "The plan has no epoch; it has name, keys"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_a_sentence(
    change: dict[str, object], sentence: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        Plan.from_json(json.dumps(SMALL | change))


@pytest.mark.parametrize(
    ("file", "text", "sentence"),
    [
        ("plan.toml", "name = ", "The plan is no TOML"),
        ("plan.json", "{", "The plan is no JSON"),
        ("plan.json", "[]", "The plan is a table of its fields."),
        ("plan.json", '{"name": "x"}', "The plan does not say its keys."),
        ("plan.json", '{"name": "x", "name": "y", "keys": ["a"]}', "given twice"),
        ("plan.json", '{"name": "x", "keys": ["a"], "minutes": NaN}', "NaN is no JSON number"),
    ],
)
def test_a_file_that_holds_no_plan_is_refused(
    file: str, text: str, sentence: str, tmp_path: Path
) -> None:
    (tmp_path / file).write_text(text)
    with pytest.raises(ValueError, match=sentence):
        Plan.load(tmp_path / file)


def test_a_whole_recipe_may_be_stated() -> None:
    recipe = Recipe(sampling_frequency=500.0, samples=5000, stride=5000, minimum_seconds=5.0)
    plan = Plan.from_mapping({**SMALL, "recipe": recipe.to_mapping()})
    assert plan.recipe == recipe
