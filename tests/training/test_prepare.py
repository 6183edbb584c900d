"""What a plan finds in its corpus: each thing that cannot teach is a sentence, and counted."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import tiny_model
from corpora import imported, write_dicom, write_plain
from onnx import helper
from safetensors.torch import save_file
from small_runs import KEYS, SPLIT, label, name, plan, two_hearts

from analysis.ecg import Lead, Sex
from training.architectures import build
from training.bases import net_of, open_base
from training.corpus import Corpus
from training.labels import Origin
from training.plan import Balance, Mode, Plan, Task
from training.prepare import CannotTrain, Prepared, prepare
from training.splits import Order, Split
from training.train import check


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return two_hearts(tmp_path, 20)


def refusal(wanted: Plan, act: Callable[[Plan], Any] = prepare) -> str:
    with pytest.raises(CannotTrain) as caught:
        act(wanted)
    sentence = str(caught.value)
    assert sentence.endswith((".", "?"))
    assert "\n" not in sentence
    return sentence


def notes(wanted: Plan) -> str:
    return " ".join(prepare(wanted).notes)


def sites(tmp_path: Path, count: int = 24) -> Corpus:
    """Return a corpus of the sites A and B, without labels."""
    corpus = Corpus.create(tmp_path / "corpus")
    for site in "AB":
        source = tmp_path / site
        for number in range(count):
            if number % 2 == (site == "B"):
                write_plain(source / name(number), number)
        imported(corpus, source, site)
    return corpus


def test_no_corpus_and_an_empty_one_are_told_apart(tmp_path: Path) -> None:
    missing = Plan(name="x", keys=KEYS, corpus=str(tmp_path / "none"))
    assert "There is no corpus" in refusal(missing)
    empty = Corpus.create(tmp_path / "empty")
    assert "holds no recording" in refusal(plan(empty))


def test_a_site_that_is_not_there_is_named(corpus: Corpus) -> None:
    assert "No recording is of the site B; there are A." in refusal(plan(corpus, sites=("B",)))


def test_one_class_alone_is_refused_and_beside_others_left_out(corpus: Corpus) -> None:
    label(corpus, dict.fromkeys(range(20), True), "paced")
    assert "paced is present in every labelled recording" in refusal(plan(corpus, keys=("paced",)))
    found = prepare(plan(corpus, keys=("lbbb", "paced")))
    assert found.keys == ("lbbb",)
    assert any("paced is left out" in note for note in found.notes)


def test_three_patients_are_too_few(tmp_path: Path) -> None:
    few = two_hearts(tmp_path, 3)
    assert "3 patients cannot stand in 4 parts" in refusal(plan(few))


def test_an_unknown_key_is_named_with_the_nearest_one(corpus: Corpus) -> None:
    assert "called lbb; did you mean lbbb?" in refusal(plan(corpus, keys=("lbb",)))
    assert "it speaks of normal, lbbb." in refusal(plan(corpus, keys=("zebra",)))


def test_labels_of_an_origin_that_the_plan_does_not_take_are_named(corpus: Corpus) -> None:
    label(corpus, {n: n < 10 for n in range(20)}, "chagas", origin=Origin.CODE)
    assert "only code speaks" in refusal(plan(corpus, keys=("chagas",)))
    assert prepare(plan(corpus, keys=("chagas",), origins=(Origin.CODE,))).keys == ("chagas",)


def test_unknown_labels_are_counted_and_teach_nothing(corpus: Corpus) -> None:
    label(corpus, {n: n % 4 == 0 for n in range(10)}, "rbbb")
    said = notes(plan(corpus, keys=("lbbb", "rbbb")))
    assert "10 of 40 labels are unknown" in said
    assert "10 of 20 recordings have no label" in notes(plan(corpus, keys=("rbbb",)))


def test_contradictory_labels_are_counted_and_unknown(corpus: Corpus) -> None:
    label(corpus, {0: True, 1: False}, author="bob")
    said = notes(plan(corpus))
    assert "4 labels contradict each other" in said
    assert "4 of 40 labels are unknown" in said or "2 of 20 recordings have no label" in said


def test_a_recording_whose_file_is_missing_is_counted(corpus: Corpus) -> None:
    corpus.path(corpus.records[0].id).unlink()
    assert "The files of 1 of 20 recordings are missing." in notes(plan(corpus))
    for record in corpus.records[1:]:
        corpus.path(record.id).unlink()
    assert "No recording is left." in refusal(plan(corpus))


def test_a_label_that_tells_the_site_is_refused(tmp_path: Path) -> None:
    leaking = sites(tmp_path)
    label(leaking, {number: number % 2 == 0 for number in range(24)}, "paced")
    label(leaking, {number: number % 3 == 0 for number in range(24)}, "pvc")
    assert "a model would learn the site" in refusal(plan(leaking, keys=("paced",)))
    found = prepare(plan(leaking, keys=("paced", "pvc")))
    assert found.keys == ("pvc",)
    assert any("paced is left out: paced is constant" in note for note in found.notes)


def test_recordings_that_the_recipe_cannot_read_are_counted(corpus: Corpus) -> None:
    first = corpus.records[0].id
    found = prepare(plan(corpus), {first: "it is too short"})
    assert "1 recordings are left out: it is too short." in found.notes
    assert first not in found.records


# Splits


def test_a_stored_split_is_taken_without_those_who_withdrew(corpus: Corpus, tmp_path: Path) -> None:
    first = prepare(plan(corpus))
    path = tmp_path / "split.json"
    gone = first.split.train[0]
    first.split.save(path)
    corpus.path(gone).unlink()
    again = prepare(plan(corpus, split=str(path)))
    assert again.split.test == first.split.test
    assert gone not in again.split.train
    path.write_text("{}")
    assert "holds no split" in refusal(plan(corpus, split=str(path)))


def test_a_stored_split_that_parts_no_patients_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    ids = [record.id for record in corpus.records]
    corpus.regroup(dict.fromkeys(ids, "one and the same"))
    split = Split(train=tuple(ids[:12]), validation=tuple(ids[12:]), seed=0)
    split.save(tmp_path / "split.json")
    assert "in two parts" in refusal(plan(corpus, split=str(tmp_path / "split.json")))


def test_a_training_part_of_one_class_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    order = {name(number): number for number in range(20)}
    ids = {number: corpus.resolve(file)[0] for file, number in order.items()}
    with_it = tuple(ids[number] for number in range(1, 20, 2))
    without = tuple(ids[number] for number in range(0, 20, 2))
    Split(train=with_it, validation=without, seed=0).save(tmp_path / "split.json")
    said = refusal(plan(corpus, split=str(tmp_path / "split.json")))
    assert "The training part has no patient with, or none without, lbbb" in said


# Other targets


def people(tmp_path: Path, count: int = 40) -> Corpus:
    """Return a corpus of recordings that say age and sex."""
    for number in range(count):
        write_dicom(
            tmp_path / "source" / f"{number}.dcm",
            number,
            f"P{number}",
            PatientAge=f"{20 + number:03}Y",
            PatientSex="FM"[number % 2],
        )
    corpus = Corpus.create(tmp_path / "corpus")
    imported(corpus, tmp_path / "source")
    return corpus


def test_age_and_sex_are_learned_from_what_recordings_declare(tmp_path: Path) -> None:
    corpus = people(tmp_path)
    age = prepare(plan(corpus, keys=("age",), task=Task.REGRESSION))
    assert {float(row[0]) for row in age.targets.values()} == set(map(float, range(20, 60)))
    sex = prepare(plan(corpus, keys=("female",)))
    assert _share(sex) == 0.5
    assert {r.sex for r in sex.records.values()} == {Sex.FEMALE, Sex.MALE}
    other = refusal(plan(corpus, keys=("lvef",), task=Task.REGRESSION))
    assert "0 recordings have a number called lvef (labels like lvef=55" in other


def test_a_number_is_learned_from_labels_that_state_one(corpus: Corpus) -> None:
    for number in range(20):
        label(corpus, {number: True}, f"lvef={40 + number}", time="2024")
    label(corpus, {3: True}, "lvef=99", time="2025")
    label(corpus, {4: True}, "lvef=unknown", time="2025")
    found = prepare(plan(corpus, keys=("lvef",), task=Task.REGRESSION))
    told = sorted(float(row[0]) for row in found.targets.values())
    assert told == [40, 41, 42, *range(44, 60), 99]


def _share(found: Prepared) -> float:
    return float(found.matrix(tuple(found.targets)).mean())


@pytest.mark.parametrize("balance", [Balance.EQUAL, Balance.MATCHED])
def test_cases_get_as_many_controls(tmp_path: Path, balance: Balance) -> None:
    corpus = people(tmp_path)
    cases = range(3, 40, 4)
    resolve = corpus.resolver()
    given = {resolve(f"{n}.dcm")[0]: n in cases for n in range(40)}
    _say(corpus, given)
    found = prepare(plan(corpus, keys=("chagas",), balance=balance, split=SPLIT))
    assert _share(found) == 0.5
    assert f"({balance})" in " ".join(found.notes)
    if balance is Balance.MATCHED:
        assert {record.sex for record in found.records.values()} == {Sex.MALE}


def _say(corpus: Corpus, given: dict[str, bool]) -> None:
    from training.labels import Label, Value  # noqa: PLC0415 - beside its only use

    corpus.add_labels(
        Label(
            record=record,
            key="chagas",
            value=Value.PRESENT if present else Value.ABSENT,
            origin=Origin.REVIEWER,
        )
        for record, present in given.items()
    )


def test_several_classes_of_one_recording_teach_nothing(corpus: Corpus) -> None:
    label(corpus, {n: n == 1 for n in range(20)}, "rbbb")
    wanted = plan(corpus, keys=("lbbb", "rbbb"), task=Task.MULTI_CLASS)
    assert "No recording is of the class rbbb alone." in refusal(wanted)
    label(corpus, {0: True, 2: True, 4: True, 6: True, 8: True}, "paced")
    wanted = plan(corpus, keys=("lbbb", "paced"), task=Task.MULTI_CLASS)
    found = prepare(wanted)
    assert set(found.matrix(found.split.train).sum(axis=1)) == {1.0}


# Bases


def base(tmp_path: Path, content: bytes) -> str:
    path = tmp_path / "base.onnx"
    path.write_bytes(content)
    return str(path)


def test_a_base_that_is_not_there_is_named(corpus: Corpus) -> None:
    assert "There is no base resnet9000" in refusal(plan(corpus, base="resnet9000"), check)


def test_the_shipped_model_is_a_base(corpus: Corpus) -> None:
    base = open_base(plan(corpus, base="current", mode=Mode.HEAD))
    assert base.net.width >= 64
    assert "begin a new head" in refusal(plan(corpus, base="current", mode=Mode.CONTINUE), check)


def test_an_architecture_has_no_head_to_learn_on(corpus: Corpus) -> None:
    wanted = plan(corpus, base="inceptiontime", mode=Mode.HEAD)
    assert "has learned nothing" in refusal(wanted, check)


def test_a_model_without_a_card_needs_a_recipe(corpus: Corpus, tmp_path: Path) -> None:
    bare = base(tmp_path, tiny_model.graph(samples=300).SerializeToString())
    assert "it has no card" in refusal(plan(corpus, base=bare, mode=Mode.ALL), check)
    recipe = tiny_model.RECIPE
    wanted = plan(corpus, base=bare, mode=Mode.ALL, recipe=recipe)
    assert "it reads [12, 300]" in refusal(wanted, check)


def test_an_onnx_that_cannot_be_trained_is_refused_by_its_operators(
    corpus: Corpus, tmp_path: Path
) -> None:
    frozen = tiny_model.graph(nodes=[helper.make_node("NonZero", ["mean"], ["flat"])])
    content = onnx.ModelProto.FromString(frozen.SerializeToString()).SerializeToString()
    said = refusal(
        plan(corpus, base=base(tmp_path, content), recipe=tiny_model.RECIPE, mode=Mode.ALL), check
    )
    assert "NonZero" in said


def test_a_model_of_other_findings_is_not_continued(corpus: Corpus) -> None:
    wanted = plan(corpus, keys=("lbbb",), mode=Mode.CONTINUE)
    assert "only the same is continued" in refusal(wanted, check)
    assert check(plan(corpus, mode=Mode.CONTINUE)).keys == KEYS


def test_the_split_has_the_parts_that_its_order_names(corpus: Corpus) -> None:
    order = Order(fractions={"train": 0.8, "validation": 0.2})
    found = prepare(plan(corpus, split=order))
    assert set(found.split.parts) == {"train", "validation"}


@pytest.mark.slow
def test_an_ecgfounder_checkpoint_is_a_base(corpus: Corpus, tmp_path: Path) -> None:
    made = build("net1d", leads=1, outputs=150, norm=True).state_dict()
    names = {each: each.removeprefix("backbone.").replace("head.", "dense.") for each in made}
    path = tmp_path / "1_lead_ECGFounder.safetensors"
    save_file({names[each]: value.contiguous() for each, value in made.items()}, path)
    wanted = plan(corpus, base=str(path), mode=Mode.HEAD)
    base = open_base(wanted)
    assert (base.recipe.sampling_frequency, base.recipe.leads) == (500.0, (Lead.I,))
    net = net_of(base, wanted).state_dict()
    assert net["head.weight"].shape[0] == len(KEYS)
    assert all(net[each].equal(made[each]) for each in net if each.startswith("backbone."))
    path.write_bytes(b"torn")
    assert "no checkpoint of tensors" in refusal(wanted, check)
