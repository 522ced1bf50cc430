"""POST endpoints: an ASGI layer in front of FastAPI, whose routing costs more than a prediction. FastAPI documents them.

A body is judged by its headers first, and never more of it is in memory than one request, and all requests of a worker
together, may have.
"""

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus

from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import JsonResponse, ServiceError, error_response, too_large
from service.web.admission import JSON, QUOTA, send_json
from service.web.in_flight import RequestTicket

Handler = Callable[[bytes], Awaitable[JsonResponse]]  # from a body to the response


class PostEndpoints:
    """Answers POST requests to the addresses of `handlers` and passes on all others; a HEAD goes on as a GET."""

    def __init__(self, app: ASGIApp, handlers: Mapping[str, Handler], max_body: int) -> None:
        self._app, self._handlers, self._max_body = app, handlers, max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or (handle := self._handlers.get(scope["path"])) is None:
            # uvicorn answers a HEAD without the body, so that every GET has one.
            await self._app({**scope, "method": "GET"} if scope.get("method") == "HEAD" else scope, receive, send)
            return
        try:
            response = await handle(await read_json_body(scope, receive, self._max_body))
        except Exception as error:  # noqa: BLE001 - the outermost place: reported where it is the service's own, answered
            response = error_response(error, "http", scope["path"].rpartition("/")[2])
        if (quota := scope["state"].get(QUOTA)) is not None:
            quota.charge(response.rows)
        await send_json(response, send)


async def read_json_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """The body of a JSON request; raises ServiceError: 415 for another type or a compressed body, 413, or 503 (busy)."""
    size, more = 0, _announced_length(scope) <= limit
    ticket: RequestTicket = scope["state"]["ticket"]
    chunks: list[bytes] = []
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ServiceError(HTTPStatus.BAD_REQUEST, "gone", "the client went away before its body had come")
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        ticket.reserve(len(chunks[-1]))
        more = message.get("more_body", False) and size <= limit
    if not chunks or size > limit:
        raise too_large(f"the body is larger than {limit} bytes: send fewer rows at once, or raise PERENNIAL_MAX_BODY_MB")
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _announced_length(scope: Scope) -> int:
    """The announced length, -1 without one; raises ServiceError (415): a compressed body may unfold to a thousandfold."""
    kind, coding, length = b"application/json", b"", -1
    for name, value in scope["headers"]:
        if name == b"content-type":
            kind = value
        elif name == b"content-length":
            length = int(value) if value.isdigit() else -1  # the server has refused one that is not a number
        elif name == b"content-encoding":
            coding = value
    if (kind != b"application/json" and _media_type(kind) != JSON) or coding.strip().lower() not in (b"", b"identity"):
        found = f"content type {_media_type(kind)!r:.80}, coding {coding.decode('latin-1') or 'identity'!r:.80}"
        raise ServiceError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "not_json", f"{found}; expected {JSON}, not compressed")
    return length


def _media_type(value: bytes) -> str:
    return value.decode("latin-1").partition(";")[0].strip().lower()
