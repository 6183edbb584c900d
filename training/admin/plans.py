"""Plans that somebody sends over the network: they name nothing outside the installation."""

import re
from collections.abc import Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import Any, Final

from training.admin.access import Office
from training.admin.problems import Problem
from training.corpus import SPLITS
from training.plan import CURRENT, Plan

_ARCHITECTURE: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
_DIGEST: Final = re.compile(r"[0-9a-f]{12,64}")
_SPLIT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}\.json")


def plan_of(office: Office, document: Mapping[str, Any]) -> Plan:
    """Return the plan of a JSON object, over the corpus of this installation.

    Raises
    ------
    Problem
        422, if it cannot be meant, or names a file.
    """
    try:
        plan = Plan.from_mapping(dict(document) | {"corpus": str(office.corpus)})
    except (ValueError, TypeError, RecursionError) as error:
        raise _refused(str(error)) from None
    if plan.base != CURRENT and not any(
        form.fullmatch(plan.base) for form in (_ARCHITECTURE, _DIGEST)
    ):
        raise _refused("base is an architecture, the digest of a model, or current.")
    if isinstance(plan.split, str):
        if not _SPLIT.fullmatch(plan.split):
            raise _refused("split is the name of a split that the corpus keeps.")
        return replace(plan, split=str(office.corpus / SPLITS / plan.split))
    return plan


def _refused(sentence: str) -> Problem:
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, sentence, reason="plan")
