"""From findings to statements: who decides, what is left out, what comes first."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis import statements
from analysis.codes import VOCABULARY
from analysis.ecg import Lead
from analysis.result import Finding, Origin

KEYS = sorted(VOCABULARY)


def finding(
    key: str,
    *,
    present: bool | None = True,
    origin: Origin = Origin.MODEL,
    probability: float | None = 0.9,
    evidence: tuple[str, ...] = (),
    leads: tuple[Lead, ...] = (),
) -> Finding:
    entry = VOCABULARY[key]
    model = origin is Origin.MODEL
    return Finding(
        key=key,
        code=entry.code,
        name=entry.name,
        probability=probability if model else None,
        threshold=0.5 if model else None,
        present=present,
        origin=origin,
        evidence=evidence,
        leads=leads,
        reason="a test" if present is None else None,
    )


def said(*findings: Finding, normal: bool = False) -> list[str]:
    return [line.key for line in statements.state(findings, normal=normal)]


@pytest.mark.parametrize("key", sorted(statements.MEASURED))
@pytest.mark.parametrize("measured", [True, False, None])
def test_a_model_never_contradicts_a_measurement(key: str, *, measured: bool | None) -> None:
    model = finding(key, present=not measured)
    criterion = finding(key, present=measured, origin=Origin.CRITERIA)
    for order in itertools.permutations([model, criterion]):
        decided = statements.decide(order)
        assert [item.present for item in decided] == ([] if measured is None else [measured])


def test_a_model_decides_what_is_not_measured_and_pacing_holds_if_either_sees_it() -> None:
    for key, expected in (("rbbb", False), ("paced", True)):
        model = finding(key, present=False)
        criterion = finding(key, present=True, origin=Origin.CRITERIA)
        for order in itertools.permutations([model, criterion]):
            (decided,) = statements.decide(order)
            assert decided.present is expected
    (decided,) = statements.decide([finding("rbbb", present=None), finding("rbbb")])
    assert decided.present


def test_where_model_and_criteria_agree_the_evidence_of_both_is_shown() -> None:
    model = finding("rbbb", probability=0.83)
    criterion = finding(
        "rbbb", origin=Origin.CRITERIA, evidence=("QRS duration 134 ms",), leads=(Lead.V1,)
    )
    for order in itertools.permutations([model, criterion]):
        (line,) = statements.state(order, normal=False)
        assert line.origin is Origin.MODEL
        assert line.evidence == ("probability 0.83, threshold 0.50", "QRS duration 134 ms")
        assert line.leads == (Lead.V1,)


def test_contradicting_and_weaker_statements_are_left_out_and_order_is_by_urgency() -> None:
    present = ["sinus_rhythm", "atrial_fibrillation", "lbbb", "ivcd", "conduction_disturbance"]
    assert said(*map(finding, present)) == ["atrial_fibrillation", "lbbb"]


@pytest.mark.parametrize(
    ("present", "kept"),
    [
        (("sinus_rhythm", "sinus_bradycardia"), {"sinus_bradycardia"}),
        (("atrial_fibrillation", "pac", "sinus_arrhythmia"), {"atrial_fibrillation"}),
        (("ventricular_bigeminy", "pvc"), {"ventricular_bigeminy"}),
        (("atrial_bigeminy", "pac"), {"atrial_bigeminy"}),
        (("av_block_2", "sinus_bradycardia", "pac", "sinus_arrhythmia"), {"av_block_2"}),
        (("lafb", "left_axis"), {"lafb"}),
        (("rvh", "right_axis", "hypertrophy"), {"rvh"}),
        (("lbbb", "lvh", "st_elevation", "pathological_q"), {"lbbb"}),
        (("preexcitation", "rbbb", "t_inversion"), {"preexcitation"}),
        (("rbbb", "incomplete_rbbb", "st_elevation"), {"rbbb", "st_elevation"}),
        (("paced", "lbbb", "long_qt", "lvh"), {"paced"}),
    ],
)
def test_contradictions_are_resolved_by_the_table(present: tuple[str, ...], kept: set[str]) -> None:
    assert set(said(*map(finding, present))) == kept


def test_the_table_of_contradictions_has_no_circle_and_speaks_of_known_findings() -> None:
    for key, excluded in statements.EXCLUDES.items():
        assert {key} | excluded <= set(VOCABULARY)
    seen: set[str] = set()
    waiting = dict(statements.EXCLUDES)
    while waiting:
        free = {key for key, excluded in waiting.items() if not excluded & set(waiting)}
        assert free, f"these exclude each other: {sorted(waiting)}"
        seen |= free
        waiting = {key: excluded for key, excluded in waiting.items() if key not in free}


@given(present=st.sets(st.sampled_from(KEYS), max_size=12))
def test_something_is_always_said_of_what_was_found_most_urgent_first(present: set[str]) -> None:
    lines = said(*map(finding, sorted(present)), normal=True)
    assert bool(lines) == bool(present)
    urgencies = [VOCABULARY[key].urgency for key in lines]
    assert urgencies == sorted(urgencies)
    for key in lines:
        assert not statements.EXCLUDES.get(key, frozenset()) & set(lines)


def test_the_more_probable_of_two_equally_urgent_statements_comes_first() -> None:
    assert said(finding("lvh", probability=0.6), finding("t_inversion", probability=0.8)) == [
        "t_inversion",
        "lvh",
    ]


def test_normal_is_said_only_where_it_may_be() -> None:
    assert said(finding("normal")) == []
    assert said(finding("normal"), normal=True) == ["normal"]


def test_what_was_not_assessed_is_said_once_for_each_reason() -> None:
    findings = [finding("lvh", present=None), finding("rvh", present=None)]
    assert statements.not_assessed(findings) == ("Not assessed (a test): every finding.",)
    (sentence,) = statements.not_assessed([*findings, finding("lae")])
    assert sentence == (
        "Not assessed (a test): Left ventricular hypertrophy, Right ventricular hypertrophy."
    )
