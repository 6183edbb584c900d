"""WFDB records (header .hea beside .dat or .mat), read by the wfdb package, guarded.

wfdb fills in what a header leaves out (200 units per mV, 250 Hz), follows whatever file names a
header holds, and averages signals that have several samples in a frame. Here an absent gain or
rate is a refusal, a signal file must stand beside its header, and every sample is kept. Records
of several segments are joined here, with NaN where there is none.
"""

import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from analysis.ecg import ECG, Acquisition, Code, Patient, Recording, Sex, VendorStatement
from analysis.errors import Reason, Undecodable
from analysis.formats.channels import (
    MAX_SAMPLES,
    Channel,
    Strip,
    at_one_rate,
    decoded,
    recording,
)
from analysis.formats.common import MILLIVOLTS
from analysis.formats.content import Content

MAX_BYTES: Final = 2**28
MAX_SEGMENTS: Final = 2000

_RECORD: Final = re.compile(rb"\s*[\w-]+(?:/\d+)?[ \t]+\d+(?:[ \t]+[\d.]|[ \t]*\r?\n|[ \t]*$)")
_NUMBERS: Final = re.compile(rb"[\d.,;eE+\s-]*")
_BLANKS: Final = {
    "16": -(2**15),
    "24": -(2**23),
    "32": -(2**31),
    "61": -(2**15),
    "80": -(2**7),
    "160": -(2**15),
    "212": -(2**11),
    "310": -(2**9),
    "311": -(2**9),
    "508": -(2**7),
    "516": -(2**15),
    "524": -(2**23),
}
"""What stands for no sample, by storage format; differences ("8") have none (signal(5))."""
_GAP: Final = "~"
"""The name of a segment that holds no samples."""
_OLDEST: Final = 130.0


def looks_like_header(data: bytes) -> bool:
    """Return whether the first line that is no comment is a WFDB record line.

    The line after it names a file, so that it is more than the numbers of a table.
    """
    lines = (line for line in data[:4096].splitlines() if line.strip()[:1] not in {b"", b"#"})
    return bool(_RECORD.match(next(lines, b""))) and not _NUMBERS.fullmatch(next(lines, b"x"))


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
    import wfdb  # noqa: PLC0415 - half a second that only WFDB needs

    lines = _lines(header)
    if "/" in lines[0][0]:
        record = wfdb.rdheader(_name(path))
        strip, notes = _joined(record, path.parent)
    else:
        record = _read_record(lines, path)
        strip, notes = _strip(record)
    comments = [comment.strip() for comment in record.comments]
    return recording(
        strip,
        format="WFDB",
        patient=_patient(comments),
        acquisition=Acquisition(acquired_at=record.base_datetime),
        vendor_statements=_statements(comments),
        notes=notes,
    )


def _name(path: Path) -> str:
    return str(path.resolve().with_suffix(""))


def _lines(header: str) -> list[list[str]]:
    """Return the words of the record line and of the lines for each signal or segment."""
    stripped = (line.strip() for line in header.splitlines())
    return [line.split() for line in stripped if line and not line.startswith("#")]


def _read_record(lines: Sequence[Sequence[str]], path: Path) -> Any:
    """Return a record of one segment with its samples as integers, after what wfdb assumes."""
    import wfdb  # noqa: PLC0415 - as above

    if "/" in lines[0][0]:
        raise Undecodable(Reason.UNSUPPORTED, "A segment of the record has segments of its own.")
    if len(lines[0]) < 3:  # noqa: PLR2004 - name, signals, rate
        raise Undecodable(Reason.NO_RATE, "The header does not state a sampling frequency.")
    signals = lines[1 : 1 + int(lines[0][1])]
    if not signals:
        raise Undecodable(Reason.NO_WAVEFORM, "The record holds no signal.")
    _refuse_unscaled(signals)
    _refuse_files({words[0] for words in signals}, path.parent)
    frames = int(lines[0][3]) if len(lines[0]) > 3 else 0  # noqa: PLR2004 - the number of samples
    if frames * sum(map(_per_frame, signals)) > MAX_SAMPLES:
        raise Undecodable(Reason.TOO_LARGE, "The record has more samples than any ECG read here.")
    return wfdb.rdrecord(_name(path), physical=False, smooth_frames=False)


def _refuse_unscaled(signals: Iterable[Sequence[str]]) -> None:
    for words in signals:
        if len(words) < 3 or not float(re.split(r"[(/]", words[2])[0]):  # noqa: PLR2004 - file, format, gain
            raise Undecodable(Reason.NO_SCALE, "The header does not state the gain of a signal.")


def _per_frame(words: Sequence[str]) -> int:
    match = re.search(r"x(\d+)", words[1])
    return int(match[1]) if match else 1


def _strip(record: Any) -> tuple[Strip, tuple[str, ...]]:
    """Return the signals of one segment as it states them, and notes; NaN for blanks."""
    channels = [
        (Channel(name or "", _unblanked(samples, kind), step, zero), record.fs * count)
        for name, samples, kind, step, zero, count in zip(
            record.sig_name,
            record.e_d_signal,
            record.fmt,
            _steps(record),
            map(float, record.baseline),
            record.samps_per_frame,
            strict=True,
        )
    ]
    strip, notes = at_one_rate(channels, record.base_datetime)
    return strip, (*notes, *_checksum_notes(record))


def _unblanked(samples: npt.NDArray[Any], kind: str) -> npt.NDArray[Any]:
    """Return the samples with NaN for the value that stands for none in their format."""
    if kind not in _BLANKS:
        return samples
    blank = samples == _BLANKS[kind]
    return np.where(blank, np.nan, samples) if blank.any() else samples


def _steps(record: Any) -> Iterator[float | None]:
    """Yield mV per step of each signal, or None where its unit is no voltage."""
    for unit, gain in zip(record.units, record.adc_gain, strict=True):
        factor = MILLIVOLTS.get(unit)
        yield factor and factor / gain


def _joined(record: Any, folder: Path) -> tuple[Strip, tuple[str, ...]]:
    """Return the segments of a record on one axis, and notes; NaN where a lead has no sample.

    Raises
    ------
    Undecodable
        AMBIGUOUS where a segment has not the rate or the length that the record states.
    """
    frames = sum(record.seg_len)
    if record.n_seg > MAX_SEGMENTS or frames > MAX_SAMPLES:
        raise Undecodable(Reason.TOO_LARGE, "The record has more segments than any ECG read here.")
    if record.sig_len not in {None, frames} or min(record.seg_len) < 0:
        raise Undecodable(Reason.DAMAGED, "The segments are not as long as the record.")
    notes: tuple[str, ...] = ()
    pieces: list[tuple[int, ECG]] = []
    for name, first, length in zip(
        record.seg_name, accumulate(record.seg_len, initial=0), record.seg_len, strict=False
    ):
        if name == _GAP or not length:
            continue
        piece, said = _segment(folder, name)
        notes += said
        if piece is not None:
            pieces.append((first, piece))
            _refuse_misfit(piece, length, record.fs, pieces[0][1].sampling_frequency)
    return _on_one_axis(pieces, frames, record), notes


def _segment(folder: Path, name: str) -> tuple[ECG | None, tuple[str, ...]]:
    """Return the leads of a segment in mV, None where it holds no lead, and notes."""
    path = folder / f"{name}.hea"
    _refuse_files({path.name}, folder)
    lines = _lines(path.read_text("utf-8", "replace"))
    strip, notes = _strip(_read_record(lines, path))
    try:
        ecg, found = decoded(strip)
    except Undecodable as error:
        if error.reason in {Reason.NO_LEADS, Reason.NOT_AN_ECG}:
            return None, (*notes, f"Segment {name} holds no ECG and counts as not recorded.")
        raise
    return ecg, (*notes, *found)


def _refuse_misfit(piece: ECG, frames: int, frame_rate: float, rate: float) -> None:
    if piece.sampling_frequency != rate or piece.samples != round(frames * rate / frame_rate):
        raise Undecodable(
            Reason.AMBIGUOUS, "A segment has another rate or length than the record states."
        )


def _on_one_axis(pieces: Sequence[tuple[int, ECG]], frames: int, record: Any) -> Strip:
    if not pieces:
        raise Undecodable(Reason.NO_WAVEFORM, "No segment of the record holds an ECG.")
    rate = pieces[0][1].sampling_frequency
    per_frame = round(rate / record.fs)
    leads = tuple(dict.fromkeys(lead for _, piece in pieces for lead in piece.leads))
    if len(leads) * frames * per_frame > MAX_SAMPLES:
        raise Undecodable(Reason.TOO_LARGE, "The record has more samples than any ECG read here.")
    axis = np.full((len(leads), frames * per_frame), np.nan)
    for first, piece in pieces:
        rows = [leads.index(lead) for lead in piece.leads]
        axis[rows, first * per_frame : first * per_frame + piece.samples] = piece.signal
    step = MILLIVOLTS["uV"]
    channels = [Channel(lead, row / step, step) for lead, row in zip(leads, axis, strict=True)]
    return Strip(channels, rate, record.base_datetime)


def _refuse_files(names: set[str], folder: Path) -> None:
    """Refuse signal files that are not plain, present files beside the header."""
    for name in names:
        if Path(name).name != name or not (folder / name).is_file():
            raise Undecodable(
                Reason.UNREADABLE, "A signal file that the header names is not beside it."
            )
        if (folder / name).stat().st_size > MAX_BYTES:
            raise Undecodable(Reason.TOO_LARGE, "A signal file is larger than any ECG read here.")


def _checksum_notes(record: Any) -> Iterator[str]:
    """Yield which signals do not have the checksum of their header; 0 stands for unstated."""
    for name, stated, samples in zip(
        record.sig_name, record.checksum, record.e_d_signal, strict=True
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
