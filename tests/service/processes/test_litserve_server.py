"""What `service/processes/litserve_server.py` relies on inside LitServe. One that fails is what a new LitServe has changed."""

import inspect
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import litserve
import pytest
from litserve import LitServer
from litserve.loops import loops
from litserve.loops.base import LitLoop
from litserve.specs.base import LitSpec

from service.inference.litapi import PredictionAPI
from service.processes.litserve_server import HttpLoop, PredictionServer

WORKER = ["lit_api", "device", "worker_id", "request_queue", "transport", "workers_setup_status", "callback_runner"]
"""What LitServe hands to a worker's loop, in this order."""

CALLED: dict[str, tuple[Callable[..., Any], list[str]]] = {
    "the worker's entry": (loops.inference_worker, [*WORKER, "restart_workers"]),
    "the loop's call": (LitLoop.__call__, ["self", *WORKER]),
    "starting a worker": (LitServer.launch_single_inference_worker, ["self", "lit_api", "worker_id"]),
    "the queue of an API": (LitServer._get_request_queue, ["self", "api_path"]),
    "the app's lifespan": (LitServer.lifespan, ["self", "app"]),
    "LitServe's own routes": (LitServer._register_internal_endpoints, ["self"]),
    "LitServe's middleware": (LitServer._register_middleware, ["self"]),
    "connecting a spec": (LitSpec.setup, ["self", "server"]),
}


def changed(what: str) -> str:
    return f"LitServe {litserve.__version__} changed {what}: adapt service/processes/litserve_server.py"


def never(*_: object) -> Any:
    raise AssertionError("this is for worker processes")


@pytest.fixture
def server() -> PredictionServer:
    return PredictionServer(PredictionAPI(never), 2)


@pytest.mark.parametrize("what", CALLED)
def test_what_is_called_or_overridden_takes_what_it_took(what: str) -> None:
    function, expected = CALLED[what]
    assert list(inspect.signature(function).parameters) == expected, changed(what)


def test_the_server_keeps_its_parts_where_they_were(server: PredictionServer) -> None:
    for name in ("app", "lit_api", "litapi_request_queues", "workers_setup_status"):
        assert hasattr(server, name), changed(f"LitServer.{name}")


def test_no_route_and_no_middleware_is_litserve_s_own(server: PredictionServer) -> None:
    paths = {route.path for route in server.app.routes}
    assert paths <= {"/openapi.json", "/docs", "/docs/oauth2-redirect", "/redoc"}, changed("the routes it adds by itself")
    assert server.app.user_middleware == [], changed("the middleware it adds by itself")


def test_a_worker_is_started_with_its_own_handle(server: PredictionServer, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []

    class Context:
        def Process(self, target: Any, args: Any, name: str) -> "Context":  # noqa: N802 - multiprocessing's name
            started.append((target, args))
            return self

        def start(self) -> None: ...

    monkeypatch.setattr("litserve.server.mp.get_context", lambda method: Context())
    handles: list[Any] = ["first", "second"]
    for index, handle in enumerate(handles):
        server.start_worker(index, handle)
    assert {target for target, _ in started} == {loops.inference_worker}, changed("the worker's entry")
    named = [dict(zip([*WORKER, "restart_workers"], args, strict=True)) for _, args in started]
    assert [one["request_queue"] for one in named] == handles, changed("where a worker's queue comes from")
    assert [one["worker_id"] for one in named] == [0, 1]


def test_a_worker_s_entry_sets_the_api_up_and_runs_our_loop_until_it_returns() -> None:
    """LitServe's own entry of a worker process, in this one."""
    done: list[Any] = []

    class Api(litserve.LitAPI):  # type: ignore[misc]
        def setup(self, device: str) -> None:
            done.append("setup")

        def predict(self, x: object) -> object: ...

    api: Any = Api()
    api.loop = HttpLoop()
    api.worker = SimpleNamespace(serve_http=lambda own, handle: done.append((own is api, handle)))
    loops.inference_worker(api, "cpu", 0, "handle", None, {}, litserve.callbacks.CallbackRunner(None), restart_workers=False)
    assert done == ["setup", (True, "handle")], changed("what it does in a worker")
