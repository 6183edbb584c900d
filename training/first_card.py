"""What the card of the first model says in words, and its form for people."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from analysis.card import Card, Metric
from analysis.classify import classify
from analysis.codes import VOCABULARY
from analysis.ecg import CHEST, ECG, Lead, Patient
from analysis.model import Model
from analysis.recipe import Recipe
from analysis.synthetic import Kind, simulate

INTENDED_USE = (
    "Research use. A second reader beside the measurements for resting 12-lead ECGs of adults; "
    "a physician reviews every finding. It is no alarm and triggers no treatment."
)
LIMITS = (
    "It learned from about 420 ECGs of 12 leads, most of them selected for their findings, and "
    "says nothing reliable about how often a finding occurs. It does not judge rate, sinus "
    "rhythm, intervals, axis, pacing, complete AV block, flutter or acute ischaemia as such: too "
    "few examples, or the measurements do it better. Databases differ in what they call normal, "
    "hypertrophy or ST-T change, and a hospital that none of them resembles may see worse. "
    "Children were not in the data. With up to two leads missing it answers, less surely."
)

_CINC = (
    "Perez Alday EA et al., Physiol Meas 2020;41:124003; "
    "Reyna MA et al., Computing in Cardiology 2021;48"
)
SOURCES: Mapping[str, tuple[str, str]] = {
    "CPSC2018": (
        "CC BY 4.0",
        f"Liu F et al., J Med Imaging Health Inform 2018;8:1368-1373; {_CINC}",
    ),
    "CPSC-Extra": (
        "CC BY 4.0",
        f"Liu F et al., J Med Imaging Health Inform 2018;8:1368-1373; {_CINC}",
    ),
    "Chapman-Ningbo": (
        "CC BY 4.0",
        f"Zheng J et al., Sci Data 2020;7:48; Zheng J et al., Sci Rep 2020;10:2898; {_CINC}",
    ),
    "PTB-XL": ("CC BY 4.0", f"Wagner P et al., Sci Data 2020;7:154; {_CINC}"),
    "PTB": ("ODC-By 1.0", f"Bousseljot R et al., Biomed Tech 1995;40(S1):317; {_CINC}"),
    "SPH": ("Creative Commons", "Liu H et al., Sci Data 2022;9:272"),
    "LUDB": ("ODC-By 1.0", "Kalyakulina AI et al., IEEE Access 2020;8:186181-186190"),
    "MIT-BIH": (
        "ODC-By 1.0",
        "Moody GB, Mark RG, IEEE Eng Med Biol Mag 2001;20(3):45-50",
    ),
    "CinC2017": ("ODC-By 1.0", "Clifford GD et al., Computing in Cardiology 2017;44"),
}
"""Licence and citation of each source; MIT-BIH and CinC 2017 serve training only."""


def write_card(model: Model, considered: Sequence[str]) -> str:
    """Return the card as Markdown; every number in it comes from the package itself."""
    card = model.card
    shipped = [label.key for label in card.labels]
    left_out = [VOCABULARY[key].name for key in considered if key not in shipped]
    sources = "\n".join(
        f"| {item.name} | {item.records} | {item.licence} | {item.citation} |"
        for item in card.training_data
    )
    return f"""\
# {card.name} {card.version}

SHA-256 `{model.identity.digest}`, made {card.created}.

**Use.** {card.intended_use}

**Limits.** {card.limits} Tried, and not shipped because the data do not carry them:
{", ".join(left_out)}.

**Input.** {_input(card.recipe)} Adults from {card.minimum_age:g} years. Longer recordings are
read in windows: the highest probability counts, for *normal* the lowest.

## Results on databases that the net never saw

Each group of databases was held out once; intervals are 95 % bootstrap over records.
Calibration and thresholds were fitted on these same answers, so that sensitivity, specificity
and calibration error (ECE) are optimistic. The shipped net is a further fit on all records and
is not measured itself.

**Thresholds.** {card.threshold_purpose}

{_pooled_table(card)}

AUROC in each held-out group that has at least three ECGs with and three without:

{_group_table(card)}

A low pooled AUROC beside good ones within the groups means that the net ranks well inside a
hospital and sets the level wrongly between hospitals.

## Where it fails

Findings called present, on a hundred simulated recordings each (`analysis.synthetic`); the node
keeps noise and flat lines from it by the quality gate, which these figures leave out.

{_failure_table(model)}

The tables above show the rest: at these thresholds it overlooks a large part of what it names,
and it does best on the databases that resemble the others.

## Training data

| source | records | licence | citation |
|---|---|---|---|
{sources}

MIT-BIH (windows of 10 s, two leads) and CinC 2017 (lead I) taught rhythm and were not evaluated
on. A label that a source does not annotate counts as unknown there, not as absent;
`training/first_corpus.py` holds the tables.

## Again

`python -m training.first_model --data ../shared/data --out analysis/models/twelve-lead.onnx
--created {card.created}` on one core; the same versions give the same weights.
"""


def _input(recipe: Recipe) -> str:
    return (
        f"{' '.join(recipe.leads)}; {recipe.samples} samples at {recipe.sampling_frequency:g} Hz "
        f"in {recipe.unit}, pass band {recipe.high_pass:g}–{recipe.low_pass:g} Hz; at least "
        f"{recipe.minimum_seconds:g} s recorded; at most {recipe.allowed_missing} leads missing."
    )


def _pooled_table(card: Card) -> str:
    rows = ["| finding | with / without | AUROC | threshold | sensitivity | specificity | ECE |"]
    rows.append("|---|---|---|---|---|---|---|")
    for label in card.labels:
        found = {
            metric.measure: metric
            for metric in card.metrics
            if metric.label == label.key and metric.data == "all held-out databases"
        }
        count = f"{found['AUROC'].positives} / {found['AUROC'].negatives}"
        numbers = [_words(found[name]) for name in ("sensitivity", "specificity", "ECE")]
        rows.append(
            f"| {label.entry.name} | {count} | {_words(found['AUROC'])} "
            f"| {label.threshold:.2f} | {' | '.join(numbers)} |"
        )
    return "\n".join(rows)


def _group_table(card: Card) -> str:
    single = [metric for metric in card.metrics if metric.data != "all held-out databases"]
    groups = list(dict.fromkeys(metric.data for metric in single))
    rows = [f"| finding | {' | '.join(groups)} |", "|---" * (len(groups) + 1) + "|"]
    for label in card.labels:
        found = {metric.data: metric for metric in single if metric.label == label.key}
        cells = [_words(found[group]) if group in found else "–" for group in groups]
        rows.append(f"| {label.entry.name} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _failure_table(model: Model) -> str:
    names = [label.entry.name for label in model.card.labels]
    rows = [f"| recording | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for title, ecgs in _hard_cases().items():
        found = classify([model], ecgs, [Patient(age=60.0)] * len(ecgs))
        counts = [
            sum(bool(finding.present) for finding in column) for column in zip(*found, strict=True)
        ]
        rows.append(f"| {title} | {' | '.join(map(str, counts))} |")
    return "\n".join(rows)


def _hard_cases() -> dict[str, list[ECG]]:
    sinus = [simulate(Kind.SINUS, seed=seed, noise=0.02).ecg for seed in range(100)]
    return {
        "noise, no heart": [simulate(Kind.NOISE, seed=seed).ecg for seed in range(100)],
        "flat line": [replace(ecg, signal=0 * ecg.signal) for ecg in sinus],
        "sinus rhythm": sinus,
        "sinus rhythm, arm leads swapped": [_swap_arms(ecg) for ecg in sinus],
        "sinus rhythm, V1 and V2 missing": [
            ecg.select(lead for lead in ecg.leads if lead not in (Lead.V1, Lead.V2))
            for ecg in sinus
        ],
        "left bundle branch block": [
            simulate(Kind.LBBB, seed=seed, noise=0.02).ecg for seed in range(100)
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
