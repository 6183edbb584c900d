"""Why the node refused or quarantined something: a closed list, one sentence each.

The same words stand in `sinusnode queue`, in the audit trail, in logs and in metrics. What
:mod:`analysis` refuses keeps its own reason; its sentence comes with it.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class Refusal(StrEnum):
    """Answered on the wire; nothing was kept but an audit row."""

    CALLED_AE_TITLE = "called-ae-title"
    CALLING_AE_TITLE = "calling-ae-title"
    ADDRESS = "address"
    CERTIFICATE = "certificate"
    TOO_MANY_ASSOCIATIONS = "too-many-associations"
    SOP_CLASS = "sop-class"
    MISMATCH = "command-dataset-mismatch"
    TOO_LARGE = "object-too-large"
    OUT_OF_RESOURCES = "out-of-resources"
    BROKEN_CONNECTION = "broken-connection"
    NO_REPLY_ADDRESS = "no-reply-address"
    TOO_MANY_REQUESTS = "too-many-requests"
    CREDENTIALS = "credentials"
    BROKEN_REQUEST = "broken-request"
    NOT_DICOM = "not-dicom"
    TRANSFER_SYNTAX = "transfer-syntax"
    OTHER_STUDY = "other-study"


class Quarantine(StrEnum):
    """The bytes are kept, nothing was reported; visible and replayable."""

    CONFLICT = "uid-conflict"
    OWN_OBJECT = "own-object"
    IDENTITY_MISMATCH = "identity-mismatch"
    NOT_REPORTABLE = "not-reportable"
    CHECKER = "refused-by-checker"
    CRASHED = "crashed"
    FAILED = "failed"


class Delivery(StrEnum):
    """How an attempt to deliver ended, if not well."""

    UNREACHABLE = "unreachable"
    REJECTED_TRANSIENT = "rejected-transient"
    REJECTED_PERMANENT = "rejected-permanent"
    INSECURE = "tls-failed"
    NO_CONTEXT = "no-accepted-context"
    NO_ANSWER = "no-answer"
    NOT_LISTED = "not-listed"
    CREDENTIALS = "credentials-refused"
    OUT_OF_RESOURCES = "destination-out-of-resources"
    REFUSED = "refused"
    GIVEN_UP = "given-up"
    BYTES_LOST = "bytes-lost"
    NOT_COMMITTED = "not-committed"
    NO_PATIENT_ID = "no-patient-id"
    NOT_ENCODABLE = "not-encodable"
    WRONG_ANSWER = "wrong-answer"
    DROPPED = "dropped"


SENTENCES: Final[Mapping[str, str]] = MappingProxyType(
    {
        Refusal.CALLED_AE_TITLE: "The caller asked for another AE title; set the cart's called "
        "AE title to this node's `dicom.ae_title`.",
        Refusal.CALLING_AE_TITLE: "The calling AE title is not listed; add it to `dicom.peers`.",
        Refusal.ADDRESS: "The AE title may call, but not from this address; add the network to "
        "that peer's `addresses`.",
        Refusal.CERTIFICATE: "The AE title may call, but only over TLS with the certificate that "
        "its entry in `dicom.peers` names.",
        Refusal.TOO_MANY_ASSOCIATIONS: "More associations than `dicom.maximum_associations` are "
        "open; the caller should retry.",
        Refusal.SOP_CLASS: "The caller offered no SOP class that the node accepts; send ECG "
        "waveform objects only.",
        Refusal.MISMATCH: "The C-STORE command and the data set name different objects; repair "
        "the sender.",
        Refusal.TOO_LARGE: "The object is larger than `dicom.maximum_object`, or the request than "
        "`stow.maximum_body`; an ECG is not.",
        Refusal.OUT_OF_RESOURCES: "The disk is below the watermark or cannot be written; free "
        "space, then the cart's retry will be stored.",
        Refusal.BROKEN_CONNECTION: "The connection broke rules or deadlines of the protocol and "
        "was closed.",
        Refusal.NO_REPLY_ADDRESS: "The caller asks for storage commitment, and the settings do "
        "not say where it hears the answer; name it under `destinations`, or give its entry in "
        "`dicom.peers` a `port`.",
        Refusal.TOO_MANY_REQUESTS: "More STOW-RS requests than `stow.maximum_requests` are open; "
        "the caller should retry.",
        Refusal.CREDENTIALS: "The STOW-RS request shows no bearer token, or another than the one "
        "in section `stow`.",
        Refusal.BROKEN_REQUEST: "The STOW-RS request is no whole multipart/related body of "
        "application/dicom; repair the sender.",
        Refusal.NOT_DICOM: "A part of the STOW-RS request is no DICOM file; repair the sender.",
        Refusal.TRANSFER_SYNTAX: "A part of the STOW-RS request is in a transfer syntax that the "
        "node does not take; send Explicit or Implicit VR Little Endian.",
        Refusal.OTHER_STUDY: "An object belongs to another study than the one that the STOW-RS "
        "request names; repair the sender.",
        Quarantine.CONFLICT: "An object with this SOP Instance UID came before with other "
        "content; ask the sender which one is right, then release or delete this one.",
        Quarantine.OWN_OBJECT: "This is one of Sinusnode's own results coming back; stop the "
        "route that forwards them.",
        Quarantine.IDENTITY_MISMATCH: "The data set names another SOP Instance UID than the "
        "C-STORE command; repair the sender.",
        Quarantine.NOT_REPORTABLE: "The object lacks what a report must copy from it; have the "
        "sender complete it and send it again.",
        Quarantine.CHECKER: "The report failed the node's own conformance check and was not "
        "sent; report this with the software version.",
        Quarantine.CRASHED: "The analysis was killed at each attempt (time or memory); report "
        "this with the software version.",
        Quarantine.FAILED: "The analysis failed at each attempt; report this with the software "
        "version.",
        Delivery.UNREACHABLE: "The destination does not answer on its host and port; delivery "
        "is tried again.",
        Delivery.REJECTED_TRANSIENT: "The destination refused the association for now; delivery "
        "is tried again.",
        Delivery.REJECTED_PERMANENT: "The destination refused the association for good; register "
        "this node's AE title there, then retry.",
        Delivery.INSECURE: "The TLS handshake with the destination failed; compare certificates "
        "and names with `sinusnode check`. Delivery is tried again.",
        Delivery.NO_CONTEXT: "The destination does not accept this SOP class; enable it there, "
        "then retry.",
        Delivery.NO_ANSWER: "The destination accepted the association and stopped answering; "
        "delivery is tried again.",
        Delivery.NOT_LISTED: "The destination answered and did not say what became of the object; "
        "delivery is tried again.",
        Delivery.CREDENTIALS: "The destination refuses the node's credentials; renew token, "
        "password or certificate, then retry.",
        Delivery.OUT_OF_RESOURCES: "The destination is out of resources; delivery is tried again.",
        Delivery.REFUSED: "The destination refused the object; its status says why, then retry.",
        Delivery.BYTES_LOST: "The result's bytes are gone from the spool or damaged; restore the "
        "data folder, then retry.",
        Delivery.NOT_COMMITTED: "The destination took the object and does not hold it; see its "
        "storage, then retry.",
        Delivery.NO_PATIENT_ID: "The ECG states no Patient ID (0010,0020); without one nothing is "
        "told to systems outside DICOM.",
        Delivery.NOT_ENCODABLE: "The patient's identity cannot be written in the destination's "
        "`character_set`; choose another there, then retry.",
        Delivery.WRONG_ANSWER: "What the destination answers is no answer to what it was sent; "
        "compare its address with its manual. Delivery is tried again.",
        Delivery.DROPPED: "A person gave up the delivery: the settings no longer name the "
        "destination.",
        Delivery.GIVEN_UP: "The destination did not take the object within `retry_for`; repair "
        "it, then retry.",
    }
)


def sentence(reason: str, otherwise: str = "") -> str:
    """Return the sentence of a reason, or `otherwise` for those that bring their own."""
    return SENTENCES.get(reason, otherwise)
