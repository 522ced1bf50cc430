"""A worker process: answers HTTP and predicts, from its start by LitServe to its end by a signal.

Threads: the main thread runs the event loop (HTTP, small requests); one more thread answers large requests; the model
watcher's thread loads versions; the prediction log has two of its own; a thread watches the main process.
"""

import asyncio
import gc
import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial

import uvicorn
from starlette.types import ASGIApp

from perennial.error_reporting import init_error_reporting
from perennial.learner import load_learner
from perennial.learners.declarations import named_learners
from perennial.logs import configure_logging
from perennial.registry import Registry
from perennial.version import __version__
from service.inference.batcher import RequestBatcher
from service.inference.litapi import PredictionAPI
from service.inference.model_watcher import ModelWatcher
from service.inference.predictor import Predictor
from service.inference.served_model import ServedModel
from service.inference.watcher_thread import WatcherThread
from service.metrics import HttpMetrics, ModelMetrics, WorkerMetrics
from service.plan import DRAIN_TIMEOUT, FLUSH_TIMEOUT, ServedSpec, ServicePlan
from service.prediction_log.disk_queue import spool_of
from service.prediction_log.log import CAPACITY, LEAST_CAPACITY, PredictionLogs
from service.prediction_log.redis_client import connect
from service.processes.litserve_server import PredictionServer
from service.processes.supervisor import BEAT_INTERVAL, RETIRE, Heartbeat, WorkerHandle
from service.web.app import AppState, build_app
from service.web.http_server import DrainingServer, HeaderLimitProtocol
from service.web.model_endpoints import ModelEndpoints

HEADERS = [("X-Content-Type-Options", "nosniff"), ("Cache-Control", "no-store")]  # no client guesses a type, no cache keeps it
KEEP_ALIVE = timedelta(seconds=75)  # of an idle connection: longer than load balancers keep theirs, so that they close first

logger = logging.getLogger(__name__)


class Worker:
    """What lives as long as a worker's process: its models and the HTTP server."""

    def __init__(self, plan: ServicePlan) -> None:
        self._plan = plan
        self._store = connect(plan.store_url)
        metrics, registry, self._logs = WorkerMetrics(), Registry(plan.settings.registry_url), PredictionLogs(plan.store_url)
        self._models = [serve_model(plan, one, registry, self._logs, metrics.of(one.spec.name)) for one in plan.models]
        settings = plan.settings
        self._watching = WatcherThread(self._models, settings.watch_interval, settings.max_loaded_models)

    def start(self) -> None:
        """Start the threads; afterwards the champions that there are answer."""
        self._logs.start()
        self._watching.start()
        threading.Thread(target=self._end_with_parent, name="parent-watch", daemon=True).start()

    def serve_http(self, api: PredictionAPI, handle: WorkerHandle) -> None:
        """Serve until SIGTERM; requests in flight are finished first, and what they were answered is in the log after it."""
        plan, draining, metrics = self._plan, threading.Event(), HttpMetrics()
        batcher = RequestBatcher(api.handle_batch)
        app = PredictionServer(api, plan.settings.workers, partial(_lifespan, handle.heartbeat)).app
        app.title, app.version = f"Perennial: {', '.join(plan.names)}", __version__
        endpoints = {one.name: ModelEndpoints(plan, one, batcher, self._watching, self._store, metrics) for one in self._models}
        config = _uvicorn_config(build_app(app, AppState(plan, endpoints, metrics, draining)))
        try:
            server = DrainingServer(config, draining, plan.settings.lame_duck.total_seconds())
            signal.signal(RETIRE, lambda *_: server.retire())
            server.run([handle.listener])
        finally:
            batcher.close()
            self.close()

    def close(self) -> None:
        self._watching.stop()
        self._logs.close(FLUSH_TIMEOUT)

    def _end_with_parent(self) -> None:
        """In a thread: end this process when the main process is gone, also when it was killed and could not say so."""
        main = multiprocessing.parent_process()
        assert main is not None, "LitServe starts workers by multiprocessing"
        main.join()  # returns when the pipe whose other end only the main process holds is closed
        try:
            self.close()
        finally:
            os._exit(1)  # not sys.exit: only the main thread could, and it may be blocked on the dead parent


def serve_model(
    plan: ServicePlan, served: ServedSpec, registry: Registry, logs: PredictionLogs, metrics: ModelMetrics
) -> ServedModel:
    """One of a worker's models; nothing of it is started yet."""
    settings, spec = plan.settings, served.spec
    spool = spool_of(settings.model_home(spec.name))
    capacity = max(LEAST_CAPACITY, CAPACITY // len(plan.models))
    log = logs.add(spec.name, spool, full=settings.log_full, observe=metrics.logged, capacity=capacity)
    own_share = spec.policy.challenger_share
    watcher = ModelWatcher(
        registry,
        spec.name,
        served.base,
        spec.contract_until,
        metrics=metrics,
        with_challenger=settings.challenger,
        challenger_share=settings.challenger_share if own_share is None else own_share,
        marks_reports=plan.only is not None,
    )
    return ServedModel(spec, watcher, log, Predictor(settings.max_rows, log, metrics))


def start_worker(plan: ServicePlan) -> Worker:
    """Make this process a worker; LitServe calls it in `setup`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # until the HTTP server listens for signals itself
    configure_logging(plan.settings, "worker")
    init_error_reporting(plan.settings, "service", model=plan.only)
    for learner in {name for one in plan.models for name in named_learners(one.spec.learner)}:
        load_learner(learner).import_for_serving()
    worker = Worker(plan)
    worker.start()
    return worker


def _uvicorn_config(app: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=HeaderLimitProtocol,
        headers=HEADERS,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        timeout_keep_alive=int(KEEP_ALIVE.total_seconds()),
        timeout_graceful_shutdown=int(DRAIN_TIMEOUT.total_seconds()),
    )


@asynccontextmanager
async def _lifespan(heartbeat: Heartbeat) -> AsyncIterator[None]:
    """While the HTTP server runs: beat, and leave what has been made so far out of every later garbage collection.

    Looking at half a million objects of modules and routes took 50 ms once a second under load, the 99th percentile.
    """
    beating = asyncio.create_task(_beat(heartbeat), name="heartbeat")
    gc.collect()
    gc.freeze()
    logger.info("worker %d answers", os.getpid())
    try:
        yield
    finally:
        beating.cancel()


async def _beat(heartbeat: Heartbeat) -> None:
    while True:
        heartbeat.beat()
        await asyncio.sleep(BEAT_INTERVAL.total_seconds())
