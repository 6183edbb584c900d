"""Routes through the port: results go where the sender's route leads, and no further."""

from collections.abc import Callable

from cart import cart_ecg
from node import Node, free_port
from peers import storescu

from dicom_node.ledger import State
from dicom_node.pacs import Pacs

ROUTES = """
[[routes]]
calling_ae_title = "ED*"
destinations = ["FAST"]
classify = false
"""


def test_each_ecg_takes_the_route_of_its_sender(
    make_node: Callable[..., Node], tmp_path: object
) -> None:
    with Pacs(free_port(), ae_title="FAST") as fast, Pacs(free_port(), ae_title="SLOW") as slow:
        node = make_node(destinations={"FAST": fast.port, "SLOW": slow.port})
        node.config.write_text(node.config.read_text() + ROUTES)
        node.start()
        for name, sender in (("one", "ED1"), ("two", "WARD")):
            file = node.folder / f"{name}.dcm"
            cart_ecg(name).save_as(file, enforce_file_format=True)
            storescu(node.address, file, calling_ae=sender)
        assert node.settled(2)
        assert [row["state"] for row in node.rows()] == [State.COMMITTED] * 2
        assert (len(fast.objects()), len(slow.objects())) == (6, 3)
        reports = [item for item in fast.objects() if item.Modality == "SR"]
        said = {item.StudyInstanceUID: "twelve-lead" in str(item) for item in reports}
    assert sorted(said.values()) == [False, True]
