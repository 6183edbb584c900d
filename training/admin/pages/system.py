"""The installation from inside: senders, destinations, disk, people, keys and the audit trail."""

import json
from functools import lru_cache
from typing import Any, Final

import sqlalchemy as sa
from fastapi import Request

from dicom_node.ledger import Ledger
from dicom_node.settings import Drift as Thresholds
from dicom_node.settings import Role
from training.admin.access import Office
from training.admin.accounts import Principal
from training.admin.api import audit, configuration, node, session
from training.admin.drift import FEWEST, Drift, drift
from training.admin.tables import recordings


def system(
    request: Request, office: Office, principal: Principal, event: str, before: int | None
) -> dict[str, Any]:
    """Return what the template shows to this reader."""
    admin = Role.ADMIN in principal.roles
    shown: dict[str, Any] = {
        "status": node.status(request, office),
        "destinations": node.destinations(office),
        "carts": node.carts(office),
        "may_echo": not principal.roles.isdisjoint({Role.OPERATOR, Role.ADMIN}),
        "admin": admin,
        "drift": _drift(office),
        "fewest": FEWEST,
    }
    if admin:
        shown |= {
            "live_settings": configuration.live_settings(office),
            "settings": json.dumps(configuration.settings(office), indent=1, ensure_ascii=False),
            "users": session.users(office),
            "keys": session.keys(office),
            "roles": tuple(Role),
            "trail": audit.trail(office, event=event or None, before=before, limit=50),
            "event": event,
        }
    return shown


def _drift(office: Office) -> Drift:
    """Return what has changed, asked anew whenever some more ECGs were analysed."""
    ((newest,),) = office.ledger.query(sa.select(sa.func.max(recordings.c.instance_id)))
    return _drift_at(office.ledger, office.live.now().drift, (newest or 0) // _SOME)


@lru_cache(maxsize=4)
def _drift_at(ledger: Ledger, thresholds: Thresholds, _newest: int) -> Drift:
    return drift(ledger, thresholds)


_SOME: Final = 10
