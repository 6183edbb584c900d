"""Every encoding of an ECG behind one function: `read(source) -> Recording`.

An encoding is recognised by its content, never by a file's name. To add one, write a module
with a recogniser and a reader and name both in the registry below.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, TypeAlias

from analysis.ecg import Recording
from analysis.errors import Reason, Undecodable
from analysis.formats import (
    aecg,
    alivecor,
    apple,
    arrays,
    cardiosoft,
    dicom,
    edf,
    fhir,
    gdf,
    hl7v2,
    ishne,
    matlab,
    mfer,
    mortara,
    muse,
    schiller,
    scp,
    sierra,
    tables,
    wfdb,
)
from analysis.formats.content import Content, Stated

__all__ = ["Source", "read"]

Source: TypeAlias = str | os.PathLike[str] | bytes | BinaryIO

MAX_BYTES: Final = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Encoding:
    """One encoding: how it is recognised, and how it is read."""

    name: str
    recognises: Callable[[bytes], bool]
    read: Callable[[Content], Recording]


ENCODINGS: Final = (
    Encoding("SCP-ECG", scp.recognises, scp.read),
    Encoding("ISHNE Holter", ishne.recognises, ishne.read),
    Encoding("MFER", mfer.recognises, mfer.read),
    Encoding("DICOM waveform", dicom.looks_like_dicom, lambda content: dicom.read(content.data)),
    Encoding("WFDB header (.hea)", wfdb.looks_like_header, wfdb.read),
    Encoding("GE MUSE XML", muse.recognises, muse.read),
    Encoding("GE CardioSoft XML", cardiosoft.recognises, cardiosoft.read),
    Encoding("Philips XML", sierra.recognises, sierra.read),
    Encoding("Schiller XML", schiller.recognises, schiller.read),
    Encoding("Mortara ELI XML", mortara.recognises, mortara.read),
    Encoding("HL7 aECG", aecg.recognises, aecg.read),
    Encoding("HL7 version 2", hl7v2.recognises, hl7v2.read),
    Encoding("FHIR", fhir.recognises, fhir.read),
    Encoding("AliveCor ATC", alivecor.recognises, alivecor.read),
    Encoding("EDF, EDF+, BDF, BDF+", edf.recognises, edf.read),
    Encoding("GDF", gdf.recognises, gdf.read),
    Encoding("NumPy archive (.npz)", arrays.recognises_npz, arrays.read_npz),
    Encoding("NumPy array (.npy)", arrays.recognises_npy, arrays.read_npy),
    Encoding("MATLAB", matlab.recognises, matlab.read),
    Encoding("Parquet", arrays.recognises_parquet, arrays.read_parquet),
    Encoding("Apple Health ECG", apple.recognises, apple.read),
    Encoding("CSV, TSV and other tables of numbers", tables.recognises, tables.read),
)


def read(
    source: Source,
    *,
    sampling_frequency: float | None = None,
    unit: str | None = None,
    leads: Sequence[str] | None = None,
) -> Recording:
    """Return the ECG that a source holds, with everything that stands around it.

    Parameters
    ----------
    source
        A path, the bytes themselves, or an open binary file. A WFDB record is named by the
        path of its header.
    sampling_frequency, unit, leads
        What a bare table (CSV, NumPy, MATLAB, Parquet) does not say itself: Hz, one of nV, uV,
        mV and V, and the name of each column. Other encodings speak for themselves.

    Raises
    ------
    Undecodable
        With one of the closed reasons, and nothing else (FORMATS.md lists them). A file that
        cannot be opened is UNREADABLE.
    """
    data, path = _content(source)
    if len(data) > MAX_BYTES:
        raise Undecodable(Reason.TOO_LARGE, "The file is larger than 64 MiB; no ECG is.")
    stated = Stated(sampling_frequency=sampling_frequency, unit=unit, leads=leads)
    for encoding in ENCODINGS:
        if encoding.recognises(data):
            return encoding.read(Content(data, path, stated))
    raise Undecodable(
        Reason.NOT_RECOGNISED, "The bytes are no encoding of an ECG that is read here."
    )


def _content(source: Source) -> tuple[bytes, Path | None]:
    """Return the bytes of a source, one more than allowed at most, and its path if it has one."""
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source), None
    try:
        if not isinstance(source, str | os.PathLike):
            return source.read(MAX_BYTES + 1), None
        path = Path(source)
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1), path
    except (OSError, ValueError) as error:
        raise Undecodable(
            Reason.UNREADABLE, f"The source cannot be opened ({type(error).__name__})."
        ) from error
