"""Storage commitment both ways, with peers that answer well, late, wrongly or never."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cart import cart_ecg, push
from node import Node, free_port, poll
from outbox import Outbox
from peers import Orthanc, running, running_orthanc, storescu
from pydicom.dataset import Dataset
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import (
    StorageCommitmentPushModel,
    StudyRootQueryRetrieveInformationModelFind,
    Verification,
)

from dicom_node.commitment import (
    CLASS_CONFLICT,
    COMPLETE,
    INSTANCE,
    NO_SUCH_INSTANCE,
    PUSH_MODEL,
    REQUEST,
    answer_of,
    references_of,
    report,
    request,
)
from dicom_node.deliver import RESULTS, Sender
from dicom_node.ledger import COMMITMENT, QUERY, RESPONSES, State
from dicom_node.link import Address, connect
from dicom_node.reasons import Delivery, Refusal
from dicom_node.receive import WAVEFORMS

LOST = 0x0112


@dataclass
class Archive:
    """A PACS that stores, and commits as it is told to."""

    port: int
    commits: bool = True
    offers_commitment: bool = True
    offers_query: bool = True
    answers: Callable[["Archive", evt.Event], None] = lambda _archive, _event: None
    stored: list[str] = field(default_factory=list)
    found: list[str] = field(default_factory=list)

    @contextmanager
    def running(self) -> Iterator["Archive"]:
        ae = AE("PACS")
        ae.add_supported_context(Verification)
        for uid in RESULTS:
            ae.add_supported_context(uid)
        if self.offers_commitment:
            ae.add_supported_context(StorageCommitmentPushModel)
        if self.offers_query:
            ae.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
        server = ae.start_server(
            ("127.0.0.1", self.port),
            block=False,
            evt_handlers=[
                (evt.EVT_C_STORE, self._store),
                (evt.EVT_N_ACTION, self._asked),
                (evt.EVT_C_FIND, self._find),
            ],
        )
        try:
            yield self
        finally:
            server.shutdown()

    def _store(self, event: evt.Event) -> int:
        self.stored.append(str(event.request.AffectedSOPInstanceUID))
        return 0

    def _asked(self, event: evt.Event) -> tuple[int, None]:
        self.answers(self, event)
        return (0 if self.commits else 0x0110), None

    def _find(self, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        uid = str(event.identifier.SOPInstanceUID)
        if uid in self.found:
            yield 0xFF00, event.identifier


def told(event: evt.Event, *lost: str) -> tuple[int, Dataset]:
    """Return the report on a request: all committed but these."""
    asked = references_of(event.action_information)
    assert asked is not None
    transaction, references = asked
    return report(
        transaction,
        [item for item in references if item[1] not in lost],
        {item: LOST for item in references if item[1] in lost},
    )


def on_the_same_association(*lost: str) -> Callable[[Archive, evt.Event], None]:
    def answer(_archive: Archive, event: evt.Event) -> None:
        kind, information = told(event, *lost)

        def tell() -> None:
            event.assoc.send_n_event_report(information, kind, StorageCommitmentPushModel, INSTANCE)

        threading.Timer(0.2, tell).start()

    return answer


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    made = Outbox(tmp_path / "data")
    made.put("1.1")
    yield made
    made.close()


def comes_to(outbox: Outbox, sender: Sender, state: State) -> bool:
    """Return whether the row comes to a state while the sender works."""

    def worked() -> bool:
        sender.step()
        return bool(outbox.queue()["state"] == state)

    return poll(worked)


def states(outbox: Outbox) -> set[str]:
    return {state for state, _, _ in outbox.ends().values()}


# Asked of destinations


def test_a_commitment_on_the_same_association_commits_the_row(outbox: Outbox) -> None:
    archive = Archive(free_port(), answers=on_the_same_association())
    with archive.running():
        sender = outbox.sender(archive.port, commitment=True)
        assert sender.step()
        assert outbox.queue()["state"] == State.DELIVERED
        assert comes_to(outbox, sender, State.COMMITTED)
    assert outbox.queue()["committed_by"] == COMMITMENT
    assert states(outbox) == {"COMMITTED"}


def test_what_the_destination_does_not_hold_is_sent_again_and_then_committed(
    outbox: Outbox,
) -> None:
    first = [on_the_same_association("1.1.1")]
    archive = Archive(free_port())

    def answer(archive: Archive, event: evt.Event) -> None:
        (first.pop() if first else on_the_same_association())(archive, event)

    archive.answers = answer
    with archive.running():
        sender = outbox.sender(archive.port, commitment=True)
        assert comes_to(outbox, sender, State.COMMITTED)
    assert sorted(archive.stored) == ["1.1.0", "1.1.1", "1.1.1", "1.1.2"]
    assert outbox.queue()["committed_by"] == COMMITMENT


def test_a_destination_that_never_holds_an_object_ends_as_a_failure_with_its_sentence(
    outbox: Outbox,
) -> None:
    archive = Archive(free_port(), answers=on_the_same_association("1.1.1"))
    with archive.running():
        sender = outbox.sender(archive.port, commitment=True)
        assert comes_to(outbox, sender, State.FAILED)
    assert outbox.ends()["pdf"] == ("FAILED", Delivery.NOT_COMMITTED, 0)
    assert archive.stored.count("1.1.1") == 5
    assert archive.stored.count("1.1.0") == 1


ALL = ["1.1.0", "1.1.1", "1.1.2"]


@pytest.mark.parametrize("found", [ALL, ALL[:1]])
def test_without_a_report_in_time_the_destination_is_queried(
    outbox: Outbox, found: list[str]
) -> None:
    archive = Archive(free_port(), found=found)
    with archive.running():
        sender = outbox.sender(archive.port, commitment=True, commitment_wait=60.0)
        assert sender.step()
        assert not sender.step()
        outbox.now += 61
        assert sender.step()
        if found == ALL:
            assert outbox.queue()["state"] == State.COMMITTED
            assert outbox.queue()["committed_by"] == QUERY
            return
        assert outbox.queue()["state"] == State.REPORTED
        archive.found = ALL
        assert sender.step()
        outbox.now += 61
        assert sender.step()
    assert sorted(archive.stored) == ["1.1.0", "1.1.1", "1.1.1", "1.1.2", "1.1.2"]
    assert outbox.queue()["state"] == State.COMMITTED


def test_a_refused_request_is_followed_by_a_query_at_once(outbox: Outbox) -> None:
    archive = Archive(free_port(), commits=False, found=["1.1.0", "1.1.1", "1.1.2"])
    with archive.running():
        outbox.sender(archive.port, commitment=True).step()
    assert outbox.queue()["committed_by"] == QUERY


def test_where_neither_is_offered_the_responses_must_do(outbox: Outbox) -> None:
    archive = Archive(free_port(), offers_commitment=False, offers_query=False)
    with archive.running():
        outbox.sender(archive.port, commitment=True).step()
    assert outbox.queue()["state"] == State.COMMITTED
    assert outbox.queue()["committed_by"] == RESPONSES


def test_a_destination_that_is_not_asked_is_believed(outbox: Outbox) -> None:
    archive = Archive(free_port())
    with archive.running():
        outbox.sender(archive.port).step()
    assert outbox.queue()["committed_by"] == RESPONSES


def test_a_report_on_a_transaction_of_nobody_changes_nothing(outbox: Outbox) -> None:
    archive = Archive(free_port())
    with archive.running():
        outbox.sender(archive.port, commitment=True).step()
    assert outbox.ledger.answered("9.9", ["1.1.0"], ["1.1.1"], outbox.now) == 0
    assert outbox.queue()["state"] == State.DELIVERED


def test_a_report_on_an_association_of_its_own_commits_the_row(tmp_path: Path) -> None:
    port = free_port()
    requests: list[Dataset] = []
    archive = Archive(port, answers=lambda _, event: requests.append(event.action_information))
    node = Node(tmp_path / "node", {"PACS": port})
    node.config.write_text(
        node.config.read_text().replace("timeout = 10.0", "timeout = 10.0\ncommitment = true")
    )
    with archive.running(), running(node):
        push(node.address, cart_ecg("one"))
        assert poll(lambda: requests)
        assert poll(lambda: node.rows()[0]["state"] == State.DELIVERED)
        transaction, references = references_of(requests[0]) or ("", ())
        assert _tell(node, *report(transaction, references, {})) == 0
        assert poll(lambda: node.rows()[0]["state"] == State.COMMITTED)
        assert node.rows()[0]["committed_by"] == COMMITMENT


def _tell(node: Node, kind: int, information: Dataset) -> int:
    """Return what the node answers to a report from PACS, the provider."""
    ae = AE("PACS")
    ae.add_requested_context(StorageCommitmentPushModel)
    role = build_role(StorageCommitmentPushModel, scp_role=True)
    assoc = ae.associate("127.0.0.1", node.port, ae_title="SINUSNODE", ext_neg=[role])
    assert assoc.is_established
    status, _ = assoc.send_n_event_report(information, kind, StorageCommitmentPushModel, INSTANCE)
    assoc.release()
    return int(status.Status)


# Given to callers


@dataclass
class Cart:
    """A cart that asks for storage commitment and listens for the report."""

    port: int
    heard: list[tuple[int, Any]] = field(default_factory=list)

    @contextmanager
    def listening(self) -> Iterator["Cart"]:
        ae = AE("CART")
        ae.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
        server = ae.start_server(
            ("127.0.0.1", self.port),
            block=False,
            evt_handlers=[(evt.EVT_N_EVENT_REPORT, self._hear)],
        )
        try:
            yield self
        finally:
            server.shutdown()

    def _hear(self, event: evt.Event) -> tuple[int, None]:
        self.heard.append((event.event_type, answer_of(event.event_information)))
        return 0, None

    def ask(
        self, where: Address, references: Sequence[tuple[str, str]], kind: int = REQUEST
    ) -> Any:
        link = connect(where, "CART", (PUSH_MODEL,), 10.0)
        status = link.action(PUSH_MODEL, INSTANCE, kind, request("1.2.3.4", references))
        link.release()
        return status


@pytest.fixture
def asked(tmp_path: Path) -> Iterator[tuple[Node, Cart, tuple[str, str]]]:
    """Return a node that knows where CART listens, the cart, and an object that it sent."""
    cart = Cart(free_port())
    peers = f'[{{"ae_title":"CART","port":{cart.port}}},{{"ae_title":"*"}}]'
    node = Node(tmp_path / "node", overrides={"DICOM__PEERS": peers})
    with running(node):
        ecg = cart_ecg("one")
        push(node.address, ecg)
        yield node, cart, (str(ecg.SOPClassUID), str(ecg.SOPInstanceUID))


def test_what_the_node_holds_is_committed_and_what_it_does_not_is_named(
    asked: tuple[Node, Cart, tuple[str, str]],
) -> None:
    node, cart, sent = asked
    unknown, other = (WAVEFORMS[0], "9.9.9"), (WAVEFORMS[2], sent[1])
    with cart.listening():
        assert cart.ask(node.address, [sent]) == 0
        assert poll(lambda: len(cart.heard) == 1)
        assert cart.ask(node.address, [unknown]) == 0
        assert poll(lambda: len(cart.heard) == 2)
        assert cart.ask(node.address, [other]) == 0
        assert poll(lambda: len(cart.heard) == 3)
    kinds = [kind for kind, _ in cart.heard]
    assert kinds == [COMPLETE, 2, 2]
    first, second, third = (answer for _, answer in cart.heard)
    assert (first.transaction, first.committed, first.refused) == ("1.2.3.4", (sent[1],), {})
    assert second.refused == {"9.9.9": NO_SUCH_INSTANCE}
    assert third.refused == {sent[1]: CLASS_CONFLICT}


def test_a_caller_that_is_away_hears_when_it_is_back_even_after_a_kill(
    asked: tuple[Node, Cart, tuple[str, str]],
) -> None:
    node, cart, sent = asked
    assert cart.ask(node.address, [sent]) == 0
    node.kill()
    node.start()
    with cart.listening():
        assert poll(lambda: cart.heard, 30)
    assert cart.heard[0][0] == COMPLETE


def test_a_caller_of_whom_we_do_not_know_where_it_hears_is_refused_and_recorded(
    asked: tuple[Node, Cart, tuple[str, str]],
) -> None:
    node, _, sent = asked
    link = connect(node.address, "STRANGER", (PUSH_MODEL,), 10.0)
    assert link.action(PUSH_MODEL, INSTANCE, REQUEST, request("1.2", [sent])) == 0x0110
    link.release()
    assert Refusal.NO_REPLY_ADDRESS in {row["reason"] for row in node.trail()}


def test_a_request_that_is_none_is_refused(asked: tuple[Node, Cart, tuple[str, str]]) -> None:
    node, cart, sent = asked
    assert cart.ask(node.address, [sent], kind=7) == 0x0115
    assert cart.ask(node.address, []) == 0x0115


# With Orthanc


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[tuple[Orthanc, Node]]:
    """Orthanc, whose plugin asks the node to commit, and a node that asks Orthanc."""
    port = free_port()
    settings = {"LongestPause": 1, "StorageCommitment": True}
    with running_orthanc(tmp_path / "orthanc", node_port=port, plugin=settings) as orthanc:
        pacs = {orthanc.address.ae_title: orthanc.address.port}
        node = Node(tmp_path / "node", pacs, port=port)
        node.config.write_text(
            node.config.read_text().replace("timeout = 10.0", "timeout = 10.0\ncommitment = true")
        )
        with running(node):
            yield orthanc, node


def test_orthanc_and_the_node_commit_to_each_other(
    loop: tuple[Orthanc, Node], tmp_path: Path
) -> None:
    orthanc, node = loop
    file = tmp_path / "one.dcm"
    cart_ecg("one").save_as(file, enforce_file_format=True)
    storescu(orthanc.address, file)
    assert poll(lambda: node.rows() and node.rows()[0]["state"] == State.COMMITTED, 60)
    assert node.rows()[0]["committed_by"] == COMMITMENT
    assert poll(lambda: not any(orthanc.get("/sinusnode/health")["queue"].values()))
    assert len(orthanc.find("Instance")) == 4
    (promise,) = _promises(node)
    assert promise["next_at"] is None


def _promises(node: Node) -> list[dict[str, Any]]:
    from dicom_node.ledger import promises  # noqa: PLC0415 - the table, for this one look

    with node.ledger() as ledger:
        return [
            dict(zip(promises.c.keys(), row, strict=True))
            for row in ledger.query(promises.select())
        ]
