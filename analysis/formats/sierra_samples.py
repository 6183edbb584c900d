"""The samples of Philips XML: which channels there are, how long they are, how they are stored.

Version 1.03 describes the samples in <signalcharacteristics>, later ones also in the attributes
of <parsedwaveforms>, which then are what counts. Voltages are in µV per step by the schema.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final
from xml.etree.ElementTree import Element

import numpy as np
import numpy.typing as npt

from analysis.ecg import LIMB, STANDARD_12
from analysis.errors import Reason, Undecodable
from analysis.formats import fields, sierra_xli
from analysis.formats.channels import MAX_SAMPLES, checked_rate
from analysis.formats.common import lead_from_text
from analysis.formats.markup import text_of

Samples = npt.NDArray[np.int64]

MICROVOLT: Final = 1e-3
"""mV."""

_WAVEFORMS: Final = "waveforms/parsedwaveforms"
_TWELVE: Final = frozenset({"STD-12", "10-WIRE"})
"""Acquisition types whose channels are the twelve leads in their usual order."""


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """The rhythm as it is stored.

    Parameters
    ----------
    names
        Of the first channels; there may be more, which have none.
    samples
        ``(channels, samples)``.
    step
        mV.
    zero
        The stored value of 0 mV.
    rate
        Hz.
    """

    names: Sequence[str]
    samples: Samples = field(repr=False)
    step: float
    zero: float
    rate: float


def stored(root: Element) -> Stored:
    """Return the channels of a document.

    Raises
    ------
    Undecodable
        NO_WAVEFORM, NO_RATE, NO_SCALE, NO_LEADS, DAMAGED, TOO_LARGE or UNSUPPORTED.
    """
    if not text_of(root, _WAVEFORMS):
        raise Undecodable(Reason.NO_WAVEFORM, "The document holds no samples.")
    rate = checked_rate(fields.number(stated(root, "samplespersecond", "samplingrate")))
    step = fields.number(stated(root, "resolution", "signalresolution"))
    zero = fields.number(stated(root, "signaloffset") or "0")
    if not step or zero is None:
        raise Undecodable(Reason.NO_SCALE, "The file does not state the resolution of its leads.")
    names = _names(root)
    samples = _channels(root, names, _length(root, rate))
    return Stored(names, samples, step * MICROVOLT, zero, rate)


def stated(root: Element, *names: str) -> str:
    """Return what the document says of its samples under the first name that it knows."""
    waveforms = root.find(_WAVEFORMS)
    details = root.find("dataacquisition/signalcharacteristics")
    for name in names:
        of_waveforms = "" if waveforms is None else waveforms.get(name, "").strip()
        if found := of_waveforms or text_of(details, name):
            return found
    return ""


def _names(root: Element) -> list[str]:
    """Return the names of the channels that are valid, in their order."""
    if labels := stated(root, "leadlabels").split():
        count = fields.number(stated(root, "numberofleads") or str(len(labels)))
    elif stated(root, "acquisitiontype", "leadset") in _TWELVE:
        labels = list(STANDARD_12)
        count = fields.number(stated(root, "numberchannelsvalid", "numberchannelsallocated"))
    else:
        raise Undecodable(Reason.NO_LEADS, "The file does not name its leads.")
    if count is None or not count > 0:
        raise Undecodable(Reason.DAMAGED, "The file does not state how many leads are valid.")
    return labels[: int(min(count, len(labels)))]


def _length(root: Element, rate: float) -> int:
    """Return the samples of each channel, from its duration in ms."""
    length = (fields.number(stated(root, "durationperchannel")) or 0.0) * rate / 1000
    if length < 2 or length != round(length):  # noqa: PLR2004 - samples that a channel starts with
        raise Undecodable(Reason.DAMAGED, "The file does not state how long its leads are.")
    if length > MAX_SAMPLES:
        raise Undecodable(Reason.TOO_LARGE, "The file states more samples than any ECG has.")
    return int(length)


def _channels(root: Element, names: Sequence[str], length: int) -> Samples:
    """Return ``(channels, samples)``, of which the first are the named ones."""
    if stated(root, "bitspersample", "nbitspersample") not in {"16", ""}:
        raise Undecodable(Reason.UNSUPPORTED, "Only samples of 16 bits are read.")
    channels = _expanded(root, names, length) if _compressed(root) else _plain(root, length)
    if len(channels) < len(names):
        raise Undecodable(Reason.DAMAGED, "The file holds fewer leads than it names.")
    return channels


def _compressed(root: Element) -> bool:
    """Return whether the samples are compressed by XLI. Raises UNSUPPORTED for others."""
    method = stated(root, "compression", "compressmethod").upper()
    if stated(root, "compressflag").lower() == "false" or method in {"", "NONE", "UNCOMPRESSED"}:
        return False
    if method != "XLI" or stated(root, "dataencoding") != "Base64":
        raise Undecodable(Reason.UNSUPPORTED, "The samples are compressed in an unknown way.")
    return True


def _expanded(root: Element, names: Sequence[str], length: int) -> Samples:
    """Return the channels of XLI; it presumes that the six limb leads come first."""
    if tuple(map(lead_from_text, names[: len(LIMB)])) != LIMB:
        raise Undecodable(
            Reason.UNSUPPORTED, "Compressed leads are read only where the six limb leads are first."
        )
    data = fields.bytes_of_base64(text_of(root, _WAVEFORMS))
    channels = sierra_xli.decode(data, length)
    if len(channels) < len(LIMB):
        raise Undecodable(Reason.DAMAGED, "The file holds fewer leads than it names.")
    return sierra_xli.with_limb_leads(channels).astype(np.int64)


def _plain(root: Element, length: int) -> Samples:
    """Return channels that stand one after the other, in Base64 or as words."""
    text = text_of(root, _WAVEFORMS)
    encoding = stated(root, "dataencoding")
    if encoding == "Base64":
        words = fields.samples_of_base64(text)
        signed = stated(root, "signalsigned").lower() != "false"
        samples = (words if signed else words.view(np.uint16)).astype(np.int64)
    elif encoding == "Plain":
        samples = fields.samples_of_list(",".join(text.split()))
    else:
        raise Undecodable(Reason.UNSUPPORTED, "The samples are written in an unknown encoding.")
    if samples.size % length:
        raise Undecodable(Reason.DAMAGED, "The samples do not make up leads of the stated length.")
    return samples.reshape(-1, length)
