"""The counter: an inference worker's side of the channels. Takes everything that waits, answers it, and waits again.

One thread, one selector, nothing blocks: an answer that a socket does not take yet is kept and sent when it does.
"""

import selectors
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from service.channel import BYE, CHUNK, HELLO, REPLY, REQUEST, Door, Splitter
from service.desk import Ask, Reply, ask_of

TURN = 32
"""Requests answered in one go: enough to share what they share, few enough that the first does not wait for the last."""

LARGE = 65_536
"""Bytes of request bodies in one go, beyond the first request: a thousand rows are a turn of their own."""

UNSENT = 64 * 1024 * 1024
"""Bytes of answers that an HTTP process may leave lying before nothing more is read from it."""

EXPIRED = Reply(504, b"")
"""For a request that nobody waits for any more; nobody reads it."""

Answerer = Callable[[Sequence[Ask]], Sequence[Reply]]


@dataclass(eq=False, slots=True)
class _Channel:
    socket: socket.socket
    splitter: Splitter = field(default_factory=lambda: Splitter(REQUEST))
    unsent: list[bytes] = field(default_factory=list)
    begun: memoryview = field(default_factory=lambda: memoryview(b""))
    """What the socket has not taken yet of the bytes it was given last; `unsent` comes after it."""


@dataclass(frozen=True, slots=True)
class _Asked:
    channel: _Channel
    number: int
    deadline: float
    ask: Ask


class Counter:
    """One worker's channels; `serve` returns when the door says bye and everything asked by then is answered."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._selector = selectors.DefaultSelector()
        self._selector.register(door.inside, selectors.EVENT_READ, None)
        self._open = True

    def serve(self, answer: Answerer) -> None:
        """Answer until bye; `answer` gets up to TURN requests at a time and never raises."""
        while self._open:
            asked = self._wait(None)
            for turn in _turns(asked):
                self._answer(turn, answer)
        self.close()

    def _answer(self, asked: Sequence[_Asked], answer: Answerer) -> None:
        now = time.monotonic()
        live = [one for one in asked if one.deadline > now]
        replies = answer([one.ask for one in live]) if live else ()
        for one, reply in zip(live, replies, strict=True):
            _put(one, reply)
        if len(live) < len(asked):
            for one in asked:
                if one.deadline <= now:
                    _put(one, EXPIRED)
        for channel in {one.channel for one in asked}:
            self._send(channel)

    def _wait(self, timeout: float | None) -> list[_Asked]:
        asked: list[_Asked] = []
        for key, events in self._selector.select(timeout):
            if key.data is None:
                self._at_the_door()
                continue
            if events & selectors.EVENT_WRITE:
                self._send(key.data)
            if events & selectors.EVENT_READ:
                asked += self._read(key.data)
        return asked

    def _at_the_door(self) -> None:
        try:
            word, came = self._door.answer()
        except BlockingIOError:
            return
        self._open = self._open and word != BYE
        for one in came:
            one.setblocking(False)
            channel = _Channel(one)
            self._selector.register(one, selectors.EVENT_READ, channel)
            channel.unsent.append(REPLY.pack(0, HELLO, 0))
            self._send(channel)

    def _read(self, channel: _Channel) -> Iterator[_Asked]:
        try:
            data = channel.socket.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(channel)
            return
        for (_, number, deadline, code), body in channel.splitter.feed(data):
            yield _Asked(channel, number, deadline, ask_of(code, body))

    def _send(self, channel: _Channel) -> None:
        if channel.socket.fileno() < 0:
            return  # its HTTP process went away while its requests were answered
        waited = bool(channel.begun)
        if not waited:
            _begin(channel)
        try:
            while channel.begun:
                channel.begun = channel.begun[channel.socket.send(channel.begun) :]
                if not channel.begun:
                    _begin(channel)
        except BlockingIOError:
            pass
        except OSError:
            self._drop(channel)
            return
        if waited or channel.begun:
            self._watch(channel)

    def _watch(self, channel: _Channel) -> None:
        """Wait until the socket takes more; from whoever leaves too much lying nothing more is read."""
        left = len(channel.begun) + sum(map(len, channel.unsent))
        reading = selectors.EVENT_READ if left < UNSENT else 0
        self._selector.modify(channel.socket, reading | (selectors.EVENT_WRITE if left else 0), channel)

    def _drop(self, channel: _Channel) -> None:
        self._selector.unregister(channel.socket)
        channel.socket.close()

    def close(self) -> None:
        """Send what the sockets take and close them; the HTTP processes have ended, so there is seldom anything."""
        for channel in [key.data for key in self._selector.get_map().values() if key.data is not None]:
            self._send(channel)
            if channel.socket.fileno() >= 0:
                self._drop(channel)
        self._selector.close()


def _begin(channel: _Channel) -> None:
    channel.begun = memoryview(channel.unsent[0] if len(channel.unsent) == 1 else b"".join(channel.unsent))
    channel.unsent.clear()


def _put(one: _Asked, reply: Reply) -> None:
    one.channel.unsent += (REPLY.pack(len(reply.body), one.number, reply.status), reply.body)


def _turns(asked: Sequence[_Asked]) -> Iterator[Sequence[_Asked]]:
    turn: list[Any] = []
    size = 0
    for one in asked:
        if turn and (len(turn) == TURN or size + len(one.ask.body) > LARGE):
            yield turn
            turn, size = [], 0
        turn.append(one)
        size += len(one.ask.body)
    if turn:
        yield turn
