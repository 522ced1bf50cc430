"""Every error that the service answers with, and the one JSON form of it.

{"error": {"code": "invalid_request", "message": "...", "row": 3, "column": "carrier"}}
"""

import logging
from http import HTTPStatus

import msgspec

from perennial.base import FrozenModel
from perennial.error_reporting import Tag, report
from perennial.errors import PerennialError, RegistryError, RequestError, StoreUnreachable

HEADERS = {  # what an answer with a status says beside its body
    int(HTTPStatus.UNAUTHORIZED): {"WWW-Authenticate": 'Bearer realm="perennial"'},
    int(HTTPStatus.SERVICE_UNAVAILABLE): {"Retry-After": "1"},
}

logger = logging.getLogger(__name__)


class ServiceError(PerennialError):
    """The service cannot do what was asked; `status` is the HTTP status, `code` a word for programs."""

    def __init__(self, status: HTTPStatus, code: str, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.retry_after = retry_after  # seconds, where they are known


class ErrorDetail(FrozenModel):
    """What was wrong; `row` counts from 0. Short, whatever was sent: a client may name a column of megabytes."""

    code: str
    message: str
    row: int | None = None
    column: str | None = None


class ErrorBody(FrozenModel):
    """The body of every answer that is not a success."""

    error: ErrorDetail


class JsonResponse(msgspec.Struct, frozen=True, gc=False):
    """An HTTP status and a JSON body; `rows` counts the rows or labels in it, `retry_after` is in seconds where it is known."""

    status: int
    body: bytes
    rows: int = 0
    retry_after: int | None = None


def too_large(message: str) -> ServiceError:
    """More than one request may carry."""
    return ServiceError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", message)


def unavailable(code: str, message: str) -> ServiceError:
    """Not now; the same request may succeed later."""
    return ServiceError(HTTPStatus.SERVICE_UNAVAILABLE, code, message)


def error_body(error: Exception) -> bytes:
    """The JSON body of an error; one that was not raised on purpose says nothing about the inside."""
    status, code = _classify(error)
    hidden = status == HTTPStatus.INTERNAL_SERVER_ERROR
    message = "the service failed on this request; it has been logged" if hidden else str(error)
    detail = ErrorDetail(code=code, message=message)
    if isinstance(error, RequestError):
        detail = ErrorDetail(code=code, message=message[:500], row=error.row, column=error.column and error.column[:80])
    return ErrorBody(error=detail).model_dump_json(exclude_none=True).encode()


def error_response(error: Exception, *group: str, **tags: Tag) -> JsonResponse:
    """The answer to an error; one that is neither the client's nor that of a part which is away is logged and reported."""
    if not isinstance(error, ServiceError | RequestError | StoreUnreachable):
        logger.error("a request failed", exc_info=error)
        report(error, group=("service", *group), **tags)
    return JsonResponse(int(_classify(error)[0]), error_body(error), retry_after=getattr(error, "retry_after", None))


def _classify(error: Exception) -> tuple[HTTPStatus, str]:
    match error:
        case ServiceError():
            return error.status, error.code
        case RequestError():
            return HTTPStatus.UNPROCESSABLE_ENTITY, "invalid_request"
        case StoreUnreachable() | RegistryError():
            return HTTPStatus.SERVICE_UNAVAILABLE, "unavailable"
        case _:
            return HTTPStatus.INTERNAL_SERVER_ERROR, "internal"
