"""GDF: what its binary header says, read or refused."""

import struct
from contextlib import suppress
from datetime import date, datetime

import numpy as np
import pytest
from damage import damaged
from support import shared

import analysis
from analysis.ecg import Lead, Sex
from analysis.errors import Reason, Undecodable

MILLIVOLT, MICROVOLT, OHM = 4274, 4275, 4288
RATE, RECORDS, SIZE = 250, 4, 250
KINDS = {3: "<i2", 5: "<i4", 16: "<f4"}


def days(moment: datetime) -> int:
    return int((moment - datetime.fromisoformat("0001-01-01")).total_seconds() / 86400 * 2**32) + (
        367 << 32
    )


def samples(lead: int = 0) -> np.ndarray:
    return np.rint(1000 * np.sin(np.arange(RECORDS * SIZE) / 30 + lead))


def gdf(
    labels: tuple[str, ...] = ("ECG I", "II"),
    *,
    unit: int = MICROVOLT,
    kind: int = 3,
    version: bytes = b"GDF 2.51",
    records: int = RECORDS,
    physical: tuple[float, float] = (-3276.8, 3276.7),
) -> bytes:
    """Return a file whose steps are 0.1 units."""
    count = len(labels)
    duration = struct.pack("<d", 1.0) if version > b"GDF 2.20" else struct.pack("<2I", 1, 1)
    start = datetime.fromisoformat("2023-05-10T14:43:32")
    head = bytearray(256)
    head[:74] = version + b"P-1 Doe^Ann".ljust(66, b"\0")
    head[87] = 2
    struct.pack_into("<Q", head, 168, days(start))
    struct.pack_into("<Q", head, 176, days(datetime.fromisoformat("1951-08-02")))
    struct.pack_into("<H", head, 184, 1 + count)
    struct.pack_into("<q", head, 236, records)
    head[244:252] = duration
    struct.pack_into("<H", head, 252, count)

    def every(form: str, value: float) -> bytes:
        return struct.pack(form, value) * count

    fields = b"".join((
        b"".join(label.encode().ljust(16, b"\0") for label in labels),
        bytes(86 * count),
        every("<H", unit),
        every("<d", physical[0]), every("<d", physical[1]),
        every("<d", -32768.0), every("<d", 32767.0),
        bytes(68 * count),
        every("<f", 150.0), every("<f", 0.05), every("<f", 50.0),
        every("<I", SIZE), every("<I", kind), bytes(32 * count),
    ))  # fmt: skip
    rows = np.stack([samples(lead).reshape(RECORDS, SIZE) for lead in range(count)], axis=1)
    return bytes(head) + fields + rows.astype(KINDS.get(kind, "<i2")).tobytes()


def refusal(data: bytes) -> Reason:
    with pytest.raises(Undecodable) as caught:
        analysis.read(data)
    assert caught.value.message.endswith(".")
    return caught.value.reason


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("version", [b"GDF 2.10", b"GDF 2.20", b"GDF 2.51"])
def test_leads_are_read_in_millivolts(kind: int, version: bytes) -> None:
    recording = analysis.read(gdf(("ECG V1", "V2"), kind=kind, version=version))
    assert recording.format == "GDF"
    assert recording.ecg.leads == (Lead.V1, Lead.V2)
    assert recording.ecg.sampling_frequency == RATE
    expected = np.stack([samples(0), samples(1)]) * 1e-4
    assert np.allclose(recording.ecg.signal, expected, atol=1e-6)
    assert recording.notes == ()


def test_patient_time_and_filters_are_read() -> None:
    recording = analysis.read(gdf())
    patient, acquisition = recording.patient, recording.acquisition
    assert (patient.identifier, patient.name, patient.sex) == ("P-1", "Doe^Ann", Sex.FEMALE)
    assert patient.birth_date == date(1951, 8, 2)
    assert recording.ecg.start == datetime.fromisoformat("2023-05-10T14:43:32")
    assert acquisition.filter_low_frequency == pytest.approx(0.05)
    assert (acquisition.filter_high_frequency, acquisition.notch_filter_frequency) == (150, 50)


def test_events_after_the_records_are_left_out_with_a_note() -> None:
    recording = analysis.read(gdf() + bytes(20))
    assert "events" in recording.notes[0]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (gdf(unit=OHM), Reason.NO_SCALE),
        (gdf(physical=(1.0, 1.0)), Reason.NO_SCALE),
        (gdf(physical=(float("nan"), 1.0)), Reason.NO_SCALE),
        (gdf(kind=18), Reason.UNSUPPORTED),
        (gdf(version=b"GDF 1.25"), Reason.UNSUPPORTED),
        (gdf(records=0), Reason.NO_WAVEFORM),
        (gdf(records=RECORDS + 1), Reason.DAMAGED),
        (gdf()[:-100], Reason.DAMAGED),
        (gdf()[:700], Reason.DAMAGED),
        (gdf(("EEG Fp1", "C3")), Reason.NOT_AN_ECG),
        (gdf(("one", "two")), Reason.NO_LEADS),
        (gdf()[:244] + bytes(8) + gdf()[252:], Reason.NO_RATE),
    ],
    ids=lambda item: item if isinstance(item, Reason) else "file",
)
def test_what_cannot_be_known_is_refused(data: bytes, reason: Reason) -> None:
    assert refusal(data) is reason


def test_damage_gives_an_answer_or_a_refusal() -> None:
    for region in (range(1024), None):
        for mutant in damaged(gdf(), 500, seed=7, region=region):
            with suppress(Undecodable):
                analysis.read(mutant)


def test_the_same_ecg_in_wfdb_and_gdf_is_equal() -> None:
    ecg = analysis.read(shared("ecg", "derived_biosig", "A0001_biosig.gdf")).ecg
    truth = analysis.read(shared("ecg", "wfdb", "A0001.hea")).ecg
    assert (ecg.leads, ecg.sampling_frequency) == (truth.leads, truth.sampling_frequency)
    assert np.abs(ecg.signal - truth.signal).max() < 1e-4
