"""The application: what each address does in a worker. Bodies are judged by the contracts in `service.decoding`."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import orjson
import redis
from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import Field
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from perennial.base import FrozenModel
from perennial.error_reporting import report
from perennial.errors import PerennialError
from perennial.record import encode_batch
from perennial.settings import Settings
from perennial.spec import ModelSpec
from service.decoding.label_contract import LabelContract
from service.decoding.responses import ExplainResponse, PredictResponse
from service.errors import (
    ErrorBody,
    ErrorDetail,
    error_body,
    error_headers,
    error_status,
    internal_error_body,
    is_internal,
    unavailable,
)
from service.inference.batcher import RequestBatcher
from service.inference.predictor import InferenceRequest
from service.metrics.http_metrics import FLUSH_INTERVAL, HttpMetrics
from service.metrics.multiprocess import render_metrics
from service.prediction_log.redis_client import connect, translate_redis_errors
from service.prediction_log.streams import append, labels_stream
from service.web.admission import AccessPolicy, AdmissionMiddleware
from service.web.in_flight import InFlight
from service.web.model_info import ChampionInfo, ModelInfo
from service.web.openapi import REFERENCE, FeedbackRequest, PredictRequest, describe
from service.web.predict_endpoint import PredictEndpoint
from service.web.request_body import JSON, read_json_body


class AcceptedLabels(FrozenModel):
    """Labels that are in the stream now."""

    accepted: int = Field(description="labels in this request, all of them safe")


class Health(FrozenModel):
    """This process answers; `champion` is what the registry says, null when there is none or it cannot be read."""

    status: str
    model: str
    champion: int | None


@dataclass(frozen=True)
class AppState:
    """What a worker's application needs to answer; `status` says which version answers and what keeps its predictions."""

    settings: Settings
    spec: ModelSpec
    store_url: str
    store: redis.Redis
    batcher: RequestBatcher
    champion: ChampionInfo
    labels: LabelContract
    metrics: HttpMetrics
    status: Callable[[], dict[str, int | str | None]]
    draining: threading.Event

    @property
    def max_body(self) -> int:
        """Bytes a body may have."""
        return int(self.settings.max_body_mb * 1_000_000)

    def accept_labels(self, body: bytes) -> AcceptedLabels:
        """Put labels into the stream, all or none; raises StoreUnreachable: a label is accepted only when it is safe."""
        batch = self.labels.decode(body, self.settings.max_rows, datetime.now(UTC))
        with translate_redis_errors(self.store_url):
            append(self.store, labels_stream(self.spec.name), encode_batch(batch))
        self.metrics.labels_accepted(len(batch.ids))
        return AcceptedLabels(accepted=len(batch.ids))

    def health(self) -> Health:
        """Never fails: a registry that is away does not make the service unhealthy."""
        try:
            champion = self.champion.version()
        except Exception:  # noqa: BLE001 - any storage backend, any failure
            champion = None
        return Health(status="ok", model=self.spec.name, champion=champion)


def make_state(
    settings: Settings,
    spec: ModelSpec,
    store_url: str,
    batcher: RequestBatcher,
    status: Callable[[], dict[str, int | str | None]],
    draining: threading.Event,
) -> AppState:
    """The state of a worker that has started."""
    return AppState(
        settings,
        spec,
        store_url,
        connect(store_url),
        batcher,
        ChampionInfo(settings, spec.name),
        LabelContract(spec.name, spec.task),
        HttpMetrics(),
        status,
        draining,
    )


def build_app(app: FastAPI, state: AppState) -> ASGIApp:
    """LitServe's app with our routes, the predict endpoint before it and admission around both."""
    _add_inference(app, state)
    _add_feedback(app, state)
    _add_reports(app, state)
    _add_error_handlers(app)
    _add_description(app, state)
    app.router.redirect_slashes = False  # an address is right or unknown; a redirect would be made from the client's Host
    settings = state.settings
    in_flight = InFlight(max(1, settings.max_in_flight // settings.workers))
    endpoint = PredictEndpoint(app, state.batcher, state.max_body)
    return AdmissionMiddleware(endpoint, AccessPolicy(settings), in_flight, state.metrics, settings.timeout)


def _add_inference(app: FastAPI, state: AppState) -> None:
    async def explain(request: Request) -> Response:
        body = await read_json_body(request.scope, request.receive, state.max_body)
        response = await state.batcher.submit(InferenceRequest("explain", body))
        return json_response(response.body, response.status)

    async def predict(_request: Request) -> Response:
        raise AssertionError("PredictEndpoint answers this address before FastAPI sees it")

    endpoints: dict[str, tuple[Callable[[Request], Awaitable[Response]], dict[str, Any]]] = {
        "/predict": (predict, _documented(PredictRequest, PredictResponse, "Predict rows")),
        "/explain": (explain, _documented(PredictRequest, ExplainResponse, "Explain rows")),
    }
    for path, (endpoint, documented) in endpoints.items():
        app.add_api_route(path, endpoint, methods=["POST"], **documented)


def _add_feedback(app: FastAPI, state: AppState) -> None:
    async def feedback(request: Request) -> Response:
        body = await read_json_body(request.scope, request.receive, state.max_body)
        accepted = await run_in_threadpool(state.accept_labels, body)
        return json_response(accepted.model_dump_json().encode(), HTTPStatus.ACCEPTED)

    documented = _documented(FeedbackRequest, AcceptedLabels, "Tell the truth about predictions", HTTPStatus.ACCEPTED)
    app.add_api_route("/feedback", feedback, methods=["POST"], **documented)


def _add_reports(app: FastAPI, state: AppState) -> None:
    @app.get("/model", summary="The champion", response_model=ModelInfo, responses=_UNAVAILABLE)
    def model() -> ModelInfo:
        return state.champion.info()

    @app.get("/health", summary="Whether this process answers", response_model=Health)
    def health() -> Health:
        return state.health()

    @app.get("/ready", summary="Whether this worker has a model", response_class=Response, responses=_UNAVAILABLE)
    async def ready() -> Response:
        if state.draining.is_set():
            raise unavailable("ending", "the service is ending")
        status = state.status()
        if status["version"] is None:
            raise unavailable("no_model", "no version has been promoted yet")
        if status["log"] == "memory":
            raise unavailable("log_full", "neither the store nor the disk takes predictions: start the store or free the disk")
        return json_response(orjson.dumps(status), HTTPStatus.OK)

    @app.get("/metrics", summary="Prometheus metrics", response_class=Response)
    async def metrics() -> Response:
        await asyncio.sleep(2 * FLUSH_INTERVAL.total_seconds())  # what other workers have answered is in the files then
        state.metrics.flush()
        return Response(await run_in_threadpool(render_metrics), media_type="text/plain; version=0.0.4; charset=utf-8")


def _add_error_handlers(app: FastAPI) -> None:
    @app.exception_handler(PerennialError)
    async def expected(request: Request, error: PerennialError) -> Response:
        if is_internal(error):
            report(error, group=("service", "http", request.url.path))
        return json_response(error_body(error), error_status(error))

    @app.exception_handler(HTTPException)
    async def unknown(_request: Request, error: HTTPException) -> Response:
        detail = ErrorDetail(code=HTTPStatus(error.status_code).name.lower(), message=str(error.detail))
        response = json_response(ErrorBody(error=detail).model_dump_json(exclude_none=True).encode(), error.status_code)
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        report(error, group=("service", "http", request.url.path))
        return json_response(internal_error_body(), HTTPStatus.INTERNAL_SERVER_ERROR)


def _add_description(app: FastAPI, state: AppState) -> None:
    """Serve the whole description at FastAPI's address for it."""
    routes = app.router.routes
    routes[:] = [route for route in routes if getattr(route, "path", None) != app.openapi_url]

    @app.get(str(app.openapi_url), include_in_schema=False)
    def openapi() -> Response:  # not async: the registry may be far away
        return json_response(orjson.dumps(describe(app.openapi(), state.champion, state.settings)), HTTPStatus.OK)


def json_response(body: bytes, status: int) -> Response:
    """A response whose body is JSON already."""
    return Response(body, status_code=int(status), media_type=JSON, headers=error_headers(int(status)))


_UNAVAILABLE: dict[int | str, dict[str, Any]] = {
    401: {"model": ErrorBody, "description": "no known API key, where the service asks for one"},
    503: {"model": ErrorBody, "description": "not now; try again"},
}
_ERRORS: dict[int | str, dict[str, Any]] = {
    413: {"model": ErrorBody, "description": "too many rows or bytes"},
    415: {"model": ErrorBody, "description": "not JSON"},
    422: {"model": ErrorBody, "description": "a value is wrong; the error names row, column, value and what was expected"},
    504: {"model": ErrorBody, "description": "not answered in time"},
    **_UNAVAILABLE,
}


def _documented(
    request: type[FrozenModel], response: type[FrozenModel], summary: str, status: int = HTTPStatus.OK
) -> dict[str, Any]:
    """What OpenAPI says of a route that takes and gives bytes."""
    body = {"required": True, "content": {JSON: {"schema": {"$ref": REFERENCE.format(model=request.__name__)}}}}
    return {
        "summary": summary,
        "status_code": int(status),
        "response_class": Response,
        "responses": {int(status): {"model": response}, **_ERRORS},
        "openapi_extra": {"requestBody": body},
    }
