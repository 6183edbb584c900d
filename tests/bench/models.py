"""Print how the shipped models did on databases they never saw, and what they cost and refuse.

    python tests/bench/models.py

The leave-one-database-out figures are those that ``python -m training.shipped`` measured and
packed into the models; nothing here is measured on records that they learned from. Time, noise
and damaged recordings are measured anew, on simulated ECGs.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from importlib import resources
from statistics import median

import numpy as np
import onnx

from analysis.analyse import analyse
from analysis.card import Metric
from analysis.classify import classify
from analysis.codes import VOCABULARY
from analysis.ecg import CHEST, ECG, Lead, Patient
from analysis.features import measure_features
from analysis.model import ANY_LEAD, SHIPPED, Model, shipped_models
from analysis.result import Result
from analysis.synthetic import Kind, simulate

ADULT = Patient(age=60.0)
_MEASURES = (
    "AUROC", "coverage", "AUROC, abstentions too", "sensitivity", "specificity", "ECE",
    "ECE by chance", "ECE, recalibrated",
)  # fmt: skip
_ROUNDS = 200
_NOISES = 1000


def main() -> None:
    """Print the document."""
    for model, name in zip(shipped_models(), (SHIPPED, ANY_LEAD), strict=True):
        print(f"# {model.card.name} {model.card.version} ({name}, {model.identity.digest[:12]})\n")
        held_out(model.card.metrics)
        cost(model, name)
    refusals()


def held_out(metrics: Sequence[Metric]) -> None:
    """Print a table for each pool of held-out records."""
    for pool in dict.fromkeys(item.data for item in metrics if item.measure == "coverage"):
        print(f"## {pool}\n\n| finding | with / without | {' | '.join(_MEASURES)} |")
        print("|---" * (len(_MEASURES) + 2) + "|")
        here = [item for item in metrics if item.data == pool]
        for key in dict.fromkeys(item.label for item in here):
            found = {item.measure: item for item in here if item.label == key}
            first = found["AUROC"]
            cells = [_words(found[name]) if name in found else "–" for name in _MEASURES]
            count = f"{first.positives} / {first.negatives}"
            print(f"| {VOCABULARY[key].name} | {count} | {' | '.join(cells)} |")
        print()


def _words(metric: Metric) -> str:
    return f"{metric.value:.3f} ({metric.low:.3f}–{metric.high:.3f})"


def cost(model: Model, name: str) -> None:
    """Print the size of a model and its time for one ECG of ten seconds, one thread."""
    ecg = simulate(Kind.SINUS).ecg
    table = measure_features(ecg)
    times = []
    for _ in range(_ROUNDS):
        start = time.process_time()
        classify([model], [ecg], [ADULT], [table])
        times.append(1e3 * (time.process_time() - start))
    print(f"{_parameters(name):,} numbers in the graph; {median(times):.1f} ms for one ECG\n")


def _parameters(name: str) -> int:
    content = resources.files("analysis").joinpath("models", name).read_bytes()
    proto = onnx.load_model_from_string(content)
    return sum(int(np.prod(item.dims)) for item in proto.graph.initializer)


def refusals() -> None:
    """Print what the analysis with both models says of recordings that show no sound heart."""
    print("# What is not a diagnosis\n")
    noise = (simulate(Kind.NOISE, seed=seed).ecg for seed in range(_NOISES))
    count = sum(bool(_present(analyse(ecg, patient=ADULT))) for ecg in noise)
    print(f"- {count} of {_NOISES} recordings of noise alone were given a diagnosis")
    sinus = simulate(Kind.SINUS, noise=0.02).ecg
    rate, time_ = sinus.sampling_frequency, np.arange(sinus.samples) / sinus.sampling_frequency
    hum = 0.5 * np.sin(2 * np.pi * 60 * time_).astype(np.float32)
    cases = {
        "flat line": replace(sinus, signal=0 * sinus.signal),
        "60 Hz alone": replace(sinus, signal=np.tile(hum, (12, 1))),
        "sinus rhythm under 60 Hz": replace(sinus, signal=sinus.signal + hum),
        "V2 missing": sinus.select(lead for lead in sinus.leads if lead is not Lead.V2),
        "arm leads swapped": _swapped(sinus),
        "one second": replace(sinus, signal=sinus.signal[:, : round(rate)]),
    }
    for name, ecg in cases.items():
        result = analyse(ecg, patient=ADULT)
        found = ", ".join(_present(result)) or "nothing"
        print(f"- {name}: {result.quality.verdict}; {found}; overall {result.overall}")


def _present(result: Result) -> list[str]:
    return [item.text for item in result.statements]


def _swapped(ecg: ECG) -> ECG:
    places = (Lead.I, Lead.III, Lead.II, Lead.aVL, Lead.aVR, Lead.aVF, *CHEST)
    signal = ecg.select(places).signal.copy()
    signal[0] *= -1
    return replace(ecg, signal=signal)


if __name__ == "__main__":
    main()
