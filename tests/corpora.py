"""Corpora for tests: simulated ECGs of patients who do not exist, in files and in folders."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cart import encoded
from pydicom.dataset import Dataset

import analysis
from analysis.ecg import ECG, Recording
from analysis.formats import dicom
from analysis.recipe import Recipe
from analysis.synthetic import Kind, simulate
from dicom_node.report.uids import derive
from training.corpus import Corpus
from training.importing import Outcome, import_folder

RECIPE = Recipe(sampling_frequency=100.0, samples=300, stride=300, minimum_seconds=1.0)
MOMENT = datetime(2024, 5, 17, 10, 42, tzinfo=UTC)


def ecg(seed: int, kind: Kind = Kind.SINUS, **options: float) -> ECG:
    return simulate(kind, seed=seed, **{"duration": 3.0, "sampling_frequency": 250.0} | options).ecg


def dicom_ecg(seed: int, patient: str | None = None, **changes: Any) -> Dataset:
    """Return a General ECG of a simulated heart, of a patient with this ID."""
    uids = {level: derive("corpus", str(seed), level) for level in ("study", "series", "instance")}
    identity = dicom.Identity(
        study_instance_uid=uids["study"],
        series_instance_uid=uids["series"],
        sop_instance_uid=uids["instance"],
        created_at=MOMENT,
        study_at=MOMENT,
    )
    made = dicom.encode(ecg(seed), identity=identity)
    made.PatientID = patient
    made.AcquisitionDateTime = "20240517104200"
    for keyword, value in changes.items():
        setattr(made, keyword, value)
    return made


def write_dicom(path: Path, seed: int, patient: str | None = None, **changes: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(dicom_ecg(seed, patient, **changes)))
    return path


def write_plain(path: Path, seed: int, kind: Kind = Kind.SINUS) -> Path:
    """Write an ECG that does not say whose it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    analysis.write(Recording(ecg=ecg(seed, kind), format="simulated"), path)
    return path


def imported(corpus: Corpus, folder: Path, site: str = "A") -> list[Outcome]:
    return list(import_folder(corpus, folder, site=site, processes=1))


def small_corpus(folder: Path, patients: int = 4, each: int = 2) -> Corpus:
    """Return a corpus of DICOM ECGs: `each` recordings of every patient P0, P1 …."""
    source = folder / "source"
    for number in range(patients * each):
        write_dicom(source / f"ecg{number}.dcm", number, f"P{number % patients}")
    corpus = Corpus.create(folder / "corpus")
    imported(corpus, source)
    return corpus
