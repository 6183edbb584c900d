"""De-identified recordings that the node keeps for learning: opt-in, in the spirit of PS3.15.

Only the decoded signal and the declared facts of :class:`Facts` are written, never a text, a
UID, or a date finer than the quarter (PS3.15 Annex E; what is retained is retained on purpose).
Patients and objects are named by keyed hashes; the key lies outside the archive, so that who
reads recordings cannot try patient IDs against them.
"""

import hashlib
import hmac
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any, Final, Self
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
import structlog
from pydicom.dataset import Dataset

from analysis.codes import VOCABULARY
from analysis.ecg import ECG, Lead, Recording, Sex, VendorStatement
from dicom_node.report import is_own
from dicom_node.settings import Settings

log = structlog.get_logger()

SUFFIX: Final = ".npz"
FOLDER: Final = "archive"
"""In the data folder."""
KEY: Final = "archive.key"
"""Beside it, not in it."""
WITHDRAWN: Final = "withdrawn"
"""The folder whose files are the pseudonyms of those who withdrew."""
OLDEST: Final = 90
"""Years; who is older counts as that old (as 45 CFR 164.514(b)(2)(i)(C) groups them)."""

MAKERS: Final = (
    "alivecor", "apple", "baxter", "biocare", "btl", "burdick", "cardioline", "cardiosoft",
    "comen", "contec", "custo", "draeger", "edan", "fukuda", "ge", "hillrom", "marquette",
    "mindray", "mortara", "nihon", "norav", "philips", "quinton", "schiller", "siemens",
    "spacelabs", "suzuken", "welch",
)  # fmt: skip
"""Makers of carts; any other counts as "other", so that no free text is kept."""

_KEY_BYTES: Final = 32
_PSEUDONYM: Final = 32
"""Hexadecimal digits: 128 bits."""
_IS_PSEUDONYM: Final = re.compile(f"[0-9a-f]{{{_PSEUDONYM}}}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is kept of a recording beside its samples, leads and rate: this and no more."""

    patient: str
    """Keyed hash of Patient ID and issuer: recordings of one patient have the same."""
    instance: str | None
    """Keyed hash of the SOP Instance UID, to which an over-read refers."""
    age: int | None
    """Whole years at the time of the recording, at most `OLDEST`."""
    sex: Sex | None
    quarter: str | None
    """Of acquisition, for example "2026Q1"."""
    device: str
    """One of `MAKERS`, "other" or "unknown"."""
    site: str
    """A code that the settings or the importer give."""
    format: str
    """The encoding it was read from."""
    ai_visible: bool
    """Whether an AI result of it was there for those who read it afterwards."""
    statements: tuple[str, ...] = ()
    """What the cart said, as keys of `analysis.VOCABULARY`; its texts are not kept."""

    @classmethod
    def of(
        cls,
        recording: Recording,
        *,
        patient: str,
        site: str,
        ai_visible: bool,
        instance: str | None = None,
    ) -> Self:
        """Return the facts of a recording whose patient and object have these pseudonyms."""
        acquired_at = recording.acquisition.acquired_at or recording.ecg.start
        return cls(
            patient=patient,
            instance=instance,
            age=capped(recording.patient.age),
            sex=recording.patient.sex,
            quarter=quarter(acquired_at) if acquired_at else None,
            device=maker(recording.acquisition.manufacturer),
            site=site,
            format=recording.format,
            ai_visible=ai_visible,
            statements=vendor_keys(recording.vendor_statements),
        )

    @classmethod
    def from_mapping(cls, document: Mapping[str, Any]) -> Self:
        """Return the facts of a JSON object. Raises TypeError or ValueError on anything else."""
        sex = document["sex"]
        return cls(
            **dict(document)
            | {"sex": Sex(sex) if sex else None, "statements": tuple(document["statements"])}
        )


def capped(age: float | None) -> int | None:
    """Return an age in whole years, at most `OLDEST`."""
    return None if age is None else min(int(age), OLDEST)


def quarter(moment: datetime) -> str:
    """Return the quarter of a moment, for example "2026Q1"."""
    return f"{moment.year:04}Q{(moment.month + 2) // 3}"


def maker(manufacturer: str | None) -> str:
    """Return the one of `MAKERS` that Manufacturer (0008,0070) names, "other" or "unknown"."""
    words = set(re.findall(r"[a-z]+", (manufacturer or "").lower()))
    return next((name for name in MAKERS if name in words), "other" if words else "unknown")


def vendor_keys(statements: Iterable[VendorStatement]) -> tuple[str, ...]:
    """Return the findings that a cart's statements mean, by code or by their exact name."""
    keys = {
        _BY_CODE.get(statement.code[:2] if statement.code else ("", ""))
        or _BY_NAME.get(statement.text.strip(" .").casefold())
        for statement in statements
    }
    return tuple(sorted(key for key in keys if key))


_BY_CODE: Final = {
    code: entry.key
    for entry in reversed(tuple(VOCABULARY.values()))
    for code in (entry.code[:2], *(("SCT", value) for value in entry.snomed))
}
_BY_NAME: Final = {entry.name.casefold(): entry.key for entry in VOCABULARY.values()}


# Pseudonyms


@dataclass(frozen=True, slots=True)
class Pseudonyms:
    """Names that only who has the key can compute: HMAC-SHA-256 (RFC 2104), cut to 128 bits."""

    key: bytes

    def __repr__(self) -> str:
        return "Pseudonyms(…)"

    def __call__(self, kind: str, *words: str) -> str:
        """Return the pseudonym of these words, for one kind of thing."""
        message = json.dumps([kind, *words]).encode()
        return hmac.new(self.key, message, hashlib.sha256).hexdigest()[:_PSEUDONYM]

    @classmethod
    def of(cls, path: Path) -> Self:
        """Return the pseudonyms of a key file; one that is not there yet is made.

        Raises
        ------
        PermissionError
            If others than its owner may read the key.
        ValueError
            If the file holds no key.
        """
        if not path.exists():
            _make_key(path)
        if path.stat().st_mode & 0o077:
            raise PermissionError(f"{path} must be readable by its owner alone (chmod 600)")
        key = path.read_bytes()
        if len(key) != _KEY_BYTES:
            raise ValueError(f"{path} holds no key of {_KEY_BYTES} bytes")
        return cls(key)


def _make_key(path: Path) -> None:
    """Write a key; of several processes that do so, the first one's stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(secrets.token_bytes(_KEY_BYTES))
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()


# One recording as a file


def digest(ecg: ECG) -> str:
    """Return the SHA-256 of rate, leads and samples: the same for the same signal, however coded.

    The leads count in the order of their names, so that a file with another order is the same.
    """
    order = sorted(range(len(ecg.leads)), key=lambda row: ecg.leads[row])
    head = json.dumps([ecg.sampling_frequency, [ecg.leads[row] for row in order]])
    samples = np.where(np.isnan(ecg.signal), np.float32("nan"), ecg.signal + np.float32(0.0))
    return hashlib.sha256(head.encode() + samples[order].astype("<f4").tobytes()).hexdigest()


def encode(ecg: ECG, facts: Facts) -> bytes:
    """Return a recording as an .npz archive: samples, steps, leads, rate and facts.

    The samples are int16 or int32 with the mV of one step of each lead, where every sample is
    an exact multiple of it, and float32 mV where it is not; decoding gives the same bits.
    """
    samples, steps = _quantised(ecg.signal)
    buffer = BytesIO()
    np.savez(
        buffer,
        samples=samples,
        steps=steps,
        leads=np.array([str(lead) for lead in ecg.leads]),
        sampling_frequency=np.float64(ecg.sampling_frequency),
        facts=np.array(json.dumps(asdict(facts), sort_keys=True)),
    )
    return buffer.getvalue()


def decode(source: Path | bytes) -> tuple[ECG, Facts]:
    """Return what :func:`encode` was given, the samples bit by bit.

    Raises
    ------
    ValueError
        If the file is damaged or is something else.
    """
    try:
        with np.load(BytesIO(source) if isinstance(source, bytes) else source) as arrays:
            ecg = ECG(
                signal=_millivolts(arrays["samples"], arrays["steps"]),
                leads=tuple(map(Lead, arrays["leads"].tolist())),
                sampling_frequency=float(arrays["sampling_frequency"]),
            )
            return ecg, Facts.from_mapping(json.loads(str(arrays["facts"])))
    except (KeyError, TypeError, EOFError, BadZipFile) as error:
        raise ValueError(f"no recording of an archive ({type(error).__name__})") from error


_BLANK: Final = {np.dtype(np.int16): -(2**15), np.dtype(np.int32): -(2**31)}
"""What stands for no sample; never the value of one."""


def _quantised(signal: npt.NDArray[np.float32]) -> tuple[npt.NDArray[Any], npt.NDArray[np.float64]]:
    """Return the samples as whole steps and the mV of a step, or as they are with steps of 1."""
    grids = [_grid(row) for row in signal]
    steps = np.array([grid or 1.0 for grid in grids])
    counts = np.rint(np.nan_to_num(signal.astype(np.float64)) / steps[:, None])
    top = np.abs(counts).max(initial=0)
    if None in grids or top >= 2**31:
        return signal, np.ones(len(signal))
    kind = np.dtype(np.int16 if top < 2**15 else np.int32)
    return np.where(np.isnan(signal), _BLANK[kind], counts).astype(kind), steps


def _millivolts(samples: npt.NDArray[Any], steps: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
    if samples.dtype not in _BLANK:
        return samples
    signal = (samples * steps[:, None]).astype(np.float32)
    return np.where(samples == _BLANK[samples.dtype], np.float32("nan"), signal)


def _grid(row: npt.NDArray[np.float32]) -> float | None:
    """Return a step, mV, of which every sample is an exact multiple once rounded to float32.

    The least difference of two values gives it roughly: of those around zero, which float32
    holds most exactly, else of all.
    """
    exact = np.unique(row[np.isfinite(row)])
    values = exact.astype(np.float64)
    if not values.any():
        return 1.0
    if np.abs(values).max() > _WIDEST:
        return None
    zero = int(np.abs(values).argmin())
    some = values[max(0, zero - _AROUND) : zero + _AROUND]
    rough = [np.diff(part).min() for part in (some, values) if part.size > 1]
    refined = (_refined(exact, float(step), zero) for step in rough or [np.abs(values).max()])
    return next((step for step in refined if step is not None), None)


_AROUND: Final = 32
_WIDEST: Final = 1e9
"""mV, beyond which no cart's integers reach."""


def _refined(exact: npt.NDArray[np.float32], step: float, zero: int) -> float | None:
    """Return the step that a rough one means, or None where it explains no more than some values.

    Ever longer differences refine it; then each value, with the width of its rounding, says
    between which bounds it lies.
    """
    values = exact.astype(np.float64)
    anchored = values - values[zero]
    for reach in (2**6, 2**10, 2**14, 2**20, 2**31):
        near = anchored[np.abs(anchored) <= reach * step]
        counts = np.rint(near / step)
        step = float(near @ counts / (counts @ counts)) if counts.any() else step
    counts = np.rint(values / step)
    known = counts != 0
    sides = np.array([[-np.inf], [np.inf]], np.float32)
    ends = (values + np.nextafter(exact, sides).astype(np.float64)) / 2
    bounds = np.sort(ends[:, known] / counts[known], axis=0)
    step = float(bounds[0].max() + bounds[1].min()) / 2 if known.any() else step
    return step if np.array_equal((counts * step).astype(np.float32), exact) else None


# The archive


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """The folder of recordings, one below it for each patient; each is written once."""

    folder: Path
    pseudonyms: Pseudonyms
    site: str

    @classmethod
    def of(cls, settings: Settings) -> Self | None:
        """Return the archive of the settings, or None where nothing is or can be kept.

        A key that cannot be used is logged: no ECG waits for the archive.
        """
        if not settings.archive.keep:
            return None
        folder = settings.storage.folder
        try:
            pseudonyms = Pseudonyms.of(settings.archive.key_file or folder / KEY)
        except (OSError, ValueError) as error:
            log.error("archive_key_unusable", error=type(error).__name__)  # noqa: TRY400 - no trace
            return None
        return cls(folder=folder / FOLDER, pseudonyms=pseudonyms, site=settings.archive.site)

    def keep(
        self, source: Dataset, recording: Recording, *, patient: str | None, ai_visible: bool
    ) -> Path | None:
        """Return where the recording was written, or None where it must not be or cannot.

        None of our own objects is kept, no patient's who withdrew, and none without a Patient
        ID, which could never be withdrawn. That the disk refuses is logged and disturbs nobody.

        Parameters
        ----------
        source
            The object that the recording was decoded from.
        patient
            Key of Patient ID and issuer; None where the object states none.
        """
        if patient is None or is_own(source):
            return None
        pseudonym = self.pseudonyms("patient", patient)
        if pseudonym in self.withdrawn:
            return None
        facts = Facts.of(
            recording,
            patient=pseudonym,
            instance=self.pseudonyms("instance", str(source.SOPInstanceUID)),
            site=self.site,
            ai_visible=ai_visible,
        )
        try:
            path = self._write(recording.ecg, facts)
        except OSError as error:
            log.warning("not_archived", error=type(error).__name__, errno=error.errno)
            return None
        if pseudonym in self.withdrawn:  # just now, by another process
            path.unlink(missing_ok=True)
            return None
        return path

    def _write(self, ecg: ECG, facts: Facts) -> Path:
        path = self.folder / facts.patient / f"{digest(ecg)[:_PSEUDONYM]}{SUFFIX}"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write(path, encode(ecg, facts), durable=True)
            for item in (path, path.parent):  # a file's time would be a date
                os.utime(item, (_begin(facts.quarter),) * 2)
        return path

    def withdraw(self, patient: str) -> int:
        """Return how many recordings of a patient were removed; none will be kept any more.

        Parameters
        ----------
        patient
            The pseudonym; `pseudonyms("patient", key)` gives it.

        Raises
        ------
        ValueError
            If it is none.
        OSError
            If a file cannot be removed.
        """
        if not _IS_PSEUDONYM.fullmatch(patient):
            raise ValueError(f"a pseudonym has {_PSEUDONYM} hexadecimal digits")
        marks = self.folder / WITHDRAWN
        marks.mkdir(parents=True, exist_ok=True)
        (marks / patient).touch()
        found = len(list((self.folder / patient).glob(f"*{SUFFIX}")))
        if (self.folder / patient).exists():
            shutil.rmtree(self.folder / patient)
        return found

    @property
    def withdrawn(self) -> frozenset[str]:
        """Pseudonyms of those who withdrew."""
        return withdrawn(self.folder)


def recordings(folder: Path) -> Iterator[Path]:
    """Yield the files of an archive, in the order of their names."""
    return (path for path in sorted(folder.glob(f"*/*{SUFFIX}")) if path.parent.name != WITHDRAWN)


def withdrawn(folder: Path) -> frozenset[str]:
    """Return the pseudonyms of those who withdrew from an archive."""
    return frozenset(path.name for path in (folder / WITHDRAWN).glob("*"))


def write(path: Path, data: bytes, *, durable: bool = False) -> None:
    """Write a file whole or not at all; durable once it returns, where that is asked for."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with draft.open("wb") as file:
        file.write(data)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    draft.replace(path)


def _begin(quarter: str | None) -> float:
    """Return the first second of a quarter, since the epoch; 0 for none."""
    if quarter is None:
        return 0.0
    year, _, number = quarter.partition("Q")
    return datetime(int(year), 3 * int(number) - 2, 1, tzinfo=UTC).timestamp()
