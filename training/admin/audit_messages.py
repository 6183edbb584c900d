"""Events of the audit trail as DICOM audit messages (PS3.15 §A.5), for a syslog server (§A.6).

The trail itself stays the record: a message holds what its row holds, and the row's hash.
"""

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from xml.etree import ElementTree as ET

_DCM: Final = "DCM"
_OURS: Final = "99SINUSNODE"
_NOT_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_PRIORITY: Final = 85  # security facility, severity notice (RFC 5424 §6.2.1)
_FAILED: Final = 500


@dataclass(frozen=True, slots=True)
class _Kind:
    """What DICOM calls an event."""

    code: str
    name: str
    action: str
    """Create, Read, Update, Delete or Execute, by its first letter."""
    subtype: tuple[str, str] | None = None


_ACCESSED: Final = _Kind("110103", "DICOM Instances Accessed", "R")
_EXPORT: Final = _Kind("110106", "Export", "R")
_IMPORT: Final = _Kind("110107", "Import", "C")
_RESTRICTED: Final = ("110132", "Use of Restricted Function")
_SOFTWARE: Final = _Kind("110113", "Security Alert", "E", ("110131", "Software Configuration"))
_USERS: Final = _Kind(
    "110113", "Security Alert", "U", ("110137", "User Security Attributes Changed")
)

_KINDS: Final[Mapping[str, _Kind]] = {
    "started": _Kind("110100", "Application Activity", "E", ("110120", "Application Start")),
    "stopped": _Kind("110100", "Application Activity", "E", ("110121", "Application Stop")),
    "refused": _Kind("110113", "Security Alert", "E", ("110126", "Node Authentication")),
    "turned-away": _Kind("110113", "Security Alert", "E", _RESTRICTED),
    "sign-in": _Kind("110114", "User Authentication", "E", ("110122", "Login")),
    "sign-out": _Kind("110114", "User Authentication", "E", ("110123", "Logout")),
    "user-create": _USERS,
    "user-change": _USERS,
    "key-create": _USERS,
    "key-revoke": _USERS,
    "audit-export": _Kind("110101", "Audit Log Used", "R"),
    "ecg-seen": _ACCESSED,
    "patient-seen": _ACCESSED,
    "purged": _Kind("110103", "DICOM Instances Accessed", "D"),
    "ecg-export": _EXPORT,
    "label-export": _EXPORT,
    "model-export": _EXPORT,
    "exchange-push": _EXPORT,
    "upload": _IMPORT,
    "label-import": _IMPORT,
    "archive-import": _IMPORT,
    "model-upload": _IMPORT,
    "exchange-pull": _IMPORT,
    "setting-change": _SOFTWARE,
    "delivery-redirect": _SOFTWARE,
    "delivery-drop": _SOFTWARE,
    "model-promote": _SOFTWARE,
    "model-rollback": _SOFTWARE,
    "model-shadow": _SOFTWARE,
    "model-retire": _SOFTWARE,
    "model_promoted": _SOFTWARE,
    "model_rolled_back": _SOFTWARE,
}


def message(row: Mapping[str, Any], source: str) -> str:
    """Return one audit message as XML.

    Parameters
    ----------
    row
        Of the audit trail.
    source
        Audit Source ID: the node's AE title.
    """
    kind = _KINDS.get(row["event"])
    detail = _detail(row["detail"])
    root = ET.Element("AuditMessage")
    event = ET.SubElement(
        root,
        "EventIdentification",
        EventActionCode=kind.action if kind else "E",
        EventDateTime=_moment(row["at"]),
        EventOutcomeIndicator=_outcome(row["reason"], detail),
    )
    if kind is None:
        _code(event, "EventID", row["event"], row["event"], _OURS)
    else:
        _code(event, "EventID", kind.code, kind.name, _DCM)
    if kind is not None and kind.subtype is not None:
        _code(event, "EventTypeCode", *kind.subtype, _DCM)
    else:
        _code(event, "EventTypeCode", row["event"], row["event"], _OURS)
    if row["reason"]:
        ET.SubElement(event, "EventOutcomeDescription").text = _clean(row["reason"])
    _participants(root, row, detail, source)
    origin = ET.SubElement(root, "AuditSourceIdentification", AuditSourceID=_clean(source))
    _code(origin, "AuditSourceTypeCode", "4", "Application Server", _DCM)
    _objects(root, row)
    return ET.tostring(root, encoding="unicode")


def syslog(row: Mapping[str, Any], source: str) -> str:
    """Return one audit message as a line of syslog (RFC 5424, PS3.15 §A.6)."""
    host = re.sub(r"[^!-~]", "", source) or "-"
    words = (f"<{_PRIORITY}>1", _moment(row["at"]), host, "sinusnode", "-", "DICOM+RFC3881", "-")
    return f"{' '.join(words)} {message(row, source)}".replace("\n", " ")


def _participants(
    root: ET.Element, row: Mapping[str, Any], detail: Mapping[str, Any], source: str
) -> None:
    """Say who asked: a person, a key or an application entity; and whom."""
    asked = str(detail.get("by") or row["calling_ae"] or source)
    who = ET.SubElement(
        root,
        "ActiveParticipant",
        UserID=_clean(asked),
        UserIsRequestor="true",
    )
    if row["address"]:
        who.set("NetworkAccessPointID", _clean(row["address"]))
        who.set("NetworkAccessPointTypeCode", "2")
    if row["called_ae"]:
        ET.SubElement(
            root, "ActiveParticipant", UserID=_clean(row["called_ae"]), UserIsRequestor="false"
        )


def _objects(root: ET.Element, row: Mapping[str, Any]) -> None:
    """Say which row of the trail this is, with what it holds and its hash."""
    found = ET.SubElement(
        root,
        "ParticipantObjectIdentification",
        ParticipantObjectID=f"audit row {row['id']}",
        ParticipantObjectTypeCode="2",
        ParticipantObjectTypeCodeRole="13",
    )
    _code(found, "ParticipantObjectIDTypeCode", "12", "URI", "RFC-3881")
    for name in ("detail", "chain"):
        value = base64.b64encode(str(row[name]).encode()).decode()
        ET.SubElement(found, "ParticipantObjectDetail", type=name, value=value)


def _code(parent: ET.Element, name: str, code: str, text: str, scheme: str) -> None:
    words = {"csd-code": _clean(code), "codeSystemName": scheme, "originalText": _clean(text)}
    ET.SubElement(parent, name, words)


def _detail(text: str) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _outcome(reason: str, detail: Mapping[str, Any]) -> str:
    """Return success, minor or serious failure (RFC 3881 §5.1.4)."""
    status = detail.get("status", 0)
    if isinstance(status, int) and status >= _FAILED:
        return "8"
    return "4" if reason else "0"


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def _clean(text: str) -> str:
    """Return text that XML can hold."""
    return _NOT_XML.sub("?", text)
