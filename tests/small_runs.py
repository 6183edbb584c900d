"""Runs small enough for tests: hearts with and without a bundle branch block, a net that learns it.

The base is a package of a tiny net with random weights, made here, for the mode `scratch`.
"""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from corpora import RECIPE, ecg, imported

import analysis
from analysis.card import Activation, Card, Label
from analysis.ecg import Recording
from analysis.synthetic import Kind
from training.architectures import build
from training.cards import self_test
from training.convert import INPUT, OUTPUT
from training.corpus import Corpus
from training.labels import Label as Said
from training.labels import Origin, Value
from training.plan import Augment, Plan
from training.publish import publish
from training.splits import Order

torch.set_num_threads(1)  # nets this small are slowed down by threads that wait for each other

KEYS = ("lbbb", "normal")
SPLIT = Order(fractions={"train": 0.4, "validation": 0.2, "calibration": 0.2, "test": 0.2})


def two_hearts(folder: Path, count: int = 40, duration: float = 3.0) -> Corpus:
    """Return a corpus of recordings, every other one with a left bundle branch block."""
    source = folder / "source"
    source.mkdir(parents=True)
    for number in range(count):
        made = ecg(number, Kind.LBBB if number % 2 else Kind.SINUS, duration=duration)
        analysis.write(Recording(ecg=made, format="simulated"), source / name(number))
    corpus = Corpus.create(folder / "corpus")
    imported(corpus, source)
    label(corpus, {number: bool(number % 2) for number in range(count)})
    return corpus


def name(number: int) -> str:
    return f"e{number}.npz"


def label(
    corpus: Corpus, said: dict[int, bool], key: str = "lbbb", author: str = "ada", **more: Any
) -> None:
    """Say of recordings whether they have a finding; without `key`, `normal` is the opposite."""
    resolve = corpus.resolver()
    keys = KEYS if key == "lbbb" else (key,)
    corpus.add_labels(
        Said(
            record=resolve(name(number))[0],
            key=each,
            value=Value.PRESENT if present is (each == key) else Value.ABSENT,
            **{"origin": Origin.REVIEWER, "author": author} | more,
        )
        for number, present in said.items()
        for each in keys
    )


@cache
def tiny_package() -> bytes:
    """Return a package of a net that has learned nothing, for recordings of 3 s."""
    torch.manual_seed(0)
    net = build("inceptiontime", leads=12, outputs=len(KEYS), filters=4)
    card = Card(
        name="tiny",
        version="1",
        created="2026-01-02",
        intended_use="Tests.",
        limits="Everything.",
        input=INPUT,
        output=OUTPUT,
        recipe=RECIPE,
        activation=Activation.SIGMOID,
        labels=tuple(Label.of(key, 0.5) for key in KEYS),
        threshold_purpose="None.",
        minimum_age=None,
        training_data=(),
        metrics=(),
    )
    waveforms = np.zeros((2, 12, RECIPE.samples), np.float32)
    return publish(net, card, waveforms=waveforms, self_test=self_test(RECIPE)).content


def plan(corpus: Corpus, **changes: Any) -> Plan:
    """Return a plan of seconds; its base lies beside the corpus."""
    base = corpus.folder.with_name("tiny.onnx")
    if not base.is_file():
        base.write_bytes(tiny_package())
    made = Plan(
        name="bundle branches",
        keys=KEYS,
        corpus=str(corpus.folder),
        base=str(base),
        split=SPLIT,
        epochs=3,
        batch_size=8,
        learning_rate=0.02,
        augment=Augment.none(),
    )
    return replace(made, **{"metric": None} | changes)
