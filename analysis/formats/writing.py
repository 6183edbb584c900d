"""Every encoding that an ECG can be written to, by the suffix of the file.

An encoder is a pure function from a recording and a stem to files by their names; only `write`
touches a disk. DICOM needs an identity and is written by `analysis.formats.dicom.encode`.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeAlias

from analysis.ecg import Recording
from analysis.formats import aecg_writer, edf_writer, table_writers, wfdb_writer

Encoder: TypeAlias = Callable[[Recording, str], Mapping[str, bytes]]

WRITERS: Final[Mapping[str, Encoder]] = MappingProxyType(
    {
        ".csv": table_writers.encode_csv,
        ".edf": edf_writer.encode,
        ".hea": wfdb_writer.encode,
        ".npz": table_writers.encode_npz,
        ".parquet": table_writers.encode_parquet,
        ".xml": aecg_writer.encode,
    }
)


def encode(recording: Recording, name: str) -> Mapping[str, bytes]:
    """Return the files, by their names, that hold a recording in the encoding of a file's name.

    The same recording gives the same bytes.

    Raises
    ------
    ValueError
        If the suffix is that of no writer, or the encoding cannot hold the recording.
    """
    stem, suffix = Path(name).stem, Path(name).suffix
    if encoder := WRITERS.get(suffix.lower()):
        return encoder(recording, stem)
    raise ValueError(f"ECGs are written as {', '.join(WRITERS)}, not as {suffix or name!r}")


def write(recording: Recording, path: str | os.PathLike[str]) -> tuple[Path, ...]:
    """Write a recording in the encoding of the path's suffix, and return the files written.

    ``.hea`` writes a WFDB record of two files; ``.csv``, ``.edf`` (EDF+), ``.npz``, ``.parquet``
    and ``.xml`` (HL7 aECG) one.

    Raises
    ------
    ValueError
        As `encode`.
    OSError
        If a file cannot be written.
    """
    target = Path(path)
    written = []
    for name, data in encode(recording, target.name).items():
        target.with_name(name).write_bytes(data)
        written.append(target.with_name(name))
    return tuple(written)
