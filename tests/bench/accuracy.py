"""Print how accurate quality, beats, fiducials and measurements are, and how long they take.

    python -m training.delineator --data ../shared/data --out delineator.onnx --folds FOLDER
    python tests/bench/accuracy.py --folds FOLDER > tables.md

It reads ../shared/data (or SINUSNODE_SHARED). The first command fits, for each fifth of LUDB's
subjects, a network on the four others; with its folder, every record is marked by the network
that has not seen it, without it by the classical delineator alone. LUDB is scored within the
annotated span only, with a matching window of 150 ms. Reference global intervals run from the
second-earliest onset to the second-latest offset of the cardiologists' marks per lead.
"""

import argparse
import csv
import json
import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import neurokit2
import numpy as np
import numpy.typing as npt
import pydicom
import wfdb
from pydicom.data import get_testdata_file
from scipy.stats import rankdata

from analysis import criteria
from analysis.beats import detect, prepare
from analysis.delineator import Delineator, load_delineator
from analysis.ecg import ECG, STANDARD_12, Lead, Patient, Sex
from analysis.measure import everything, measure, of_examined
from analysis.quality import assess, examine, likeness
from analysis.result import FIDUCIAL_KINDS, Measurements, Verdict
from analysis.rhythm import irregularity
from analysis.synthetic import Kind, simulate

Array = npt.NDArray[np.float64]
Waves = dict[Lead, dict[str, Array]]
Judge = Callable[[], Delineator | None]

DATA = (
    Path(os.environ.get("SINUSNODE_SHARED", Path(__file__).resolve().parents[3] / "shared"))
    / "data"
)
WINDOW = 0.150  # s
FAR = 60.0  # ms
WAVES = {"p": 0, "N": 3, "t": 6}
BEAT_SYMBOLS = frozenset("NLRBAaJSVrFejnE/fQ?")
VENTRICULAR, NEITHER = ["V", "E"], ["F", "Q"]
INTERVALS = ("p_duration", "pr_interval", "qrs_duration", "qt_interval")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a Markdown table."""
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print()


def spread(errors: npt.ArrayLike) -> str:
    """Return mean ± standard deviation and the number of errors."""
    values = np.asarray(errors, dtype=np.float64)
    values = values[np.isfinite(values)]
    return f"{values.mean():+.1f} ± {values.std():.1f} ({values.size})"


def percent(part: int, whole: int) -> str:
    """Return a share with its 95 % Wilson interval."""
    share, z = part / whole, 1.96
    centre = (share + z * z / 2 / whole) / (1 + z * z / whole)
    half = z * np.sqrt(share * (1 - share) / whole + (z / 2 / whole) ** 2) / (1 + z * z / whole)
    low, high = max(centre - half, 0.0), min(centre + half, 1.0)
    return f"{100 * share:.2f} % ({100 * low:.2f}–{100 * high:.2f})"


def read(path: Path) -> ECG:
    """Return a WFDB record."""
    samples, header = wfdb.rdsamp(str(path))
    leads = [Lead.parse(name) for name in header["sig_name"]]
    return ECG(
        signal=samples.T,
        leads=tuple(lead for lead in leads if lead),
        sampling_frequency=header["fs"],
    )


def pairs(reference: Array, found: Array, window: float) -> list[tuple[int, int]]:
    """Return the indices of each reference mark and the nearest free mark within the window."""
    matched: list[tuple[int, int]] = []
    free = np.ones(found.size, np.bool_)
    for index, mark in enumerate(reference):
        distance = np.where(free, np.abs(found - mark), np.inf)
        if distance.size and distance.min() <= window:
            nearest = int(distance.argmin())
            free[nearest] = False
            matched.append((index, nearest))
    return matched


@dataclass
class Count:
    """Found, missed and false marks, and the errors of those found."""

    found: int = 0
    missed: int = 0
    false: int = 0

    def add(self, reference: Array, marks: Array, window: float) -> list[tuple[int, int]]:
        """Count, and return the pairs."""
        matched = pairs(reference, marks, window)
        self.found += len(matched)
        self.missed += len(reference) - len(matched)
        self.false += len(marks) - len(matched)
        return matched

    @property
    def sensitivity(self) -> str:
        """Of the reference marks."""
        return percent(self.found, self.found + self.missed)

    @property
    def predictive(self) -> str:
        """Of the marks found."""
        return percent(self.found, self.found + self.false)

    @property
    def f1(self) -> float:
        """Harmonic mean of the two."""
        return 2 * self.found / (2 * self.found + self.missed + self.false)


# --- LUDB ------------------------------------------------------------------------------------


def annotated(record: Path, lead: Lead) -> dict[str, Array]:
    """Return the waves of a lead by symbol, each ``(waves, 3)``: onset, peak, offset."""
    marks = wfdb.rdann(str(record), lead.lower())
    rows: dict[str, list[list[float]]] = {symbol: [] for symbol in WAVES}
    symbols, samples = list(marks.symbol), marks.sample.astype(float)
    for index, symbol in enumerate(symbols):
        if symbol in WAVES:
            begins = index > 0 and symbols[index - 1] == "("
            ends = index + 1 < len(symbols) and symbols[index + 1] == ")"
            rows[symbol].append([
                samples[index - 1] if begins else np.nan,
                samples[index],
                samples[index + 1] if ends else np.nan,
            ])  # fmt: skip
    return {symbol: np.array(waves).reshape(-1, 3) for symbol, waves in rows.items()}


def marks_of(measured: Measurements, lead: str, first: int) -> Array:
    """Return ``(beats, 3)``: onset, peak, offset of one wave."""
    kinds = FIDUCIAL_KINDS[first : first + 3]
    return np.stack([measured.fiducials[lead][kind] for kind in kinds], axis=1)


def ludb_records() -> Iterator[tuple[str, ECG, Waves]]:
    """Yield each record's name, itself and its marks."""
    folder = DATA / "ludb" / "data"
    for name in sorted((path.stem for path in folder.glob("*.hea")), key=int):
        ecg = read(folder / name)
        yield name, ecg, {lead: annotated(folder / name, lead) for lead in ecg.leads}


def judges(folder: Path | None) -> Mapping[str, Delineator]:
    """Return for each record of LUDB the delineator that has not seen its subject."""
    if folder is None:
        return {}
    parts = json.loads((folder / "parts.json").read_text())
    loaded = {
        part: load_delineator((folder / f"{part}.onnx").read_bytes())
        for part in sorted(set(parts.values()))
    }
    return {name: loaded[part] for name, part in parts.items()}


@dataclass
class Delineation:
    """All that LUDB tells of one way to mark."""

    counts: dict[str, Count]
    errors: dict[str, list[Array]]
    """By kind of mark, of each record and lead, in ms."""
    intervals: dict[str, list[float]]

    @classmethod
    def empty(cls) -> "Delineation":
        """Return nothing counted yet."""
        return cls(
            {wave: Count() for wave in WAVES},
            {kind: [] for kind in FIDUCIAL_KINDS},
            {name: [] for name in INTERVALS},
        )

    def add(self, ecg: ECG, marks: Waves, measured: Measurements) -> None:
        """Score one record on all leads."""
        to_ms = 1000 / ecg.sampling_frequency
        for lead, waves in marks.items():
            self._add_lead(measured, lead, waves, to_ms)
        reference = global_intervals(marks)
        for name in INTERVALS:
            value = getattr(measured, name).value
            if value is not None:
                self.intervals[name].append(value - reference[name] * to_ms)

    def add_alone(self, ecg: ECG, lead: Lead, waves: dict[str, Array], judge: Judge) -> None:
        """Score one lead, measured as if there were no other."""
        alone = ecg.select([lead])
        measured = of_examined(alone, examine(alone, expected=alone.leads), judge)
        self._add_lead(measured, lead, waves, 1000 / ecg.sampling_frequency)

    def _add_lead(
        self, measured: Measurements, lead: Lead, waves: dict[str, Array], to_ms: float
    ) -> None:
        for wave, first in WAVES.items():
            found = marks_of(measured, lead, first)
            found = found[inside(found[:, 1], waves, 75 if wave == "N" else 25)]
            reference = waves[wave]
            matched = self.counts[wave].add(reference[:, 1], found[:, 1], WINDOW * 1000 / to_ms)
            if matched:
                true, mark = np.transpose(matched)
                difference = (found[mark] - reference[true]) * to_ms
                for kind, errors in zip(FIDUCIAL_KINDS[first:], difference.T, strict=False):
                    self.errors[kind].append(errors[np.isfinite(errors)])


def inside(marks: Array, waves: dict[str, Array], margin: int) -> npt.NDArray[np.bool_]:
    """Return which marks lie within the annotated span of a lead, give or take a margin."""
    every = np.concatenate([wave[:, 1] for wave in waves.values()])
    within_span: npt.NDArray[np.bool_] = (marks >= every.min() - margin) & (
        marks <= every.max() + margin
    )
    return within_span


def global_intervals(marks: Waves) -> dict[str, float]:
    """Return the median over beats of the reference intervals, in samples."""
    beats = next(iter(marks.values()))["N"][:, 1]
    rows = [_global_marks(marks, beat) for beat in beats]
    p_on, p_off, on, off, t_off = np.array(rows).reshape(-1, 5).T
    spans = (p_off - p_on, on - p_on, off - on, t_off - on)
    return {
        name: float(np.nanmedian(span)) if np.isfinite(span).any() else np.nan
        for name, span in zip(INTERVALS, spans, strict=True)
    }


def _global_marks(marks: Waves, beat: float) -> list[float]:
    near = {
        "p": [_nearest(waves["p"], beat, -250, 0) for waves in marks.values()],
        "N": [_nearest(waves["N"], beat, -60, 60) for waves in marks.values()],
        "t": [_nearest(waves["t"], beat, 0, 350) for waves in marks.values()],
    }
    p_wave, qrs, t_wave = (np.array(near[wave]) for wave in WAVES)
    return [
        _second(p_wave[:, 0]), -_second(-p_wave[:, 2]),
        _second(qrs[:, 0]), -_second(-qrs[:, 2]), -_second(-t_wave[:, 2]),
    ]  # fmt: skip


def _nearest(waves: Array, beat: float, first: float, last: float) -> Array:
    distance = waves[:, 1] - beat
    chosen = waves[(distance > first) & (distance < last)]
    if not len(chosen):
        return np.full(3, np.nan)
    nearest: Array = chosen[np.argmin(np.abs(chosen[:, 1] - beat))]
    return nearest


def _second(values: Array) -> float:
    known = np.sort(values[np.isfinite(values)])
    return float(known[1]) if known.size > 2 else np.nan


def ludb(folder: Path | None) -> None:
    """Print detection, marks and intervals against the cardiologists of LUDB."""
    judge = judges(folder)
    names = ["learned", "learned, one lead alone"] if judge else []
    ways = {name: Delineation.empty() for name in (*names, "classical")}
    verdicts = []
    for name, ecg, marks in ludb_records():
        examined = examine(ecg, expected=ecg.leads)
        verdicts.append(assess(ecg).verdict)
        ways["classical"].add(ecg, marks, of_examined(ecg, examined, lambda: None))
        if judge:
            its = partial(judge.__getitem__, name)
            ways[names[0]].add(ecg, marks, of_examined(ecg, examined, its))
            for lead, waves in marks.items():
                ways[names[1]].add_alone(ecg, lead, waves, its)
    print("## LUDB: 140 records, 12 leads, 500 Hz\n")
    _print_ways(ways)
    print_verdicts("LUDB", verdicts)


def _print_ways(ways: dict[str, Delineation]) -> None:
    rows = [
        [name, {"p": "P", "N": "QRS", "t": "T"}[wave], count.sensitivity, count.predictive,
         f"{count.f1:.4f}"]
        for name, way in ways.items()
        for wave, count in way.counts.items()
    ]  # fmt: skip
    table(["marks", "wave", "sensitivity", "PPV", "F1"], rows)
    print("Error per beat and lead, ms, mean ± SD (n):\n")
    table(
        ["mark", *ways],
        [
            [kind, *(spread(np.concatenate(way.errors[kind])) for way in ways.values())]
            for kind in FIDUCIAL_KINDS
        ],
    )
    _print_parts(*next(iter(ways.items())))
    print("Error of global intervals per record, ms, mean ± SD (n):\n")
    whole = {name: way for name, way in ways.items() if any(way.intervals.values())}
    table(
        ["interval", *whole],
        [[name, *(spread(way.intervals[name]) for way in whole.values())] for name in INTERVALS],
    )


def _print_parts(name: str, way: Delineation) -> None:
    """Print what the deviation is made of: scatter from beat to beat, and few large errors."""
    print(f"What the deviation is made of, {name}:\n")
    table(
        ["mark", "SD, ms", "were the mean of each lead right, ms", "variance beyond 60 ms"],
        [[kind, *_parts(way.errors[kind])] for kind in FIDUCIAL_KINDS],
    )


def _parts(of_leads: Sequence[Array]) -> tuple[str, str, str]:
    every = np.concatenate(of_leads)
    centred = np.concatenate([errors - errors.mean() for errors in of_leads if errors.size])
    off = every - every.mean()
    far = np.abs(off) > FAR
    share = (off[far] ** 2).sum() / (off**2).sum()
    return (
        f"{every.std():.1f}",
        f"{centred.std():.1f}",
        f"{100 * share:.0f} % by {100 * far.mean():.1f} % of marks",
    )


# --- MIT-BIH ---------------------------------------------------------------------------------


def mit_bih() -> None:
    """Print QRS detection on the DS1 half of the MIT-BIH Arrhythmia Database."""
    print("## MIT-BIH DS1: 22 records of 30 min, 360 Hz, ventricular flutter excluded\n")
    rows = []
    for name, chosen in (("both leads", [0, 1]), ("first lead", [0]), ("second lead", [1])):
        count = Count()
        for path in sorted((DATA / "mitdb_ds1").glob("*.hea")):
            count.add(*mit_marks(path.with_suffix(""), chosen), WINDOW * 360)
        rows.append([name, count.sensitivity, count.predictive])
    table(["leads", "sensitivity", "PPV"], rows)
    ectopy()


def mit_ecg(record: Path, chosen: list[int]) -> ECG:
    """Return these leads of a record."""
    samples, header = wfdb.rdsamp(str(record))
    return ECG(
        signal=samples.T[chosen],
        leads=(Lead.MLII, Lead.V1)[: len(chosen)],
        sampling_frequency=header["fs"],
    )


def mit_marks(record: Path, chosen: list[int]) -> tuple[Array, Array]:
    """Return the reference beats and those found, outside of ventricular flutter."""
    ecg = mit_ecg(record, chosen)
    prepared = prepare(ecg)
    ratio = ecg.sampling_frequency / prepared.sampling_frequency
    found = detect(prepared).r_peaks.astype(np.float64) * ratio
    beats, _, flutter = mit_reference(record)
    return beats[~flutter(beats)], found[~flutter(found)]


Mask = npt.NDArray[np.bool_]


def mit_reference(record: Path) -> tuple[Array, npt.NDArray[np.str_], Callable[[Array], Mask]]:
    """Return the annotated beats, their symbols, and what lies within ventricular flutter."""
    marks = wfdb.rdann(str(record), "atr")
    symbols = np.array(marks.symbol)
    is_beat = np.isin(symbols, list(BEAT_SYMBOLS))
    first, last = (marks.sample[symbols == bracket] for bracket in "[]")

    def within_flutter(samples: Array) -> Mask:
        each = samples[:, None]
        within: Mask = ((each >= first - 54) & (each <= last + 54)).any(axis=1)
        return within

    return marks.sample[is_beat].astype(float), symbols[is_beat], within_flutter


def ectopy() -> None:
    """Print how ventricular ectopic beats (V, E) are told from the others on both leads.

    As in ANSI/AAMI EC57, fusion beats and unclassifiable ones count neither way.
    """
    halves = np.zeros((2, 3), np.intp)
    for place, path in enumerate(sorted((DATA / "mitdb_ds1").glob("*.hea"))):
        halves[place % 2] += ectopic_beats(path.with_suffix(""))
    print("Ventricular ectopic beats, both leads, by shape, width and timing, nothing learned:\n")
    rows = []
    for name, (hit, false, missed) in (
        ("all 22 records", halves.sum(axis=0)),
        ("every other record, from the first", halves[0]),
        ("every other record, from the second", halves[1]),
    ):
        f1 = f"{2 * hit / (2 * hit + false + missed):.3f}"
        rows.append([name, percent(hit, hit + missed), percent(hit, hit + false), f1])
    table(["records", "sensitivity", "PPV", "F1"], rows)


def ectopic_beats(record: Path) -> tuple[int, int, int]:
    """Return how many ventricular ectopic beats were found, false and missed."""
    ecg = mit_ecg(record, [0, 1])
    examined = examine(ecg, expected=ecg.leads)
    measured = everything(ecg, examined)
    found = measured.measurements.r_peaks
    beats, symbols, flutter = mit_reference(record)
    symbols, beats = symbols[~flutter(beats)], beats[~flutter(beats)]
    said = measured.rhythm.ventricular[~flutter(found)]
    labels = np.full(said.size, "none")
    for true, mark in pairs(beats, found[~flutter(found)], WINDOW * ecg.sampling_frequency):
        labels[mark] = symbols[true]
    hit = int((said & np.isin(labels, VENTRICULAR)).sum())
    false = int((said & ~np.isin(labels, [*VENTRICULAR, *NEITHER])).sum())
    return hit, false, int(np.isin(symbols, VENTRICULAR).sum()) - hit


# --- quality ---------------------------------------------------------------------------------


def print_verdicts(name: str, verdicts: list[Verdict]) -> None:
    """Print the share of each verdict."""
    parts = (f"{verdict} {percent(verdicts.count(verdict), len(verdicts))}" for verdict in Verdict)
    print(f"Quality verdicts, {name}: {'; '.join(parts)}\n")


def multisource() -> None:
    """Print how often clinical twelve-lead records are kept out."""
    print("## multisource12: clinical records of six sources\n")
    with (DATA / "multisource12" / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    print_verdicts(
        "multisource12",
        [assess(read(DATA / "multisource12" / row["file"])).verdict for row in rows],
    )


def cinc() -> Iterator[tuple[str, ECG]]:
    """Yield the label and the ECG of each record of CinC 2017."""
    folder = DATA / "cinc2017_validation"
    with (folder / "REFERENCE.csv").open() as file:
        for name, label in csv.reader(file):
            samples, header = wfdb.rdsamp(str(folder / name))
            yield label, ECG(signal=samples.T[:1], leads=(Lead.I,), sampling_frequency=header["fs"])


def area(scores: Array, positive: npt.NDArray[np.bool_]) -> float:
    """Return the area under the ROC curve."""
    ranks, count = rankdata(scores), positive.sum()
    return float((ranks[positive].sum() - count * (count + 1) / 2) / (count * (~positive).sum()))


def single_lead() -> None:
    """Print how well noise and atrial fibrillation are told in single-lead recordings.

    The scores are of every recording, those kept out by the gate too.
    """
    print("## CinC 2017 (validation part), single lead\n")
    rows = [(label, *_of_single_lead(ecg)) for label, ecg in cinc()]
    labels = np.array([row[0] for row in rows])
    refused = np.array([row[1] for row in rows])
    noise = labels == "~"
    unlike = area(-np.array([row[2] for row in rows]), noise)
    print(f"Noisy (~) against normal, AF and other: AUROC of the likeness of beats {unlike:.3f}.")
    for name, chosen in (("noisy", noise), ("the others", ~noise)):
        share = percent(int(refused[chosen].sum()), int(chosen.sum()))
        print(f"Non-diagnostic: {share} of {name}.")
    print("\nAtrial fibrillation by RR intervals alone, no P wave looked at, AUROC:\n")
    scores = np.nan_to_num(np.array([row[3] for row in rows]))
    against = {"normal": ["A", "N"], "normal and other": ["A", "N", "O"]}
    table(
        ["score", *against],
        [
            [name, *(_auroc(scores[:, column], labels, chosen) for chosen in against.values())]
            for column, name in enumerate(SCORES)
        ],
    )


SCORES = (
    "RR irregularity of the criterion: RMS of the lower three quarters of the RR differences",
    "median of the RR differences over the median RR",
)


def _of_single_lead(ecg: ECG) -> tuple[bool, float, list[float]]:
    """Return whether it is non-diagnostic, how alike its beats are, and the :data:`SCORES`."""
    prepared = prepare(ecg)
    beats = detect(prepared)
    verdict = assess(ecg, expected=ecg.leads).verdict
    rr = np.diff(beats.r_peaks).astype(np.float64)
    steps = np.abs(np.diff(rr))
    median = float(np.median(steps) / np.median(rr)) if steps.size else np.nan
    like = float(likeness(prepared, beats)[0])
    return verdict is Verdict.NON_DIAGNOSTIC, like, [irregularity(rr), median]


def _auroc(scores: Array, labels: npt.NDArray[np.str_], chosen: list[str]) -> str:
    among = np.isin(labels, chosen)
    return f"{area(scores[among], labels[among] == 'A'):.3f}"


# --- known truths ----------------------------------------------------------------------------


def cart() -> None:
    """Print ours beside the values that the cart wrote into pydicom's waveform_ecg.dcm."""
    dataset = pydicom.dcmread(str(get_testdata_file("waveform_ecg.dcm")))
    ecg = ECG(
        signal=dataset.waveform_array(0).T / 1000,
        leads=STANDARD_12,
        sampling_frequency=float(dataset.WaveformSequence[0].SamplingFrequency),
    )
    ours = measure(ecg)
    theirs = {
        "rr_interval": 982, "pr_interval": 161, "qrs_duration": 75, "qt_interval": 368,
        "p_axis": 74, "qrs_axis": 52, "t_axis": 57,
    }  # fmt: skip
    print("## The cart's own values in pydicom's waveform_ecg.dcm\n")
    table(
        ["", "cart", "ours"],
        [[name, str(value), f"{getattr(ours, name).value:.1f}"] for name, value in theirs.items()],
    )


def synthetic() -> None:
    """Print the largest error over kinds and seeds."""
    print("## Generated ECGs of known intervals, 500 Hz: greatest error, ms\n")
    rows = []
    for noise in (0.0, 0.02):
        worst = dict.fromkeys(INTERVALS, 0.0)
        for kind in set(Kind) - {Kind.NOISE}:
            for seed in range(5):
                made = simulate(kind, noise=noise, seed=seed)
                ours = measure(made.ecg)
                for name in set(INTERVALS) & set(made.truth):
                    error = abs(getattr(ours, name).value - made.truth[name])
                    worst[name] = max(worst[name], error)
        rows.append([f"{noise} mV", *(f"{worst[name]:.1f}" for name in INTERVALS)])
    table(["noise", *INTERVALS], rows)


def took(work: Callable[[], object], rounds: int) -> list[str]:
    """Return best and median milliseconds of processor time."""
    work()
    taken = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        taken.append(1000 * (time.process_time() - start))
    return [f"{min(taken):.1f}", f"{float(np.median(taken)):.1f}"]


def whole(ecg: ECG) -> object:
    """Return all findings of the criteria, from the quality on."""
    examined = examine(ecg, expected=STANDARD_12)
    measured = everything(ecg, examined)
    return criteria.assess(
        criteria.Case(
            measurements=measured.measurements,
            leads=measured.leads,
            rhythm=measured.rhythm,
            quality=examined.quality,
            patient=Patient(age=60.0, sex=Sex.MALE),
            qtc=measured.measurements.qtc_fridericia,
            qtc_formula="fridericia",
        )
    )


def speed() -> None:
    """Print processor time per ECG on one thread, beside neurokit2's in the same run."""
    ecg = simulate(Kind.SINUS).ecg
    rows = [
        ["quality (assess)", *took(lambda: assess(ecg), 60)],
        ["quality, beats, fiducials, measurements (measure)", *took(lambda: measure(ecg), 60)],
        ["the same and every criterion", *took(lambda: whole(ecg), 60)],
        *neurokit(ecg),
    ]
    print("## Time, 12 leads, 10 s, 500 Hz, one core: ms of processor time\n")
    table(["", "best", "median"], rows)


def neurokit(ecg: ECG) -> Iterator[list[str]]:
    """Yield the times of neurokit2: one lead processed, twelve delineated in two ways."""
    rate, lead_ii = round(ecg.sampling_frequency), ecg[Lead.II].astype(np.float64)
    leads = ecg.signal.astype(np.float64)
    peaks = neurokit2.ecg_peaks(lead_ii, sampling_rate=rate)[1]["ECG_R_Peaks"]

    def delineated(method: str) -> None:
        for lead in leads:
            neurokit2.ecg_delineate(lead, peaks, sampling_rate=rate, method=method)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        process = took(lambda: neurokit2.ecg_process(lead_ii, sampling_rate=rate), 10)
        yield ["neurokit2 ecg_process, lead II alone", *process]
        for method in ("dwt", "prominence"):
            times = took(partial(delineated, method), 5)
            yield [f"neurokit2 ecg_delineate, twelve leads, {method}", *times]


def main() -> None:
    """Print every table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folds", type=Path, help="folder of the networks of the five parts")
    folder = parser.parse_args().folds
    for part in (cart, synthetic, partial(ludb, folder), mit_bih, multisource, single_lead, speed):
        part()


if __name__ == "__main__":
    main()
