"""Splits: no patient in two parts, labels spread, the same for one seed, and a sentence if none."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.ecg import Lead
from training.corpus import Record
from training.labels import Label, LabelTable, Origin, Value
from training.splits import (
    EIGHTY_TWENTY,
    PARTS,
    CannotSplit,
    Order,
    Split,
    Way,
    make_split,
    stratify,
)


def record(number: int, patient: str, **changes: Any) -> Record:
    values: dict[str, Any] = {
        "id": f"r{number}",
        "patient": patient,
        "age": 60,
        "sex": None,
        "site": "A",
        "device": "ge",
        "quarter": "2024Q1",
        "sampling_frequency": 500.0,
        "leads": (Lead.II,),
        "samples": 5000,
        "format": "x",
        "sha256": f"{number}",
        "ai_visible": False,
        "patient_stated": True,
    }
    return Record(**values | changes)


def table(values: dict[str, Sequence[float]]) -> LabelTable:
    """Return labels of r0, r1 …: 1 present, 0 absent, NaN not said."""
    words = {1: Value.PRESENT, 0: Value.ABSENT}
    return LabelTable(
        tuple(
            Label(record=f"r{n}", key=key, value=words[int(value)], origin=Origin.REVIEWER)
            for key, column in values.items()
            for n, value in enumerate(column)
            if value == value  # noqa: PLR0124 - not NaN
        )
    )


def hospital(count: int, each: int = 1, **changes: Any) -> list[Record]:
    return [record(n, f"p{n // each}", **changes) for n in range(count)]


def patients_of(split: Split, records: Sequence[Record]) -> list[set[str]]:
    owner = {item.id: item.patient for item in records}
    return [{owner[item] for item in part} for part in split.parts.values()]


@given(
    patients=st.lists(st.integers(0, 12), min_size=40, max_size=60),
    seed=st.integers(0, 2**16),
    fractions=st.sampled_from([EIGHTY_TWENTY, Order().fractions]),
)
def test_no_patient_is_in_two_parts_and_no_recording_is_lost(
    patients: list[int], seed: int, fractions: dict[str, float]
) -> None:
    records = [record(n, f"p{number}") for n, number in enumerate(patients)]
    labels = table({"k": [n % 2 for n in range(len(records))]})
    if len(set(patients)) < len(fractions):
        return
    split = make_split(records, labels, Order(fractions=fractions, seed=seed))
    people = patients_of(split, records)
    assert sum(map(len, people)) == len(set().union(*people))
    assert sorted(item for part in split.parts.values() for item in part) == sorted(
        item.id for item in records
    )


def test_same_seed_gives_the_same_split_and_another_one_another() -> None:
    records, labels = hospital(60), table({"k": [n % 3 == 0 for n in range(60)]})
    one, two, other = (make_split(records, labels, Order(seed=seed)) for seed in (1, 1, 2))
    assert one == two
    assert one.train != other.train
    assert make_split(records[::-1], labels, Order(seed=1)) == one


def test_rare_labels_are_spread_as_the_fractions_say() -> None:
    random = np.random.default_rng(0)
    traits = random.random((1000, 12)) < np.linspace(0.01, 0.5, 12)
    shares = np.array([0.6, 0.15, 0.1, 0.15])
    parts = stratify(traits, shares.tolist(), seed=0)
    for trait in range(12):
        found = np.bincount(parts[traits[:, trait]], minlength=4)
        assert np.abs(found - shares * traits[:, trait].sum()).max() < 3
    assert np.abs(np.bincount(parts, minlength=4) - 1000 * shares).max() <= 10


def test_eighty_twenty_says_that_nothing_judges() -> None:
    records, labels = hospital(50), table({"k": [n % 2 for n in range(50)]})
    split = make_split(records, labels, Order(fractions=EIGHTY_TWENTY))
    assert (len(split.train), len(split.validation)) == (40, 10)
    assert any("no test set" in sentence for sentence in split.warnings)


def test_recording_without_any_label_is_left_out() -> None:
    labels = table({"k": [n % 2 for n in range(40)]})
    split = make_split(hospital(50), labels)
    assert sum(map(len, split.parts.values())) == 40


@pytest.mark.parametrize(
    ("records", "values", "sentence"),
    [
        (hospital(0), {"k": [1]}, "No recording has any"),
        (hospital(9), {"k": [float("nan")] * 9}, "No recording has any"),
        (hospital(9), {"k": [1] * 9}, "k is present in every"),
        (hospital(9), {"k": [0] * 9}, "k is absent in every"),
        (hospital(9), {"k": [1] * 9, "m": [0] * 9}, "None of k, m is both"),
        (hospital(9, each=3), {"k": [0, 1] * 4 + [0]}, "3 patients cannot stand in 4 parts"),
    ],
)
def test_what_cannot_teach_is_refused_in_a_sentence(
    records: list[Record], values: dict[str, list[float]], sentence: str
) -> None:
    with pytest.raises(CannotSplit, match=sentence):
        make_split(records, table(values))


def test_few_positives_of_a_part_are_told() -> None:
    labels = table({"k": [n < 6 for n in range(60)]})
    split = make_split(hospital(60), labels)
    assert any("test has fewer than 5 patients with k (1)" in s for s in split.warnings)


def test_recordings_that_do_not_say_whose_they_are_are_told() -> None:
    records = hospital(40, patient_stated=False)
    split = make_split(records, table({"k": [n % 2 for n in range(40)]}))
    assert any("do not say whose" in sentence for sentence in split.warnings)


def test_by_time_the_latest_patients_judge() -> None:
    records = [record(n, f"p{n // 2}", quarter=f"20{20 + n // 20}Q{n % 4 + 1}") for n in range(100)]
    labels = table({"k": [n % 2 for n in range(100)]})
    split = make_split(records, labels, Order(way=Way.TIME))
    last = {}
    for item in records:
        last[item.patient] = max(last.get(item.patient, ""), item.quarter or "")
    latest = [[last[p] for p in people] for people in patients_of(split, records)]
    for earlier, later in pairwise(latest):
        assert max(earlier) < min(later)
    assert tuple(split.parts) == PARTS


def test_by_time_what_has_no_date_stands_aside() -> None:
    quarters = [None, "2020Q1", "2021Q1", "2022Q1", "2023Q1"]
    records = [record(n, f"p{n}", quarter=quarters[n % 5]) for n in range(50)]
    labels = table({"k": [n % 2 for n in range(50)]})
    fractions = {"train": 0.5, "test": 0.5}
    split = make_split(records, labels, Order(way=Way.TIME, fractions=fractions))
    assert sum(map(len, split.parts.values())) == 40
    assert any("10 of 50 recordings stand in no part" in s for s in split.warnings)


def test_by_time_one_quarter_is_not_enough() -> None:
    labels = table({"k": [n % 2 for n in range(50)]})
    with pytest.raises(CannotSplit, match="no patient is left for"):
        make_split(hospital(50), labels, Order(way=Way.TIME))


def test_by_site_the_test_is_of_sites_that_never_taught() -> None:
    records = [record(n, f"p{n}", site="ABC"[n % 3] if n < 90 else "D") for n in range(100)]
    labels = table({"k": [n % 2 for n in range(100)]})
    split = make_split(records, labels, Order(way=Way.SITE))
    site = {item.id: item.site for item in records}
    assert {site[item] for item in split.test} == {"D"}
    assert "D" not in {site[item] for item in split.train + split.validation + split.calibration}
    chosen = make_split(records, labels, Order(way=Way.SITE, sites=("A",)))
    assert {site[item] for item in chosen.test} == {"A"}


def test_patient_of_two_sites_does_not_teach_what_it_judges() -> None:
    records = [record(n, f"p{n % 40}", site="A" if n < 60 else "B") for n in range(80)]
    labels = table({"k": [n % 2 for n in range(80)]})
    split = make_split(records, labels, Order(way=Way.SITE, sites=("B",)))
    people = patients_of(split, records)
    assert sum(map(len, people)) == len(set().union(*people))


@pytest.mark.parametrize(
    ("sites", "sentence"), [((), "all recordings are of one site"), (("Z",), "of the site Z")]
)
def test_site_that_cannot_be_held_out_is_told(sites: tuple[str, ...], sentence: str) -> None:
    records = [record(n, f"p{n}", site="B" if sites and n == 0 else "A") for n in range(40)]
    labels = table({"k": [n % 2 for n in range(40)]})
    with pytest.raises(CannotSplit, match=f"(?i){sentence}"):
        make_split(records, labels, Order(way=Way.SITE, sites=sites))


@pytest.mark.parametrize("fractions", [{"train": 0.5}, {"train": 1.5, "test": -0.5}, {"x": 1.0}])
def test_fractions_that_are_none_are_refused(fractions: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"none of|come to 1"):
        Order(fractions=fractions)


def test_split_is_stored_and_read_back(tmp_path: Path) -> None:
    split = make_split(hospital(60), table({"k": [n % 2 for n in range(60)]}), Order(seed=3))
    split.save(tmp_path / "splits" / "main.json")
    assert Split.load(tmp_path / "splits" / "main.json") == split
    with pytest.raises(ValueError, match="not a split"):
        Split.from_json('{"train": []}')
