"""Reading a request's body: judged by its headers first, and never more of it in memory than one request, and all
requests of a worker together, may have.
"""

from http import HTTPStatus

from starlette.types import Message, Receive, Scope

from service.errors import ServiceError, too_large
from service.web.in_flight import RequestTicket

JSON = "application/json"

_IDENTITY = (b"", b"identity")


async def read_json_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """The body of a JSON request; raises ServiceError: 415 for another type or a compressed body, 413, or 503 (busy)."""
    length = _read_headers(scope)
    if length > limit:
        raise _body_too_large(limit)
    ticket: RequestTicket = scope["state"]["ticket"]
    message = await receive()
    body = _part(message)
    ticket.reserve(len(body))
    if not message.get("more_body") and len(body) <= limit:
        return body
    chunks, size = [body], len(body)
    while message.get("more_body") and size <= limit:
        message = await receive()
        chunks.append(_part(message))
        size += len(chunks[-1])
        ticket.reserve(len(chunks[-1]))
    if size > limit:
        raise _body_too_large(limit)
    return b"".join(chunks)


def _read_headers(scope: Scope) -> int:
    """The announced length, -1 without one; raises ServiceError (415): a compressed body may unfold to a thousandfold."""
    kind, coding, length = b"application/json", b"", -1
    for name, value in scope["headers"]:
        if name == b"content-type":
            kind = value
        elif name == b"content-length":
            length = int(value) if value.isdigit() else -1  # the server has refused one that is not a number
        elif name == b"content-encoding":
            coding = value
    if (kind != b"application/json" and _media_type(kind) != JSON) or coding.strip().lower() not in _IDENTITY:
        found = f"content type {_media_type(kind)!r:.80}, coding {coding.decode('latin-1') or 'identity'!r:.80}"
        raise ServiceError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "not_json", f"{found}; expected {JSON}, not compressed")
    return length


def _media_type(value: bytes) -> str:
    return value.decode("latin-1").partition(";")[0].strip().lower()


def _part(message: Message) -> bytes:
    if message["type"] == "http.disconnect":
        raise ServiceError(HTTPStatus.BAD_REQUEST, "gone", "the client went away before its body had come")
    part: bytes = message.get("body", b"")
    return part


def _body_too_large(limit: int) -> ServiceError:
    return too_large(f"the body is larger than {limit} bytes: send fewer rows at once, or raise PERENNIAL_MAX_BODY_MB")
