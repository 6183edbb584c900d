"""XML as the carts of GE, Schiller, Mortara and Philips write it, made for tests.

Every builder takes stored integers, ``(leads, samples)``, and returns text to edit or encode.
The compression of Philips is written here from its description, not from the decoder.
"""

import base64
import random
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pytest
from dicom_objects import TWELVE, synthetic

from analysis.ecg import Recording
from analysis.errors import Reason, Undecodable
from analysis.formats import read

Stored = npt.NDArray[np.int64]

EIGHT = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")
STEP = 0.005
"""mV of one stored unit, in all of them."""
RATE = 500


def twelve(seconds: float = 4.0) -> Stored:
    """Return twelve leads as stored integers."""
    return np.rint(synthetic(RATE, seconds) / STEP).astype(np.int64)


def eight(seconds: float = 4.0) -> Stored:
    return twelve(seconds)[[TWELVE.index(name) for name in EIGHT]]


def millivolts(stored: Stored) -> npt.NDArray[np.float64]:
    return stored * STEP


def words(row: npt.ArrayLike) -> str:
    return base64.b64encode(np.asarray(row).astype("<i2").tobytes()).decode()


def _element(tag: str, *content: object, **attributes: object) -> str:
    described = "".join(f' {name}="{value}"' for name, value in attributes.items())
    return f"<{tag}{described}>{''.join(map(str, content))}</{tag}>\n"


def _elements(content: Mapping[str, object]) -> str:
    return "".join(_element(tag, text) for tag, text in content.items())


def muse_lead(name: str, row: Stored, **changes: object) -> str:
    data = words(row)
    crc = zlib.crc32(base64.b64decode(data))
    content = {
        "LeadByteCountTotal": 2 * row.size,
        "LeadTimeOffset": 0,
        "LeadSampleCountTotal": row.size,
        "LeadAmplitudeUnitsPerBit": 1000 * STEP,
        "LeadAmplitudeUnits": "MICROVOLTS",
        "LeadID": name,
        "LeadOffsetFirstSample": 0,
        "FirstSampleBaseline": 0,
        "LeadSampleSize": 2,
        "LeadOff": "FALSE",
        "LeadDataCRC32": crc,
        "WaveFormData": data,
    }
    return _element("LeadData", _elements(content | changes))


def muse_waveform(
    kind: str, rows: Stored, names: Sequence[str] = EIGHT, more: str = "", **changes: object
) -> str:
    content = {
        "WaveformType": kind,
        "NumberofLeads": len(names),
        "SampleBase": RATE,
        "SampleExponent": 0,
        "HighPassFilter": 56,
        "LowPassFilter": 150,
        "ACFilter": 50,
    }
    leads = (muse_lead(name, row) for name, row in zip(names, rows, strict=True))
    return _element("Waveform", _elements(content | changes), *leads, more)


def muse(*waveforms: str, more: str = "") -> str:
    patient = {
        "PatientID": "0815",
        "PatientAge": 45,
        "AgeUnits": "YEARS",
        "DateofBirth": "12-31-1979",
        "Gender": "FEMALE",
        "PatientLastName": "Sinus",
        "PatientFirstName": "Nota",
    }
    test = {
        "AcquisitionDevice": "MAC55",
        "AcquisitionTime": "09:15:11",
        "AcquisitionDate": "08-17-2025",
        "AcquisitionSoftwareVersion": "1.02",
    }
    return (
        '<?xml version="1.0" encoding="ISO-8859-1"?>\n<!DOCTYPE RestingECG SYSTEM "restecg.dtd">\n'
    ) + _element(
        "RestingECG",
        _element("PatientDemographics", _elements(patient)),
        _element("TestDemographics", _elements(test)),
        more,
        *(waveforms or (muse_waveform("Median", eight(1.2)), muse_waveform("Rhythm", eight()))),
    )


def cardiosoft(rows: Stored | None = None, more: str = "") -> str:
    rows = twelve() if rows is None else rows
    return '<?xml version="1.0" encoding="ISO8859-1" ?>\r\n' + _element(
        "CardiologyXML",
        _element(
            "ObservationDateTime",
            _elements({"Hour": 9, "Minute": 5, "Second": 1, "Day": 17, "Month": 8, "Year": 2025}),
        ),
        _element(
            "ClinicalInfo",
            _element("DeviceInfo", _elements({"Desc": "CardioSoft", "SoftwareVer": "V6.71"})),
        ),
        _element(
            "PatientInfo",
            _elements({"PID": "0815", "Gender": "FEMALE"}),
            _element("Name", _elements({"FamilyName": "Sinüs", "GivenName": "Nota"})),
            _element("Age", 45, units="Years"),
        ),
        _element("FilterSetting", _elements({"Filter50Hz": "Yes", "Filter60Hz": "No"})),
        _element(
            "Interpretation",
            _element("Diagnosis", _element("DiagnosisText", "Normal sinus rhythm")),
        ),
        _element(
            "RestingECGMeasurements",
            _element("VentricularRate", 75, units="BPM"),
            _element("PQInterval", "", units="ms"),
            _cardiosoft_block("MedianSamples", twelve(1.2)),
        ),
        _cardiosoft_block("StripData", rows, more),
    )


def _cardiosoft_block(tag: str, rows: Stored, more: str = "") -> str:
    leads = (
        _element("WaveformData", "\t\t", ",\r\n\t\t".join(_lines(row)), lead=name)
        for name, row in zip(TWELVE, rows, strict=True)
    )
    return _element(
        tag,
        _element("NumberOfLeads", len(rows)),
        _element("SampleRate", RATE, units="Hz"),
        _element("ChannelSampleCountTotal", rows.shape[1]),
        _element("Resolution", f"{1000 * STEP:g}", units="uVperLsb"),
        *leads,
        more,
    )


def _lines(row: Stored) -> Iterable[str]:
    return (",".join(map(str, row[at : at + 64].tolist())) for at in range(0, row.size, 64))


def schiller(*waves: str, more: str = "") -> str:
    waves = waves or (
        schiller_waves("ECG_AVERAGES", twelve(1.2)),
        schiller_waves("ECG_RHYTHMS", twelve()),
    )
    return '\ufeff<?xml version="1.0" encoding="UTF-8"?>\r\r\n' + _element(
        "com.xiriuz.sema.xml.schillerEDI.SchillerEDI",
        _element(
            "patdata",
            _elements({"id": "0815", "lastname": "Sinus", "firstname": "Nota"}),
            _elements({"birthdate": "19791231", "gender": "FEMALE"}),
        ),
        _element(
            "examdescript",
            _element("startdatetime", _elements({"date": "20250817", "time": "091511000"})),
            _element(
                "aquiringdevice",
                _element("hardware", _elements({"vendor": "Schiller", "model": "AT-110"})),
                _element("software", _elements({"version": "2.64.0"})),
            ),
        ),
        _element("eventdata", _element("event", *waves, _schiller_words(), more)),
    )


def _schiller_words() -> str:
    pairs = (
        ("annotation_global", "HR", "59"),
        ("annotation_global", "PQ", "-"),
        ("filter", "MAINS", "50"),
        ("filter", "HIGHPASS_CUTOFF_FREQ", "0.05"),
        ("filter", "LOWPASS_CUTOFF_FREQ", "150"),
    )
    return "".join(
        _element(tag, _elements({"name": name, "value": value})) for tag, name, value in pairs
    ) + _element(
        "textdata", _elements({"type": "INTERPRETATION", "textdata": "Sinus rhythm\nNormal ECG"})
    )


def schiller_waves(kind: str, rows: Stored) -> str:
    names = (name.upper() for name in TWELVE)
    channels = (
        _element(
            "channel",
            _elements({"name": name, "data": ",".join(map(str, row.tolist()))}),
            _elements({"datastype": "COMMASEPARATE", "samplecount": row.size}),
        )
        for name, row in zip(names, rows, strict=True)
    )
    return _element(
        "wavedata",
        _element("type", kind),
        _element(
            "resolution",
            _element("samplerate", _elements({"exponent": 1, "value": RATE})),
            _element("yres", _elements({"unitperbit": 1000 * STEP, "units": "UV"})),
        ),
        *channels,
    )


def mortara(rows: Stored | None = None, cycle: str | None = None) -> str:
    rows = twelve() if rows is None else rows
    kind = {"BITS": 16, "FORMAT": "SIGNED", "UNITS_PER_MV": f"{1 / STEP:g}", "SAMPLE_FREQ": RATE}
    beats = (
        _element("TYPICAL_CYCLE_CHANNEL", NAME=name, DATA=words(row))
        for name, row in zip(TWELVE, twelve(1.2), strict=True)
    )
    typical = _element(
        "TYPICAL_CYCLE", *beats, **kind, DURATION=1200, QT=400, QTB=440, QRS_AXIS=-35
    )
    channels = [
        _element("CHANNEL", OFFSET=0, **kind, DURATION=row.size, NAME=name, DATA=words(row))
        for name, row in zip(TWELVE, rows, strict=True)
    ]
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + _element(
        "ECG",
        _element("SOURCE", MANUFACTURER="Mortara", MODEL="ELI 250", LOW_PASS_FILTER=150),
        _element(
            "SUBJECT", LAST_NAME="Sinus", FIRST_NAME="Nota", ID="0815", GENDER="Female",
            DOB="19791231",
        ),
        _element(
            "AUTOMATIC_INTERPRETATION",
            _element("STATEMENT", TEXT="SINUS RHYTHM ", REASON=""),
            _element("STATEMENT", TEXT="LEFT AXIS DEVIATION", REASON="QRS AXIS &lt; -30"),
            _element("STATEMENT", TEXT="", REASON=""),
        ),
        typical if cycle is None else cycle,
        *channels[6:],
        *channels[:6],
        ACQUISITION_TIME="20250817091511",
        AGE=45,
        AGE_UNITS="Y",
        VENT_RATE=75,
    )  # fmt: skip


def sierra(
    rows: Stored | None = None,
    *,
    pulse: bool = True,
    compressed: bool = True,
    version: str = "1.04",
    kind: str = "PhilipsECG",
    repbeats: str | None = None,
    data: str | None = None,
    **changes: object,
) -> str:
    """Return a document whose channels are the twelve leads, and four empty ones if compressed."""
    rows = with_pulse(twelve()) if rows is None and pulse else twelve() if rows is None else rows
    stored: dict[str, object] = {
        "dataencoding": "Base64",
        "compression": "XLI" if compressed else "Uncompressed",
        "numberofleads": 12,
        "leadlabels": " ".join(TWELVE),
        "durationperchannel": rows.shape[1] * 1000 // RATE,
        "samplespersecond": RATE,
        "resolution": f"{1000 * STEP:g}",
        "signaloffset": 0,
        "signalsigned": True,
        "bitspersample": 16,
        "hipass": 0.05,
        "lowpass": 150,
        "notchfilterfreqs": 0,
    }
    if data is None:
        flat = np.zeros((4, rows.shape[1]), np.int64)
        data = (
            base64.b64encode(xli(with_residuals(np.concatenate([rows, flat])))).decode()
            if compressed
            else words(rows)
        )
    return '<?xml version="1.0" encoding="UTF-16"?>\n' + _element(
        "restingecgdata",
        _element("documentinfo", _elements({"documenttype": kind, "documentversion": version})),
        _element(
            "dataacquisition",
            _element("machine", "PageWriter TC", detaildescription="Philips:860315:A.07"),
            date="2025-08-17",
            time="09:15:11",
        ),
        _element("patient", _element("generalpatientdata", _sierra_patient())),
        _element("interpretations", _element("interpretation", _sierra_interpretation())),
        _element(
            "waveforms",
            _element("parsedwaveforms", data, **(stored | changes)),
            sierra_repbeats() if repbeats is None else repbeats,
        ),
        xmlns="http://www3.medical.philips.com",
    )


def _sierra_patient() -> str:
    names = _elements({"lastname": "Sinus", "firstname": "Nota", "middlename": "---"})
    return (
        _elements({"patientid": "0815", "sex": "Female"})
        + _element("name", names)
        + _element("age", _element("dateofbirth", "1979-12-31"), defaultage=50)
    )


def _sierra_interpretation() -> str:
    statement = {
        "statementcode": "SB",
        "leftstatement": "SINUS BRADYCARDIA",
        "rightstatement": "V-rate&lt;60",
    }
    return (
        _element(
            "globalmeasurements", _elements({"heartrate": 41, "qtcb": 466, "tfrontaxis": "Failed"})
        )
        + _element("severity", "- ABNORMAL ECG -", code="AB")
        + _element("statement", _elements(statement))
    )


def sierra_repbeats(**changes: object) -> str:
    """Return the representative beats, of which the last half is the sentinel."""
    rows = np.concatenate([twelve(1.2), np.full((12, 600), 32767)], axis=1)
    beats = (
        _element("repbeat", _element("waveform", words(row), duration=2400), leadname=name)
        for name, row in zip(TWELVE, rows, strict=True)
    )
    stated: dict[str, Any] = {"dataencoding": "Base64", "samplespersec": RATE, "resolution": 2.5}
    return _element("repbeats", *beats, **(stated | changes))


def with_pulse(rows: Stored) -> Stored:
    """Return the leads with the second that Philips carts add: nothing, 1 mV for 0.2 s, nothing."""
    second = np.zeros((len(rows), RATE), np.int64)
    second[:, 350:450] = round(1 / STEP)
    return np.concatenate([rows, second], axis=1)


def with_residuals(rows: Stored) -> Stored:
    """Return the leads with what Einthoven and Goldberger leave of four limb leads."""
    one, two, three, right, left, foot = rows[:6]
    rests = (
        two - one - three,
        -right - np.trunc((one + two) / 2),
        np.trunc((one - three) / 2) - left,
        np.trunc((two + three) / 2) - foot,
    )
    return np.concatenate([rows[:2], np.stack(rests).astype(np.int64), rows[6:]])


def xli(rows: Stored) -> bytes:
    return b"".join(map(xli_chunk, rows))


def xli_chunk(row: Stored) -> bytes:
    start, body = xli_planes(row)
    data = lzw(body)
    return struct.pack("<iHh", len(data), 1, start) + data


def xli_planes(row: Stored) -> tuple[int, bytes]:
    """Return the first second difference, and the bytes of the others, high ones first."""
    second = np.diff(row.astype(np.int64), 2)
    coded = np.concatenate([row[:2], 64 - second[1:], [0]]).astype(np.int16)
    halves = coded.view(np.uint16)
    body = (halves >> 8).astype(np.uint8).tobytes() + (halves & 255).astype(np.uint8).tobytes()
    return int((-second[0]).astype(np.int16)), body


def lzw(data: bytes) -> bytes:
    """Return codes of ten bits, the last of them the end."""
    table = {bytes([value]): value for value in range(256)}
    codes, word = [], b""
    for value in data:
        longer = word + bytes([value])
        if longer in table:
            word = longer
            continue
        codes.append(table[word])
        if len(table) < 1023:
            table[longer] = len(table)
        word = bytes([value])
    return packed([*codes, table[word], 1023])


def packed(codes: Iterable[int]) -> bytes:
    bits = "".join(f"{code:010b}" for code in codes)
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def outcome(data: bytes) -> Recording | None:
    """Return what was read, None where it was refused; every other exception fails the test."""
    try:
        return read(data)
    except Undecodable:
        return None


def refusal(text: str) -> Reason:
    """Return why a document is refused."""
    with pytest.raises(Undecodable) as caught:
        read(text.encode())
    assert caught.value.message.endswith(".")
    return caught.value.reason


def mutants(data: bytes, number: int, seed: int, region: range | None = None) -> Iterator[bytes]:
    """Yield damaged copies: characters changed, cut, repeated, removed, digits made absurd."""
    chance = random.Random(seed)
    for _ in range(number):
        at = chance.choice(region or range(len(data)))
        length = chance.randrange(1, 40)
        yield chance.choice(
            (
                data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :],
                data[:at] + bytes([chance.choice(_LETTERS)]) + data[at + 1 :],
                data[:at] + data[at + length :],
                data[: at + length] + data[at:],
                data[:at] + chance.choice((b"-", b"1e9", b"99999999999", b"0", b"nan")) + data[at:],
                data[: at + 1],
            )
        )


_LETTERS: Final = b'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/,-<>"&'
