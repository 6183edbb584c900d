"""ECGs as WFDB records: a header (.hea) and its samples (.dat), for PhysioNet's tools.

The samples are 16 bits where a usual step of carts holds them exactly, else 24 bits of the
finest decimal step that does. Of the patient only age and sex are written.

References
----------
WFDB Applications Guide, header(5) and signal(5).
"""

from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from analysis.ecg import Recording, Sex, Signal
from analysis.formats.common import usual_step

_LARGEST: Final = {16: 2**15 - 1, 24: 2**23 - 1}
_FINE: Final = (0.001, 0.01, 0.1, 1.0, 10.0)
"""µV per step of 24 bits; the coarsest spans 84 V."""
_SEXES: Final = {Sex.MALE: "Male", Sex.FEMALE: "Female"}

_Integers = npt.NDArray[np.int32]


def encode(recording: Recording, stem: str) -> Mapping[str, bytes]:
    """Return the two files of a record by name; NaN is the blank of the storage format.

    Raises
    ------
    ValueError
        Where the record would have a name that WFDB does not allow, or more than 84 V.
    """
    if not stem.replace("-", "_").replace("_", "a").isalnum() or not stem.isascii():
        raise ValueError(
            "the name of a WFDB record has letters, digits, hyphens and underscores only"
        )
    bits, step = _storage(recording.ecg.signal)
    samples = _integers(recording.ecg.signal, step, bits)
    header = "\n".join(_header(recording, stem, samples, bits, step)) + "\n"
    data = samples.T.astype("<i4", order="C").view(np.uint8).reshape(-1, 4)[:, : bits // 8]
    return {f"{stem}.hea": header.encode(), f"{stem}.dat": data.tobytes()}


def _storage(signal: Signal) -> tuple[int, float]:
    """Return the bits of a sample and the µV of a step."""
    if step := usual_step(signal, _LARGEST[16]):
        return 16, step
    peak = 1000 * float(np.nanmax(np.abs(signal)))
    for step in _FINE:
        if peak <= step * _LARGEST[24]:
            return 24, step
    raise ValueError("a WFDB record of 24 bits holds no more than 84 V")


def _integers(signal: Signal, step: float, bits: int) -> _Integers:
    counts = np.rint(signal.astype(np.float64) * (1000 / step))
    return np.where(np.isnan(counts), -_LARGEST[bits] - 1, counts).astype(np.int32)


def _header(
    recording: Recording, stem: str, samples: _Integers, bits: int, step: float
) -> Iterator[str]:
    ecg = recording.ecg
    start = recording.acquisition.acquired_at or ecg.start
    when = f" {start:%H:%M:%S.%f %d/%m/%Y}" if start else ""
    rate = str(ecg.sampling_frequency).removesuffix(".0")
    yield f"{stem} {len(ecg.leads)} {rate} {ecg.samples}{when}"
    for lead, row in zip(ecg.leads, samples, strict=True):
        checksum = (int(row.sum(dtype=np.int64)) + 2**15) % 2**16 - 2**15
        first = row[0] if row.size else 0
        yield (f"{stem}.dat {bits} {1000 / step}(0)/mV {bits} 0 {first} {checksum} 0 {lead}")
    yield from _comments(recording)


def _comments(recording: Recording) -> Iterator[str]:
    """Yield age, sex and statements as PhysioNet's 12-lead databases write them."""
    if recording.patient.age is not None:
        yield f"#Age: {recording.patient.age:g}"
    if sex := _SEXES.get(recording.patient.sex or Sex.OTHER):
        yield f"#Sex: {sex}"
    statements = recording.vendor_statements
    coded = [s.code.value for s in statements if s.code is not None and s.code.scheme == "SCT"]
    if coded:
        yield f"#Dx: {','.join(coded)}"
    if words := [s.text for s in statements if s.code is None or s.code.scheme != "SCT"]:
        yield "#<diagnoses>:"
        yield from (f"#{' '.join(text.split())}" for text in words)
