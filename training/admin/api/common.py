"""What the rooms of the API share: how numbers, words and pages are asked for."""

from http import HTTPStatus
from typing import Annotated, Generic, TypeVar

from fastapi import Path, Query
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from dicom_node.settings import Role
from training.admin.accounts import Principal
from training.admin.problems import Problem

_Item = TypeVar("_Item")

LARGEST_NUMBER = 2**62

Number = Annotated[int, Path(ge=1, lt=LARGEST_NUMBER)]
Before = Annotated[
    int | None, Query(ge=1, lt=LARGEST_NUMBER, description="What `next` of the page before said.")
]
Limit = Annotated[int, Query(ge=1, le=200, description="Most of one page.")]
Pseudonym = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
Key = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:+ -]{0,63}$")]
Digest = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$")]
Sentence = Annotated[str, StringConstraints(strip_whitespace=True, min_length=3, max_length=200)]


class Body(BaseModel):
    """What is asked; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid")


class Reason(Body):
    """Why something is done; the audit trail keeps it."""

    reason: Annotated[Sentence, Field(description="One sentence; no patient data.")]


class Listed(BaseModel, Generic[_Item]):
    """One page of a list."""

    items: list[_Item]
    next: int | None
    """What to ask for as `before`; None at the end."""


def need(principal: Principal, what: str, *roles: Role) -> None:
    """Refuse a detail of a request that only some of those who may ask may name."""
    if principal.roles.isdisjoint(roles):
        names = " or ".join(roles)
        raise Problem(HTTPStatus.FORBIDDEN, f"{what} needs the role {names}.", reason="role")
