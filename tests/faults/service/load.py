"""Clients that keep asking while something breaks, and remember every answer: nothing of the service but its HTTP."""

import asyncio
import json
import os
import statistics
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from urllib.parse import urlsplit

from tests.support.waiting import wait_until

CONNECTIONS = int(os.environ.get("TEST_CONNECTIONS", "16"))


@dataclass(frozen=True, slots=True)
class Answer:
    """One answered row: when it was asked (monotonic), how long it took, which row of the pool, and what came back."""

    at: float
    seconds: float
    id: str
    row: int
    version: int
    score: float


@dataclass
class Load:
    """What the clients got. `broken`: connections that ended under a request; `hung`: no answer within the patience."""

    answers: list[Answer] = field(default_factory=list)
    refused: Counter[int] = field(default_factory=Counter)
    broken: int = 0
    hung: int = 0

    @property
    def failed(self) -> int:
        """Requests that got no answer of status 200."""
        return sum(self.refused.values()) + self.broken + self.hung

    def flow(self, seconds: float) -> "Span":
        """Let the clients ask for a while."""
        since = time.monotonic()
        wait_until(lambda: time.monotonic() >= since + seconds, seconds + 30, "traffic to flow")
        return self.span(since, time.monotonic())

    def span(self, since: float, until: float) -> "Span":
        """How the answers of a time were."""
        times = sorted(one.seconds for one in self.answers if since <= one.at < until)
        return Span(len(times), until - since, _quantile(times, 0.5), _quantile(times, 0.99), max(times, default=0.0))

    def latest(self, number: int) -> list[Answer]:
        """The newest answers."""
        return self.answers[-number:]


@dataclass(frozen=True, slots=True)
class Span:
    """Answers of a time; p50, p99 and the slowest in seconds."""

    answers: int
    seconds: float
    p50: float
    p99: float
    slowest: float

    def __str__(self) -> str:
        rate = self.answers / self.seconds
        return f"{rate:.0f}/s, p50 {self.p50 * 1e3:.0f} ms, p99 {self.p99 * 1e3:.0f} ms, slowest {self.slowest * 1e3:.0f} ms"


@contextmanager
def asking(url: str, rows: Sequence[dict[str, Any]], patience: float, connections: int = CONNECTIONS) -> Iterator[Load]:
    """Clients that ask one row of the pool each, over and over, until the block is left; each row under an id of its own."""
    got, stop = Load(), threading.Event()
    clients = [_Client(url, rows, patience, got, stop, number) for number in range(connections)]

    async def ask() -> None:
        await asyncio.gather(*(client.run() for client in clients))

    thread = threading.Thread(target=asyncio.run, args=(ask(),), name="load")
    thread.start()
    try:
        yield got
    finally:
        stop.set()
        thread.join()


class _Client:
    def __init__(
        self, url: str, rows: Sequence[dict[str, Any]], patience: float, got: Load, stop: threading.Event, number: int
    ) -> None:
        self._address = urlsplit(url).hostname, urlsplit(url).port
        self._rows = rows
        self._patience = patience
        self._got = got
        self._stop = stop
        self._name = number
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def run(self) -> None:
        for number in count():
            if self._stop.is_set():
                break
            await self._ask(f"{self._name}-{number}", number % len(self._rows))
        self._hang_up()

    async def _ask(self, name: str, row: int) -> None:
        body = json.dumps({"instances": [{**self._rows[row], "id": name}]}).encode()
        at = time.monotonic()
        try:
            status, content = await asyncio.wait_for(self._exchange(body), self._patience)
        except TimeoutError:
            self._got.hung += 1
            self._hang_up()
        except (OSError, EOFError):
            self._got.broken += 1
            self._hang_up()
            await asyncio.sleep(0.02)  # nobody listens: not a million tries a second
        else:
            self._take(at, name, row, status, content)

    async def _exchange(self, body: bytes) -> tuple[int, bytes]:
        if self._streams is None:
            self._streams = await asyncio.open_connection(*self._address)
        reader, writer = self._streams
        head = f"POST /predict HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        answer = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        content = await reader.readexactly(int(answer.partition("content-length: ")[2].partition("\r\n")[0]))
        if "connection: close" in answer:
            self._hang_up()
        return int(answer.split(" ", 2)[1]), content

    def _take(self, at: float, name: str, row: int, status: int, content: bytes) -> None:
        if status != 200:
            self._got.refused[status] += 1
            return
        body = json.loads(content)
        (prediction,) = body["predictions"]
        assert prediction["id"] == name
        seconds = time.monotonic() - at
        self._got.answers.append(Answer(at, seconds, name, row, body["version"], prediction["score"]))

    def _hang_up(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def median(values: Sequence[float]) -> float:
    """The middle one; 0 of none."""
    return statistics.median(values) if values else 0.0


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
