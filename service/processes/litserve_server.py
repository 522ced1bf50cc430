"""LitServe's server as this service uses it: its app, its worker processes and its loop, without its queues and routes.

The one file that touches LitServe's internals; `tests/service/processes/test_litserve_server.py` says which, so that a new
LitServe that breaks one is told by name. LitServe's own worker takes requests from a queue that a manager process keeps, which
costs a request ten times its prediction. Here a worker's loop is an HTTP server, which predicts in its own process.
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from multiprocessing.process import BaseProcess
from typing import Any

from fastapi import FastAPI
from litserve import LitServer
from litserve.loops.base import LitLoop
from litserve.specs.base import LitSpec

from service.inference.litapi import PredictionAPI
from service.processes.supervisor import WorkerHandle

Lifespan = AbstractAsyncContextManager[None]


class HttpLoop(LitLoop):  # type: ignore[misc]  # litserve ships no types
    """The loop of a worker process: serves HTTP until the process is told to end."""

    def __call__(self, lit_api: PredictionAPI, _device: str, _worker: int, request_queue: WorkerHandle, *_rest: object) -> None:
        """LitServe calls this after `setup`; what it calls a request queue is what we gave the worker."""
        lit_api.worker.serve_http(lit_api, request_queue)


class OwnEndpoints(LitSpec):  # type: ignore[misc]
    """LitServe's extension point for APIs with endpoints of their own; they are added in `service.web.app`."""

    def __init__(self) -> None:
        super().__init__()
        self.api_path = "/predict"

    def setup(self, server: LitServer) -> None:
        """Nothing of LitServe's is needed."""


class PredictionServer(LitServer):  # type: ignore[misc]
    """LitServe's server of one `PredictionAPI`. In the main process it starts workers; in a worker it has the app."""

    def __init__(self, api: PredictionAPI, workers: int, lifespan: Callable[[], Lifespan] = nullcontext) -> None:
        api.spec = OwnEndpoints()
        api.loop = HttpLoop()
        super().__init__(api, accelerator="cpu", devices=1, workers_per_device=workers, timeout=False)
        self._lifespan = lifespan
        self.workers_setup_status: dict[str, Any] = {}
        self._transport = None

    def start_worker(self, index: int, handle: WorkerHandle) -> BaseProcess:
        self.litapi_request_queues[self.lit_api.api_path] = handle
        process: BaseProcess = self.launch_single_inference_worker(self.lit_api, index)
        return process

    def lifespan(self, _app: FastAPI) -> Lifespan:
        """What lives as long as the app; LitServe's would wait for answers from its queues."""
        return self._lifespan()

    def _register_internal_endpoints(self) -> None:
        """Ours replace them all."""

    def _register_middleware(self) -> None:
        """LitServe would add gzip, which costs more than it saves on small responses."""
