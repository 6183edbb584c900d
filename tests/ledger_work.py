"""What a worker process does to a ledger; little is imported here, so that one starts fast."""

import hashlib

from dicom_node.ledger import Ledger, Produced
from dicom_node.spool import BlobRef

PACS = "PACS"


def blob(content: str) -> BlobRef:
    sha256 = hashlib.sha256(content.encode()).hexdigest()
    return BlobRef("files", f"{sha256[:2]}/{sha256}", 0, len(content), sha256)


def produced(uid: str) -> list[Produced]:
    return [
        Produced(role=role, sop_class_uid="1.2.3", sop_instance_uid=f"{uid}.{n}", blob=blob(uid))
        for n, role in enumerate(("sr", "pdf", "ecg"))
    ]


def work(url: str, owner: str) -> None:
    """Take leases until none is left."""
    ledger = Ledger(url)
    while (lease := ledger.lease(owner, 1.0, 100.0)) is not None:
        ledger.analysed(lease, owner, 2.0)
        ledger.reported(lease, produced(lease.sop_instance_uid), [PACS], 3.0)
    ledger.close()
