"""WFDB records (header .hea beside .dat or .mat), read by the wfdb package, guarded.

wfdb fills in what a header leaves out (200 units per mV, 250 Hz) and follows whatever file
names a header holds. Here an absent gain or rate is a refusal, and a signal file must stand
beside its header.
"""

import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from analysis.ecg import Acquisition, Code, Patient, Recording, Sex, VendorStatement
from analysis.errors import Reason, Undecodable
from analysis.formats.channels import MAX_SAMPLES, Channel, Strip, recording
from analysis.formats.common import MILLIVOLTS
from analysis.formats.content import Content

MAX_BYTES: Final = 2**28

_RECORD: Final = re.compile(rb"\s*[\w-]+(?:/\d+)?[ \t]+\d+(?:[ \t]+[\d.]|[ \t]*\r?\n|[ \t]*$)")
_OLDEST: Final = 130.0


def looks_like_header(data: bytes) -> bool:
    """Return whether the first line that is no comment is a WFDB record line."""
    lines = (line for line in data[:4096].splitlines() if line.strip()[:1] not in {b"", b"#"})
    return bool(_RECORD.match(next(lines, b"")))


def read(content: Content) -> Recording:
    """Return the ECG of a WFDB record.

    Parameters
    ----------
    content
        The header; its signal files stand beside its path.

    Raises
    ------
    Undecodable
        With the reason, and nothing else.
    """
    if content.path is None:
        raise Undecodable(
            Reason.UNSUPPORTED, "A WFDB header alone has no samples; give the path of its file."
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _recording(content.data.decode("utf-8", "replace"), content.path)
    except Undecodable:
        raise
    except Exception as error:  # the boundary to wfdb, which raises many kinds
        raise Undecodable(
            Reason.DAMAGED, f"The WFDB record cannot be decoded ({type(error).__name__})."
        ) from error


def _recording(header: str, path: Path) -> Recording:
    _refuse_unstated(header)
    record = _read_record(path)
    comments = [comment.strip() for comment in record.comments]
    return recording(
        _strip(record),
        format="WFDB",
        patient=_patient(comments),
        acquisition=Acquisition(acquired_at=record.base_datetime),
        vendor_statements=_statements(comments),
        notes=_checksum_notes(record),
    )


def _read_record(path: Path) -> Any:
    """Return the record with its samples as integers, after what wfdb does not check."""
    import wfdb  # noqa: PLC0415 - half a second that only WFDB needs

    name = str(path.resolve().with_suffix(""))
    header = wfdb.rdheader(name)
    if getattr(header, "n_seg", None):
        raise Undecodable(Reason.UNSUPPORTED, "Records of several segments are not read yet.")
    if not header.n_sig:
        raise Undecodable(Reason.NO_WAVEFORM, "The record holds no signal.")
    _refuse_files(set(header.file_name), path.parent)
    if header.n_sig * (header.sig_len or 0) > MAX_SAMPLES:
        raise Undecodable(Reason.TOO_LARGE, "The record has more samples than any ECG read here.")
    return wfdb.rdrecord(name, physical=False)


def _refuse_files(names: set[str], folder: Path) -> None:
    """Refuse signal files that are not plain, present files beside the header."""
    for name in names:
        if Path(name).name != name or not (folder / name).is_file():
            raise Undecodable(
                Reason.UNREADABLE, "A signal file that the header names is not beside it."
            )
        if (folder / name).stat().st_size > MAX_BYTES:
            raise Undecodable(Reason.TOO_LARGE, "A signal file is larger than any ECG read here.")


def _refuse_unstated(header: str) -> None:
    """Refuse a header that leaves its rate or a gain to convention."""
    lines = [line.split() for line in header.splitlines() if line.strip() and line[0] != "#"]
    if len(lines[0]) < 3:  # noqa: PLR2004 - name, signals, rate
        raise Undecodable(Reason.NO_RATE, "The header does not state a sampling frequency.")
    for fields in lines[1 : 1 + int(lines[0][1])]:
        if len(fields) < 3 or not float(re.split(r"[(/]", fields[2])[0]):  # noqa: PLR2004 - file, format, gain
            raise Undecodable(Reason.NO_SCALE, "The header does not state the gain of a signal.")


def _strip(record: Any) -> Strip:
    """Return the signals as the record states them, NaN for the blank of their format."""
    stored = np.where(np.isnan(record.dac()), np.nan, record.d_signal)
    channels = tuple(
        Channel(name or "", samples, _step(record, column), float(record.baseline[column]))
        for column, (name, samples) in enumerate(zip(record.sig_name, stored.T, strict=True))
    )
    return Strip(channels, float(record.fs), record.base_datetime)


def _step(record: Any, column: int) -> float | None:
    """Return mV per step of a signal, or None where its unit is no voltage."""
    factor = MILLIVOLTS.get(record.units[column])
    return factor and factor / record.adc_gain[column]


def _checksum_notes(record: Any) -> Iterator[str]:
    """Yield which signals do not have the checksum of their header; 0 stands for unstated."""
    for name, stated, samples in zip(
        record.sig_name, record.checksum, record.d_signal.T, strict=True
    ):
        if stated and (int(samples.sum()) - stated) % 2**16:
            yield f"The checksum of signal {name} does not match; samples may be damaged."


def _patient(comments: Sequence[str]) -> Patient:
    """Return age and sex, as PhysioNet writes them: by name, or the MIT-BIH line "72 F …"."""
    fields = {key: value for key, value in map(_field, comments) if value}
    mit = re.match(r"(-?\d+) ([MF]) ", comments[0]) if comments else None
    age, sex = mit.groups() if mit else (fields.get("age", ""), fields.get("sex", ""))
    years = float(age) if re.fullmatch(r"\d+(\.\d+)?", age) else None
    return Patient(
        age=years if years is not None and years <= _OLDEST else None,
        sex={"m": Sex.MALE, "f": Sex.FEMALE}.get(sex[:1].lower()),
    )


def _field(comment: str) -> tuple[str, str]:
    key, _, content = comment.partition(":")
    return key.strip("<> ").lower(), content.strip()


def _statements(comments: Sequence[str]) -> Iterator[VendorStatement]:
    """Yield the diagnoses: SNOMED CT codes after "Dx:", sentences after "<diagnoses>:"."""
    diagnoses = False
    for comment in comments:
        key, content = _field(comment)
        if key == "dx":
            codes = filter(None, (code.strip() for code in content.split(",")))
            yield from (VendorStatement(text=c, code=Code("SCT", c, c)) for c in codes)
        elif diagnoses and comment:
            yield VendorStatement(text=comment)
        diagnoses = diagnoses or key == "diagnoses"
