"""Every error that the service answers with, and the one JSON form of it.

{"error": {"code": "invalid_request", "message": "...", "row": 3, "column": "carrier"}}
"""

from http import HTTPStatus

from perennial.base import FrozenModel
from perennial.errors import PerennialError, RegistryError, RequestError, StoreUnreachable


class ServiceError(PerennialError):
    """The service cannot do what was asked; `status` is the HTTP status, `code` a word for programs."""

    def __init__(self, status: HTTPStatus, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class ErrorDetail(FrozenModel):
    """What was wrong; `row` counts from 0. Short, whatever was sent: a client may name a column of megabytes."""

    code: str
    message: str
    row: int | None = None
    column: str | None = None


class ErrorBody(FrozenModel):
    """The body of every answer that is not a success."""

    error: ErrorDetail


def too_large(message: str) -> ServiceError:
    """More than one request may carry."""
    return ServiceError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", message)


def unavailable(code: str, message: str) -> ServiceError:
    """Not now; the same request may succeed later."""
    return ServiceError(HTTPStatus.SERVICE_UNAVAILABLE, code, message)


def busy(in_flight: int) -> ServiceError:
    """More is in flight than one worker may take in."""
    message = f"{in_flight} requests are in flight; try again, or raise PERENNIAL_WORKERS or PERENNIAL_MAX_IN_FLIGHT"
    return unavailable("busy", message)


def timed_out(seconds: float) -> ServiceError:
    """The request was not answered in time."""
    message = f"not answered within {seconds:g} s; try again, or raise PERENNIAL_TIMEOUT or PERENNIAL_WORKERS"
    return ServiceError(HTTPStatus.GATEWAY_TIMEOUT, "timeout", message)


def error_status(error: Exception) -> int:
    """The HTTP status of an error; 500 for one that was not raised on purpose."""
    match error:
        case ServiceError():
            return int(error.status)
        case RequestError():
            return int(HTTPStatus.UNPROCESSABLE_ENTITY)
        case StoreUnreachable() | RegistryError():
            return int(HTTPStatus.SERVICE_UNAVAILABLE)
        case _:
            return int(HTTPStatus.INTERNAL_SERVER_ERROR)


def error_headers(status: int) -> dict[str, str]:
    """What an answer with this status says beside its body."""
    return _HEADERS.get(status, {})


def error_body(error: Exception) -> bytes:
    """The JSON body of an error; one that was not raised on purpose says nothing about the inside."""
    return ErrorBody(error=_detail(error)).model_dump_json(exclude_none=True).encode()


def internal_error_body() -> bytes:
    """The body of a failure that is ours: it says nothing about the inside."""
    return ErrorBody(error=_INTERNAL).model_dump_json(exclude_none=True).encode()


def is_internal(error: Exception) -> bool:
    """Whether it is a fault of the service: neither the client's mistake nor a part that is known to be away."""
    return not isinstance(error, ServiceError | RequestError | StoreUnreachable)


def _detail(error: Exception) -> ErrorDetail:
    match error:
        case ServiceError():
            return ErrorDetail(code=error.code, message=str(error))
        case RequestError():
            return ErrorDetail(
                code="invalid_request", message=f"{error!s:.500}", row=error.row, column=error.column and error.column[:80]
            )
        case StoreUnreachable() | RegistryError():
            return ErrorDetail(code="unavailable", message=str(error))
        case _:
            return _INTERNAL


_HEADERS = {
    int(HTTPStatus.UNAUTHORIZED): {"WWW-Authenticate": 'Bearer realm="perennial"'},
    int(HTTPStatus.SERVICE_UNAVAILABLE): {"Retry-After": "1"},
}
_INTERNAL = ErrorDetail(code="internal", message="the service failed on this request; it has been logged")
