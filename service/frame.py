"""The frame: LitServe's server with processes that are started, watched and ended by us, and channels of ours.

The one file that touches LitServe's internals; `tests/service/test_frame.py` says which, so that a new LitServe that
breaks one is told by name. Stock LitServe sends a request through four calls of a manager process; on the fast path
there is no such process, and a loop of ours drains what waits. `transport = "stock"` is LitServe's own path.
Every process is spawned, watched by the main thread, and ended in order: HTTP first, so that no request is cut off,
then workers, which flush, then the manager where there is one.
"""

import asyncio
import contextlib
import multiprocessing
import socket
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from http import HTTPStatus
from multiprocessing.managers import SyncManager
from multiprocessing.process import BaseProcess
from typing import Any

import uvicorn
from fastapi import FastAPI, HTTPException
from litserve import LitServer
from litserve.loops.base import _SENTINEL_VALUE, LitLoop
from litserve.server import response_queue_to_buffer
from litserve.specs.base import LitSpec
from litserve.transport.factory import create_transport_from_config
from litserve.utils import LitAPIStatus, ResponseBufferItem
from starlette.types import ASGIApp

from perennial.settings import Settings
from service.api import PerennialAPI
from service.channel import Door, make_door
from service.counter import Counter
from service.desk import Ask, Desk, Reply
from service.dispatch import Dispatcher
from service.ending import EndingServer
from service.guard import HEADERS
from service.heads import BoundedHeads
from service.keeping import Kept, join_all, keep
from service.lean import freeze_heap
from service.orphan import outlive_signals
from service.refusal import busy, internal, timed_out, unavailable

DRAIN = 4.0
"""Seconds for requests in flight when the service ends."""

FLUSH = 4.0
"""Seconds for workers to flush their logs and end; with DRAIN and the manager's second it is under ten."""

HELLO_PATIENCE = 1.0
"""Seconds an HTTP process waits for the first worker before it says itself that there is none."""

KEEP_ALIVE = 75
"""Seconds an idle connection is kept: longer than clients and load balancers keep theirs, so that they close first."""

HttpTarget = Callable[["Link"], None]


class Link:
    """What an HTTP process needs to reach the workers; travels to it by pickle.

    `way` is the doors of the workers on the fast path, else LitServe's request queue and transport.
    """

    def __init__(self, index: int, way: Any, listener: socket.socket) -> None:
        self.index = index
        self.way = way
        self.listener = listener


class DrainLoop(LitLoop):  # type: ignore[misc]  # litserve ships no types
    """A worker's loop on the fast path: everything that waits is one turn of the API. `request_queue` is a Door."""

    def __call__(self, lit_api: PerennialAPI, _device: str, _worker: int, request_queue: Door, *_rest: object) -> None:
        """Answer until the door says bye; LitServe calls this after `setup`."""
        Counter(request_queue).serve(lit_api.take_turn)


class _Spec(LitSpec):  # type: ignore[misc]
    """LitServe's extension point for endpoints of one's own: /predict and the others are ours."""

    def __init__(self) -> None:
        super().__init__()
        self.api_path = "/predict"


class FastDesk(_Spec):
    """Reaches the workers through channels; the dispatcher is made in the HTTP process."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._limits = settings.timeout, _share(settings)
        self._dispatcher: Dispatcher | None = None

    def setup(self, server: LitServer) -> None:
        """Nothing of LitServe's is needed."""

    def join(self, doors: Sequence[Door]) -> None:
        """Be the desk of an HTTP process."""
        self._dispatcher = Dispatcher(doors, *self._limits)

    @property
    def dispatcher(self) -> Dispatcher:
        """This process's channels."""
        assert self._dispatcher is not None, "an HTTP process joins first"
        return self._dispatcher

    async def ask(self, ask: Ask, timeout: float | None = None) -> Reply:
        """Ask the least busy worker; raises Refused."""
        return await self.dispatcher.ask(ask, timeout)


class StockDesk(_Spec):
    """Reaches the workers through LitServe's queues."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._timeout = settings.timeout
        self._most = _share(settings)

    async def ask(self, ask: Ask, timeout: float | None = None) -> Reply:
        """Ask any worker; raises Refused (504) when none answers in time, whatever has become of it."""
        if len(self.response_buffer) >= self._most:
            raise busy(self._most)
        uid, patience = uuid.uuid4().hex, timeout or self._timeout
        item = ResponseBufferItem(asyncio.Event())
        self.response_buffer[uid] = item
        try:
            self._put((self.response_queue_id, uid, time.monotonic(), ask))
            await asyncio.wait_for(item.event.wait(), patience)
        except TimeoutError:
            raise timed_out(patience) from None
        finally:
            self.response_buffer.pop(uid, None)
        return _reply(item)

    def _put(self, message: tuple[int, str, float, Ask]) -> None:
        try:
            self.request_queue.put(message)
        except (OSError, EOFError):
            raise unavailable("restarting", "the service is being started again; try again in a few seconds") from None


class Frame(LitServer):  # type: ignore[misc]
    """LitServe's app, worker processes, specs and loops, without its routes, gzip and process keeping."""

    def __init__(self, api: PerennialAPI, settings: Settings) -> None:
        self._fast = settings.transport == "fast"
        api.spec = FastDesk(settings) if self._fast else StockDesk(settings)
        api.loop = DrainLoop() if self._fast else "auto"
        self._startup: Callable[[], None] = lambda: None
        self._outermost: Callable[[ASGIApp], ASGIApp] = lambda app: app
        super().__init__(api, accelerator="cpu", devices=1, workers_per_device=settings.workers, timeout=settings.timeout)
        self._workers = settings.workers
        self._lame_duck = settings.lame_duck
        self.ending = threading.Event()
        """Set in an HTTP process that has been told to end."""
        self.workers_setup_status: Any = {}
        self._context = multiprocessing.get_context("spawn")
        self._doors: list[Door] = []
        self._manager: SyncManager | None = None

    @property
    def desk(self) -> Desk:
        """The way to the workers."""
        desk: Desk = self.lit_api.spec
        return desk

    def on_startup(self, function: Callable[[], None]) -> None:
        """Called in each HTTP process before its first request."""
        self._startup = function

    def put_in_front(self, outermost: Callable[[ASGIApp], ASGIApp]) -> None:
        """Wrap the whole app, so that what is answered there pays for nothing inside."""
        self._outermost = outermost

    def serve_http(self, link: Link) -> None:
        """Be an HTTP process until SIGTERM; requests in flight are finished first."""
        self._join(link)
        config = uvicorn.Config(
            self._outermost(self.app),
            http=BoundedHeads,
            headers=HEADERS,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws="none",
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=int(DRAIN),
        )
        EndingServer(config, self.ending, self._lame_duck).run([link.listener])

    def run_processes(self, listener: socket.socket, http: HttpTarget, count: int, stop: threading.Event) -> int:
        """Run workers and `count` HTTP processes until `stop`; returns the exit code. Dead ones are started again."""
        self._prepare(count)
        workers = [Kept(f"worker {index}", partial(self._start_worker, index)) for index in range(self._workers)]
        servers = [Kept(f"http {index}", partial(self._start_http, index, listener, http)) for index in range(count)]
        try:
            return keep([*workers, *servers], self._alive, stop)
        finally:
            listener.close()  # else who connects now waits for nobody
            self._end(workers, servers)

    @contextlib.asynccontextmanager
    async def lifespan(self, _app: FastAPI) -> AsyncIterator[None]:
        """Open the channels, or pump answers from LitServe's queue to the requests that wait for them."""
        self._startup()
        async with self._channels() if self._fast else self._pump():
            freeze_heap()
            yield

    @contextlib.asynccontextmanager
    async def _channels(self) -> AsyncIterator[None]:
        dispatcher = self.lit_api.spec.dispatcher
        dispatcher.open()
        try:
            await _greeted(dispatcher)
            yield
        finally:
            dispatcher.close()

    @contextlib.asynccontextmanager
    async def _pump(self) -> AsyncIterator[None]:
        desk = self.lit_api.spec
        pump = response_queue_to_buffer(self._transport, desk.response_buffer, desk.response_queue_id, self.litapi_connector)
        task = asyncio.create_task(pump, name="answers")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task], timeout=1.5)

    def _join(self, link: Link) -> None:
        desk = self.lit_api.spec
        if self._fast:
            first = link.index % self._workers
            desk.join(link.way[first:] + link.way[:first])
            return
        self.litapi_request_queues[self.lit_api.api_path], self._transport = link.way
        desk.setup(self)
        desk.response_queue_id = link.index

    def _prepare(self, http_processes: int) -> None:
        if self._fast:
            self._doors = [make_door() for _ in range(self._workers)]
            self._transport = None
        else:
            self._manager = self._init_manager(http_processes)

    def _alive(self) -> bool:
        """Whether what all processes share is there: the manager, which keeps LitServe's queues."""
        keeper: BaseProcess | None = self._manager._process if self._manager else None  # type: ignore[attr-defined]
        return keeper is None or keeper.is_alive()

    def _start_worker(self, index: int) -> BaseProcess:
        if self._fast:
            self.litapi_request_queues[self.lit_api.api_path] = self._doors[index]
        process: BaseProcess = self.launch_single_inference_worker(self.lit_api, index)
        return process

    def _start_http(self, index: int, listener: socket.socket, http: HttpTarget) -> BaseProcess:
        way = self._doors or (self._get_request_queue(self.lit_api.api_path), self._transport)
        process = self._context.Process(target=http, args=(Link(index, way, listener),), name=f"http-{index}")
        process.start()
        return process

    def _end(self, workers: Sequence[Kept], servers: Sequence[Kept]) -> None:
        for server in servers:
            server.terminate()
        join_all(servers, self._lame_duck + DRAIN + 0.5)
        with contextlib.suppress(OSError, EOFError):
            self._dismiss_workers()
        join_all(workers, FLUSH)
        if self._manager is not None:
            with contextlib.suppress(OSError, EOFError):
                self._manager.shutdown()

    def _dismiss_workers(self) -> None:
        """A request that was accepted is answered: what says bye comes behind it."""
        for door in self._doors:
            door.close_worker()
        if self._manager is not None:
            for _ in range(self._workers):
                self._get_request_queue(self.lit_api.api_path).put(_SENTINEL_VALUE)

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


async def _greeted(dispatcher: Dispatcher) -> None:
    """Wait a moment for a worker's hello: an HTTP process that is started again must not refuse its first requests."""
    deadline = time.monotonic() + HELLO_PATIENCE
    while not dispatcher.ready and time.monotonic() < deadline:
        await asyncio.sleep(0.01)


def _share(settings: Settings) -> int:
    """What one HTTP process may have in flight."""
    return max(1, settings.max_in_flight // settings.api_servers)


def _reply(item: ResponseBufferItem) -> Reply:
    answer, status = item.response
    if status == LitAPIStatus.OK:
        return Reply(int(HTTPStatus.OK), answer)
    if isinstance(answer, HTTPException):
        # Our own errors carry their body; LitServe's (a request that waited too long) carry a text.
        return Reply(answer.status_code, answer.detail if isinstance(answer.detail, bytes) else internal())
    return Reply(int(HTTPStatus.INTERNAL_SERVER_ERROR), internal())
