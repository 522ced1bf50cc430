"""Refusals: everything the service says no with, and the one JSON form of it.

{"error": {"code": "invalid_request", "message": "...", "row": 3, "column": "carrier"}}
"""

from http import HTTPStatus

from perennial.base import FrozenModel
from perennial.errors import PerennialError, RegistryError, RequestError, StoreUnreachable


class Refused(PerennialError):
    """The service cannot do what was asked; `status` is the HTTP status, `code` a word for programs."""

    def __init__(self, status: HTTPStatus, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class Problem(FrozenModel):
    """What was wrong; `row` counts from 0. Short, whatever was sent: a client may name a column of megabytes."""

    code: str
    message: str
    row: int | None = None
    column: str | None = None


class Refusal(FrozenModel):
    """The body of every answer that is not a success."""

    error: Problem


def too_large(message: str) -> Refused:
    """More than one request may carry."""
    return Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", message)


def unavailable(code: str, message: str) -> Refused:
    """Not now; the same request may succeed later."""
    return Refused(HTTPStatus.SERVICE_UNAVAILABLE, code, message)


def busy(in_flight: int) -> Refused:
    """More is in flight than one HTTP process may take in."""
    message = f"{in_flight} requests are in flight; try again, or raise PERENNIAL_WORKERS or PERENNIAL_MAX_IN_FLIGHT"
    return unavailable("busy", message)


def timed_out(seconds: float) -> Refused:
    """No worker answered in time."""
    message = f"no worker answered within {seconds:g} s; try again, or raise PERENNIAL_TIMEOUT or PERENNIAL_WORKERS"
    return Refused(HTTPStatus.GATEWAY_TIMEOUT, "timeout", message)


def status_of(error: PerennialError) -> int:
    """The HTTP status of an error raised on purpose."""
    match error:
        case Refused():
            return int(error.status)
        case RequestError():
            return int(HTTPStatus.UNPROCESSABLE_ENTITY)
        case StoreUnreachable() | RegistryError():
            return int(HTTPStatus.SERVICE_UNAVAILABLE)
        case _:
            return int(HTTPStatus.INTERNAL_SERVER_ERROR)


def headers_of(status: int) -> dict[str, str]:
    """What an answer with this status says beside its body."""
    return _HEADERS.get(status, {})


def body_of(error: PerennialError) -> bytes:
    """The JSON body of an error raised on purpose."""
    return Refusal(error=_problem(error)).model_dump_json(exclude_none=True).encode()


def internal() -> bytes:
    """The body of a failure that is ours: it says nothing about the inside."""
    return Refusal(error=_INTERNAL).model_dump_json(exclude_none=True).encode()


def is_ours(error: PerennialError) -> bool:
    """Whether somebody should look into it: neither the client's mistake nor a part that is known to be away."""
    return not isinstance(error, Refused | RequestError | StoreUnreachable)


def _problem(error: PerennialError) -> Problem:
    match error:
        case Refused():
            return Problem(code=error.code, message=str(error))
        case RequestError():
            return Problem(
                code="invalid_request", message=f"{error!s:.500}", row=error.row, column=error.column and error.column[:80]
            )
        case StoreUnreachable() | RegistryError():
            return Problem(code="unavailable", message=str(error))
        case _:
            return _INTERNAL


_HEADERS = {
    int(HTTPStatus.UNAUTHORIZED): {"WWW-Authenticate": 'Bearer realm="perennial"'},
    int(HTTPStatus.SERVICE_UNAVAILABLE): {"Retry-After": "1"},
}
_INTERNAL = Problem(code="internal", message="the service failed on this request; it has been logged")
