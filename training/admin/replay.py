"""Idempotency keys: what was asked twice under one key is done once.

A key counts for one account and a day. While the first request is being answered, a second one
is told to come again; after it, it gets the same answer. What was refused may be asked anew.
"""

from http import HTTPStatus
from typing import Final

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from starlette.responses import Response

from dicom_node.ledger import Ledger
from training.admin.problems import Problem
from training.admin.tables import answers

_DAY: Final = 86400.0
_LONGEST_KEY: Final = 128
_LARGEST: Final = 2**20


class Replays:
    """The answers of one ledger that may be asked for again.

    Parameters
    ----------
    ledger
        With the tables of :mod:`training.admin.tables`.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def claim(self, account: str, key: str, request: str, now: float) -> Response | None:
        """Return the answer given before; None where this request is the first.

        Parameters
        ----------
        request
            What is asked, as a digest.

        Raises
        ------
        Problem
            400, 409 or 422: if the key is none, is in use, or was used for something else.
        """
        if not 0 < len(key) <= _LONGEST_KEY or not key.isprintable():
            raise Problem(HTTPStatus.BAD_REQUEST, f"An Idempotency-Key has 1 to {_LONGEST_KEY} "
                          "printable characters.")  # fmt: skip
        try:
            with self._ledger.transaction() as connection:
                connection.execute(answers.delete().where(answers.c.at < now - _DAY))
                connection.execute(
                    answers.insert().values(account=account, key=key, request=request, at=now)
                )
        except IntegrityError:
            return self._known(account, key, request)
        return None

    def _known(self, account: str, key: str, request: str) -> Response:
        wanted = (answers.c.account == account, answers.c.key == key)
        columns = (answers.c.request, answers.c.status, answers.c.media_type, answers.c.body)
        rows = self._ledger.query(sa.select(*columns).where(*wanted))
        if not rows or rows[0][1] is None:
            raise Problem(
                HTTPStatus.CONFLICT,
                "The request under this Idempotency-Key is being answered.",
                headers={"Retry-After": "1"},
            )
        before, status, media_type, body = rows[0]
        if before != request:
            raise Problem(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                "This Idempotency-Key was used for another request.",
                reason="other-request",
            )
        headers = {"Idempotency-Replayed": "true"}
        return Response(bytes(body), status, headers, media_type or None)

    def done(self, account: str, key: str, response: Response | None) -> None:
        """Remember what was answered; nothing where it was refused or is too long to keep."""
        mine = (answers.c.account == account, answers.c.key == key)
        body = getattr(response, "body", None)
        kept = response is not None and response.status_code < HTTPStatus.BAD_REQUEST
        with self._ledger.transaction() as connection:
            if not kept or body is None or len(body) > _LARGEST:
                connection.execute(answers.delete().where(*mine))
                return
            connection.execute(
                answers.update().where(*mine).values(
                    status=response.status_code if response else None,
                    media_type=response.media_type if response else None,
                    body=bytes(body),
                )
            )  # fmt: skip
