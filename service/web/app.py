"""The application: what each address does in a worker. Bodies are judged by the contracts in `service.decoding`."""

import asyncio
import threading
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import Field
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from perennial.base import FrozenModel
from perennial.errors import PerennialError
from perennial.labels import LabelCodec, codec_of
from perennial.record import encode_batch
from service.decoding.label_contract import LabelContract
from service.decoding.responses import ExplainResponse, PredictResponse
from service.errors import HEADERS, ErrorBody, JsonResponse, ServiceError, error_body, error_response, unavailable
from service.inference.batcher import RequestBatcher
from service.inference.model_watcher import ModelWatcher
from service.inference.predictor import InferenceRequest, Operation
from service.metrics import FLUSH_INTERVAL, HttpMetrics, render_metrics
from service.plan import ServicePlan
from service.prediction_log.log import PredictionLog
from service.prediction_log.redis_client import connect, translate_redis_errors
from service.prediction_log.streams import append, labels_stream
from service.web.admission import JSON, AccessPolicy, AdmissionMiddleware, InFlight
from service.web.model_info import ModelInfo, describe_live
from service.web.openapi import REFERENCE, FeedbackRequest, PredictRequest, describe
from service.web.post_endpoints import Handler, PostEndpoints


class AcceptedLabels(FrozenModel):
    """Labels that are in the stream now."""

    accepted: int = Field(description="labels in this request, all of them safe")


class Health(FrozenModel):
    """This process answers; `champion` is what the registry says, null when there is none or it cannot be read."""

    status: str = "ok"
    model: str
    champion: int | None


class AppState:
    """What the application of a started worker needs to answer; `draining` is set when the worker is to end."""

    def __init__(
        self,
        plan: ServicePlan,
        batcher: RequestBatcher,
        watcher: ModelWatcher,
        log: PredictionLog,
        draining: threading.Event,
    ) -> None:
        self.settings, self.name, self.watcher = plan.settings, plan.spec.name, watcher
        self.metrics = HttpMetrics()
        self._spec, self._batcher, self._log, self._draining = plan.spec, batcher, log, draining
        self._store_url, self._store = plan.store_url, connect(plan.store_url)
        self._labels = LabelContract(plan.spec.name, self._label_codec)

    async def infer(self, operation: Operation, body: bytes) -> JsonResponse:
        """Scores of rows, or what their columns add to them."""
        return await self._batcher.submit(InferenceRequest(operation, body))

    async def feedback(self, body: bytes) -> JsonResponse:
        """Put labels into the stream, all or none; raises StoreUnreachable: a label is accepted only when it is safe."""
        accepted = await run_in_threadpool(self._accept_labels, body)
        return JsonResponse(HTTPStatus.ACCEPTED, accepted.model_dump_json().encode())

    def model(self) -> ModelInfo:
        """The live version; 503 without one."""
        return describe_live(self.watcher)

    async def health(self) -> Health:
        """Never fails: a registry that is away does not make the service unhealthy."""
        return Health(model=self.name, champion=self.watcher.champion)

    async def ready(self) -> Response:
        """Which version answers; raises ServiceError (503) when predictions cannot be had or are not safe here."""
        if self._draining.is_set():
            raise unavailable("ending", "the service is ending")
        live, challenger, log = self.watcher.require_live(), self.watcher.challenger, self._log.state()
        if log.keeper == "memory":
            raise unavailable("log_full", "neither the store nor the disk takes predictions: start the store or free the disk")
        status = {"version": live.version, "log": log.keeper, "log_waiting": log.waiting}
        status |= {"challenger": challenger.version} if challenger else {}
        return Response(orjson.dumps(status), media_type=JSON)

    async def render_metrics(self) -> Response:
        """What all workers have counted, in Prometheus' text format."""
        await asyncio.sleep(2 * FLUSH_INTERVAL.total_seconds())  # what other workers have answered is in the files then
        self.metrics.flush()
        return Response(await run_in_threadpool(render_metrics), media_type="text/plain; version=0.0.4; charset=utf-8")

    def _label_codec(self) -> LabelCodec:
        """What a label may be: as the spec says, and as the training of the live version found the target."""
        live = self.watcher.live
        return codec_of(self._spec, live.card.label_texts if live else ())

    def _accept_labels(self, body: bytes) -> AcceptedLabels:
        batch = self._labels.decode(body, self.settings.max_rows, datetime.now(UTC))
        with translate_redis_errors(self._store_url):
            append(self._store, labels_stream(self.name), encode_batch(batch))
        self.metrics.labels_accepted(len(batch.ids))
        return AcceptedLabels(accepted=len(batch.ids))


def build_app(app: FastAPI, state: AppState) -> ASGIApp:
    """LitServe's app with our routes, the POST endpoints before it and admission around both."""
    _add_reports(app, state)
    _add_error_handlers(app)
    _add_description(app, state)
    app.router.redirect_slashes = False  # an address is right or unknown; a redirect would be made from the client's Host
    settings = state.settings
    in_flight = InFlight(max(1, settings.max_in_flight // settings.workers))
    infer: dict[str, Handler] = {"/predict": partial(state.infer, "predict"), "/explain": partial(state.infer, "explain")}
    endpoints = PostEndpoints(app, {**infer, "/feedback": state.feedback}, int(settings.max_body_mb * 1_000_000))
    return AdmissionMiddleware(endpoints, AccessPolicy(settings), in_flight, state.metrics, settings.timeout)


def _add_reports(app: FastAPI, state: AppState) -> None:
    app.get("/model", summary="The champion", responses=_UNAVAILABLE)(state.model)
    app.get("/health", summary="Whether this process answers")(state.health)
    app.get("/ready", summary="Whether this worker has a model", response_class=Response, responses=_UNAVAILABLE)(state.ready)
    app.get("/metrics", summary="Prometheus metrics", response_class=Response)(state.render_metrics)


def _add_error_handlers(app: FastAPI) -> None:
    @app.exception_handler(PerennialError)
    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        response = error_response(error, "http", request.url.path)
        return Response(response.body, response.status, HEADERS.get(response.status), JSON)

    @app.exception_handler(HTTPException)
    async def unknown(_request: Request, error: HTTPException) -> Response:
        status = HTTPStatus(error.status_code)
        body = error_body(ServiceError(status, status.name.lower(), str(error.detail)))
        return Response(body, status, error.headers, JSON)


def _add_description(app: FastAPI, state: AppState) -> None:
    """Document the POST endpoints, and serve the whole description at FastAPI's address for it."""
    _document_post(app, "/predict", PredictRequest, PredictResponse, "Predict rows")
    _document_post(app, "/explain", PredictRequest, ExplainResponse, "Explain rows")
    _document_post(app, "/feedback", FeedbackRequest, AcceptedLabels, "Tell the truth about predictions", HTTPStatus.ACCEPTED)
    routes = app.router.routes
    routes[:] = [route for route in routes if getattr(route, "path", None) != app.openapi_url]

    @app.get(str(app.openapi_url), include_in_schema=False)
    async def openapi() -> Response:
        live = state.watcher.live
        document = describe(app.openapi(), live.contract.keys if live else None, state.settings)
        return Response(orjson.dumps(document), media_type=JSON)


def _document_post(
    app: FastAPI, path: str, request: type[FrozenModel], response: type[FrozenModel], summary: str, status: int = HTTPStatus.OK
) -> None:
    """What OpenAPI says of a route that takes and gives bytes, and 405 to other methods."""

    async def answered_before() -> Response:
        raise AssertionError("PostEndpoints answers this address before FastAPI sees it")

    body = {"required": True, "content": {JSON: {"schema": {"$ref": REFERENCE.format(model=request.__name__)}}}}
    app.add_api_route(
        path,
        answered_before,
        methods=["POST"],
        summary=summary,
        status_code=int(status),
        response_class=Response,
        responses={int(status): {"model": response}, **_ERRORS},
        openapi_extra={"requestBody": body},
    )


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
