"""The prediction log's writer: takes batches from the request path, sends them to the store from a thread of its own.

The request path only appends to a bounded queue. While the store is away the thread retries, in order, and no request
fails; a full queue is said so before anything is answered, because an answer that is not logged is lost to monitoring.
Where a batch waits is decided in `_Backlog` alone.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from perennial.errors import StoreUnreachable
from perennial.record import PredictionBatch, encode_predictions
from perennial.triage import report
from service.refusal import unavailable
from service.store import connect, reaching
from service.stream import append_all, predictions_stream

CAPACITY = 128 * 1024 * 1024
"""Bytes that wait in memory: about a million rows of 17 columns per worker while the store is away."""

PIPELINE = 64
"""Batches in one round trip: past this a bigger pipeline is not faster, and a failed one repeats more."""

FIRST_PAUSE = 0.05
LAST_PAUSE = 1.0
"""Seconds between two tries while the store is away: doubles from the first to the last."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LogState:
    """What the log holds and did: batches and bytes that wait, batches the store has, and whether the last try worked."""

    waiting: int
    waiting_bytes: int
    written: int
    reached: bool


class PredictionLog:
    """One worker's log. `append` is called by the request path, `close` once at the end."""

    def __init__(
        self, url: str, model: str, *, observe: Callable[[LogState], None] = lambda _: None, capacity: int = CAPACITY
    ) -> None:
        self._url = url
        self._observe = observe
        self._stream = predictions_stream(model)
        self._store = connect(url)
        self._backlog = _Backlog(capacity)
        self._closing = threading.Event()
        self._reached = True
        self._written = 0
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)

    def start(self) -> None:
        """Start the writer thread."""
        self._thread.start()

    def append(self, batch: PredictionBatch) -> None:
        """Hand over a batch; raises Refused (503) when the store has been away for longer than memory lasts."""
        if not self._backlog.put(encode_predictions(batch)):
            raise unavailable("log_full", "the prediction log is full because the store has been away: start the store again")

    def state(self) -> LogState:
        """What the log holds now."""
        waiting, size = self._backlog.size()
        return LogState(waiting=waiting, waiting_bytes=size, written=self._written, reached=self._reached)

    def close(self, patience: float) -> int:
        """Flush for at most `patience` seconds and stop; returns how many batches the store did not take."""
        self._closing.set()
        self._backlog.wake()
        if self._thread.is_alive():
            self._thread.join(patience)
        lost, _ = self._backlog.size()
        if lost:
            error = StoreUnreachable(f"the prediction log closed with {lost} batches that the store did not take: they are lost")
            logger.error("%s", error)
            report(error, group=("service", "predictions-lost"))
        return lost

    def _run(self) -> None:
        pause = FIRST_PAUSE
        while batches := self._next():
            sent = self._send(batches)
            self._observe(self.state())
            if not sent:
                self._rest(pause)
            pause = FIRST_PAUSE if sent else min(2 * pause, LAST_PAUSE)

    def _rest(self, pause: float) -> None:
        if self._closing.is_set():
            time.sleep(FIRST_PAUSE)  # the last tries are quick: there is little time left
        else:
            self._closing.wait(pause)

    def _next(self) -> Sequence[bytes]:
        """The oldest batches; waits for one, and is empty only when closing with nothing left."""
        while not (batches := self._backlog.oldest(PIPELINE)):
            if self._closing.is_set():
                return ()
            self._backlog.wait()
        return batches

    def _send(self, batches: Sequence[bytes]) -> bool:
        try:
            with reaching(self._url):
                append_all(self._store, self._stream, batches)
        except StoreUnreachable as error:
            self._lost_sight(error)
            return False
        self._backlog.drop(len(batches))
        self._written += len(batches)
        if not self._reached:
            logger.info("the store is back; %d batches wait", self._backlog.size()[0])
        self._reached = True
        return True

    def _lost_sight(self, error: StoreUnreachable) -> None:
        if self._reached:  # once per absence, not once per try
            logger.warning("predictions wait in memory: %s", error)
            report(error, group=("service", "store-unreachable"))
        self._reached = False


class _Backlog:
    """Payloads in order, bounded by bytes. A payload leaves only when the store has it."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._payloads: deque[bytes] = deque()
        self._bytes = 0
        self._changed = threading.Condition()

    def put(self, payload: bytes) -> bool:
        with self._changed:
            # An empty backlog takes any payload: a single request may be larger than the capacity of a test.
            if self._payloads and self._bytes + len(payload) > self._capacity:
                return False
            self._payloads.append(payload)
            self._bytes += len(payload)
            self._changed.notify()
            return True

    def oldest(self, count: int) -> Sequence[bytes]:
        with self._changed:
            return [self._payloads[position] for position in range(min(count, len(self._payloads)))]

    def drop(self, count: int) -> None:
        with self._changed:
            for _ in range(count):
                self._bytes -= len(self._payloads.popleft())

    def size(self) -> tuple[int, int]:
        with self._changed:
            return len(self._payloads), self._bytes

    def wait(self) -> None:
        with self._changed:
            if not self._payloads:
                self._changed.wait(timeout=0.25)

    def wake(self) -> None:
        with self._changed:
            self._changed.notify_all()
