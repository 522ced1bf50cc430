"""The channels with both sides real: bodies of any size, dying and frozen workers, time and room that run out."""

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest

from service.channel import Door, make_door
from service.counter import Counter
from service.desk import Ask, Reply
from service.dispatch import Dispatcher
from service.refusal import Refused

LARGE = 16 * 1024 * 1024
Answer = Callable[[Sequence[Ask]], Sequence[Reply]]


def echo(asks: Sequence[Ask]) -> Sequence[Reply]:
    return [Reply(200, ask.body) for ask in asks]


class Worker:
    """A worker that can be made to die: its end of every channel closes, its door stays."""

    def __init__(self, answer: Answer = echo) -> None:
        self.door = make_door()
        self.turns: list[int] = []
        self._answer = answer
        self.start()

    def start(self) -> None:
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        counter = Counter(self.door)
        try:
            counter.serve(self._take)
        except SystemExit:
            counter.close()  # as the kernel does for a process that is killed

    def revive(self, answer: Answer) -> None:
        self._thread.join(10)
        self._answer = answer
        self.start()

    def end(self) -> None:
        self.door.close_worker()
        self._thread.join(10)
        assert not self._thread.is_alive()

    def _take(self, asks: Sequence[Ask]) -> Sequence[Reply]:
        self.turns.append(len(asks))
        return self._answer(asks)


@contextmanager
def workers(*answers: Answer) -> Iterator[list[Worker]]:
    made = [Worker(answer) for answer in answers]
    try:
        yield made
    finally:
        for worker in made:
            worker.end()
            worker.door.inside.close()
            worker.door.outside.close()


def with_dispatcher(
    doors: Sequence[Door], use: Callable[[Dispatcher], Awaitable[None]], timeout: float = 20.0, most: int = 1_000
) -> None:
    async def run() -> None:
        dispatcher = Dispatcher(doors, timeout, most)
        dispatcher.open()
        try:
            await until(lambda: dispatcher.ready == len(doors))
            await use(dispatcher)
        finally:
            dispatcher.close()

    asyncio.run(run())


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("size", [0, 1, 65_536, 300_000, LARGE])
def test_bodies_of_any_size_come_back_whole(size: int) -> None:
    body = os.urandom(size)

    async def use(dispatcher: Dispatcher) -> None:
        assert await dispatcher.ask(Ask("predict", body)) == Reply(200, body)

    with workers(echo) as (worker,):
        with_dispatcher([worker.door], use)


def test_large_bodies_both_ways_at_once_do_not_stall() -> None:
    bodies = [os.urandom(size) for size in (LARGE, 10, 5_000_000, 200_000, 3, LARGE)]

    async def use(dispatcher: Dispatcher) -> None:
        replies = await asyncio.gather(*(dispatcher.ask(Ask("predict", body)) for body in bodies))
        assert [reply.body for reply in replies] == bodies

    with workers(echo) as (worker,):
        with_dispatcher([worker.door], use)


def test_what_waits_is_answered_in_one_turn() -> None:
    async def use(dispatcher: Dispatcher) -> None:
        replies = await asyncio.gather(*(dispatcher.ask(Ask("predict", b"%d" % number)) for number in range(200)))
        assert [reply.body for reply in replies] == [b"%d" % number for number in range(200)]

    with workers(echo, echo) as both:
        with_dispatcher([worker.door for worker in both], use)
        assert sum(both[0].turns) == sum(both[1].turns) == 100, "the least busy worker is asked"
        assert len(both[0].turns) < 50


def test_the_requests_of_a_worker_that_dies_are_answered_by_another() -> None:
    asked, may_go = threading.Event(), threading.Event()

    def dies(asks: Sequence[Ask]) -> Sequence[Reply]:
        asked.set()
        may_go.wait(10)
        raise SystemExit

    async def use(dispatcher: Dispatcher) -> None:
        asks = [asyncio.create_task(dispatcher.ask(Ask("predict", b"%d" % number))) for number in range(20)]
        await asyncio.to_thread(asked.wait, 10)
        may_go.set()
        assert [(await task).status for task in asks] == [200] * 20
        mortal.revive(echo)
        await until(lambda: dispatcher.ready == 2)
        replies = await asyncio.gather(*(dispatcher.ask(Ask("predict", b"again")) for _ in range(20)))
        assert {reply.body for reply in replies} == {b"again"}
        assert mortal.turns[-1] > 0

    with workers(dies, echo) as (mortal, other):
        with_dispatcher([mortal.door, other.door], use)


def test_without_another_worker_requests_are_refused_at_once_and_the_next_one_is_found() -> None:
    def dies(asks: Sequence[Ask]) -> Sequence[Reply]:
        raise SystemExit

    async def use(dispatcher: Dispatcher) -> None:
        for _ in range(2):  # while it answered, and while nobody is there
            with pytest.raises(Refused) as caught:
                await dispatcher.ask(Ask("predict", b""))
            assert (caught.value.status, caught.value.code) == (503, "restarting")
        worker.revive(echo)
        await until(lambda: dispatcher.ready == 1)
        assert (await dispatcher.ask(Ask("predict", b"x"))).body == b"x"

    with workers(dies) as (worker,):
        with_dispatcher([worker.door], use)


def test_a_worker_that_does_not_answer_costs_the_timeout_and_gets_only_so_much() -> None:
    may_go = threading.Event()

    def frozen(asks: Sequence[Ask]) -> Sequence[Reply]:
        may_go.wait(20)
        return echo(asks)

    async def use(dispatcher: Dispatcher) -> None:
        results = await asyncio.gather(*(dispatcher.ask(Ask("predict", b"")) for _ in range(8)), return_exceptions=True)
        assert [getattr(one, "code", None) for one in results] == ["timeout"] * 5 + ["busy"] * 3
        with pytest.raises(Refused) as caught:
            await dispatcher.ask(Ask("predict", b""))
        assert caught.value.code == "busy", "what a frozen worker was given stays counted"
        may_go.set()
        await until(lambda: not dispatcher.owed)
        assert (await dispatcher.ask(Ask("predict", b"x"))).body == b"x"

    with workers(frozen) as (worker,):
        try:
            with_dispatcher([worker.door], use, timeout=0.3, most=5)
        finally:
            may_go.set()


def test_a_request_that_nobody_waits_for_any_more_is_not_worked_on() -> None:
    started, may_go = threading.Event(), threading.Event()
    seen: list[bytes] = []

    def slow(asks: Sequence[Ask]) -> Sequence[Reply]:
        seen.extend(ask.body for ask in asks)
        started.set()
        may_go.wait(20)
        return echo(asks)

    async def use(dispatcher: Dispatcher) -> None:
        first = asyncio.create_task(dispatcher.ask(Ask("predict", b"first")))
        await asyncio.to_thread(started.wait, 10)
        with pytest.raises(Refused):
            await dispatcher.ask(Ask("predict", b"late"), timeout=0.1)
        may_go.set()
        assert (await first).body == b"first"
        await until(lambda: not dispatcher.owed)

    with workers(slow) as (worker,):
        with_dispatcher([worker.door], use)
    assert seen == [b"first"]


def test_no_timer_runs_while_nothing_waits() -> None:
    async def use(dispatcher: Dispatcher) -> None:
        await dispatcher.ask(Ask("predict", b""))
        await until(lambda: not dispatcher.sweeping)

    with workers(echo) as (worker,):
        with_dispatcher([worker.door], use)
