"""Every object that a site may ask for, delivered to Debian's Orthanc and read back from there."""

from io import BytesIO
from pathlib import Path
from urllib.request import urlopen

import pytest
from cart import CART_FILE
from node import Node, free_port
from peers import Orthanc, running, running_orthanc, storescu
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node.ledger import State
from dicom_node.report import check

EVERY = '["sr","pdf","ecg","sc","tid1500","annotation"]'
ANNOTATION_SR = "1.2.840.10008.5.1.4.1.1.88.77"


@pytest.mark.timeout(180)
def test_orthanc_holds_every_object_as_it_was_sent(tmp_path: Path) -> None:
    port = free_port()
    with running_orthanc(tmp_path / "orthanc", node_port=port) as orthanc:
        pacs = {orthanc.address.ae_title: orthanc.address.port}
        every = {"REPORT__OBJECTS": EVERY}
        with running(Node(tmp_path / "node", pacs, overrides=every, port=port)) as node:
            storescu(node.address, CART_FILE)
            assert node.settled(1)
            (row,) = node.rows()
            assert row["state"] == State.COMMITTED
        held = [_file(orthanc, item["ID"]) for item in orthanc.find("Instance")]
    objects = {str(dataset.SOPClassUID): dataset for dataset in held}
    assert len(held) == len(objects) == 6
    assert ANNOTATION_SR in objects
    assert all(check(dataset) == () for dataset in objects.values())
    assert {int(dataset.SeriesNumber) for dataset in objects.values()} == {*range(901, 907)}


def _file(orthanc: Orthanc, name: str) -> Dataset:
    with urlopen(f"{orthanc.url}/instances/{name}/file", timeout=10) as answer:
        return dcmread(BytesIO(answer.read()))
