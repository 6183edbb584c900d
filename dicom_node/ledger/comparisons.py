"""Each analysed ECG, and the earlier one of the same patient that it is compared with."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import Connection, Row, RowMapping

from dicom_node.ledger.schema import State, ecgs, instances

_OF_EARLIER: Final = ("study_instance_uid", "series_instance_uid", "acquired_at", "algorithm")
_LATEST_BEFORE: Final = (
    sa.select(ecgs)
    .join(instances, instances.c.id == ecgs.c.instance_id)
    .where(
        ecgs.c.patient == sa.bindparam("patient"),
        ecgs.c.acquired_by < sa.bindparam("since"),
        ecgs.c.measurements != "{}",
        instances.c.sop_instance_uid != sa.bindparam("sop_instance_uid"),
        instances.c.state != State.QUARANTINED,
    )
    .order_by(ecgs.c.acquired_by.desc(), ecgs.c.instance_id.desc())
    .limit(1)
)
_earlier_ecg = ecgs.alias()
_CHOSEN: Final = (
    sa.select(
        ecgs.c.conflict, instances.c.sop_class_uid, instances.c.sop_instance_uid,
        *(_earlier_ecg.c[name] for name in (*_OF_EARLIER, "measurements")),
    )
    .select_from(ecgs)
    .outerjoin(_earlier_ecg, _earlier_ecg.c.instance_id == ecgs.c.previous_id)
    .outerjoin(instances, instances.c.id == ecgs.c.previous_id)
    .where(ecgs.c.instance_id == sa.bindparam("id"))
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparable:
    """What a later ECG of the same patient is told of this one."""

    patient: str | None
    """A key of Patient ID and issuer; None = the source states no Patient ID."""
    birth_date: str
    """ISO 8601, empty where not stated; so is `sex`."""
    sex: str
    study_instance_uid: str
    series_instance_uid: str
    acquired_at: str
    """DT."""
    algorithm: str
    measurements: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """An earlier ECG, as the ledger knows it."""

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    acquired_at: str
    algorithm: str
    measurements: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What was decided when an ECG was analysed."""

    earlier: Earlier | None
    conflict: bool
    """Whether there is an earlier one, of another birth date or sex."""


def pin(connection: Connection, instance_id: int, sop_instance_uid: str, ecg: Comparable) -> None:
    """Choose the earlier ECG that this one is compared with, and store both."""
    found = None if ecg.patient is None else _latest_before(connection, sop_instance_uid, ecg)
    conflict = found is not None and _conflict(found, ecg)
    values = asdict(ecg) | {
        "instance_id": instance_id,
        "measurements": json.dumps(ecg.measurements, sort_keys=True),
        "acquired_by": _padded(ecg.acquired_at, "9"),
        "previous_id": None if found is None or conflict else found.instance_id,
        "conflict": conflict,
    }
    connection.execute(ecgs.insert(), values)


def comparison(connection: Connection, instance_id: int) -> Comparison | None:
    """Return what :func:`pin` chose, or None where it was not asked."""
    row = connection.execute(_CHOSEN, {"id": instance_id}).mappings().first()
    if row is None:
        return None
    return Comparison(earlier=_earlier(row), conflict=row["conflict"])


def _latest_before(
    connection: Connection, sop_instance_uid: str, ecg: Comparable
) -> Row[Any] | None:
    """Return the patient's last ECG that was acquired before this one, whenever it came."""
    values = {
        "patient": ecg.patient,
        "since": _padded(ecg.acquired_at, "0"),
        "sop_instance_uid": sop_instance_uid,
    }
    return connection.execute(_LATEST_BEFORE, values).first()


def _padded(moment: str, digit: str) -> str:
    """Return the first ("0") or the last ("9") instant of a DT in the local time of its source."""
    return re.split(r"[+-]", moment)[0].replace(".", "").ljust(20, digit)[:20]


def _conflict(found: Row[Any], ecg: Comparable) -> bool:
    pairs = ((found.birth_date, ecg.birth_date), (found.sex, ecg.sex))
    return any(before and now and before != now for before, now in pairs)


def _earlier(row: RowMapping) -> Earlier | None:
    if row["sop_instance_uid"] is None:
        return None
    return Earlier(
        sop_class_uid=row["sop_class_uid"],
        sop_instance_uid=row["sop_instance_uid"],
        **{name: row[name] for name in _OF_EARLIER},
        measurements=json.loads(row["measurements"]),
    )
