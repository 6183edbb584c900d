"""Finished results that wait for delivery, without a node around them."""

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from dicom_node import operate
from dicom_node.deliver import RESULTS, Sender
from dicom_node.ledger import Ledger, Produced, Received
from dicom_node.settings import Destination, Settings, Storage
from dicom_node.spool import Spool

SR, PDF, ECG = RESULTS[0], RESULTS[1], RESULTS[2]
ROLES = {"sr": SR, "pdf": PDF, "ecg": ECG}


def result(sop_class: str, uid: str) -> bytes:
    """Return a small object of a class, as a file."""
    made = Dataset()
    made.SOPClassUID, made.SOPInstanceUID = sop_class, uid
    made.PatientID = "P1"
    made.StudyInstanceUID, made.SeriesInstanceUID = "1.9", f"1.9.{uid[-1]}"
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    buffer = io.BytesIO()
    dcmwrite(buffer, made, enforce_file_format=True)
    return buffer.getvalue()


@dataclass
class Outbox:
    """A ledger and a spool that hold finished results, and the clock of the senders."""

    folder: Path
    now: float = 1_000.0
    senders: list[Sender] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir()
        self.settings = Settings(storage=Storage(folder=self.folder))
        self.ledger = Ledger(self.settings.database_url)
        self.ledger.create()
        self.spool = Spool(self.folder / "spool")
        self.spool.prepare(())

    def put(self, uid: str, *destinations: str) -> None:
        """Add one object with its three finished results."""
        blob = self.spool.write(uid.encode())
        item = Received(
            sop_class_uid=ECG,
            sop_instance_uid=uid,
            blob=blob,
            calling_ae="CART",
            called_ae="SINUSNODE",
            address="127.0.0.1",
            received_at=self.now,
        )
        self.ledger.receive([item], "{}", "plan")
        lease = self.ledger.lease("worker", self.now, self.now + 10)
        assert lease is not None
        self.ledger.analysed(lease, "result", self.now)
        made = [
            Produced(
                role=role,
                sop_class_uid=sop_class,
                sop_instance_uid=f"{uid}.{number}",
                blob=self.spool.write(result(sop_class, f"{uid}.{number}")),
            )
            for number, (role, sop_class) in enumerate(ROLES.items())
        ]
        self.ledger.reported(lease, made, destinations or ("PACS",), self.now)

    def sender(self, port: int, **changes: Any) -> Sender:
        values = {"ae_title": "PACS", "host": "127.0.0.1", "port": port, "timeout": 5.0}
        made = Sender(
            Destination(**values | changes),
            "SINUSNODE",
            ledger=self.ledger,
            spool=self.spool,
            clock=lambda: self.now,
        )
        self.senders.append(made)
        return made

    def close(self) -> None:
        for sender in self.senders:
            sender.close()
        self.ledger.close()

    def queue(self) -> dict[str, Any]:
        """Return the newest row as `sinusnode queue --json` prints it."""
        return operate.Queue.read(self.settings, [], 1).rows[0]

    def ends(self) -> dict[str, tuple[str, str | None, int | None]]:
        """Return where each object stands at its destination; each reason has a sentence."""
        deliveries = self.queue()["deliveries"]
        for item in deliveries:
            assert (item["message"] is None) == (item["reason"] is None)
            assert item["message"] is None or item["message"].endswith(".")
        return {
            item["object"]: (item["state"], item["reason"], item["status"]) for item in deliveries
        }
