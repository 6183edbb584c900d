"""The openly licensed records of the shipped models, with what their sources annotate.

Each source looked for other things, so a label that a source did not look for is *unknown* and
not absent. The tables below say, for each source, which of its statements make a label present,
which leave it in doubt, and for which labels their silence means absent.
"""

import ast
import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

import numpy as np
import numpy.typing as npt
import wfdb

from analysis.codes import VOCABULARY
from analysis.ecg import ECG, Lead, Sex

LABELS = (
    "normal",
    "atrial_fibrillation",
    "pac",
    "pvc",
    "av_block_1",
    "rbbb",
    "incomplete_rbbb",
    "lvh",
    "lae",
    "myocardial_infarction",
    "conduction_disturbance",
    "hypertrophy",
    "st_t_abnormality",
)
"""What the schemes below speak of."""


_CINC: Final = (
    "Perez Alday EA et al., Physiol Meas 2020;41:124003; "
    "Reyna MA et al., Computing in Cardiology 2021;48"
)
SOURCES: Final[Mapping[str, tuple[str, str]]] = {
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
"""Licence and citation of each source."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Record:
    """One ECG with its labels; a label that is not there is unknown."""

    source: str
    patient: str
    ecg: ECG
    labels: Mapping[str, bool]
    withheld: Mapping[str, bool] = field(default_factory=dict)
    """Labels that the source states and its recording cannot show: nothing learns from them."""
    rates: Mapping[str, bool] = field(default_factory=dict)
    """Sinus bradycardia and tachycardia, which the measured rate decides, where the source
    looks for them."""
    age: float | None = None
    """Years."""
    sex: Sex | None = None


Statements = frozenset[str]
Table = Mapping[str, Statements]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """What the statements of one source mean."""

    present: Table
    """Statements that make a label present."""
    doubtful: Table = field(default_factory=dict)
    """Statements that leave a label unknown where nothing makes it present."""
    annotated: Statements
    """Labels that are absent where nothing is said of them."""
    plain: str
    """The statement that, standing alone, means a normal ECG."""
    benign: Statements
    """Statements that, alone or together, say neither normal nor abnormal."""

    def labels(self, statements: Statements) -> dict[str, bool]:
        """Return what is known of each label."""
        if statements == {self.plain}:
            return {key: key == "normal" for key in LABELS}
        known = {} if statements <= self.benign else {"normal": False}
        for key in LABELS[1:]:
            if statements & self.present.get(key, frozenset()):
                known[key] = True
            elif key in self.annotated and not statements & self.doubtful.get(key, frozenset()):
                known[key] = False
        return known


def read_corpus(root: Path) -> Iterator[Record]:
    """Yield the records below the shared data folder, each ECG once.

    PTB-XL records that are there at 500 and at 100 Hz come at 500 Hz only.
    """
    yield from _read_multisource(root / "multisource12")
    yield from _read_ludb(root / "ludb")


def read_auxiliary(root: Path) -> Iterator[Record]:
    """Yield records of one or two leads that teach rhythm; they are never evaluated on.

    CinC 2017 (lead I by the hand-held device, Clifford 2017) and one window of 10 s out of
    every 30 s of MIT-BIH DS1 (modified lead II and mostly V1, Moody & Mark 2001).
    """
    with (root / "cinc2017_validation" / "REFERENCE.csv").open(newline="") as file:
        for name, reference in csv.reader(file):
            if labels := _CINC2017.get(reference):
                ecg = _read_wfdb(root / "cinc2017_validation" / name, {"ECG": Lead.I})
                yield Record(source="CinC2017", patient=f"CinC2017 {name}", ecg=ecg, labels=labels)
    for path in sorted((root / "mitdb_ds1").glob("*.hea")):
        yield from _read_mitdb(path.with_suffix(""))


def _read_mitdb(path: Path) -> Iterator[Record]:
    ecg = _read_wfdb(path, {"MLII": Lead.II})
    marks = wfdb.rdann(str(path), "atr")
    symbols = np.array(marks.symbol)
    rhythms = _rhythm_at(marks, ecg.samples)
    size = round(10 * ecg.sampling_frequency)
    for start in range(0, ecg.samples - size, 3 * size):
        inside = (marks.sample >= start) & (marks.sample < start + size)
        yield Record(
            source="MIT-BIH",
            patient=f"MIT-BIH {path.name}",
            ecg=ECG(
                signal=ecg.signal[:, start : start + size],
                leads=ecg.leads,
                sampling_frequency=ecg.sampling_frequency,
            ),
            labels=_beat_labels(set(symbols[inside]), set(rhythms[start : start + size])),
        )


def _rhythm_at(marks: wfdb.Annotation, samples: int) -> npt.NDArray[np.str_]:
    """Return the rhythm that each sample belongs to, as MIT-BIH names it."""
    rhythms = np.full(samples, "", dtype="<U8")
    for sample, note in zip(marks.sample, marks.aux_note, strict=True):
        if note.startswith("("):
            rhythms[sample:] = note.rstrip("\0")
    return rhythms


def _beat_labels(symbols: set[str], rhythms: set[str]) -> dict[str, bool]:
    labels = {"pac": bool(symbols & set("AaJS")), "pvc": "V" in symbols}
    if "(AFIB" not in rhythms or len(rhythms) == 1:  # else it began or ended inside
        labels["atrial_fibrillation"] = "(AFIB" in rhythms
    return labels


_CINC2017: Mapping[str, Mapping[str, bool]] = {
    "N": {"atrial_fibrillation": False, "pac": False, "pvc": False},
    "A": {"atrial_fibrillation": True, "normal": False},
    "O": {"atrial_fibrillation": False, "normal": False},
}
"""What the classes of CinC 2017 say: normal, AF, other rhythm; noisy ones are left out."""


def _read_multisource(root: Path) -> Iterator[Record]:
    with (root / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = {row["record"] for row in rows}
    for row in rows:
        if row["record"].endswith("_lr") and row["record"].replace("_lr", "_hr") in names:
            continue
        source = row["dataset"].removesuffix("-cinc2024")
        statements = _statements(row)
        labels = SCHEMES[source].labels(statements)
        if labels and statements:
            patient = row["ptbxl_patient"] if source == "PTB-XL" else row["record"]
            if source == "PTB":  # three recordings of one patient, by age and sex
                patient = "1"
            yield Record(
                source=source,
                patient=f"{source} {patient}",
                ecg=_read_wfdb(root / row["file"]),
                labels=labels,
                rates=_rates(source, statements),
                age=_years(row["age"]),
                sex=_sex(row["sex"]),
            )


def _statements(row: Mapping[str, str]) -> Statements:
    if not row["dataset"].startswith("PTB-XL"):
        return frozenset(row["snomed"].split(";"))
    stated: dict[str, float] = ast.literal_eval(row["ptbxl_scp"] or "{}")
    likely = {
        name if likelihood >= _LIKELY or name in _FORM_AND_RHYTHM else f"{name}?"
        for name, likelihood in stated.items()
    }
    return frozenset(likely - {"SR"})


def _read_ludb(root: Path) -> Iterator[Record]:
    """Yield LUDB, hypertrophy withheld.

    Its recordings were all brought to about the same voltage (QRS of 0.6 to 0.8 mV on average,
    with the label left ventricular hypertrophy and without), so that what rests on voltage
    cannot be seen on them, nor whether an ECG is normal but for that.
    """
    with (root / "labels.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            stated = {row["rhythm"], *row["diagnoses"].split(";")}
            statements = frozenset(text.split(":")[0].strip() for text in stated) - {""}
            labels = SCHEMES["LUDB"].labels(statements)
            if any(text.endswith("pacing") for text in statements):
                labels = {key: labels[key] for key in ("normal", "atrial_fibrillation")}
            hidden = set(_VOLTAGE)
            if statements - _LUDB.benign <= _LUDB_VOLTAGE and not labels.get("normal", True):
                hidden.add("normal")
            yield Record(
                source="LUDB",
                patient=f"LUDB {row['record']}",
                ecg=_read_wfdb(root / "data" / row["record"]),
                labels={key: value for key, value in labels.items() if key not in hidden},
                withheld={key: value for key, value in labels.items() if key in hidden},
                rates=_rates("LUDB", statements),
                age=_years(row["age"]),
                sex=_sex(row["sex"]),
            )


def _rates(source: str, statements: Statements) -> dict[str, bool]:
    if source in {"CPSC2018", "PTB"}:  # of nine classes none is a rate; a clinical diagnosis
        return {}
    return {key: bool(statements & words) for key, words in _RATES.items()}


def _sex(text: str) -> Sex | None:
    return {"m": Sex.MALE, "f": Sex.FEMALE}.get(text[:1].lower())


def _years(text: str) -> float | None:
    """Return an age; None where it is not stated as one."""
    try:
        years = float(text.strip("<> "))
    except ValueError:
        return None
    return years if np.isfinite(years) else None


def _read_wfdb(path: Path, names: Mapping[str, Lead] = MappingProxyType({})) -> ECG:
    """Return the record in mV; ``names`` overrules what its signals are called."""
    record = wfdb.rdrecord(str(path), physical=True)
    leads = [names.get(name) or Lead.parse(name) for name in record.sig_name]
    wanted = [index for index, lead in enumerate(leads) if lead is not None]
    units = {record.units[index].lower() for index in wanted}
    if units != {"mv"}:
        raise ValueError(f"{path.name}: expected mV, found {sorted(units)}")
    return ECG(
        signal=record.p_signal[:, wanted].T.astype(np.float32),
        leads=tuple(lead for lead in leads if lead is not None),
        sampling_frequency=record.fs,
    )


_LIKELY = 50.0
"""Likelihood in percent from which a diagnostic statement of PTB-XL counts; below, in doubt."""


def _words(text: str) -> Statements:
    return frozenset(text.split())


_SUPER = {
    "conduction_disturbance": "LAFB IRBBB 1AVB IVCD CRBBB CLBBB LPFB WPW ILBBB 2AVB 3AVB",
    "hypertrophy": "LVH RVH LAO/LAE RAO/RAE SEHYP",
    "myocardial_infarction": (
        "IMI ASMI ILMI AMI ALMI LMI IPLMI IPMI PMI INJAS INJAL INJIN INJLA INJIL"
    ),
    "st_t_abnormality": ("NDT NST_ DIG LNGQT ISC_ ISCAL ISCIN ISCIL ISCAS ISCLA ISCAN ANEUR EL"),
}
"""Superclasses of PTB-XL (Wagner 2020, table 6)."""
_FORM_AND_RHYTHM = _words(
    "SR AFIB AFLT STACH SBRAD SARRH SVARR SVTAC PSVT PACE BIGU TRIGU PAC PVC PRC(S) ABQRS"
    " QWAVE VCLVH HVOLT LVOLT LPR STD_ STE_ INVT LOWT NT_ TAB_ T_ABN"
)
"""Statements of PTB-XL that carry no likelihood."""
_VOLTAGE = ("lvh", "lae", "hypertrophy")
_SHAPES = (
    "av_block_1", "rbbb", "incomplete_rbbb", "lvh", "lae", "myocardial_infarction",
    "conduction_disturbance", "hypertrophy", "st_t_abnormality",
)  # fmt: skip
"""What nobody can judge, and silence does not deny, in ventricular tachycardia or when paced."""


def _together(*tables: Table) -> Table:
    """Return for each label the statements of all tables."""
    keys = dict.fromkeys(key for table in tables for key in table)
    return {
        key: frozenset().union(*(table.get(key, frozenset()) for table in tables)) for key in keys
    }


_PTB_XL_PRESENT = {
    **{key: _words(text) for key, text in _SUPER.items()},
    "atrial_fibrillation": _words("AFIB"),
    "pac": _words("PAC"),
    "pvc": _words("PVC"),
    "av_block_1": _words("1AVB"),
    "rbbb": _words("CRBBB"),
    "incomplete_rbbb": _words("IRBBB"),
    "lvh": _words("LVH"),
    "lae": _words("LAO/LAE"),
}
_PTB_XL = Scheme(
    present=_PTB_XL_PRESENT,
    doubtful=_together(
        {key: frozenset(f"{name}?" for name in names) for key, names in _PTB_XL_PRESENT.items()},
        dict.fromkeys(_SHAPES, _words("PACE")),
        {
            "st_t_abnormality": _words("STD_ STE_ INVT LOWT NT_ TAB_ T_ABN CLBBB WPW"),
            "lvh": _words("VCLVH HVOLT"),
            "hypertrophy": _words("VCLVH HVOLT"),
            "pac": _words("BIGU TRIGU SVARR PRC(S)"),
            "pvc": _words("BIGU TRIGU PRC(S)"),
            "av_block_1": _words("LPR"),
            "conduction_disturbance": _words("LPR"),
            "myocardial_infarction": _words("QWAVE"),
        },
    ),
    annotated=frozenset(LABELS),
    plain="NORM",
    benign=_words("NORM NORM? SBRAD STACH SARRH ABQRS"),
)

_SINUS = "426783006"
_BENIGN_SNOMED = _words("426783006 426177001 427084000 427393009 426627000 365413008")
_CONDUCTION_SNOMED = frozenset(
    code
    for key in (
        "av_block_1", "av_block_2", "av_block_3", "lbbb", "rbbb", "incomplete_lbbb",
        "incomplete_rbbb", "lafb", "lpfb", "ivcd", "preexcitation",
    )
    for code in VOCABULARY[key].snomed
) | _words("6374002 233917008 251120003")  # fmt: skip
_ST_T_SNOMED = frozenset(
    code
    for key in ("st_t_abnormality", "st_elevation", "st_depression", "t_inversion")
    for code in VOCABULARY[key].snomed
) - _words("55827005 164930006")
_SNOMED_PRESENT = {
    **{key: frozenset(VOCABULARY[key].snomed) for key in LABELS[1:]},
    "conduction_disturbance": _CONDUCTION_SNOMED,
    "st_t_abnormality": _ST_T_SNOMED,
    "hypertrophy": frozenset(
        code for key in ("lvh", "rvh", "lae", "rae") for code in VOCABULARY[key].snomed
    ),
}
_VENTRICULAR_OR_PACED = _words("425856008 164895002 111288001 10370003")
_INFARCTION_OR_LBBB = frozenset(
    code
    for key in ("myocardial_infarction", "lbbb", "preexcitation")
    for code in VOCABULARY[key].snomed
)
_SNOMED_DOUBTFUL = _together(
    dict.fromkeys(_SHAPES, _VENTRICULAR_OR_PACED),
    {
        "pac": _words("251170000 251187003 233897008 713422000"),
        "av_block_1": _words("164947007"),
        "conduction_disturbance": _words("164947007 164951009"),
        "st_t_abnormality": _words("55827005 164930006 251259000 425623009") | _INFARCTION_OR_LBBB,
        "myocardial_infarction": _words("164917005 425623009"),
        "lvh": _words("55827005"),
        "hypertrophy": _words("55827005"),
    },
)
"""Ventricular tachycardia and pacing hide shapes; infarction and LBBB change ST and T anyway."""


_ABERRANT_OR_BLOCK: Table = {"conduction_disturbance": _words("698252002")}
"""In Chapman-Ningbo's key "interior differences conduction", of premature beats, and
"intraventricular block" are one code (Zheng 2020)."""


def _snomed(annotated: str, plain: str = _SINUS, ambiguous: Table = MappingProxyType({})) -> Scheme:
    return Scheme(
        present={
            key: codes - ambiguous.get(key, frozenset()) for key, codes in _SNOMED_PRESENT.items()
        },
        doubtful=_together(_SNOMED_DOUBTFUL, ambiguous),
        annotated=_words(annotated),
        plain=plain,
        benign=_BENIGN_SNOMED,
    )


_LUDB = Scheme(
    present={
        "atrial_fibrillation": frozenset({"Atrial fibrillation"}),
        "pac": frozenset({"Atrial extrasystole", "Atrial extrasystole, type"}),
        "pvc": frozenset(
            f"Ventricular extrasystole{kind}"
            for kind in ("", ", type", ", localisation", ", morphology")
        ),
        "av_block_1": frozenset({"I degree AV block"}),
        "rbbb": frozenset({"Complete right bundle branch block"}),
        "incomplete_rbbb": frozenset({"Incomplete right bundle branch block"}),
        "lvh": frozenset({"Left ventricular hypertrophy"}),
        "lae": frozenset({"Left atrial hypertrophy", "Left atrial overload"}),
        "myocardial_infarction": frozenset({"STEMI", "Scar formation"}),
        "conduction_disturbance": frozenset(
            {
                "I degree AV block",
                "III degree AV-block",
                "Complete right bundle branch block",
                "Complete left bundle branch block",
                "Incomplete right bundle branch block",
                "Incomplete left bundle branch block",
                "Left anterior hemiblock",
                "Non-specific intravintricular conduction delay",
            }
        ),
        "hypertrophy": frozenset(
            {
                "Left ventricular hypertrophy",
                "Right ventricular hypertrophy",
                "Left atrial hypertrophy",
                "Left atrial overload",
                "Right atrial hypertrophy",
                "Right atrial overload",
            }
        ),
        "st_t_abnormality": frozenset(
            {"Non-specific repolarization abnormalities", "Ischemia", "STEMI"}
        ),
    },
    doubtful={
        "pac": frozenset({"Wandering atrial pacemaker"}),
        "myocardial_infarction": frozenset({"Undefined ischemia/scar/supp.NSTEMI"}),
        "conduction_disturbance": frozenset({"Aberrant conduction"}),
        "st_t_abnormality": frozenset(
            {
                "Undefined ischemia/scar/supp.NSTEMI",
                "Scar formation",
                "Early repolarization syndrome",
                "Left ventricular overload",
                "Complete left bundle branch block",
            }
        ),
        "hypertrophy": frozenset({"Left ventricular overload"}),
        "lvh": frozenset({"Left ventricular overload"}),
    },
    annotated=frozenset(LABELS),
    plain="Sinus rhythm",
    benign=frozenset(
        {
            "Sinus rhythm",
            "Sinus bradycardia",
            "Sinus tachycardia",
            "Sinus arrhythmia",
            "Irregular sinus rhythm",
            "Early repolarization syndrome",
        }
    ),
)

_RATES: Table = {
    "sinus_bradycardia": frozenset({"426177001", "426627000", "SBRAD", "Sinus bradycardia"}),
    "sinus_tachycardia": frozenset({"427084000", "STACH", "Sinus tachycardia"}),
}

_LUDB_VOLTAGE = _LUDB.present["hypertrophy"] | {"Left ventricular overload"}

_RHYTHM_AND_BLOCK = "atrial_fibrillation pac pvc av_block_1 rbbb"
SCHEMES: Mapping[str, Scheme] = {
    "PTB-XL": _PTB_XL,
    "LUDB": _LUDB,
    "CPSC2018": _snomed(_RHYTHM_AND_BLOCK),
    "CPSC-Extra": _snomed(f"{_RHYTHM_AND_BLOCK} myocardial_infarction st_t_abnormality"),
    "Chapman-Ningbo": _snomed(
        f"{_RHYTHM_AND_BLOCK} conduction_disturbance st_t_abnormality",
        ambiguous=_ABERRANT_OR_BLOCK,
    ),
    "SPH": _snomed(" ".join(LABELS)),
    "PTB": _snomed("", plain=""),
}
"""Each source's scheme.

CPSC2018 annotates nine classes, one normal; CPSC-Extra, Chapman-Ningbo name what stands out, so
hypertrophy and incomplete blocks are unknown where they are silent; PTB states a clinical
diagnosis, so that sinus rhythm alone is not called normal there; PTB-XL, SPH and LUDB describe
the whole ECG.
"""
