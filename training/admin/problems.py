"""Every refusal in one form: problem details for HTTP APIs (RFC 9457)."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from dicom_node.work import without_data

log = structlog.get_logger()

MEDIA_TYPE: Final = "application/problem+json"
_PREFIX: Final = "urn:sinusnode:problem:"


class ProblemDocument(BaseModel):
    """What a refusal says (RFC 9457 §3.1)."""

    type: str = "about:blank"
    """Which kind, for programs."""
    title: str
    status: int
    detail: str
    """One sentence, for people."""


class Problem(HTTPException):
    """End a request with a status and a sentence.

    Parameters
    ----------
    reason
        A word for programs, of a closed list of the room that refuses.
    headers
        Further headers of the answer.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        reason: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, detail)
        self.headers: dict[str, str] = dict(headers or {})
        self.reason = reason

    @property
    def status(self) -> HTTPStatus:
        """The status of the answer."""
        return HTTPStatus(self.status_code)

    def response(self, **more: Any) -> Response:
        """Return the answer, with further members if any are given."""
        document = ProblemDocument(
            type=f"{_PREFIX}{self.reason}" if self.reason else "about:blank",
            title=HTTPStatus(self.status_code).phrase,
            status=self.status_code,
            detail=self.detail,
        )
        return JSONResponse(
            document.model_dump() | more,
            self.status_code,
            headers=self.headers,
            media_type=MEDIA_TYPE,
        )


def missing(what: str) -> Problem:
    """Return the refusal of what is not there."""
    return Problem(HTTPStatus.NOT_FOUND, f"There is no {what}.")


def register(app: FastAPI) -> None:
    """Have every error of an application end in this form."""
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(SQLAlchemyError, _unavailable)
    app.add_exception_handler(Exception, _unexpected)


def status_of(error: Exception) -> int:
    """Return the status that an error will end in."""
    if isinstance(error, HTTPException):
        return error.status_code
    if isinstance(error, RequestValidationError):
        return HTTPStatus.UNPROCESSABLE_ENTITY
    if isinstance(error, SQLAlchemyError):
        return HTTPStatus.SERVICE_UNAVAILABLE
    return HTTPStatus.INTERNAL_SERVER_ERROR


def _problem(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)  # noqa: S101 - registered for nothing else
    return error.response()


def _http(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - same
    status = HTTPStatus(error.status_code)
    sentence = _SENTENCES.get(status, f"{status.description or status.phrase}.")
    return Problem(status, sentence, headers=error.headers).response()


_SENTENCES: Final = {
    HTTPStatus.NOT_FOUND: "There is nothing at this address.",
    HTTPStatus.METHOD_NOT_ALLOWED: "This cannot be asked of this address.",
    HTTPStatus.BAD_REQUEST: "The request cannot be read.",
}


def _invalid(_request: Request, error: Exception) -> Response:
    """Return what is wrong with a request, without repeating what it said."""
    assert isinstance(error, RequestValidationError)  # noqa: S101 - same
    wrong = [
        {"where": ".".join(map(str, item["loc"])), "message": str(item["msg"])}
        for item in error.errors()
    ]
    where = ", ".join(dict.fromkeys(item["where"] for item in wrong))
    problem = Problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"The request is wrong: {where}.")
    return problem.response(errors=wrong)


def _unavailable(_request: Request, error: Exception) -> Response:
    log.error("ledger_unavailable", error=type(error).__name__)
    return Problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "The ledger does not answer; try again.",
        headers={"Retry-After": "5"},
    ).response()


def _unexpected(_request: Request, error: Exception) -> Response:
    log.error("request_failed", error=without_data(error))
    return Problem(
        HTTPStatus.INTERNAL_SERVER_ERROR, "This failed unexpectedly; the log says where."
    ).response()
