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

from perennial import __version__
from perennial.error_reporting import init_error_reporting
from perennial.learner import load_learner
from perennial.logs import configure_logging
from perennial.registry import Registry
from service.inference.batcher import RequestBatcher
from service.inference.litapi import PredictionAPI
from service.inference.model_watcher import ModelWatcher
from service.inference.predictor import Predictor
from service.metrics import WorkerMetrics
from service.plan import DRAIN_TIMEOUT, FLUSH_TIMEOUT, ServicePlan
from service.prediction_log.log import PredictionLog
from service.processes.litserve_server import PredictionServer
from service.processes.supervisor import BEAT_INTERVAL, Heartbeat, WorkerHandle
from service.web.app import AppState, build_app
from service.web.http_server import DrainingServer, HeaderLimitProtocol

HEADERS = [("X-Content-Type-Options", "nosniff"), ("Cache-Control", "no-store")]  # no client guesses a type, no cache keeps it
KEEP_ALIVE = timedelta(seconds=75)  # of an idle connection: longer than load balancers keep theirs, so that they close first

logger = logging.getLogger(__name__)


class Worker:
    """What lives as long as a worker's process: model watcher, prediction log, predictor, and the HTTP server."""

    def __init__(self, plan: ServicePlan) -> None:
        settings, name = plan.settings, plan.spec.name
        self._plan = plan
        self._metrics = WorkerMetrics()
        spool = settings.model_home(name) / "service" / "spool"
        self._log = PredictionLog(plan.store_url, name, spool, full=settings.log_full, observe=self._metrics.logged)
        self._watcher = ModelWatcher(
            Registry(settings.registry_url),
            name,
            plan.base,
            plan.spec.contract_until,
            metrics=self._metrics,
            with_challenger=settings.challenger,
        )
        self.predictor = Predictor(settings.max_rows, self._watcher, self._log, self._metrics)

    def start(self) -> None:
        """Start the threads; afterwards the champion, if there is one, answers."""
        self._log.start()
        self._watcher.start(self._plan.settings.watch_interval)
        threading.Thread(target=self._end_with_parent, name="parent-watch", daemon=True).start()

    def serve_http(self, api: PredictionAPI, handle: WorkerHandle) -> None:
        """Serve until SIGTERM; requests in flight are finished first, and what they were answered is in the log after it."""
        plan, draining = self._plan, threading.Event()
        batcher = RequestBatcher(api.handle_batch, lambda: self.predictor.may_wait)
        app = PredictionServer(api, plan.settings.workers, partial(_lifespan, handle.heartbeat)).app
        app.title, app.version = f"Perennial: {plan.spec.name}", __version__
        state = AppState(plan, batcher, self._watcher, self._log, draining)
        config = _uvicorn_config(build_app(app, state))
        try:
            DrainingServer(config, draining, plan.settings.lame_duck.total_seconds()).run([handle.listener])
        finally:
            batcher.close()
            self.close()

    def close(self) -> None:
        self._watcher.stop()
        self._log.close(FLUSH_TIMEOUT)

    def _end_with_parent(self) -> None:
        """In a thread: end this process when the main process is gone, also when it was killed and could not say so."""
        main = multiprocessing.parent_process()
        assert main is not None, "LitServe starts workers by multiprocessing"
        main.join()  # returns when the pipe whose other end only the main process holds is closed
        try:
            self.close()
        finally:
            os._exit(1)  # not sys.exit: only the main thread could, and it may be blocked on the dead parent


def start_worker(plan: ServicePlan) -> Worker:
    """Make this process a worker; LitServe calls it in `setup`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # until the HTTP server listens for signals itself
    configure_logging(plan.settings, "worker")
    init_error_reporting(plan.settings, "service", model=plan.spec.name)
    load_learner(plan.spec.learner).import_for_serving()
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
