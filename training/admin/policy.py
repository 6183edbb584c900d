"""Who may do what: one table, which decides at each request and which the tests read.

A route that is not in it cannot be made. Roles are independent of each other (RELIABILITY §5):
nobody may do something because he may do something else.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from dicom_node.settings import Role

API: Final = "/api/v1"

_VIEWER, _OPERATOR, _REVIEWER, _TRAINER, _ADMIN = Role
_ALL: Final = frozenset(Role)
_QUEUE: Final = frozenset({_VIEWER, _OPERATOR})
_ECG: Final = frozenset({_OPERATOR, _REVIEWER, _TRAINER})
_CORPUS: Final = frozenset({_REVIEWER, _TRAINER})
_MODELS: Final = frozenset({_TRAINER, _ADMIN})


@dataclass(frozen=True, slots=True)
class Rule:
    """Who may use a route, and what is remembered of it."""

    roles: frozenset[Role] | None
    """One of them is needed; None lets in whoever asks."""
    event: str | None = None
    """What the audit trail calls it; None where nothing is changed and no patient seen."""
    upload: bool = False
    """Whether its body may be as large as `admin.maximum_upload`."""
    secret: bool = False
    """Whether its answer holds what is shown once."""
    signed_in: bool = False
    """Whether it is enough to be signed in, with whatever roles or none."""

    def admits(self, roles: Iterable[Role]) -> bool:
        """Return whether one of these roles is enough."""
        return self.roles is None or self.signed_in or not self.roles.isdisjoint(roles)


def _only(*roles: Role) -> frozenset[Role]:
    return frozenset(roles)


_ROUTES: Final[dict[str, Rule]] = {
    # Access
    "POST /session": Rule(None, "sign-in", secret=True),
    "GET /session": Rule(_ALL, signed_in=True),
    "DELETE /session": Rule(_ALL, "sign-out", signed_in=True),
    "GET /session/oidc": Rule(None),
    "GET /session/oidc/callback": Rule(None, "sign-in", secret=True),
    "GET /users": Rule(_only(_ADMIN)),
    "POST /users": Rule(_only(_ADMIN), "user-create", secret=True),
    "PATCH /users/{user}": Rule(_only(_ADMIN), "user-change", secret=True),
    "GET /keys": Rule(_only(_ADMIN)),
    "POST /keys": Rule(_only(_ADMIN), "key-create", secret=True),
    "DELETE /keys/{prefix}": Rule(_only(_ADMIN), "key-revoke"),
    # The node
    "GET /status": Rule(_ALL),
    "GET /openapi.json": Rule(_ALL),
    "GET /settings": Rule(_only(_ADMIN)),
    "PATCH /settings": Rule(_only(_ADMIN), "setting-change"),
    "GET /settings/live": Rule(_only(_ADMIN)),
    "GET /destinations": Rule(_QUEUE | {_ADMIN}),
    "POST /destinations/{name}/echo": Rule(_only(_OPERATOR, _ADMIN), "echo"),
    "GET /carts": Rule(_QUEUE | {_ADMIN}),
    "POST /carts/{ae_title}/echo": Rule(_only(_OPERATOR, _ADMIN), "echo"),
    "GET /audit": Rule(_only(_ADMIN)),
    "GET /audit/verification": Rule(_only(_ADMIN)),
    "GET /audit/messages": Rule(_only(_ADMIN), "audit-export"),
    "GET /drift": Rule(_ALL),
    "GET /notices": Rule(_ALL),
    # Recordings
    "GET /queue": Rule(_QUEUE),
    "GET /queue/{instance}": Rule(_QUEUE),
    "POST /queue/{instance}/retry": Rule(_only(_OPERATOR), "retry"),
    "POST /queue/{instance}/release": Rule(_only(_OPERATOR), "release"),
    "GET /recordings": Rule(_QUEUE | _ECG),
    "GET /recordings/{instance}": Rule(_ECG, "ecg-seen"),
    "GET /recordings/{instance}/waveform": Rule(_ECG, "ecg-seen"),
    "GET /recordings/{instance}/patient": Rule(_only(_OPERATOR), "patient-seen"),
    "GET /recordings/{instance}/source": Rule(_only(_OPERATOR), "ecg-export"),
    "GET /recordings/{instance}/objects/{role}": Rule(_only(_OPERATOR), "ecg-export"),
    "GET /recordings/{instance}/labels": Rule(_CORPUS),
    "POST /recordings/{instance}/labels": Rule(_only(_REVIEWER), "label"),
    # The corpus
    "POST /uploads": Rule(_CORPUS, "upload", upload=True),
    "GET /uploads": Rule(_CORPUS),
    "GET /uploads/{upload}": Rule(_CORPUS),
    "GET /uploads/{upload}/events": Rule(_CORPUS),
    "GET /corpus": Rule(_CORPUS),
    "GET /corpus/recordings": Rule(_CORPUS),
    "POST /corpus/archive": Rule(_CORPUS, "archive-import"),
    "GET /corpus/recordings/{record}/waveform": Rule(_CORPUS, "ecg-seen"),
    "GET /corpus/recordings/{record}/labels": Rule(_CORPUS),
    "POST /corpus/recordings/{record}/labels": Rule(_only(_REVIEWER), "label"),
    "GET /labels": Rule(_CORPUS),
    "POST /labels": Rule(_only(_REVIEWER), "label-import", upload=True),
    "GET /labels/map": Rule(_CORPUS),
    "GET /labels/export": Rule(_CORPUS, "label-export"),
    # Learning
    "GET /runs": Rule(_only(_TRAINER)),
    "POST /runs": Rule(_only(_TRAINER), "run-start"),
    "GET /runs/comparison": Rule(_only(_TRAINER)),
    "GET /runs/{run}": Rule(_only(_TRAINER)),
    "GET /runs/{run}/events": Rule(_only(_TRAINER)),
    "GET /runs/{run}/report": Rule(_only(_TRAINER)),
    "GET /runs/{run}/evaluation": Rule(_only(_TRAINER)),
    "GET /runs/{run}/verdict": Rule(_MODELS),
    "POST /runs/{run}/stop": Rule(_only(_TRAINER), "run-stop"),
    "POST /runs/{run}/resume": Rule(_only(_TRAINER), "run-resume"),
    "GET /schedules": Rule(_only(_TRAINER)),
    "POST /schedules": Rule(_only(_TRAINER), "schedule-create"),
    "GET /schedules/{schedule}": Rule(_only(_TRAINER)),
    "PUT /schedules/{schedule}": Rule(_only(_TRAINER), "schedule-change"),
    "DELETE /schedules/{schedule}": Rule(_only(_TRAINER), "schedule-delete"),
    # Models
    "GET /models": Rule(_ALL),
    "POST /models": Rule(_MODELS, "model-upload", upload=True),
    "POST /models/rollback": Rule(_only(_ADMIN), "model-rollback"),
    "GET /models/{digest}": Rule(_ALL),
    "GET /models/{digest}/package": Rule(_MODELS, "model-export"),
    "GET /models/{digest}/comparison": Rule(_MODELS),
    "POST /models/{digest}/self-test": Rule(_MODELS, "model-self-test"),
    "POST /models/{digest}/shadow": Rule(_MODELS, "model-shadow"),
    "POST /models/{digest}/promote": Rule(_only(_ADMIN), "model-promote"),
    "POST /models/{digest}/retire": Rule(_only(_ADMIN), "model-retire"),
    "GET /exchanges": Rule(_MODELS),
    "GET /exchanges/{name}/models": Rule(_MODELS, "exchange-list"),
    "POST /exchanges/{name}/push": Rule(_only(_ADMIN), "exchange-push"),
    "POST /exchanges/{name}/pull": Rule(_MODELS, "exchange-pull"),
    "POST /exchanges/{name}/verify": Rule(_MODELS, "exchange-verify"),
}

PAGES: Final[dict[str, Rule]] = {
    # What the pages need beside the API.
    "GET /": Rule(_ALL),
    "GET /plotly.js": Rule(None),
    "GET /signin": Rule(None),
    "GET /ecg/{instance}": Rule(_ECG, "ecg-seen"),
    "GET /ecg/{instance}/tracing": Rule(_ECG),
    "GET /recordings": Rule(_CORPUS),
    "GET /recordings/{record}": Rule(_CORPUS, "ecg-seen"),
    "GET /recordings/{record}/tracing": Rule(_CORPUS),
    "GET /upload": Rule(_CORPUS),
    "GET /upload/{upload}": Rule(_CORPUS),
    "GET /training": Rule(_only(_TRAINER)),
    "GET /training/{run}": Rule(_only(_TRAINER)),
    "GET /models": Rule(_ALL),
    "GET /models/{digest}": Rule(_ALL),
    "GET /datasets": Rule(_CORPUS),
    "GET /datasets/quality": Rule(_CORPUS),
    "GET /datasets/evaluation": Rule(_CORPUS),
    "GET /schedule": Rule(_only(_TRAINER)),
    "GET /system": Rule(_QUEUE | {_ADMIN}),
}

POLICY: Final[dict[tuple[str, str], Rule]] = {
    (method, path): rule
    for prefix, routes in ((API, _ROUTES), ("", PAGES))
    for name, rule in routes.items()
    for method, path in [(name.split(" ")[0], prefix + name.split(" ")[1])]
}


def rule_of(method: str, path: str) -> Rule:
    """Return who may use a route.

    Raises
    ------
    LookupError
        If the table does not say: such a route is not to exist.
    """
    try:
        return POLICY[method, path]
    except KeyError:
        raise LookupError(f"{method} {path} is not in training.admin.policy") from None
