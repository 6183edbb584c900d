"""The installation from inside: senders, destinations, disk, people, keys and the audit trail."""

import json
from typing import Any

from fastapi import Request

from dicom_node.settings import Role
from training.admin.access import Office
from training.admin.accounts import Principal
from training.admin.api import audit, configuration, node, session
from training.admin.drift import FEWEST, latest


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
        "drift": latest(office.ledger, office.live.now().drift),
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
