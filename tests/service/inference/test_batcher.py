"""The batcher: what one turn of the loop has read is answered together; what is large leaves the loop alone."""

import asyncio
import threading
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from service.errors import JsonResponse
from service.inference.batcher import MOST, SMALL, RequestBatcher
from service.inference.predictor import InferenceRequest, Operation

READY, FULL = SimpleNamespace(may_wait=False), SimpleNamespace(may_wait=True)
LARGE = b"x" * (SMALL + 1)


class Echo:
    """Answers with the body, and remembers in which thread and with which others each was answered."""

    def __init__(self) -> None:
        self.turns: list[tuple[str, list[bytes]]] = []
        self.go = threading.Event()
        self.go.set()

    def __call__(self, requests: Sequence[InferenceRequest]) -> Sequence[JsonResponse]:
        self.turns.append((threading.current_thread().name, [request.body for request in requests]))
        if len(requests[0].body) > SMALL:
            assert self.go.wait(20)
        return [JsonResponse(200, request.body) for request in requests]


def ask(body: bytes, operation: Operation = "predict", model: Any = READY) -> InferenceRequest:
    return InferenceRequest(operation, body, model, model)


def asked(*bodies: bytes) -> list[InferenceRequest]:
    return [ask(body) for body in bodies]


async def answers(batcher: RequestBatcher, requests: Sequence[InferenceRequest]) -> list[bytes]:
    return [response.body for response in await asyncio.gather(*map(batcher.submit, requests))]


def test_small_requests_of_one_turn_are_answered_together_in_the_loop() -> None:
    echo, bodies = Echo(), [str(number).encode() for number in range(MOST + 3)]

    async def run() -> list[bytes]:
        return await answers(RequestBatcher(echo), asked(*bodies))

    assert asyncio.run(run()) == bodies
    assert echo.turns == [("MainThread", bodies[:MOST]), ("MainThread", bodies[MOST:])]


def test_a_large_request_does_not_keep_a_small_one_waiting() -> None:
    echo = Echo()
    echo.go.clear()

    async def run() -> None:
        batcher = RequestBatcher(echo)
        large = asyncio.create_task(batcher.submit(asked(LARGE)[0]))
        assert (await batcher.submit(asked(b"small")[0])).body == b"small"
        assert not large.done()
        echo.go.set()
        assert (await large).body == LARGE
        batcher.close()

    asyncio.run(run())
    assert {name.partition("_")[0] for name, bodies in echo.turns if bodies == [LARGE]} == {"large-requests"}


def test_explanations_and_whatever_might_wait_for_the_log_leave_the_loop_alone() -> None:
    echo = Echo()

    async def run() -> None:
        await RequestBatcher(echo).submit(ask(b"one", "explain"))
        await RequestBatcher(echo).submit(ask(b"two", model=FULL))

    asyncio.run(run())
    assert "MainThread" not in {name for name, _ in echo.turns}


def test_a_request_that_is_given_up_while_it_waits_for_the_thread_is_not_answered() -> None:
    echo = Echo()
    echo.go.clear()

    async def run() -> None:
        batcher = RequestBatcher(echo)
        first, second = (asyncio.create_task(batcher.submit(request)) for request in asked(LARGE, LARGE + b"y"))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        echo.go.set()
        await first
        batcher.close()

    asyncio.run(run())
    assert [bodies for _, bodies in echo.turns] == [[LARGE]]


def test_models_take_turns_with_large_requests() -> None:
    """Many to one model delay another's by one, not by all of them."""
    echo, other = Echo(), SimpleNamespace(may_wait=False)
    echo.go.clear()

    async def run() -> None:
        batcher = RequestBatcher(echo)
        flood = [asyncio.create_task(batcher.submit(ask(LARGE + b"%d" % number))) for number in range(5)]
        await asyncio.sleep(0)
        one = asyncio.create_task(batcher.submit(ask(LARGE + b"other", model=other)))
        await asyncio.sleep(0)
        echo.go.set()
        await asyncio.gather(*flood, one)
        batcher.close()

    asyncio.run(run())
    order = [bodies[0].removeprefix(LARGE) for _, bodies in echo.turns]
    assert order.index(b"other") <= 2
    assert [one for one in order if one != b"other"] == [b"0", b"1", b"2", b"3", b"4"]
