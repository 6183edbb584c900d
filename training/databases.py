"""The public databases that the house learns from, with what each of them says.

Every database looked for other things. What it did not look for is unknown, what it looked for
and did not name is absent: the findings of the first model by the schemes of
:mod:`training.shipped.corpus`, the others by the lists below.
"""

import ast
import csv
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from analysis.codes import VOCABULARY
from analysis.ecg import Lead, Sex
from training.importing import Item
from training.label_maps import AHA, NAME, SCP, SCT, standard_map
from training.labels import Origin, Value
from training.shipped.corpus import LABELS, SCHEMES

Known = Mapping[str, bool | None]
"""Present, absent, or in doubt."""

# A database that does not say whose its recordings are gives no patient: each is its own.


def items(folder: Path) -> Iterator[Item] | None:
    """Yield the files of a database with their labels; None where the folder is none known."""
    read = DATABASES.get(folder.name)
    return None if read is None else read(folder)


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _values(known: Known) -> tuple[tuple[str, Value], ...]:
    words = {True: Value.PRESENT, False: Value.ABSENT, None: Value.UNKNOWN}
    return tuple((key, words[value]) for key, value in known.items())


def _number(text: str) -> float | None:
    return float(text) if text else None


def _sex(text: str) -> Sex | None:
    return {"m": Sex.MALE, "f": Sex.FEMALE}.get(text[:1].lower())


def _multisource(folder: Path) -> Iterator[Item]:
    """Yield CPSC2018, CPSC-Extra, Chapman-Ningbo, PTB-XL, PTB and SPH (Reyna 2021, Liu 2022)."""
    rows = _rows(folder / "labels.csv")
    names = {row["record"] for row in rows}
    for row in rows:
        site = row["dataset"].removesuffix("-cinc2024")
        low = row["record"].endswith("_lr") and row["record"].replace("_lr", "_hr") in names
        yield Item(
            path=(folder / row["file"]).with_suffix(".hea"),
            site=site,
            patient="1" if site == "PTB" else row["ptbxl_patient"] or None,
            age=_number(row["age"]),
            sex=_sex(row["sex"]),
            labels=_values(_multisource_labels(site, row)),
            author=site,
            skipped="The same ECG is there at 500 Hz." if low else None,
        )


def _multisource_labels(site: str, row: Mapping[str, str]) -> Known:
    if site == "PTB-XL":
        return _ptb_xl(ast.literal_eval(row["ptbxl_scp"] or "{}"))
    codes = frozenset(filter(None, row["snomed"].split(";")))
    aha = [(AHA, code) for code in row["aha_code"].split(";")]
    said = _said([*((SCT, code) for code in codes), *aha])
    return _with_silence(site, said) | dict(SCHEMES[site].labels(codes)) if codes else {}


def _ptb_xl(stated: Mapping[str, float]) -> Known:
    """Return what statements of PTB-XL say; a diagnosis below 50 % likelihood is in doubt."""
    doubted = {word for word, percent in stated.items() if 0 < percent < _LIKELY}
    sure = stated.keys() - doubted
    said = _said((SCP, word) for word in sure)
    doubtful = dict.fromkeys(_said((SCP, word) for word in doubted))
    words = frozenset(sure - {"SR"}) | {f"{word}?" for word in doubted}
    first = SCHEMES["PTB-XL"].labels(words) if words else {}
    return _with_silence("PTB-XL", doubtful | said) | dict(first) if stated else {}


def _said(words: Iterator[tuple[str, str]] | list[tuple[str, str]]) -> dict[str, bool | None]:
    """Return what is present by the words of some schemes, beside the first model's labels."""
    keys = {key for scheme, word in words for key in standard_map().keys(scheme, word)}
    return dict.fromkeys(sorted(keys - set(LABELS)), True)


def _with_silence(site: str, said: Known) -> dict[str, bool | None]:
    return dict.fromkeys(_LOOKED_FOR.get(site, ()), False) | dict(said)


def _ludb(folder: Path) -> Iterator[Item]:
    """Yield LUDB (Kalyakulina 2020): rhythm, axis and diagnoses by cardiologists."""
    for row in _rows(folder / "labels.csv"):
        stated = (row["rhythm"], *row["diagnoses"].split(";"))
        words = frozenset(word.split(":")[0].strip() for word in stated) - {""}
        first = SCHEMES["LUDB"].labels(words)
        if any(word.endswith("pacing") for word in words):
            first = {key: first[key] for key in ("normal", "atrial_fibrillation")}
        said = _said([(NAME, word) for word in words])
        yield Item(
            path=folder / "data" / f"{row['record']}.hea",
            site="LUDB",
            patient=row["record"],
            age=_number(row["age"]),
            sex=_sex(row["sex"]),
            labels=_values(_ludb_axis(row["axis"]) | _with_silence("LUDB", said) | dict(first)),
            author="LUDB",
        )


def _ludb_axis(word: str) -> dict[str, bool | None]:
    """Return what the axis says of axes alone: a "normal" axis is no normal ECG."""
    return {key: word == name for key, name in _LUDB_AXES.items()} if word else {}


def _cinc2017(folder: Path) -> Iterator[Item]:
    """Yield CinC 2017 (Clifford 2017): lead I by a hand-held device; its noisy ones unlabelled."""
    with (folder / "REFERENCE.csv").open(newline="") as file:
        for name, reference in csv.reader(file):
            yield Item(
                path=folder / f"{name}.hea",
                site="CinC2017",
                leads={Lead.ECG: Lead.I},
                labels=_values(_CINC2017[reference]),
                author="CinC2017",
            )


def _chagas(folder: Path) -> Iterator[Item]:
    """Yield CODE-15 % (Ribeiro 2021) and SaMi-Trop (Cardoso 2016).

    Chagas disease is no reading of the tracing: stated by the patient in the one, by serology
    in the other, so that its origin is a code.
    """
    for row in _rows(folder / "labels.csv"):
        yield Item(
            path=folder / "wfdb" / f"{row['record']}.hea",
            site=row["source"] or "CODE-15%",
            patient=row["patient"] or None,
            age=_number(row["age"]),
            sex=_sex(row["sex"]),
            labels=_values({"chagas": row["chagas"] == "True"}),
            origin=Origin.CODE,
            author=row["source"] or "CODE-15%",
        )


def _mitdb(folder: Path) -> Iterator[Item]:
    """Yield MIT-BIH (Moody & Mark 2001), without labels: half an hour has no one rhythm."""
    for path in sorted(folder.glob("*.hea")):
        yield Item(path=path, site="MIT-BIH", patient=path.stem, leads={Lead.MLII: Lead.II})


DATABASES: Final[Mapping[str, Callable[[Path], Iterator[Item]]]] = {
    "multisource12": _multisource,
    "ludb": _ludb,
    "cinc2017_validation": _cinc2017,
    "code15_chagas": _chagas,
    "mitdb_ds1": _mitdb,
}
"""By the name of their folder."""

_LIKELY: Final = 50.0
_LUDB_AXES: Final = {"left_axis": "left axis deviation", "right_axis": "right axis deviation"}
_CINC2017: Final[Mapping[str, Known]] = {
    "N": {"atrial_fibrillation": False, "pac": False, "pvc": False},
    "A": {"atrial_fibrillation": True, "normal": False},
    "O": {"atrial_fibrillation": False, "normal": False},
    "~": {},
}
_RATES: Final = ("sinus_bradycardia", "sinus_tachycardia", "sinus_arrhythmia", "atrial_flutter")
_LOOKED_FOR: Final[Mapping[str, tuple[str, ...]]] = {
    "PTB-XL": tuple(
        entry.key
        for entry in VOCABULARY.values()
        if entry.scp and entry.key not in {*LABELS, "sinus_rhythm", "left_axis", "right_axis"}
    ),
    "SPH": tuple(
        entry.key
        for entry in VOCABULARY.values()
        if standard_map().codes(entry.key, AHA) and entry.key not in {*LABELS, "sinus_rhythm"}
    ),
    "LUDB": (*_RATES, "av_block_3", "lbbb", "incomplete_lbbb", "lafb", "ivcd", "paced", "rvh",
             "rae"),
    "Chapman-Ningbo": (*_RATES, "svt"),
    "CPSC2018": ("lbbb", "st_elevation", "st_depression"),
}  # fmt: skip
"""Findings beside the first model's that are absent where a database is silent of them."""
