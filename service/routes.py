"""The routes: what each address does in an HTTP process. Bytes are judged in workers or parsers, not here."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import redis
from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import Field
from starlette.exceptions import HTTPException

from perennial.base import FrozenModel
from perennial.error_reporting import report
from perennial.errors import PerennialError
from perennial.record import encode_label_batch
from perennial.settings import Settings
from perennial.spec import ModelSpec
from service.answers import ExplainResponse, PredictResponse
from service.bodies import JSON, Head, read_body
from service.desk import Ask, Desk, Operation
from service.info import Desired, ModelInfo
from service.metrics import render_metrics
from service.openapi import DEFINITION, add_description
from service.prediction_log.redis_client import connect, translate_redis_errors
from service.prediction_log.streams import append, labels_stream
from service.refusal import Problem, Refusal, body_of, headers_of, internal, is_ours, status_of, unavailable
from service.requests import FeedbackRequest, PredictRequest, parse_labels
from service.tally import INTERVAL, HttpMetrics

READY_TIMEOUT = 2.0
"""Seconds a worker may take to say how it is."""


class Accepted(FrozenModel):
    """Labels that are in the stream now."""

    accepted: int = Field(description="labels in this request, all of them safe")


class Health(FrozenModel):
    """This process answers; `champion` is what the registry says, null when there is none or it cannot be read."""

    status: str
    model: str
    champion: int | None


class Front:
    """What one HTTP process needs to answer; made after the process has started."""

    def __init__(self, settings: Settings, spec: ModelSpec, store_url: str, desk: Desk, ending: threading.Event) -> None:
        self._settings = settings
        self._spec = spec
        self._store_url = store_url
        self._store: redis.Redis = connect(store_url)
        self._desired = Desired(settings, spec.name)
        self.desk = desk
        self.ending = ending
        self.metrics = HttpMetrics()

    @property
    def asks_for_keys(self) -> bool:
        """Whether clients need an API key."""
        return bool(self._settings.api_keys or self._settings.api_keys_file)

    @property
    def max_body(self) -> int:
        """Bytes a body may have."""
        return int(self._settings.max_body_mb * 1_000_000)

    def accept_labels(self, body: bytes) -> Accepted:
        """Put labels into the stream, all or none; raises StoreUnreachable: a label is accepted only when it is safe."""
        batch = parse_labels(body, self._settings.max_rows, self._spec.name, self._spec.task, datetime.now(UTC))
        with translate_redis_errors(self._store_url):
            append(self._store, labels_stream(self._spec.name), encode_label_batch(batch))
        self.metrics.labelled(len(batch.ids))
        return Accepted(accepted=len(batch.ids))

    def model(self) -> ModelInfo:
        """The champion's description."""
        return self._desired.info()

    def health(self) -> Health:
        """Never fails: a registry that is away does not make the service unhealthy."""
        try:
            champion = self._desired.version()
        except Exception:  # noqa: BLE001 - any storage backend, any failure
            champion = None
        return Health(status="ok", model=self._spec.name, champion=champion)


def add_routes(app: FastAPI, front: Callable[[], Front]) -> None:
    """Put the routes on LitServe's app; `front` is called once per request, in the process that answers it."""
    _add_inference(app, front)
    _add_feedback(app, front)
    _add_reports(app, front)
    _add_refusals(app)
    add_description(app, front)
    app.router.redirect_slashes = False  # an address is right or unknown; a redirect would be made from the client's Host


def _add_inference(app: FastAPI, front: Callable[[], Front]) -> None:
    def endpoint(operation: Operation) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            body = await read_json(request, front().max_body)
            reply = await front().desk.ask(Ask(operation, body))
            return json_response(reply.body, reply.status)

        return answer

    predict = _documented(PredictRequest, PredictResponse, "Predict rows")
    explain = _documented(PredictRequest, ExplainResponse, "Explain rows")
    app.add_api_route("/predict", endpoint("predict"), methods=["POST"], **predict)
    app.add_api_route("/explain", endpoint("explain"), methods=["POST"], **explain)


def _add_feedback(app: FastAPI, front: Callable[[], Front]) -> None:
    async def feedback(request: Request) -> Response:
        body = await read_json(request, front().max_body)
        accepted = await run_in_threadpool(front().accept_labels, body)
        return json_response(accepted.model_dump_json().encode(), HTTPStatus.ACCEPTED)

    documented = _documented(FeedbackRequest, Accepted, "Tell the truth about predictions", HTTPStatus.ACCEPTED)
    app.add_api_route("/feedback", feedback, methods=["POST"], **documented)


def _add_reports(app: FastAPI, front: Callable[[], Front]) -> None:
    @app.get("/model", summary="The champion", response_model=ModelInfo, responses=_REFUSALS)
    def model() -> ModelInfo:
        return front().model()

    @app.get("/health", summary="Whether this process answers", response_model=Health)
    def health() -> Health:
        return front().health()

    @app.get("/ready", summary="Whether a worker has a model", response_class=Response, responses=_REFUSALS)
    async def ready() -> Response:
        if front().ending.is_set():
            raise unavailable("ending", "the service is ending")
        reply = await front().desk.ask(Ask("status", b""), READY_TIMEOUT)
        if b'"version":null' in reply.body:
            raise unavailable("no_model", "no version has been promoted yet")
        if b'"log":"memory"' in reply.body:
            raise unavailable("log_full", "neither the store nor the disk takes predictions: start the store or free the disk")
        return json_response(reply.body, reply.status)

    @app.get("/metrics", summary="Prometheus metrics", response_class=Response)
    async def metrics() -> Response:
        await asyncio.sleep(2 * INTERVAL)  # what other processes have answered is in the files then
        front().metrics.flush()
        return Response(await run_in_threadpool(render_metrics), media_type="text/plain; version=0.0.4; charset=utf-8")


def _add_refusals(app: FastAPI) -> None:
    @app.exception_handler(PerennialError)
    async def refused(request: Request, error: PerennialError) -> Response:
        if is_ours(error):
            report(error, group=("service", "http", request.url.path))
        return json_response(body_of(error), status_of(error))

    @app.exception_handler(HTTPException)
    async def unknown(_request: Request, error: HTTPException) -> Response:
        problem = Problem(code=HTTPStatus(error.status_code).name.lower(), message=str(error.detail))
        answer = json_response(Refusal(error=problem).model_dump_json(exclude_none=True).encode(), error.status_code)
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        report(error, group=("service", "http", request.url.path))
        return json_response(internal(), HTTPStatus.INTERNAL_SERVER_ERROR)


async def read_json(request: Request, limit: int) -> bytes:
    """The body of a JSON request; raises Refused (415, 413) before more than `limit` bytes are in memory."""
    head = Head(request.scope)
    head.refuse_foreign(JSON)
    return await read_body(head, request.receive, limit)


def json_response(body: bytes, status: int) -> Response:
    """A response whose body is JSON already."""
    return Response(body, status_code=int(status), media_type=JSON, headers=headers_of(int(status)))


_REFUSALS: dict[int | str, dict[str, Any]] = {
    401: {"model": Refusal, "description": "no known API key, where the service asks for one"},
    503: {"model": Refusal, "description": "not now; try again"},
}
_ALL_REFUSALS: dict[int | str, dict[str, Any]] = {
    413: {"model": Refusal, "description": "too many rows or bytes"},
    415: {"model": Refusal, "description": "not JSON"},
    422: {"model": Refusal, "description": "a value is wrong; the error names row, column, value and what was expected"},
    504: {"model": Refusal, "description": "no worker answered in time"},
    **_REFUSALS,
}


def _documented(
    request: type[FrozenModel], response: type[FrozenModel], summary: str, status: int = HTTPStatus.OK
) -> dict[str, Any]:
    """What OpenAPI says of a route that takes and gives bytes."""
    body = {"required": True, "content": {JSON: {"schema": {"$ref": DEFINITION.format(model=request.__name__)}}}}
    return {
        "summary": summary,
        "status_code": int(status),
        "response_class": Response,
        "responses": {int(status): {"model": response}, **_ALL_REFUSALS},
        "openapi_extra": {"requestBody": body},
    }
