"""The express way: POST /predict answered in front of FastAPI, which costs more than the prediction.

FastAPI keeps the same route for its documentation and its other methods, and everything else. The guard stands before
both.
"""

from collections.abc import Callable
from http import HTTPStatus

from starlette.types import ASGIApp, Receive, Scope, Send

from perennial.error_reporting import report
from perennial.errors import PerennialError
from service.bodies import ARROW, JSON, Head, read_body
from service.desk import Ask, Reply
from service.refusal import body_of, headers_of, internal, is_ours, status_of
from service.routes import Front

PATH = "/predict"

_JSON_HEADER = (b"content-type", JSON.encode())
_ARROW_HEADER = (b"content-type", ARROW.encode())


class Express:
    """ASGI in front of ASGI."""

    def __init__(self, app: ASGIApp, front: Callable[[], Front]) -> None:
        self._app = app
        self._front = front

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, as ASGI has it."""
        if scope["type"] != "http" or scope["path"] != PATH or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        reply, arrow = await answer(self._front(), scope, receive)
        headers = [_ARROW_HEADER if arrow else _JSON_HEADER, (b"content-length", str(len(reply.body)).encode())]
        if reply.status != HTTPStatus.OK:
            headers += ((name.lower().encode(), value.encode()) for name, value in headers_of(reply.status).items())
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body})


async def answer(front: Front, scope: Scope, receive: Receive) -> tuple[Reply, bool]:
    """What a predict request is answered, and whether that is an Arrow stream; never raises an error of ours."""
    try:
        head = Head(scope)
        head.refuse_foreign(JSON, ARROW)
        body = await read_body(head, receive, front.max_body)
        arrow = head.wants_arrow
        reply = await front.desk.ask(Ask("predict", body, head.kind == ARROW, arrow))
    except PerennialError as error:
        if is_ours(error):
            report(error, group=("service", "http", PATH))
        return Reply(status_of(error), body_of(error)), False
    except Exception as error:  # noqa: BLE001 - the outermost place: counted, reported, answered
        report(error, group=("service", "http", PATH))
        return Reply(500, internal()), False
    return reply, arrow and reply.status == HTTPStatus.OK
