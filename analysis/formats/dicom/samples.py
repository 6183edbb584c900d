"""Waveform Data (5400,1010) to millivolts (PS3.3 §C.10.9.1).

mV = (sample × Channel Sensitivity × Correction Factor + Channel Baseline) × unit. Every
factor is checked here, because a wrong one gives a plausible and wrong ECG.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from analysis.ecg import Signal
from analysis.errors import Reason, Undecodable
from analysis.formats.dicom.elements import Item, damaged, number, text, value

Raw = npt.NDArray[np.integer]

_DTYPES: Final = {
    (8, "SB"): "i1",
    (8, "UB"): "u1",
    (8, "MB"): "u1",
    (8, "AB"): "u1",
    (16, "SS"): "<i2",
    (16, "US"): "<u2",
    (32, "SL"): "<i4",
    (32, "UL"): "<u4",
}
_FINEST, _COARSEST = 1e-9, 1.0  # mV per step: 1 pV and 1 mV
_LARGEST_BASELINE = 1e4  # mV
_PADDING_RUN = 1.0  # s without any change: no electrode on living skin does that


@dataclass(frozen=True, slots=True)
class Scale:
    """How the samples of one channel become millivolts."""

    step: float
    """mV per unit of the samples."""
    baseline: float
    """mV."""

    def apply(self, raw: Raw) -> Signal:
        """Return the samples in mV."""
        return (raw * self.step + self.baseline).astype(np.float32)


def scale_of(definition: Item, millivolts: float, lead: str) -> Scale:
    """Return the scale of one channel whose unit is worth so many mV.

    Raises
    ------
    Undecodable
        NO_SCALE, if the sensitivity is absent or a factor is zero, negative or absurd.
    """
    sensitivity = _factor(definition, "ChannelSensitivity", lead)
    if sensitivity is None:
        raise _no_scale(f"Lead {lead} has no Channel Sensitivity")
    correction = _factor(definition, "ChannelSensitivityCorrectionFactor", lead)
    baseline = _factor(definition, "ChannelBaseline", lead)
    step = sensitivity * (1.0 if correction is None else correction) * millivolts
    offset = (baseline or 0.0) * millivolts
    if not (_FINEST <= step <= _COARSEST and abs(offset) <= _LARGEST_BASELINE):
        raise _no_scale(f"Lead {lead} has a scale that no ECG has")
    return Scale(step, offset)


def _factor(definition: Item, keyword: str, lead: str) -> float | None:
    try:
        return number(definition, keyword)
    except Undecodable:
        raise _no_scale(f"The {keyword} of lead {lead} is not one finite number") from None


def _no_scale(what: str) -> Undecodable:
    return Undecodable(Reason.NO_SCALE, f"{what}; its amplitudes cannot be known.")


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """The samples of one multiplex group as they are stored, ``(samples, channels)``."""

    raw: Raw
    interpretation: str
    padding: int | None

    def linear(self, channel: int, bits_stored: int) -> Raw:
        """Return one channel, ``(samples,)``, its sign extended and companding undone.

        Raises
        ------
        Undecodable
            AMBIGUOUS, if samples do not fit into the Waveform Bits Stored.
        """
        raw = self.raw[:, channel]
        if self.interpretation in _COMPANDED:
            return _COMPANDED[self.interpretation][raw]
        bits = 8 * raw.dtype.itemsize
        if not 1 < bits_stored <= bits:
            raise damaged("WaveformBitsStored does not fit WaveformBitsAllocated.")
        return raw if bits_stored == bits else _extended(raw, bits_stored)

    def missing(self, channel: int, rate: float) -> npt.NDArray[np.bool_]:
        """Return where the padding value means that no sample was recorded, ``(samples,)``.

        Carts declare padding values that are ordinary samples as well. So the value counts
        only where an ECG cannot have it: at the end of the number range, or unchanged for a
        second.
        """
        equal = self.equal_to_padding(channel)
        if self.padding in _limits(self.raw.dtype) or not equal.any():
            return equal
        return _runs(equal, max(2, round(_PADDING_RUN * rate)))

    def equal_to_padding(self, channel: int) -> npt.NDArray[np.bool_]:
        """Return which samples equal the padding value, ``(samples,)``."""
        raw = self.raw[:, channel]
        return np.zeros(raw.shape, bool) if self.padding is None else raw == self.padding


def samples_of(group: Item) -> Samples:
    """Return the samples of a multiplex group.

    Raises
    ------
    Undecodable
        NO_WAVEFORM, if there are none; DAMAGED, if counts and data disagree; UNSUPPORTED for
        other than 8, 16 or 32 bits.
    """
    channels = _count(group, "NumberOfWaveformChannels")
    length = _count(group, "NumberOfWaveformSamples")
    data = value(group, "WaveformData")
    if not (channels and length and data):
        raise Undecodable(Reason.NO_WAVEFORM, "The object holds no samples.")
    interpretation = text(group, "WaveformSampleInterpretation")
    dtype = _dtype(_count(group, "WaveformBitsAllocated"), interpretation)
    size = channels * length * dtype.itemsize
    if len(data) not in (size, size + size % 2):
        raise damaged("The samples are fewer or more than the object says; send it again.")
    raw = np.frombuffer(data, dtype, channels * length).reshape(length, channels)
    return Samples(raw, interpretation, _padding(group, dtype))


def _count(group: Item, keyword: str) -> int:
    return int(number(group, keyword) or 0)


def _dtype(bits: int, interpretation: str) -> np.dtype[np.integer]:
    if bits not in {8, 16, 32}:
        raise Undecodable(Reason.UNSUPPORTED, "Samples must have 8, 16 or 32 bits.")
    try:
        return np.dtype(_DTYPES[bits, interpretation])
    except KeyError:
        raise damaged("WaveformSampleInterpretation does not fit WaveformBitsAllocated.") from None


def _padding(group: Item, dtype: np.dtype[np.integer]) -> int | None:
    encoded = value(group, "WaveformPaddingValue")
    if not encoded:
        return None
    if len(encoded) not in {dtype.itemsize, max(2, dtype.itemsize)}:
        raise damaged("WaveformPaddingValue does not fit WaveformBitsAllocated.")
    return int(np.frombuffer(encoded, dtype, 1)[0])


def _extended(raw: Raw, bits: int) -> Raw:
    """Return samples whose unused high bits hold the sign, be they stored so or as zeros."""
    signed = raw.dtype.kind == "i"
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    smallest, largest = int(raw.min()), int(raw.max())
    if low <= smallest and largest <= high:
        return raw
    if signed and smallest >= 0 and largest < 1 << bits:
        return np.where(raw > high, raw.astype(np.int64) - (1 << bits), raw)
    raise Undecodable(
        Reason.AMBIGUOUS, "Samples need more bits than WaveformBitsStored says; send it again."
    )


def _limits(dtype: np.dtype[np.integer]) -> tuple[int, int]:
    info = np.iinfo(dtype)
    return int(info.min), int(info.max)


def _runs(flags: npt.NDArray[np.bool_], length: int) -> npt.NDArray[np.bool_]:
    """Return the flags that stand in unbroken runs of at least this length."""
    edges = np.flatnonzero(np.diff(flags.astype(np.int8), prepend=0, append=0))
    long = np.zeros_like(flags)
    for start, stop in edges.reshape(-1, 2):
        long[start:stop] = stop - start >= length
    return long


def _mu_law() -> Raw:
    """Return the 14-bit value of each µ-law byte (ITU-T G.711 table 2)."""
    code = ~np.arange(256, dtype=np.uint8)
    exponent, mantissa = (code >> 4 & 7).astype(np.int32), (code & 15).astype(np.int32)
    magnitude = ((2 * mantissa + 33) << exponent) - 33
    return np.where(code & 0x80, -magnitude, magnitude)


def _a_law() -> Raw:
    """Return the 13-bit value of each A-law byte (ITU-T G.711 table 1)."""
    code = np.arange(256, dtype=np.uint8) ^ 0x55
    exponent, mantissa = (code >> 4 & 7).astype(np.int32), (code & 15).astype(np.int32)
    magnitude = np.where(
        exponent == 0, 2 * mantissa + 1, (2 * mantissa + 33) << np.maximum(exponent - 1, 0)
    )
    return np.where(code & 0x80, magnitude, -magnitude)


_COMPANDED: Final = {"MB": _mu_law(), "AB": _a_law()}
