"""What `service/frame.py` relies on inside LitServe. When one of these fails, a new LitServe changed just that: adapt the
frame, or set `PERENNIAL_TRANSPORT=stock` where only the fast path is concerned."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import litserve
import pytest
from litserve import LitAPI, LitServer
from litserve.loops import loops, simple_loops
from litserve.loops.base import _SENTINEL_VALUE, LitLoop
from litserve.server import response_queue_to_buffer
from litserve.specs.base import LitSpec
from litserve.transport.factory import TransportConfig, create_transport_from_config
from litserve.utils import LitAPIStatus, ResponseBufferItem

from perennial.settings import Settings
from service.api import PerennialAPI
from service.desk import Ask
from service.frame import DrainLoop, FastDesk, Frame, StockDesk
from tests.support import models

WORKER = ["lit_api", "device", "worker_id", "request_queue", "transport", "workers_setup_status", "callback_runner"]
"""What LitServe hands to a worker's loop, in this order."""

CALLED: dict[str, tuple[Callable[..., Any], list[str]]] = {
    "the worker's entry": (loops.inference_worker, [*WORKER, "restart_workers"]),
    "the loop's call": (LitLoop.__call__, ["self", *WORKER]),
    "starting a worker": (LitServer.launch_single_inference_worker, ["self", "lit_api", "worker_id"]),
    "the queue of an API": (LitServer._get_request_queue, ["self", "api_path"]),
    "making the manager": (LitServer._init_manager, ["self", "num_api_servers"]),
    "the app's lifespan": (LitServer.lifespan, ["self", "app"]),
    "LitServe's own routes": (LitServer._register_internal_endpoints, ["self"]),
    "LitServe's middleware": (LitServer._register_middleware, ["self"]),
    "connecting a spec": (LitSpec.setup, ["self", "server"]),
    "pumping answers": (response_queue_to_buffer, ["transport", "response_buffer", "consumer_id", "litapi_connector"]),
    "making the transport": (create_transport_from_config, ["config"]),
}


def changed(what: str) -> str:
    return f"LitServe {litserve.__version__} changed {what}: adapt service/frame.py"


@pytest.fixture(params=["fast", "stock"])
def frame(request: pytest.FixtureRequest) -> Frame:
    settings = Settings(transport=request.param, workers=2)
    return Frame(PerennialAPI(settings, models.small_spec(), Path(), "redis://127.0.0.1:1/0"), settings)


@pytest.mark.parametrize("what", CALLED)
def test_what_is_called_or_overridden_takes_what_it_took(what: str) -> None:
    function, expected = CALLED[what]
    assert list(inspect.signature(function).parameters) == expected, changed(what)


def test_the_server_keeps_its_parts_where_they_were(frame: Frame) -> None:
    for name in ("app", "lit_api", "litapi_connector", "litapi_request_queues", "response_buffer", "transport_config"):
        assert hasattr(frame, name), changed(f"LitServer.{name}")
    assert frame.litapi_connector.lit_apis == [frame.lit_api], changed("the connector of APIs")
    assert {"manager", "num_consumers"} <= set(TransportConfig.model_fields), changed("the transport's configuration")


def test_no_route_and_no_middleware_is_litserve_s_own(frame: Frame) -> None:
    paths = {route.path for route in frame.app.routes}
    assert paths <= {"/openapi.json", "/docs", "/docs/oauth2-redirect", "/redoc"}, changed("the routes it adds by itself")
    assert frame.app.user_middleware == [], changed("the middleware it adds by itself")


def test_the_settings_choose_loop_and_desk() -> None:
    kinds = {}
    for transport in ("fast", "stock"):
        settings = Settings(transport=transport)
        api = PerennialAPI(settings, models.small_spec(), Path(), "redis://127.0.0.1:1/0")
        kinds[transport] = type(Frame(api, settings).desk), type(api.loop)
    assert kinds == {"fast": (FastDesk, DrainLoop), "stock": (StockDesk, simple_loops.SingleLoop)}, changed("the choice of loops")


def test_a_worker_is_started_with_its_own_door(frame: Frame, monkeypatch: pytest.MonkeyPatch) -> None:
    if not frame._fast:
        pytest.skip("stock workers share a queue")
    started: list[Any] = []

    class Context:
        def Process(self, target: Any, args: Any, name: str) -> "Context":  # noqa: N802 - multiprocessing's name
            started.append((target, args))
            return self

        def start(self) -> None: ...

    monkeypatch.setattr("litserve.server.mp.get_context", lambda method: Context())
    frame._prepare(1)
    for index in range(2):
        frame._start_worker(index)
    assert {target for target, _ in started} == {loops.inference_worker}, changed("the worker's entry")
    named = [dict(zip([*WORKER, "restart_workers"], args, strict=True)) for _, args in started]
    assert [one["request_queue"] for one in named] == frame._doors, changed("where a worker's queue comes from")
    assert [one["worker_id"] for one in named] == [0, 1]
    for door in frame._doors:
        door.inside.close()
        door.outside.close()


def test_the_single_loop_ends_at_the_sentinel_and_answers_in_the_form_the_desk_reads() -> None:
    """One request and the sentinel through LitServe's own loop, without processes."""
    sent: list[Any] = []
    asked = [(3, "uid", float("inf"), Ask("status", b"")), _SENTINEL_VALUE]

    class Queue:
        def get(self, **_: Any) -> Any:
            return asked.pop(0)

    class Transport:
        def send(self, item: Any, consumer_id: int) -> None:
            sent.append((item, consumer_id))

    class Echo(LitAPI):  # type: ignore[misc]
        def setup(self, device: str) -> None: ...

        def decode_request(self, request: Ask) -> str:
            return request.operation

        def predict(self, x: str) -> bytes:
            return x.encode()

        def encode_response(self, output: bytes) -> bytes:
            return output

    api = Echo(spec=StockDesk(Settings()))
    api.request_timeout = 30
    callbacks = litserve.callbacks.CallbackRunner(None)
    simple_loops.SingleLoop()(api, "cpu", 0, Queue(), Transport(), {}, callbacks)
    ((uid, (answer, status, *_)), consumer) = sent[0]
    assert (uid, answer, status, consumer) == ("uid", b"status", LitAPIStatus.OK, 3), changed("the form of an answer")


def test_a_waiting_request_is_an_event_and_its_response() -> None:
    fields = set(inspect.signature(ResponseBufferItem).parameters)
    assert {"event", "response"} <= fields, changed("what waits for an answer")
