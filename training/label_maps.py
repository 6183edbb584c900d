"""Words of other lists for the findings of the vocabulary: SNOMED CT, SCP-ECG, ICD-10, AHA, free.

One table for each scheme, with its source. A word that a table does not hold stays a free name;
a site adds its own words with a CSV of three columns: scheme, code, key.
"""

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final, Self

from analysis.codes import VOCABULARY

SCT, MDC, SCP, ICD10, AHA, NAME = "SCT", "MDC", "SCP", "ICD10", "AHA", "NAME"
SCHEMES: Final = (SCT, MDC, SCP, ICD10, AHA, NAME)

Row = tuple[str, str, str]
"""Scheme, code, key."""


@dataclass(frozen=True, slots=True)
class LabelMap:
    """What the words of each scheme mean.

    Parameters
    ----------
    rows
        A word may stand for several keys, and a key for several words; for a key's code, the
        first row of its scheme counts.
    """

    rows: tuple[Row, ...]
    _index: Mapping[tuple[str, str], tuple[str, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        index: dict[tuple[str, str], tuple[str, ...]] = {}
        for scheme, code, key in self.rows:
            word = (scheme, _squeezed(scheme, code))
            index[word] = tuple(dict.fromkeys((*index.get(word, ()), key)))
        object.__setattr__(self, "_index", index)

    def keys(self, scheme: str, code: str) -> tuple[str, ...]:
        """Return what a word means; () where the scheme does not hold it.

        A code of ICD-10 means what the longest of its beginnings in the table means.
        """
        word = _squeezed(scheme, code)
        if scheme != ICD10:
            return self._index.get((scheme, word), ())
        stems = (word[:length] for length in range(len(word), 2, -1))
        return next((found for stem in stems if (found := self._index.get((ICD10, stem)))), ())

    def keys_of_word(self, word: str) -> tuple[str, ...]:
        """Return what a word without a scheme means: a key, a name, an acronym or a SNOMED code."""
        return next((keys for scheme in (NAME, SCP, SCT) if (keys := self.keys(scheme, word))), ())

    def codes(self, key: str, scheme: str) -> tuple[str, ...]:
        """Return the words of a scheme for a key, the usual one first."""
        return tuple(dict.fromkeys(row[1] for row in self.rows if row[0::2] == (scheme, key)))

    def with_rows(self, rows: Iterable[Row]) -> Self:
        """Return a map in which these rows replace what their words meant."""
        added = tuple(rows)
        new = {(scheme, _squeezed(scheme, code)) for scheme, code, _ in added}
        kept = (row for row in self.rows if (row[0], _squeezed(row[0], row[1])) not in new)
        return type(self)((*added, *kept))


@cache
def standard_map() -> LabelMap:
    """Return the tables of this module."""
    return LabelMap(tuple(_vocabulary_rows()) + tuple(_table_rows()))


def read_map(path: Path) -> tuple[Row, ...]:
    """Return the rows of a site's own map.

    Raises
    ------
    ValueError
        If a column is missing, or a row names a scheme that is none.
    """
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        if missing := {"scheme", "code", "key"} - set(reader.fieldnames or ()):
            raise ValueError(f"{path.name} has no column {', '.join(sorted(missing))}")
        rows = [(row["scheme"].strip().upper(), row["code"], row["key"].strip()) for row in reader]
    if unknown := {scheme for scheme, _, _ in rows} - set(SCHEMES):
        raise ValueError(f"{', '.join(sorted(unknown))} is none of {', '.join(SCHEMES)}")
    return tuple(rows)


def _squeezed(scheme: str, code: str) -> str:
    """Return a word as it is compared: letter case, blanks and, in ICD-10, the dot are nothing."""
    word = " ".join(code.replace("_", " ").replace("-", " ").split()).casefold()
    return word.replace(".", "").replace(" ", "") if scheme == ICD10 else word


def _vocabulary_rows() -> Iterable[Row]:
    for entry in VOCABULARY.values():
        yield NAME, entry.key, entry.key
        yield NAME, entry.name, entry.key
        if entry.scp:
            yield SCP, entry.scp, entry.key
    for entry in VOCABULARY.values():  # the codes of labels before those of reports
        yield from ((SCT, code, entry.key) for code in entry.snomed)
    taken = {code for entry in VOCABULARY.values() for code in entry.snomed}
    for entry in VOCABULARY.values():
        if entry.code.value not in taken:
            yield entry.code.scheme, entry.code.value, entry.key
            taken.add(entry.code.value)


def _table_rows() -> Iterable[Row]:
    for scheme, table in _TABLES.items():
        for key, words in table.items():
            yield from ((scheme, word, key) for word in words.split("|"))


_TABLES: Final[Mapping[str, Mapping[str, str]]] = {
    SCP: {  # scp_statements.csv of PTB-XL (Wagner 2020): infarctions by their wall
        "myocardial_infarction": "IMI|ASMI|ILMI|AMI|ALMI|LMI|IPLMI|IPMI|PMI|INJAS|INJAL|INJIN"
        "|INJLA|INJIL",
        "svt": "PSVT",
    },
    ICD10: {  # ICD-10 of the WHO, 2019, chapters IX and XVIII; five digits as ICD-10-CM has them
        "atrial_fibrillation": "I48.0|I48.1|I48.2|I48.91",
        "atrial_flutter": "I48.3|I48.4|I48.92",
        "svt": "I47.1",
        "pac": "I49.1",
        "pvc": "I49.3",
        "av_block_1": "I44.0",
        "av_block_2": "I44.1",
        "av_block_3": "I44.2",
        "lafb": "I44.4",
        "lpfb": "I44.5",
        "lbbb": "I44.7",
        "rbbb": "I45.1",
        "ivcd": "I45.4",
        "preexcitation": "I45.6",
        "long_qt": "I45.81",
        "myocardial_infarction": "I21|I22|I25.2",
    },
    AHA: {  # Mason 2007 (AHA/ACC/HRS, part II), table 1; SPH (Liu 2022) labels with these numbers
        "normal": "1",
        "sinus_rhythm": "20",
        "sinus_tachycardia": "21",
        "sinus_bradycardia": "22",
        "sinus_arrhythmia": "23",
        "pac": "30|31",
        "atrial_fibrillation": "50",
        "atrial_flutter": "51",
        "pvc": "60",
        "av_block_1": "82",
        "av_block_2": "83|84|85|86|87",
        "av_block_3": "88",
        "lafb": "101",
        "lpfb": "102",
        "lbbb": "104",
        "incomplete_rbbb": "105",
        "rbbb": "106",
        "ivcd": "107",
        "preexcitation": "108",
        "right_axis": "120",
        "left_axis": "121",
        "low_voltage": "125",
        "lae": "140",
        "rae": "141",
        "lvh": "142",
        "rvh": "143",
        "st_t_abnormality": "145|146|147",
        "long_qt": "148",
        "short_qt": "149",
        "myocardial_infarction": "160|161|162|163|165|166|173|174",
    },
    NAME: {  # PhysioNet/CinC 2021 (Reyna 2021), superclasses of PTB-XL, and LUDB's own words
        "normal": "NORM|normal",
        "sinus_rhythm": "SNR|NSR|sinus rhythm|sinus",
        "sinus_bradycardia": "SB",
        "sinus_tachycardia": "STach",
        "sinus_arrhythmia": "SA|irregular sinus rhythm",
        "atrial_fibrillation": "AF|AFib|atrial fibrillation",
        "atrial_flutter": "AFL|atrial flutter, typical",
        "svt": "SVT",
        "pac": "SVPB|APC|APB|atrial extrasystole|atrial extrasystole, type",
        "pvc": "PVC|VPB|VPC|VEB|ventricular extrasystole, type|ventricular extrasystole"
        "|ventricular extrasystole, morphology|ventricular extrasystole, localisation",
        "paced": "PR|unipolar ventricular pacing|bipolar ventricular pacing|biventricular pacing"
        "|unipolar atrial pacing",
        "av_block_1": "IAVB|1dAVb|I degree AV block",
        "av_block_2": "IIAVB",
        "av_block_3": "IIIAVB|CHB|III degree AV-block",
        "lbbb": "LBBB|complete left bundle branch block",
        "rbbb": "RBBB|complete right bundle branch block",
        "lafb": "LAnFB|left anterior hemiblock",
        "lpfb": "LPFB",
        "ivcd": "NSIVCB|non-specific intravintricular conduction delay",
        "left_axis": "left axis deviation",
        "right_axis": "right axis deviation",
        "low_voltage": "LQRSV",
        "lae": "LAH|left atrial hypertrophy|left atrial overload",
        "rae": "RAH|right atrial hypertrophy|right atrial overload",
        "long_qt": "LQT",
        "st_elevation": "STE",
        "st_depression": "STD",
        "t_inversion": "TInv",
        "pathological_q": "QAb",
        "myocardial_infarction": "MI|myocardial infarction|STEMI|scar formation",
        "conduction_disturbance": "CD",
        "hypertrophy": "HYP",
        "st_t_abnormality": "STTC|TAb|STC|STIAb|NSSTTA"
        "|non-specific repolarization abnormalities|ischemia",
    },
}
