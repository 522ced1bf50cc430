"""The buffer: prediction batches of one model in memory between the request path and the two threads that store them.

Thread-safe: any thread may append, look and drop. Bounded by bytes, as the callers estimate them. A batch leaves only when
one of the threads says up to which position everything is in the store or in the disk queue; as long as it is here it is in the
journal too, which outlives the process (journal.py).
"""

import threading
import time
from collections import deque
from collections.abc import Callable

from perennial.record import PredictionBatch, encode_batch
from service.prediction_log.entries import PendingBatch, first_bytes
from service.prediction_log.journal import Journal

SPARE = 0.1  # share of the capacity that `has_room` keeps free, for an append of another thread that comes in between


class Signals:
    """By which the buffers of a process wake its two threads, and the process tells them that it ends.

    `filled` is notified when a buffer that was empty has a batch, `full` is set while an append waits for room (one at a
    time does, in a worker), `closing` when requests have ended, `stopped` when the threads have to end.
    """

    def __init__(self) -> None:
        self.filled = threading.Condition()
        self.full, self.closing, self.stopped = threading.Event(), threading.Event(), threading.Event()

    def wait_filled(self, has_rows: Callable[[], bool], timeout: float) -> bool:
        """Wait until `has_rows` may hold, for `timeout` seconds, or until the end; returns whether it holds."""
        with self.filled:
            if not has_rows() and not self.closing.is_set():
                self.filled.wait(timeout)
            return has_rows()

    def close(self) -> None:
        """Requests have ended: `wait_filled` waits no more."""
        self.closing.set()
        with self.filled:
            self.filled.notify_all()


class Buffer:
    """Batches in order of their positions. `on_append` is called with each new end before `append` returns."""

    def __init__(self, capacity: int, on_append: Callable[[int], None], signals: Signals, journal: Journal) -> None:
        self._capacity, self._on_append, self._signals, self._journal = capacity, on_append, signals, journal
        self._batches: deque[PendingBatch] = deque()
        self._bytes = 0
        self.end = 0  # position of the last row that was appended
        self._freed = threading.Condition(threading.Lock())

    @property
    def has_rows(self) -> bool:
        """Whether there is a batch; takes no lock."""
        return bool(self._batches)

    @property
    def has_room(self) -> bool:
        """Whether an append of ordinary size would not wait; takes no lock."""
        return not self._batches or self._bytes <= (1 - SPARE) * self._capacity

    def append(self, batch: PredictionBatch, size: int, patience: float) -> bool:
        """Take a batch in; waits at most `patience` seconds for room, and returns whether there was any."""
        payload = encode_batch(batch) if size <= self._journal.limit else None
        with self._freed:
            if not self._fits(size):
                self._signals.full.set()
                try:
                    if not self._freed.wait_for(lambda: self._fits(size), patience):
                        return False
                finally:
                    self._signals.full.clear()
            was_empty = not self._batches
            start, self.end = self.end, self.end + len(batch.ids)
            if payload is not None:
                self._journal.append(start, self.end, payload)
            self._batches.append(PendingBatch(start, self.end, size, time.monotonic(), batch, payload))
            self._bytes += size
            self._on_append(self.end)
        if was_empty:
            with self._signals.filled:
                self._signals.filled.notify_all()
        return True

    def oldest(self, limit: int) -> list[PendingBatch]:
        """The oldest batches: as many as have `limit` bytes, and at least one where there is any."""
        with self._freed:
            return first_bytes(self._batches, limit)

    def older_than(self, age: float, limit: int) -> list[PendingBatch]:
        """The oldest batches among those that have waited for `age` seconds."""
        bound = time.monotonic() - age
        with self._freed:
            return first_bytes((one for one in self._batches if one.since <= bound), limit)

    def drop(self, position: int) -> None:
        with self._freed:
            while self._batches and self._batches[0].end <= position:
                self._bytes -= self._batches.popleft().size
            self._journal.drop(position)
            self._freed.notify_all()

    def waiting(self) -> tuple[int, int]:
        with self._freed:
            return len(self._batches), self._bytes

    def wait_empty(self, timeout: float) -> bool:
        with self._freed:
            return self._freed.wait_for(lambda: not self._batches, timeout)

    def _fits(self, size: int) -> bool:
        # An empty buffer takes any batch: a single one may be larger than the capacity.
        return not self._batches or self._bytes + size <= self._capacity
