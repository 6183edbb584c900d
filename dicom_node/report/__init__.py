"""The result objects: structured report, page and annotated ECG, in the patient's own study.

Pure: the same arguments give the same bytes, on any day and any machine.
"""

from collections.abc import Callable, Iterable
from datetime import datetime
from types import MappingProxyType
from typing import Final

from pydicom.dataset import Dataset

from analysis.result import Result
from dicom_node.report.annotated import annotated_ecg
from dicom_node.report.annotation import waveform_annotations
from dicom_node.report.bundle import bundle_faults, transaction
from dicom_node.report.capture import secondary_capture
from dicom_node.report.draft import Draft
from dicom_node.report.objects import (
    SAFETY_SENTENCE,
    UNREADABLE,
    Device,
    Inputs,
    Message,
    NoComparison,
    Previous,
    Qualification,
    ReportOptions,
    ResultObject,
    Role,
    Unreportable,
    comparable,
    is_own,
)
from dicom_node.report.oru import oru_faults, oru_r01
from dicom_node.report.part10 import encode
from dicom_node.report.pdf import encapsulated_pdf
from dicom_node.report.shell import acquired_at
from dicom_node.report.sr import ecg_report
from dicom_node.report.templates import check
from dicom_node.report.tid1500 import measurement_report
from dicom_node.report.uids import Level, device_uid

__all__ = [
    "SAFETY_SENTENCE",
    "Device",
    "Message",
    "NoComparison",
    "Previous",
    "Qualification",
    "ReportOptions",
    "ResultObject",
    "Role",
    "Unreportable",
    "acquired_at",
    "build",
    "check",
    "comparable",
    "device_uid",
    "is_own",
]

_WRITERS: Final = MappingProxyType[Role, Callable[[Inputs], Draft | None]](
    {
        Role.SR: ecg_report,
        Role.PDF: encapsulated_pdf,
        Role.ECG: annotated_ecg,
        Role.SC: secondary_capture,
        Role.TID1500: measurement_report,
        Role.ANNOTATION: waveform_annotations,
    }
)

_MESSAGES: Final = MappingProxyType(
    {Message.HL7: (oru_r01, oru_faults), Message.FHIR: (transaction, bundle_faults)}
)


def build(
    *,
    source: Dataset,
    source_sha256: str,
    result: Result,
    plan_digest: str,
    received_at: datetime,
    device: Device,
    options: ReportOptions,
    page: bytes,
    previous: Previous | NoComparison = NoComparison.NOT_ASKED,
    messages: Iterable[Message] = (),
) -> tuple[ResultObject, ...]:
    """Return the objects that `options` asks for, each a complete and checked DICOM file.

    The annotated ECG is left out where no waveform class can hold the source's samples.

    Parameters
    ----------
    source
        The object the cart sent, parsed; it is not changed.
    source_sha256
        SHA-256 of its bytes, hexadecimal.
    plan_digest
        Digest of the plan pinned at receipt: models, settings, revisions.
    received_at
        From the ledger, with its time zone: the only time used for dates of our own.
    page
        The report as a PDF.
    previous
        The patient's previous ECG, or why the report compares with none.
    messages
        What is also to be made for systems outside DICOM; empty where the source has no Patient ID.

    Raises
    ------
    Unreportable
        If the source lacks what a result must copy (its study, its own UIDs, a date), or holds
        something unreadable in its place.
    """
    inputs = Inputs(
        source=source,
        source_sha256=source_sha256,
        result=result,
        plan_digest=plan_digest,
        received_at=received_at,
        device=device,
        options=options,
        page=page,
        previous=previous,
    )
    try:
        written = [(role, _WRITERS[role](inputs)) for role in options.roles]
        sent = [_message(kind, inputs) for kind in messages]
    except UNREADABLE as error:
        raise Unreportable("A value of the source cannot be read.") from error
    made = [_finished(role, draft) for role, draft in written if draft is not None]
    return (*made, *sent)


def _message(kind: Message, inputs: Inputs) -> ResultObject:
    write, judge = _MESSAGES[kind]
    data = write(inputs)
    return ResultObject(
        role=kind,
        sop_class_uid="",
        sop_instance_uid=inputs.uid(Level.INSTANCE, kind),
        series_instance_uid="",
        data=data,
        faults=tuple(judge(data)) if data else (),
    )


def _finished(role: Role, draft: Draft) -> ResultObject:
    data = encode(draft)  # first: looking at a value decodes it, and it was to pass verbatim
    return ResultObject(
        role=role,
        sop_class_uid=str(draft.get("SOPClassUID")),
        sop_instance_uid=str(draft.get("SOPInstanceUID")),
        series_instance_uid=str(draft.get("SeriesInstanceUID")),
        data=data,
        faults=check(draft),
    )
