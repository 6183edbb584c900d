"""Objects that kill their workers, and patients whose names must not leak: the rest goes on."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cart import cart_ecg, encoded, push, push_bytes
from node import Node
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node.ledger import State
from dicom_node.pacs import Pacs
from dicom_node.reasons import Quarantine

TWELVE_LEAD = "1.2.840.10008.5.1.4.1.1.9.1.1"
PAUSES = "[0.1, 0.1]"


def state_of(node: Node, source: Dataset) -> tuple[str, str | None]:
    row = next(row for row in node.rows() if row["sop_instance_uid"] == source.SOPInstanceUID)
    return row["state"], row["reason"]


def test_object_that_hangs_its_worker_is_set_aside_kept_and_can_be_tried_again(
    make_node: Callable[..., Node], pacs: Pacs, tmp_path: Path
) -> None:
    limits = {"WORK__WALL_TIME": "1", "WORK__RETRY_AFTER": PAUSES, "WORK__WORKERS": "2"}
    node = make_node(
        destinations={"PACS": pacs.port}, overrides=limits, failpoint="before_analysis:wait"
    ).start()
    hanging = cart_ecg("hanging")
    assert push(node.address, hanging) == [0]
    assert push_bytes(node.address, bytes(range(200)), TWELVE_LEAD, "1.2.3") == 0
    assert node.settled(2)
    assert state_of(node, hanging) == (State.QUARANTINED, Quarantine.CRASHED)
    (row,) = (row for row in node.rows() if row["reason"] == Quarantine.CRASHED)
    assert row["attempts"] >= 3  # one more where a lease ran out before its worker was missed
    assert node.log.count("attempt_overdue") >= 3
    assert node.stop() == 0

    node.failpoint, node.overrides = "", {"WORK__WORKERS": "1"}
    kept = tmp_path / "kept.dcm"
    assert node.command("quarantine", "--export", str(row["id"]), str(kept)).returncode == 0
    assert dcmread(kept).SOPInstanceUID == hanging.SOPInstanceUID
    node.start()
    assert node.command("retry", str(row["id"])).returncode == 0
    assert pacs.wait(3, 30)
    assert node.settled(2)
    assert state_of(node, hanging) == (State.COMMITTED, None)
    assert "Traceback" not in node.log


def test_object_that_eats_memory_is_set_aside_while_its_neighbours_are_reported(
    make_node: Callable[..., Node], pacs: Pacs
) -> None:
    limits = {"WORK__MEMORY": "950000000", "WORK__RETRY_AFTER": PAUSES, "WORK__WORKERS": "2"}
    node = make_node(destinations={"PACS": pacs.port}, overrides=limits).start()
    greedy = cart_ecg("greedy")
    (group,) = greedy.WaveformSequence
    group.WaveformData *= 120
    group.NumberOfWaveformSamples *= 120
    neighbours = [cart_ecg(f"neighbour-{number}") for number in range(4)]
    assert push(node.address, *neighbours[:2], greedy, *neighbours[2:]) == [0] * 5
    assert node.settled(5)
    for neighbour in neighbours:
        assert state_of(node, neighbour) == (State.COMMITTED, None)
    assert state_of(node, greedy)[0] == State.QUARANTINED
    assert len(pacs.files) == 12
    assert "Traceback" not in node.log


# No patient data outside the objects (canaries)

CANARIES = {
    "PatientName": "CANARYNAME^ALPHA",
    "PatientID": "CANARY-ID-4711",
    "PatientBirthDate": "19010203",
    "AccessionNumber": "CANARY-ACC",
    "InstitutionName": "CANARY HOSPITAL",
    "ReferringPhysicianName": "CANARYDOCTOR^BETA",
    "StudyDescription": "CANARY STUDY",
}


def canary_objects() -> list[Dataset]:
    """Return one good object, and some that are refused each in its own room."""
    no_rate = cart_ecg("canary-rate", **CANARIES)
    no_rate.WaveformSequence[0].SamplingFrequency = None
    no_scale = cart_ecg("canary-scale", **CANARIES)
    for channel in no_scale.WaveformSequence[0].ChannelDefinitionSequence:
        channel.ChannelSensitivity = None
    no_study = cart_ecg("canary-study", **CANARIES)
    del no_study.StudyInstanceUID
    no_patient = cart_ecg("canary-patient", **CANARIES | {"PatientID": ""})
    odd = cart_ecg("canary-odd", **CANARIES | {"PatientBirthDate": "CANARY", "PatientSex": "CAN"})
    long = cart_ecg("canary-long", **CANARIES | {"PatientID": "CANARY" * 20})
    old = cart_ecg("canary-age", **CANARIES | {"PatientAge": "CANA"})
    return [cart_ecg("canary", **CANARIES), no_rate, no_scale, no_study, no_patient, odd, long, old]


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_patient_data_is_found_nowhere_but_in_the_objects(
    make_node: Callable[..., Node], pacs: Pacs
) -> None:
    node = make_node(
        destinations={"PACS": pacs.port},
        overrides={"WORK__RETRY_AFTER": PAUSES, "LOG__LEVEL": "debug"},
    ).start()
    objects = canary_objects()
    for item in objects:
        data = encoded(item)
        body = data[data.index(b"\x08\x00\x05\x00") :]
        push_bytes(node.address, body, TWELVE_LEAD, item.SOPInstanceUID)
    assert push(node.address, cart_ecg("canary", **CANARIES | {"PatientID": "CANARY-2"})) == [0]
    data = encoded(cart_ecg("canary-cut", **CANARIES))
    cut = data[data.index(b"\x08\x00\x05\x00") : len(data) // 3]
    assert push_bytes(node.address, cut, TWELVE_LEAD, cart_ecg("canary-cut").SOPInstanceUID) == 0
    assert node.settled(len(objects) + 2)
    assert any(b"CANARYNAME" in file for versions in pacs.files.values() for file in versions)

    places = {
        "log": node.log,
        "metrics": node.get("/metrics")[1] + node.get("/readyz")[1],
        "queue": node.command("queue", "--json").stdout + node.command("queue").stdout,
        "audit": json.dumps(node.trail()),
        "names": "\n".join(map(str, node.folder.rglob("*"))),
        "check": node.command("check").stdout,
        "ledger": json.dumps(node.rows()),
    }
    found = {
        name: [word for word in ("CANARY", "19010203") if word in text]
        for name, text in places.items()
    }
    assert found == {name: [] for name in places}
    assert "Traceback" not in node.log
