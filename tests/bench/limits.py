"""Print what the gate refuses or limits (no heart, a faulty recording), and what that costs.

    python tests/bench/limits.py > analysis/LIMITS.md

It reads ../shared/data (or SINUSNODE_SHARED). What is no heart is generated from a seed by
``tests/artefacts.py``. No model takes part: what the gate refuses, none is asked about.
"""

import csv
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from accuracy import DATA, percent, table

sys.path.insert(0, str(Path(__file__).parents[1]))

from artefacts import artefacts, exchanged

import analysis
from analysis.analyse import analyse, examined
from analysis.ecg import ECG, STANDARD_12, Lead, Signal
from analysis.result import Quality, QualityReason, Result, Verdict

SINGLE = (Lead.I, Lead.II, Lead.V1, Lead.V5)
NO_HEART = frozenset({QualityReason.ONE_SOURCE, QualityReason.NO_HEART})
NO_SIGNAL = frozenset({QualityReason.NO_QRS, QualityReason.FEW_BEATS})
INTERVALS = ("pr_interval", "qrs_duration", "qt_interval", "qrs_axis")
_EACH = 50
_EVERY = 12
_WINDOW, _APART = 10, 90  # s of each window of MIT-BIH, and between their beginnings

Edit = Callable[[ECG], ECG]

HEAD = """# Limits: what is refused, what is limited, and what that costs

Printed by `python tests/bench/limits.py`. Shares with 95 % Wilson intervals. *Refused*: the
verdict is non-diagnostic, and nothing is measured, judged or asked of a model. The limits of
`analysis/cardiac.py` and `analysis/reversal.py` were set on these recordings, beyond the values of
the hearts among them; there are no others to judge them by.
"""


def main() -> None:
    """Print the document."""
    print(HEAD)
    twelve = dict(twelve_leads())
    no_heart()
    hearts(twelve)
    reversals([ecg for ecgs in twelve.values() for ecg in ecgs])
    mains([ecg for ecgs in twelve.values() for ecg in ecgs][::_EVERY])
    faults(twelve["LUDB"])


def twelve_leads() -> Iterator[tuple[str, list[ECG]]]:
    """Yield each database of twelve leads by its name."""
    for name, folder in (
        ("multisource12", "multisource12"),
        ("LUDB", "ludb/data"),
        ("CODE-15 %, SaMi-Trop", "code15_chagas"),
    ):
        yield name, [analysis.read(path).ecg for path in sorted((DATA / folder).rglob("*.hea"))]


def no_heart() -> None:
    """Print what of each artefact comes through."""
    print("## What beats like a heart and is none\n")
    print(f"{_EACH} recordings of each, from a seed; of one lead a reading is limited at best.\n")
    seen: dict[str, Counter[str]] = {}
    for name, ecg in artefacts(_EACH, seed=7):
        count = seen.setdefault(name, Counter())
        count[examined(ecg).quality.verdict] += 1
        single = examined(ecg.select([Lead.II])).quality.verdict
        count["one lead refused"] += single is Verdict.NON_DIAGNOSTIC
    columns = (*Verdict, "one lead refused")
    rows = [[name, *(str(count[column]) for column in columns)] for name, count in seen.items()]
    total = sum(seen.values(), Counter())
    everything = _EACH * len(seen)
    rows.append(["all", *(percent(total[column], everything) for column in columns)])
    table(["artefact", *(str(item) for item in columns)], rows)


def hearts(twelve: Mapping[str, Sequence[ECG]]) -> None:
    """Print how many recordings of hearts are refused, and how many as no heart's."""
    print("## What that costs on hearts\n")
    print("*As no heart's*: refused for that alone; without the rule they would be read.\n")
    rows = [refused(name, ecgs) for name, ecgs in twelve.items()]
    for lead in SINGLE:
        ones = [ecg.select([lead]) for ecgs in twelve.values() for ecg in ecgs if lead in ecg]
        rows.append(refused(f"lead {lead} of these", ones))
    rows += [refused(f"CinC 2017, {label}", ecgs) for label, ecgs in cinc().items()]
    rows.append(refused(f"MIT-BIH DS1, {_WINDOW} s windows", mit_bih()))
    table(["recordings", "number", "refused", "as no heart's"], rows)


def refused(name: str, ecgs: Iterable[ECG]) -> list[str]:
    """Return a row of the table."""
    found = [examined(ecg).quality for ecg in ecgs]
    of_all = sum(item.verdict is Verdict.NON_DIAGNOSTIC for item in found)
    alone = sum(bool(NO_HEART & set(item.reasons)) and not unreadable(item) for item in found)
    count = len(found)
    return [name, str(count), percent(of_all, count), percent(alone, count)]


def unreadable(quality: Quality) -> bool:
    """Return whether it would be refused for something else."""
    noisy = sum(QualityReason.NOISE in why for why in quality.leads.values())
    return bool(NO_SIGNAL & set(quality.reasons)) or 2 * noisy >= len(STANDARD_12)


def cinc() -> Mapping[str, list[ECG]]:
    """Return CinC 2017 by its labels."""
    folder = DATA / "cinc2017_validation"
    words = {"N": "normal", "A": "atrial fibrillation", "O": "other rhythm", "~": "too noisy"}
    found: dict[str, list[ECG]] = {word: [] for word in words.values()}
    with (folder / "REFERENCE.csv").open() as file:
        for name, label in csv.reader(file):
            found[words[label]].append(analysis.read(folder / f"{name}.hea").ecg)
    return found


def mit_bih() -> Iterator[ECG]:
    """Yield windows of both leads."""
    for path in sorted((DATA / "mitdb_ds1").glob("*.hea")):
        ecg = analysis.read(path).ecg
        size, step = (round(part * ecg.sampling_frequency) for part in (_WINDOW, _APART))
        for start in range(0, ecg.samples - size, step):
            window = ecg.signal[:, start : start + size]
            yield ECG(signal=window, leads=ecg.leads, sampling_frequency=ecg.sampling_frequency)


def edited(ecg: ECG, edit: Callable[[Signal], Signal]) -> ECG:
    """Return the ECG with another signal."""
    return ECG(
        signal=edit(ecg.signal.copy()),
        leads=ecg.leads,
        sampling_frequency=ecg.sampling_frequency,
    )


def reversals(ecgs: Sequence[ECG]) -> None:
    """Print how often exchanged limb electrodes are suspected, and how often those that are not."""
    print("## Exchanged limb electrodes\n")
    print("The same recordings as they are, and with two electrodes exchanged by calculation.\n")
    whole = [ecg for ecg in ecgs if examined(ecg).quality.verdict is not Verdict.NON_DIAGNOSTIC]
    exchanges: dict[str, Edit] = {
        "as recorded": lambda ecg: ecg,
        "right and left arm": lambda ecg: exchanged(ecg, Lead.aVR, Lead.aVL),
        "right arm and left leg": lambda ecg: exchanged(ecg, Lead.aVR, Lead.aVF),
        "left arm and left leg": lambda ecg: exchanged(ecg, Lead.aVL, Lead.aVF),
    }
    kinds = (QualityReason.ARM_REVERSAL, QualityReason.LEG_REVERSAL)
    rows = []
    for name, change in exchanges.items():
        found = [examined(change(ecg)).quality for ecg in whole]
        either = sum(item.reversed_leads for item in found)
        each = (sum(kind in item.reasons for item in found) for kind in kinds)
        shares = [percent(count, len(whole)) for count in (*each, either)]
        rows.append([name, *shares])
    table(["", *(str(kind) for kind in kinds), "either"], rows)
    print("Exchanged chest electrodes are not looked for.\n")


def mains(ecgs: Sequence[ECG]) -> None:
    """Print what a hum changes: against the same recording without."""
    print(f"## Mains, added to every {_EVERY}th recording\n")
    print("Errors against the recording without: median, 95th percentile (ms; degrees).\n")
    readable = [(ecg, analyse(ecg, [])) for ecg in ecgs if ecg.sampling_frequency > 125]
    readable = [pair for pair in readable if pair[1].quality.verdict is not Verdict.NON_DIAGNOSTIC]
    rows = []
    for hertz in (50, 60):
        for height in (0.1, 0.2, 0.5):
            pairs = [(plain, analyse(hummed(ecg, hertz, height), [])) for ecg, plain in readable]
            rows.append([f"{hertz} Hz, {height:g} mV", *changes(pairs)])
    table(["hum", "flagged", *Verdict, "statements changed", *INTERVALS], rows)


def hummed(ecg: ECG, hertz: float, height: float) -> ECG:
    """Return the ECG with a hum of up to this amplitude, mV."""
    time = np.arange(ecg.samples) / ecg.sampling_frequency
    share = np.linspace(0.5, 1.0, len(ecg.leads))[:, None]
    hum = (height * share * np.sin(2 * np.pi * hertz * time)).astype(np.float32)
    return edited(ecg, lambda signal: signal + hum)


def changes(pairs: Sequence[tuple[Result, Result]]) -> Iterator[str]:
    """Yield the cells of a row."""
    found = [humming.quality for _, humming in pairs]
    yield percent(sum(QualityReason.MAINS in item.reasons for item in found), len(found))
    for verdict in Verdict:
        yield str(sum(item.verdict is verdict for item in found))
    told = [[{line.key for line in result.statements} for result in pair] for pair in pairs]
    yield f"{sum(len(one ^ other) for one, other in told)} of {sum(len(one) for one, _ in told)}"
    for name in INTERVALS:
        values = [[getattr(item.measurements, name).value for item in pair] for pair in pairs]
        errors = [abs(other - one) for one, other in values if None not in (one, other)]
        yield f"{np.median(errors):.1f}, {np.quantile(errors, 0.95):.1f}"


def faults(ecgs: Sequence[ECG]) -> None:
    """Print what becomes of recordings with a fault."""
    print("## Faults of single leads, on LUDB\n")
    third = STANDARD_12.index(Lead.V3)

    def clipped(signal: Signal) -> Signal:
        low, high = np.quantile(signal[third], [0.05, 0.95])
        signal[third] = signal[third].clip(low, high)
        return signal

    def flat(signal: Signal) -> Signal:
        signal[third] = 0
        return signal

    cases: dict[str, Edit] = {
        "as recorded": lambda ecg: ecg,
        "V3 missing": lambda ecg: ecg.select(lead for lead in ecg.leads if lead is not Lead.V3),
        "V3 flat": lambda ecg: edited(ecg, flat),
        "V3 saturated": lambda ecg: edited(ecg, clipped),
        "all leads flat": lambda ecg: edited(ecg, np.zeros_like),
    }
    rows = []
    for name, change in cases.items():
        found = [examined(change(ecg.select(STANDARD_12))).quality.verdict for ecg in ecgs]
        rows.append([name, *(percent(found.count(verdict), len(found)) for verdict in Verdict)])
    table(["", *Verdict], rows)


if __name__ == "__main__":
    main()
