"""What the addresses of one model do: predict, explain, take labels, say which version answers and whether it can."""

import asyncio
import random
from contextlib import suppress
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import redis
from fastapi.concurrency import run_in_threadpool
from pydantic import Field

from perennial.base import FrozenModel
from perennial.record import encode_batch
from perennial.tracing import begin_trace
from service.decoding.label_contract import LabelContract
from service.errors import JsonResponse, ServiceError, unavailable
from service.inference.batcher import RequestBatcher
from service.inference.model_watcher import CompiledModel
from service.inference.predictor import InferenceRequest, Operation
from service.inference.served_model import ServedModel
from service.inference.watcher_thread import WatcherThread
from service.metrics import HttpMetrics
from service.plan import ServicePlan
from service.prediction_log.redis_client import translate_redis_errors
from service.prediction_log.streams import append, labels_stream
from service.web.model_info import ModelInfo, describe_live


class AcceptedLabels(FrozenModel):
    """Labels that are in the stream now."""

    accepted: int = Field(description="labels in this request, all of them safe")


class ModelSummary(FrozenModel):
    """A model of this service."""

    name: str
    version: int | None = Field(description="the champion; null when there is none or it cannot be read")
    ready: bool = Field(description="whether the worker that was asked can answer, and keeps what it answers")
    requests: int = Field(description="answered by all workers since the service started")


class ModelEndpoints:
    """One of these for each model; `batcher`, `store` and `metrics` are the worker's."""

    def __init__(
        self,
        plan: ServicePlan,
        served: ServedModel,
        batcher: RequestBatcher,
        watching: WatcherThread,
        store: redis.Redis,
        metrics: HttpMetrics,
    ) -> None:
        self.name, self.served = served.name, served
        self._watcher, self._predictor, self._log = served.watcher, served.predictor, served.log
        self._watching = watching
        self._batcher, self._store, self._store_url, self._metrics = batcher, store, plan.store_url, metrics
        self._max_rows, self._trace_rate = plan.settings.max_rows, plan.settings.traces_sample_rate
        self._labels = LabelContract(served.name, served.label_codec)

    async def live(self) -> CompiledModel:
        """The live version, loaded if it is not in memory; raises ServiceError (503) saying why there is none."""
        while not self._watcher.is_wanted:
            await asyncio.shield(asyncio.wrap_future(self._watching.load(self.served)))
        return self._watcher.require_live()

    async def infer(self, operation: Operation, body: bytes) -> JsonResponse:
        """Scores of rows, or what their columns add to them; raises ServiceError (503) without a version."""
        live = self._watcher.live or await self.live()
        if operation == "explain" or not self._trace_rate:
            return await self._batcher.submit(InferenceRequest(operation, body, live, self._predictor))
        with begin_trace("/predict", self._trace_rate, random.random) as step:
            response = await self._batcher.submit(InferenceRequest(operation, body, live, self._predictor, step.header))
            step.answered(response.status)
        return response

    async def feedback(self, body: bytes) -> JsonResponse:
        """Put labels into the stream, all or none; raises StoreUnreachable: a label is accepted only when it is safe."""
        if not self._watcher.is_wanted:
            with suppress(ServiceError):
                await self.live()  # which knows what a label may be
        accepted = await run_in_threadpool(self._accept_labels, body)
        return JsonResponse(HTTPStatus.ACCEPTED, accepted.model_dump_json().encode(), accepted.accepted)

    async def model(self) -> ModelInfo:
        """The live version; 503 without one."""
        await self.live()
        return await run_in_threadpool(describe_live, self._watcher)

    def ready(self) -> dict[str, Any]:
        """Which version answers; raises ServiceError (503) when predictions cannot be had or are not safe here."""
        version, challenger, log = self._watcher.serveable, self._watcher.challenger, self._log.state()
        if log.keeper == "memory":
            raise unavailable("log_full", "neither the store nor the disk takes predictions: start the store or free the disk")
        status = {"version": version, "log": log.keeper, "log_waiting": log.waiting}
        return status | ({"challenger": challenger.version} if challenger else {})

    def summary(self, requests: int) -> ModelSummary:
        return ModelSummary(name=self.name, version=self._watcher.champion, ready=self.refusal() is None, requests=requests)

    def refusal(self) -> ServiceError | None:
        """Why the model is not ready, if so."""
        try:
            self.ready()
        except ServiceError as error:
            return error
        return None

    def _accept_labels(self, body: bytes) -> AcceptedLabels:
        batch = self._labels.decode(body, self._max_rows, datetime.now(UTC))
        with translate_redis_errors(self._store_url):
            append(self._store, labels_stream(self.name), encode_batch(batch))
        self._metrics.labels_accepted(self.name, len(batch.ids))
        return AcceptedLabels(accepted=len(batch.ids))
