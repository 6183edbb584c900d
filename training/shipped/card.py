"""What the cards of the shipped models say in words, and their form for people."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from analysis.analyse import analyse
from analysis.card import Card, Metric
from analysis.codes import VOCABULARY
from analysis.ecg import CHEST, ECG, Lead, Patient
from analysis.model import Model
from analysis.recipe import Recipe
from analysis.synthetic import Kind, simulate
from training.shipped.judge import MIN_ELSEWHERE, MIN_POSITIVES
from training.shipped.plans import Plan

CONFIGURATIONS: Final = """\
The figures are optimistic by what was chosen with held-out answers in view. About a hundred
configurations were compared before this one was settled. For 0.2.0 some forty: trees of several
depths and sizes, boosted trees, logistic regression and a small perceptron, with all features or a
family of them, the network alone and with two weights beside the trees, the margin of fibrillation
with five. For 0.3.0 some sixty: families of features (eight), the margins of conduction (thirteen),
right bundle branch block (six), ST and T (twelve) and normal (four), what trees and network count
beside a margin (ten), calibrations that weigh databases alike or are flattened (four), a network
trained on half of each recording (no worse, a third of the time), two averaged (no better), and
one that learns to tell all measurements too, on Chagas records besides (worse). Two seeds of the
trees differ by up to 0.005. The rules on what a source's silence means (below) were written after
the largest disagreements had been looked at. The limits in the margin of atrial fibrillation were
tuned on these very records (`analysis/CRITERIA.md`)."""
FAILURES: Final[Mapping[str, str]] = {
    "twelve-lead": """\
Of right bundle branch block it ranks lowest two that no measurement would find: LUDB's record 116,
which has the shape of left bundle branch block (QS in V1, no S in I and V6), and CPSC2018's A6360,
whose QRS lasts 93 ms; CPSC2018 does not tell complete from incomplete block. Of ST-T it misses
changes of one wall that LUDB's cardiologists call unspecific.

""",
    "any-lead": "",
}
"""What the largest disagreements with the sources are."""
TOOK: Final = """ When it was
last timed, for 0.3.0 on 2026-11-20, the whole took 15 min 45 s from nothing, 3 min 21 s of them
processor time, on a machine of two cores that some twenty other jobs shared."""
"""How long the whole took when it was last timed."""

INTENDED_USE: Final = (
    "Research use. A second reader beside the measurements for resting ECGs of adults; "
    "a physician reviews every finding. It is no alarm and triggers no treatment."
)
_LIMITS: Final = (
    "It learned from few ECGs, most of them selected for their findings, and says nothing "
    "reliable about how often a finding occurs. Rate, intervals, axis, pacing, AV block, flutter "
    "and acute ischaemia as such are the measurements' and the criteria's. Databases differ in "
    "what they call normal, abnormal ST-T or a block, and a hospital that none of them resembles "
    "may see worse. Children were hardly in the data. Atrial flutter with changing conduction "
    "is often taken for fibrillation."
)
LIMITS: Final[Mapping[str, str]] = {
    "twelve-lead": f"{_LIMITS} With up to two leads missing it answers, less surely.",
    "any-lead": f"{_LIMITS} It speaks of rhythm only, from any of the twelve leads.",
}

_TRIED: Final = 40
"""Simulated recordings of each kind."""


def write_card(model: Model, plan: Plan, considered: Mapping[str, str]) -> str:
    """Return the card as Markdown; every number in it comes from the package itself.

    Parameters
    ----------
    considered
        Findings that are not shipped, with the reason.
    """
    card = model.card
    sources = "\n".join(
        f"| {item.name} | {item.records} | {item.licence} | {item.citation} |"
        for item in card.training_data
    )
    left_out = "\n".join(f"- {VOCABULARY[key].name}: {why}" for key, why in considered.items())
    return f"""\
# {card.name} {card.version}

SHA-256 `{model.identity.digest}`, made {card.created}.

**Use.** {card.intended_use}

**Limits.** {card.limits}

**Input.** {_input(card.recipe)} Beside the waveform it reads {len(card.features)} measurements of
the same recording (`analysis/features.py`); one that was not measured counts as the median of
those it learned from. Adults from {card.minimum_age:g} years. Longer recordings are read in
windows: the highest probability counts, for *normal* the lowest.

**How.** {_HOW[plan.stem]}

## Results on databases that it never saw

Each group of databases was held out once, with everything fitted anew on the others; calibration
and thresholds for a group come from the held-out answers on the other groups. Intervals are 95 %
bootstrap over records. A row counts with {MIN_POSITIVES} positives, {MIN_ELSEWHERE} of them
outside of the group with most. *ECE* is the calibration error on databases that the calibration
did not see either, from 50 positives on; *by chance* is what perfect probabilities would show on
so few records, *recalibrated* what is left after two numbers were fitted on four fifths of the
same databases: the rest is how much rarer or commoner a finding is from one to the next, which
no model can know. *Coverage* is the part on which the analysis does not abstain
(signal, age under 18, pacing, suspected arm reversal); *AUROC, all* scores the others by their
raw probability too. The shipped file is a further fit on all records, its calibration and
thresholds from all held-out answers, and is not measured itself.
{CONFIGURATIONS}

**Thresholds.** {card.threshold_purpose} What a report states of atrial fibrillation is the
criterion's word, which keeps another balance (`analysis/CRITERIA.md`).

{_pooled_tables(card)}

{_group_part(card)}## Not shipped, and why

{left_out or "Everything that was tried is shipped; other findings were not tried on few leads."}

Never tried, because fewer than twenty recordings of these data have them: left bundle branch block
(6), atrial flutter (12), fascicular blocks (16 left anterior), second- and third-degree AV block,
pacing, pre-excitation. What is said of them, and of rates, the criteria say.

## Where it fails

{FAILURES[plan.stem]}Findings of this model that the analysis called present, on {_TRIED} simulated
recordings each (`analysis.synthetic`), gates included:

{_failure_table(model)}

## Training data

| source | records | licence | citation |
|---|---|---|---|
{sources}

A label that a source does not annotate counts as unknown there, not as absent; so does silence
on the shape of the QRS complexes and of ST and T in ventricular tachycardia and paced rhythm, and
on ST and T beside infarction and left bundle branch block. LUDB's recordings were all brought to
about one voltage, so that what its cardiologists state of hypertrophy is withheld, and *normal*
where that alone denies it. One code of Chapman-Ningbo stands for intraventricular block and for
the aberrant conduction of premature beats, and leaves conduction open there.
`training/shipped/corpus.py` holds the tables.

## Again

`python -m training.shipped --data ../shared/data --out analysis/models --created {card.created}`
on one core; seed 20; the same versions give the same weights.{TOOK}
"""


_HOW: Final[Mapping[str, str]] = {
    "twelve-lead": (
        "Each finding by soft decision trees on what was measured: of rhythm, of P and QRS, or "
        "everything. To all but premature beats and infarction the margin is added by which "
        "published limits are passed (`analysis/criteria/margins.py`), to normal the margin by "
        "which they are kept; normal and infarction have a residual network on the waveform "
        "beside the trees."
    ),
    "any-lead": (
        "Soft decision trees on measurements of RR intervals, P waves and odd beats. It learned "
        "from all leads together, from single ones, and from hand-held and two-lead recorders; "
        "to atrial fibrillation the margin by which its criterion is met is added. "
        "The waveform itself it does not read."
    ),
}


def _input(recipe: Recipe) -> str:
    return (
        f"{' '.join(recipe.leads)}; {recipe.samples} samples at {recipe.sampling_frequency:g} Hz "
        f"in {recipe.unit}, pass band {recipe.high_pass:g}–{recipe.low_pass:g} Hz; at least "
        f"{recipe.minimum_seconds:g} s recorded; at most {recipe.allowed_missing} leads missing."
    )


_COLUMNS: Final = (
    "AUROC",
    "coverage",
    "AUROC, abstentions too",
    "sensitivity",
    "specificity",
    "ECE",
    "ECE by chance",
    "ECE, recalibrated",
)


def _pooled_tables(card: Card) -> str:
    """Return one table for each pool of records."""
    pools = [metric.data for metric in card.metrics if metric.measure == "coverage"]
    thresholds = {label.key: f"{label.threshold:.2f}" for label in card.labels}
    parts = []
    for pool in dict.fromkeys(pools):
        keys = dict.fromkeys(item.label for item in card.metrics if item.data == pool)
        rows = [_pooled_row(card, pool, key, thresholds.get(key, "–")) for key in keys]
        head = (
            f"### {pool[0].upper()}{pool[1:]}\n\n"
            "| finding | with / without | AUROC | coverage | AUROC, all | threshold "
            "| sensitivity | specificity | ECE | by chance | recalibrated |\n"
            f"|{'---|' * 11}"
        )
        parts.append("\n".join([head, *rows]))
    return "\n\n".join(parts)


def _pooled_row(card: Card, pool: str, key: str, threshold: str) -> str:
    found = {
        metric.measure: metric
        for metric in card.metrics
        if metric.label == key and metric.data == pool
    }
    first = found["AUROC"]
    area, coverage, raw, *others = (
        _words(found[name]) if name in found else "–" for name in _COLUMNS
    )
    cells = (
        VOCABULARY[key].name, f"{first.positives} / {first.negatives}", area, coverage, raw,
        threshold, *others,
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _group_part(card: Card) -> str:
    """Return the figures of each group of databases and of people; empty where there are none."""
    pools = {metric.data for metric in card.metrics if metric.measure == "coverage"}
    single = [metric for metric in card.metrics if metric.data not in pools]
    groups = list(dict.fromkeys(metric.data for metric in single))
    if not groups:
        return ""
    rows = [f"| finding | {' | '.join(groups)} |", "|---" * (len(groups) + 1) + "|"]
    for key in dict.fromkeys(metric.label for metric in single):
        found = {metric.data: metric for metric in single if metric.label == key}
        cells = [_words(found[group]) if group in found else "–" for group in groups]
        rows.append(f"| {VOCABULARY[key].name} | {' | '.join(cells)} |")
    return (
        "AUROC in each group and subgroup that has at least three ECGs with and three without; a "
        "low\npooled AUROC beside good ones within the groups means that it ranks well inside a "
        "hospital and\nsets the level wrongly between hospitals.\n\n" + "\n".join(rows) + "\n\n"
    )


def _failure_table(model: Model) -> str:
    names = [label.entry.name for label in model.card.labels]
    rows = [f"| recording | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for title, ecgs in _hard_cases().items():
        counts = _counted(model, ecgs)
        rows.append(f"| {title} | {' | '.join(map(str, counts))} |")
    return "\n".join(rows)


def _counted(model: Model, ecgs: Sequence[ECG]) -> list[int]:
    """Return how often each label is called present."""
    counts = dict.fromkeys((label.key for label in model.card.labels), 0)
    for ecg in ecgs:
        for finding in analyse(ecg, model, patient=Patient(age=60.0)).findings:
            if finding.model == model.identity.name and finding.present:
                counts[finding.key] += 1
    return list(counts.values())


def _hard_cases() -> dict[str, list[ECG]]:
    sinus = [simulate(Kind.SINUS, seed=seed, noise=0.02).ecg for seed in range(_TRIED)]
    return {
        "noise, no heart": [simulate(Kind.NOISE, seed=seed).ecg for seed in range(_TRIED)],
        "flat line": [replace(ecg, signal=0 * ecg.signal) for ecg in sinus],
        "sinus rhythm": sinus,
        "sinus rhythm, arm leads swapped": [_swap_arms(ecg) for ecg in sinus],
        "sinus rhythm, V1 and V2 missing": [
            ecg.select(lead for lead in ecg.leads if lead not in (Lead.V1, Lead.V2))
            for ecg in sinus
        ],
        "sinus rhythm, lead I alone": [ecg.select((Lead.I,)) for ecg in sinus],
        "atrial fibrillation": [
            simulate(Kind.ATRIAL_FIBRILLATION, seed=seed, noise=0.02).ecg for seed in range(_TRIED)
        ],
        "left bundle branch block": [
            simulate(Kind.LBBB, seed=seed, noise=0.02).ecg for seed in range(_TRIED)
        ],
    }


def _swap_arms(ecg: ECG) -> ECG:
    """Return it as with the arm electrodes exchanged: I inverted, II and III, aVR and aVL."""
    places = (Lead.I, Lead.III, Lead.II, Lead.aVL, Lead.aVR, Lead.aVF, *CHEST)
    signal = ecg.select(places).signal.copy()
    signal[0] *= -1
    return replace(ecg, signal=signal)


def _words(metric: Metric) -> str:
    return f"{metric.value:.2f} ({metric.low:.2f}–{metric.high:.2f})"
