"""The bytes behind a recording: read anew for whoever looks at it, and never kept."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from pydicom.dataset import Dataset

from analysis.ecg import Recording
from analysis.result import Result
from dicom_node.ledger import blob_of
from dicom_node.pipeline import Quarantined, read
from dicom_node.spool import Damaged, Spool
from training.admin.access import Office
from training.admin.problems import Problem, missing


def row_of(office: Office, number: int) -> dict[str, Any]:
    """Return a row of the ledger with its objects and deliveries.

    Raises
    ------
    Problem
        404, if there is none.
    """
    row = office.ledger.row(number)
    if row is None:
        raise missing(f"recording {number}")
    return row


def bytes_of(office: Office, row: Mapping[str, Any]) -> bytes:
    """Return the bytes of a received object, or of one that was made from it.

    Raises
    ------
    Problem
        410, if they are gone, by retention for example, or damaged.
    """
    try:
        return Spool(office.settings.storage.folder / "spool").read(blob_of(row))
    except (OSError, Damaged):
        raise Problem(
            HTTPStatus.GONE, "Its bytes were purged by age, lost or damaged.", reason="bytes-gone"
        ) from None


def decoded(office: Office, row: Mapping[str, Any]) -> tuple[Dataset, Recording]:
    """Return a received object and its ECG.

    Raises
    ------
    Problem
        409, if it cannot be decoded; 410, if its bytes are gone.
    """
    try:
        return read(bytes_of(office, row), row["sop_instance_uid"])
    except Quarantined as error:
        raise Problem(HTTPStatus.CONFLICT, error.message, reason=error.reason) from None


def result_of(office: Office, row: Mapping[str, Any]) -> Result:
    """Return the stored result of a recording, joined with the recording.

    Raises
    ------
    Problem
        409, if there is none yet or the source cannot be decoded; 410, if it or its bytes are gone.
    """
    if row["result"] is None and row["analysed_at"] is not None:
        raise Problem(HTTPStatus.GONE, "Its result was purged by age.", reason="bytes-gone")
    if row["result"] is None:
        raise Problem(HTTPStatus.CONFLICT, "It has not been analysed yet.", reason="no-result")
    return Result.from_json(row["result"], decoded(office, row)[1])
