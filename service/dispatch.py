"""The dispatcher: an HTTP process's side of the channels. Chooses a worker for each request and minds the clock.

A request goes to the worker with the least in flight. When a worker dies its requests go to another one, once, or are
refused at once; the channel is made again and used when the new worker says hello. What is in flight is bounded, so
nothing here queues without end, and one sweep of those that wait keeps every timeout.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

from service.channel import HELLO, REPLY, REQUEST, Door, Splitter
from service.desk import Ask, Reply
from service.refusal import Refused, busy, timed_out, unavailable

MAX_BYTES = 256 * 1024 * 1024
"""Bytes of the bodies in flight in one HTTP process: sixteen of the largest that the default settings allow."""

SWEEP = 0.1
"""Seconds between two looks at what waits, while anything does: how late a timeout may be."""

AGAIN = 0.2
"""Seconds before a door that was full is tried again."""

UNIT = 1024
"""Bytes of a body that weigh as much as a request of its own, so that one big request is not taken for a small one."""

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Waiting:
    """A request on its way; `future` is the one thing that the asker sees."""

    ask: Ask
    weight: int
    deadline: float
    timeout: float
    future: asyncio.Future[Reply]
    repeated: bool = False


class Dispatcher:
    """All channels of one HTTP process. Lives in its event loop; nothing here is for other threads."""

    def __init__(self, doors: Sequence[Door], timeout: float, max_in_flight: int) -> None:
        """Among equally idle workers the first door counts: give each HTTP process another order."""
        self._timeout = timeout
        self._most = max_in_flight
        self._lines = [_Line(door, self._repeat) for door in doors]
        self._waiting: dict[int, _Waiting] = {}
        self._number = HELLO
        self._bytes = 0
        self._sweeper: asyncio.TimerHandle | None = None

    def open(self) -> None:
        """Make the channels; called in the event loop."""
        self._loop = asyncio.get_running_loop()
        for line in self._lines:
            line.open(self._loop)

    def close(self) -> None:
        """Close the channels; whatever waits is refused."""
        for line in self._lines:
            line.close()
        if self._sweeper is not None:
            self._sweeper.cancel()

    @property
    def ready(self) -> int:
        """Workers that take requests."""
        return sum(line.ready for line in self._lines)

    @property
    def owed(self) -> int:
        """Requests that workers have not answered, whether anybody waits for them or not."""
        return sum(len(line.sent) for line in self._lines)

    @property
    def sweeping(self) -> bool:
        """Whether a timer is set: only while something waits."""
        return self._sweeper is not None

    async def ask(self, ask: Ask, timeout: float | None = None) -> Reply:
        """Ask a worker; raises Refused: 503 when all are away or busy enough, 504 when none answers in time."""
        size, patience = len(ask.body), timeout or self._timeout
        line = self._line_for(size)
        self._number = number = self._number % 0xFFFFFFFF + 1
        waiting = _Waiting(ask, 1 + size // UNIT, time.monotonic() + patience, patience, self._loop.create_future())
        self._waiting[number] = waiting
        self._bytes += size
        line.send(number, waiting)
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(SWEEP, self._sweep)
        try:
            return await waiting.future
        finally:
            del self._waiting[number]
            self._bytes -= size

    def _line_for(self, size: int) -> "_Line":
        line = self._idlest()
        if line is None:
            raise _restarting()
        # A worker's count outlives the patience of those who asked: a frozen worker does not get more and more.
        full = len(self._waiting) >= self._most or len(line.sent) >= self._most
        if full or (self._bytes and self._bytes + size > MAX_BYTES):
            raise busy(len(self._waiting))
        return line

    def _idlest(self) -> "_Line | None":
        best = None
        for line in self._lines:
            if line.ready and (best is None or line.weight < best.weight):
                best = line
        return best

    def _repeat(self, sent: "dict[int, _Waiting]") -> None:
        """A worker died: ask another what it was asked."""
        for number, waiting in sent.items():
            if waiting.future.done():
                continue
            line = None if waiting.repeated else self._idlest()
            if line is None:
                waiting.future.set_exception(_restarting())
            else:
                waiting.repeated = True  # a request that kills its worker must not kill them all
                line.send(number, waiting)

    def _sweep(self) -> None:
        now = time.monotonic()
        for waiting in self._waiting.values():
            if waiting.deadline <= now and not waiting.future.done():
                waiting.future.set_exception(timed_out(waiting.timeout))
                waiting.ask = _GIVEN_UP
        self._sweeper = self._loop.call_later(SWEEP, self._sweep) if self._waiting else None


class _Line(asyncio.Protocol):
    """The channel to one worker, made again whenever the worker is."""

    def __init__(self, door: Door, on_lost: Callable[[dict[int, _Waiting]], None]) -> None:
        self._door = door
        self._on_lost = on_lost
        self._closed = False
        self._transport: asyncio.Transport | None = None
        self._opening: asyncio.Task[None] | None = None
        self.ready = False
        self._unsent: list[bytes] = []
        self.sent: dict[int, _Waiting] = {}
        self.weight = 0

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        if not self._closed:
            self._opening = loop.create_task(self._open())

    def close(self) -> None:
        self._closed = True
        if self._transport is not None:
            self._transport.close()

    def send(self, number: int, waiting: _Waiting) -> None:
        assert self._transport is not None, "only a line that is ready is asked"
        self.sent[number] = waiting
        self.weight += waiting.weight
        body = waiting.ask.body
        if not self._unsent:
            self._loop.call_soon(self._flush)
        self._unsent += (REQUEST.pack(len(body), number, waiting.deadline, waiting.ask.code), body)

    def _flush(self) -> None:
        """What one turn of the loop asks goes in one piece; uvloop keeps what the socket does not take."""
        if self._transport is not None:
            self._transport.write(b"".join(self._unsent))
        self._unsent.clear()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are no subclass
        self._splitter = Splitter(REPLY)

    def data_received(self, data: bytes) -> None:
        for (_, number, status), body in self._splitter.feed(data):
            if number == HELLO:
                self.ready = True
                continue
            waiting = self.sent.pop(number)
            self.weight -= waiting.weight
            if not waiting.future.done():
                waiting.future.set_result(Reply(status, body))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's name; why does not matter
        lost, self.sent, self.weight = self.sent, {}, 0
        self.ready, self._transport = False, None
        self.open(self._loop)
        if lost and not self._closed:
            logger.warning("a worker went away with %d requests: they are asked again", len(lost))
        self._on_lost(lost)

    async def _open(self) -> None:
        while not self._closed:
            try:
                await self._loop.create_unix_connection(lambda: self, sock=self._door.knock())
                return
            except OSError:
                await asyncio.sleep(AGAIN)


_GIVEN_UP = Ask("status", b"")
"""Instead of what was asked: a worker may hold on to its place for long, but not to the memory of its body."""


def _restarting() -> Refused:
    return unavailable("restarting", "no worker is there; they are being started, try again in a few seconds")
