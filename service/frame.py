"""The frame: LitServe's server with processes that are started, watched and ended by us.

The one file that overrides LitServe's internals. Stock LitServe forks its HTTP processes, leaves them serving when the
main process gets SIGTERM, and never starts a dead one again; here every process is spawned, watched by a loop in the
main thread, and ended in order: HTTP first, so that no request is cut off, then workers, which flush, then the manager.
"""

import asyncio
import contextlib
import logging
import multiprocessing
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from multiprocessing.managers import SyncManager
from multiprocessing.process import BaseProcess
from typing import Any

import uvicorn
from fastapi import FastAPI
from litserve import LitServer
from litserve.loops.base import _SENTINEL_VALUE
from litserve.server import response_queue_to_buffer
from litserve.transport.base import MessageTransport
from litserve.transport.factory import create_transport_from_config

from service.api import PerennialAPI
from service.desk import Desk
from service.orphan import outlive_signals

DRAIN = 4.0
"""Seconds for requests in flight when the service ends."""

FLUSH = 4.0
"""Seconds for workers to flush their logs and end; with DRAIN and the manager's second it is under ten."""

KEEP_ALIVE = 75
"""Seconds an idle connection is kept: longer than clients and load balancers keep theirs, so that they close first."""

LOOK = 0.2
"""Seconds between two looks at the processes."""

RESTART_PAUSE = 1.0
"""Seconds before a process is started again: one that dies at once must not take the machine."""

logger = logging.getLogger(__name__)

HttpTarget = Callable[["Link"], None]


class Link:
    """What an HTTP process needs to reach the workers; travels to it by pickle."""

    def __init__(self, index: int, requests: Any, transport: MessageTransport, listener: socket.socket) -> None:
        self.index = index
        self.requests = requests
        self.transport = transport
        self.listener = listener


class Frame(LitServer):  # type: ignore[misc]  # litserve ships no types
    """LitServe's app, worker processes, queues and loop, without its routes, gzip and process keeping."""

    def __init__(self, api: PerennialAPI, workers: int, timeout: float) -> None:
        self._startup: Callable[[], None] = lambda: None
        super().__init__(api, accelerator="cpu", devices=1, workers_per_device=workers, timeout=timeout)
        self._workers = workers
        self._context = multiprocessing.get_context("spawn")

    @property
    def desk(self) -> Desk:
        """The way to the workers."""
        desk: Desk = self.lit_api.spec
        return desk

    def on_startup(self, function: Callable[[], None]) -> None:
        """Called in each HTTP process before its first request."""
        self._startup = function

    def serve_http(self, link: Link) -> None:
        """Be an HTTP process until SIGTERM; requests in flight are finished first."""
        self._join(link)
        config = uvicorn.Config(
            self.app,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=int(DRAIN),
        )
        uvicorn.Server(config).run([link.listener])

    def run_processes(self, listener: socket.socket, http: HttpTarget, count: int, stop: threading.Event) -> int:
        """Run workers and `count` HTTP processes until `stop`; returns the exit code. Dead ones are started again."""
        manager = self._init_manager(count)
        workers = [_Kept(f"worker {index}", partial(self._start_worker, index)) for index in range(self._workers)]
        servers = [_Kept(f"http {index}", partial(self._start_http, index, listener, http)) for index in range(count)]
        try:
            return _keep([*workers, *servers], manager, stop)
        finally:
            self._end(workers, servers, manager)

    @contextlib.asynccontextmanager
    async def lifespan(self, _app: FastAPI) -> AsyncIterator[None]:
        """Pump answers from the workers to the requests that wait for them."""
        self._startup()
        desk = self.desk
        pump = response_queue_to_buffer(self._transport, desk.response_buffer, desk.response_queue_id, self.litapi_connector)
        task = asyncio.create_task(pump, name="answers")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task], timeout=1.5)

    def _join(self, link: Link) -> None:
        self._transport = link.transport
        self.litapi_request_queues[self.lit_api.api_path] = link.requests
        self.desk.setup(self)
        self.desk.response_queue_id = link.index

    def _start_worker(self, index: int) -> BaseProcess:
        process: BaseProcess = self.launch_single_inference_worker(self.lit_api, index)
        return process

    def _start_http(self, index: int, listener: socket.socket, http: HttpTarget) -> BaseProcess:
        link = Link(index, self._get_request_queue(self.lit_api.api_path), self._transport, listener)
        process = self._context.Process(target=http, args=(link,), name=f"http-{index}")
        process.start()
        return process

    def _end(self, workers: "list[_Kept]", servers: "list[_Kept]", manager: SyncManager) -> None:
        for server in servers:
            server.terminate()
        _join_all(servers, DRAIN + 1)
        # A request that was accepted is answered: the sentinels queue up behind it.
        with contextlib.suppress(OSError, EOFError):
            for _ in workers:
                self._get_request_queue(self.lit_api.api_path).put(_SENTINEL_VALUE)
        _join_all(workers, FLUSH)
        with contextlib.suppress(OSError, EOFError):
            manager.shutdown()

    def _init_manager(self, num_api_servers: int) -> SyncManager:
        manager = SyncManager(ctx=self._context)
        manager.start(initializer=outlive_signals)
        self.manager = manager
        self.transport_config.manager = manager
        self.transport_config.num_consumers = num_api_servers
        self.workers_setup_status = manager.dict()
        self.litapi_request_queues[self.lit_api.api_path] = manager.Queue()
        self._transport = create_transport_from_config(self.transport_config)
        return manager

    def _register_internal_endpoints(self) -> None:
        """Ours replace them all."""

    def _register_middleware(self) -> None:
        """LitServe would add gzip, which costs more than it saves on small answers."""


class _Kept:
    """A process that is started again when it dies."""

    def __init__(self, name: str, start: Callable[[], BaseProcess]) -> None:
        self.name = name
        self._start = start
        self._started = time.monotonic()
        self.process = start()

    def look(self) -> None:
        if self.process.is_alive() or time.monotonic() < self._started + RESTART_PAUSE:
            return
        logger.error("%s (pid %s) ended with code %s; starting it again", self.name, self.process.pid, self.process.exitcode)
        self._started = time.monotonic()
        self.process = self._start()

    def terminate(self) -> None:
        self.process.terminate()

    def join(self, deadline: float) -> None:
        self.process.join(max(0.0, deadline - time.monotonic()))
        if self.process.is_alive():
            logger.error("%s (pid %s) does not end; killing it", self.name, self.process.pid)
            self.process.kill()
            self.process.join(1)


def _keep(processes: list[_Kept], manager: SyncManager, stop: threading.Event) -> int:
    keeper: BaseProcess = manager._process  # type: ignore[attr-defined]  # no public way to see it die
    while not stop.wait(LOOK):
        if not keeper.is_alive():
            logger.error("the queues' process died; the service ends, so that whoever supervises it starts it afresh")
            return 1
        for process in processes:
            process.look()
    return 0


def _join_all(processes: list[_Kept], patience: float) -> None:
    deadline = time.monotonic() + patience
    for process in processes:
        process.join(deadline)
