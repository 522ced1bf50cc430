"""POST /predict, answered in front of FastAPI, whose routing costs more than the prediction.

FastAPI keeps the same address for its documentation and other methods, and everything else. Admission stands before both.
"""

from http import HTTPStatus

from starlette.types import ASGIApp, Receive, Scope, Send

from perennial.error_reporting import report
from service.errors import error_body, error_headers, error_status, is_internal
from service.inference.batcher import RequestBatcher
from service.inference.litapi import InferenceResponse
from service.inference.predictor import InferenceRequest
from service.web.request_body import JSON, read_json_body

PATH = "/predict"

_CONTENT_TYPE = (b"content-type", JSON.encode())


class PredictEndpoint:
    """An ASGI layer that answers one address and passes on the others."""

    def __init__(self, app: ASGIApp, batcher: RequestBatcher, max_body: int) -> None:
        self._app = app
        self._batcher = batcher
        self._max_body = max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, as ASGI has it."""
        if scope["type"] != "http" or scope["path"] != PATH or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        response = await self._respond(scope, receive)
        headers = [_CONTENT_TYPE, (b"content-length", str(len(response.body)).encode())]
        if response.status != HTTPStatus.OK:
            headers += ((name.lower().encode(), value.encode()) for name, value in error_headers(response.status).items())
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        await send({"type": "http.response.body", "body": response.body})

    async def _respond(self, scope: Scope, receive: Receive) -> InferenceResponse:
        """The response to a predict request; raises nothing but a cancellation."""
        try:
            body = await read_json_body(scope, receive, self._max_body)
            return await self._batcher.submit(InferenceRequest("predict", body))
        except Exception as error:  # noqa: BLE001 - the outermost place: reported where it is the service's own, answered
            if is_internal(error):
                report(error, group=("service", "http", PATH))
            return InferenceResponse(error_status(error), error_body(error))
