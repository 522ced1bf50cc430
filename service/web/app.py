"""The application: what each address does in a worker. Bodies are judged by the contracts in `service.decoding`."""

import asyncio
import threading
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.openapi.docs import get_swagger_ui_html
from pydantic import Field
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from perennial.base import FrozenModel
from perennial.errors import PerennialError
from service.decoding.responses import ExplainResponse, PredictResponse
from service.errors import HEADERS, ErrorBody, ServiceError, error_body, error_response, unavailable
from service.loop_metrics import LoopCollector
from service.metrics import FLUSH_INTERVAL, HttpMetrics, count_requests, render_metrics
from service.plan import ServicePlan
from service.web.admission import GRANT, JSON, AccessPolicy, AdmissionMiddleware
from service.web.model_endpoints import AcceptedLabels, ModelEndpoints, ModelSummary
from service.web.model_info import ModelInfo
from service.web.openapi import REFERENCE, FeedbackRequest, PredictRequest, describe, name_models, of_one_model
from service.web.pages import add_pages
from service.web.post_endpoints import Handler, PostEndpoints
from service.web.routes import MODELS, OF_A_MODEL, RouteTable, long_path

ANY = "/models/{name}"  # FastAPI's form of a long address


class Health(FrozenModel):
    """This process answers; `champion` is what the registry says, null when there is none or it cannot be read."""

    status: str = "ok"
    model: str
    champion: int | None


class FleetHealth(FrozenModel):
    """This process answers for several models, whatever is wrong with any of them."""

    status: str = "ok"
    champions: dict[str, int | None] = Field(description="by model, what the registry says")


class ModelList(FrozenModel):
    """The models of this service that the key which was sent may ask."""

    models: tuple[ModelSummary, ...]


class AppState:
    """What the application of a started worker needs to answer; `draining` is set when the worker is to end."""

    def __init__(
        self, plan: ServicePlan, models: Mapping[str, ModelEndpoints], metrics: HttpMetrics, draining: threading.Event
    ) -> None:
        self.settings, self.models, self.metrics, self._draining = plan.settings, models, metrics, draining
        self.only = models[plan.only] if plan.only else None
        self.homes = {name: plan.settings.model_home(name) for name in models}
        self._loop = LoopCollector(self.homes)

    def named(self, name: str) -> ModelEndpoints:
        """The model of a long address; raises ServiceError (404) that names those there are."""
        if (found := self.models.get(name)) is None:
            raise not_found(f"no model is called {name!r:.80}; this service has {', '.join(self.models)}")
        return found

    async def model_list(self, request: Request) -> ModelList:
        """Every model that the client may ask."""
        await self._settle_counts()
        grant, requests = getattr(request.state, GRANT, None), await run_in_threadpool(count_requests)
        names = [name for name in self.models if grant is None or grant.may_ask(name)]
        return ModelList(models=tuple(self.models[name].summary(requests.get(name, 0)) for name in names))

    async def health(self) -> Health | FleetHealth:
        """Never fails: a registry that is away does not make the service unhealthy."""
        champions = {name: model.served.watcher.champion for name, model in self.models.items()}
        if self.only:
            return Health(model=self.only.name, champion=champions[self.only.name])
        return FleetHealth(champions=champions)

    async def ready_of(self, name: str) -> Response:
        """Which version of a model answers; 503 when its predictions cannot be had or are not safe here."""
        self._refuse_when_draining()
        return Response(orjson.dumps(self.named(name).ready()), media_type=JSON)

    async def ready(self) -> Response:
        """Whether a model answers here; 503 when none does, for one that cannot must not take the others away."""
        if self.only:
            return await self.ready_of(self.only.name)
        self._refuse_when_draining()
        refused = {name: model.refusal() for name, model in self.models.items()}
        if all(refused.values()):
            raise next(error for error in refused.values() if error)
        able = [name for name, error in refused.items() if error is None]
        reasons = {name: str(error) for name, error in refused.items() if error is not None}
        return Response(orjson.dumps({"ready": able, "not_ready": reasons}), media_type=JSON)

    async def render_metrics(self) -> Response:
        """What all workers have counted and the monitor has written, in Prometheus' text format."""
        await self._settle_counts()
        text = await run_in_threadpool(render_metrics, self._loop)
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    def _refuse_when_draining(self) -> None:
        if self._draining.is_set():
            raise unavailable("ending", "the service is ending")

    async def _settle_counts(self) -> None:
        """Afterwards the files have what other workers had answered before."""
        await asyncio.sleep(2 * FLUSH_INTERVAL.total_seconds())
        self.metrics.flush()


def build_app(app: FastAPI, state: AppState) -> ASGIApp:
    """LitServe's app with our routes, the POST endpoints before it and admission around both."""
    _add_reports(app, state)
    _add_error_handlers(app, state)
    _add_description(app, state)
    add_pages(app, state.homes)
    app.router.redirect_slashes = False  # an address is right or unknown; a redirect would be made from the client's Host
    settings = state.settings
    routes = RouteTable(list(state.models), max(1, settings.max_in_flight // settings.workers))
    endpoints = PostEndpoints(app, _post_handlers(state), int(settings.max_body_mb * 1_000_000))
    policy = AccessPolicy(settings, list(state.models), state.metrics.rows_of_key)
    return AdmissionMiddleware(endpoints, policy, routes, state.metrics, settings.timeout)


def _post_handlers(state: AppState) -> dict[str, Handler]:
    """A handler for each address of each model."""
    found: dict[str, Handler] = {}
    for name, model in state.models.items():
        infer: dict[str, Handler] = {"/predict": partial(model.infer, "predict"), "/explain": partial(model.infer, "explain")}
        short = {**infer, "/feedback": model.feedback}
        found |= {long_path(name, path): handler for path, handler in short.items()}
        found |= short if model is state.only else {}
    return found


def _add_reports(app: FastAPI, state: AppState) -> None:
    async def model_of(name: str) -> ModelInfo:
        return await state.named(name).model()

    def add(path: str, summary: str, answer: Any, **more: Any) -> None:
        app.get(path, summary=summary, **more)(answer)

    several: dict[str, Any] = {"include_in_schema": state.only is None}  # or a description of one model has everything twice
    if state.only:
        add("/model", "The champion", state.only.model, responses=_UNAVAILABLE)
    add(MODELS, "The models", state.model_list, responses=_REFUSED, **several)
    add(f"{ANY}/model", "The champion of a model", model_of, responses=_OF_ONE, **several)
    add(ANY, "The same", model_of, include_in_schema=False)
    health = Health if state.only else FleetHealth
    add("/health", "Whether this process answers", state.health, response_model=health)
    raw: dict[str, Any] = {"response_class": Response}
    add("/ready", "Whether this worker has a model", state.ready, responses=_UNAVAILABLE, **raw)
    add(f"{ANY}/ready", "Whether a model answers here", state.ready_of, responses=_OF_ONE, **raw, **several)
    add("/metrics", "Prometheus metrics", state.render_metrics, **raw)


def _add_error_handlers(app: FastAPI, state: AppState) -> None:
    @app.exception_handler(PerennialError)
    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        # The route, not the address: a client may write anything there, and each would be an issue of its own.
        response = error_response(error, "http", getattr(request.scope.get("route"), "path", "none"))
        return Response(response.body, response.status, HEADERS.get(response.status), JSON)

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> Response:
        status = HTTPStatus(error.status_code)
        shown: Exception = ServiceError(status, status.name.lower(), str(error.detail))
        if status == HTTPStatus.NOT_FOUND and request.url.path in OF_A_MODEL:
            long = ", ".join(long_path(name, request.url.path) for name in state.models)
            shown = not_found(f"this service has several models: ask one of {long}")
        return Response(error_body(shown), status, error.headers, JSON)


def _add_description(app: FastAPI, state: AppState) -> None:
    """Document the POST endpoints, and serve the whole description at FastAPI's address for it, and each model's at its own."""
    for prefix in ("", ANY) if state.only else (ANY,):
        shown = bool(prefix) != (state.only is not None)
        _document_post(app, state, f"{prefix}/predict", PredictRequest, PredictResponse, "Predict rows", shown=shown)
        _document_post(app, state, f"{prefix}/explain", PredictRequest, ExplainResponse, "Explain rows", shown=shown)
        told = "Tell the truth about predictions"
        _document_post(app, state, f"{prefix}/feedback", FeedbackRequest, AcceptedLabels, told, HTTPStatus.ACCEPTED, shown=shown)
    routes = app.router.routes
    routes[:] = [route for route in routes if getattr(route, "path", None) != app.openapi_url]

    async def description(model: ModelEndpoints | None) -> dict[str, Any]:
        keys = None
        if model is not None:
            with suppress(ServiceError):
                keys = (await model.live()).contract.keys
        return describe(app.openapi(), keys, state.settings)

    @app.get(str(app.openapi_url), include_in_schema=False)
    async def openapi() -> Response:
        whole = await description(state.only)
        return Response(orjson.dumps(whole if state.only else name_models(whole, list(state.models))), media_type=JSON)

    @app.get(f"{ANY}/openapi.json", include_in_schema=False)
    async def openapi_of(name: str) -> Response:
        return Response(orjson.dumps(of_one_model(await description(state.named(name)), ANY, long_path(name))), media_type=JSON)

    @app.get(f"{ANY}/docs", include_in_schema=False)
    async def docs_of(name: str) -> Response:
        return get_swagger_ui_html(openapi_url=long_path(state.named(name).name, "/openapi.json"), title=f"Perennial: {name}")


def _document_post(
    app: FastAPI,
    state: AppState,
    path: str,
    request: type[FrozenModel],
    response: type[FrozenModel],
    summary: str,
    status: int = HTTPStatus.OK,
    *,
    shown: bool,
) -> None:
    """What OpenAPI says of a route that takes and gives bytes, and 405 to other methods."""

    async def answered_before(http: Request) -> Response:
        state.named(http.path_params.get("name", ""))
        raise AssertionError("PostEndpoints answers this address before FastAPI sees it")

    body = {"required": True, "content": {JSON: {"schema": {"$ref": REFERENCE.format(model=request.__name__)}}}}
    more: dict[str, Any] = {}
    if path.startswith(ANY):
        more = {"parameters": [{"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}]}
    app.add_api_route(
        path,
        answered_before,
        methods=["POST"],
        summary=summary,
        status_code=int(status),
        response_class=Response,
        responses={int(status): {"model": response}, **_ERRORS},
        openapi_extra={"requestBody": body, **more},
        include_in_schema=shown,
    )


def not_found(message: str) -> ServiceError:
    return ServiceError(HTTPStatus.NOT_FOUND, "not_found", message)


_REFUSED: dict[int | str, dict[str, Any]] = {
    401: {"model": ErrorBody, "description": "no known API key, where the service asks for one"},
}
_UNAVAILABLE: dict[int | str, dict[str, Any]] = {**_REFUSED, 503: {"model": ErrorBody, "description": "not now; try again"}}
_OF_ONE: dict[int | str, dict[str, Any]] = {
    403: {"model": ErrorBody, "description": "the API key is for other models"},
    404: {"model": ErrorBody, "description": "no model has this name"},
    **_UNAVAILABLE,
}
_ERRORS: dict[int | str, dict[str, Any]] = {
    413: {"model": ErrorBody, "description": "too many rows or bytes"},
    429: {"model": ErrorBody, "description": "the API key's quota is used up; try again after `Retry-After`"},
    415: {"model": ErrorBody, "description": "not JSON"},
    422: {"model": ErrorBody, "description": "a value is wrong; the error names row, column, value and what was expected"},
    504: {"model": ErrorBody, "description": "not answered in time"},
    **_UNAVAILABLE,
}
