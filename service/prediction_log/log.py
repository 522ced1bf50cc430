"""The prediction log: a request appends its batch to a buffer in memory; two threads bring what is in it to a safe place.

The publisher brings it to the store, the disk thread to the disk queue when the store does not take it in time (threads.py), so
that no store that is away or frozen is waited for. Everything has a position, and the store says up to which one it has the
rows: whatever both threads did with a row, it is in the stream once. Each thread's state is its own; shared are buffer and disk
queue, each under its lock, the progress file with one writer per number, and immutable snapshots.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Literal

from perennial.error_reporting import report
from perennial.errors import PredictionsLost
from perennial.record import PredictionBatch
from service.errors import unavailable
from service.prediction_log.buffer import Buffer
from service.prediction_log.disk_queue import DiskQueue
from service.prediction_log.progress_file import create_progress
from service.prediction_log.threads import DiskThread, LogParts, PublisherThread

CAPACITY = 64 * 1024 * 1024  # bytes that wait in memory: seconds of the largest requests, while the disk is slow or full
PATIENCE = timedelta(seconds=2)  # for which an append waits for room in memory; the disk thread makes some
_PATIENCE = PATIENCE.total_seconds()

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LogState:
    """How the log stands: batches and bytes in memory, rows on disk, whether store and disk took the last write.

    The rest counts rows since the start: in the stream, spooled (written to disk), replayed (brought in from disk), answered
    without being logged (dropped), and lost by processes that were killed.
    """

    waiting: int
    waiting_bytes: int
    spool_waiting: int
    reached: bool
    spoolable: bool
    written: int
    spooled: int
    replayed: int
    dropped: int
    lost: int

    @property
    def keeper(self) -> Literal["store", "spool", "memory"]:
        """What keeps the rows that are answered now; memory means that a full one drops or refuses."""
        if self.reached and not self.spool_waiting:
            return "store"
        return "spool" if self.spoolable else "memory"


class PredictionLog:
    """One process's log. Any thread may call `append`; `close` is called once at the end."""

    def __init__(
        self,
        url: str,
        model: str,
        directory: Path,
        *,
        full: Literal["fail", "count"] = "count",
        observe: Callable[[LogState], None] = lambda _: None,
        capacity: int = CAPACITY,
    ) -> None:
        self._full, self._observe = full, observe
        self._progress = progress = create_progress(directory)
        self._buffer = buffer = Buffer(capacity, on_append=partial(setattr, progress, "answered"))
        self._queue = queue = DiskQueue(directory, progress.source)
        self._parts = parts = LogParts(buffer, queue, progress, self._tell_observer)
        self._publisher = PublisherThread(url, model, directory, parts)
        self._disk = DiskThread(parts, lambda: self._publisher.state.reached)
        self._observing = threading.Lock()
        self._dropping = threading.Lock()
        self._dropped, self._reported = 0, -1

    @property
    def has_room(self) -> bool:
        """Whether an append would return at once and be kept; a caller that must not wait looks here first."""
        return self._buffer.has_room

    def start(self) -> None:
        self._publisher.start()
        self._disk.start()

    def append(self, batch: PredictionBatch, size: int) -> None:
        """Hand over a batch of some `size` bytes. Waits at most PATIENCE for room, and not at all where there is some.

        A batch that finds no room is counted as dropped, or raises a 503 where the policy is fail.
        """
        if self._parts.closing.is_set():
            raise unavailable("ending", "the service is ending; ask another one, or try again")
        if not self._buffer.append(batch, size, _PATIENCE if self._disk.is_writable else 0.0):
            self._drop(len(batch.ids))

    def state(self) -> LogState:
        counts, publisher = self._queue.counts, self._publisher.state
        waiting, size = self._buffer.waiting()
        return LogState(
            waiting=waiting,
            waiting_bytes=size,
            spool_waiting=counts.waiting + publisher.orphaned,
            reached=publisher.reached,
            spoolable=self._disk.is_writable,
            written=publisher.written,
            spooled=counts.written,
            replayed=counts.removed + publisher.recovered,
            dropped=self._dropped,
            lost=publisher.lost,
        )

    def close(self, timeout: timedelta) -> int:
        """Bring everything to the store or to disk within `timeout`; returns how many batches are in neither."""
        deadline = time.monotonic() + timeout.total_seconds()
        self._parts.closing.set()
        self._buffer.close()
        if self._publisher.is_alive():
            self._buffer.wait_empty(timeout.total_seconds())
            self._parts.stopped.set()
            for thread in (self._disk, self._publisher):
                thread.join(max(0.0, deadline - time.monotonic()))
        left, _ = self._buffer.waiting()
        if left:
            logger.error("the prediction log closed with %d batches that neither store nor disk took", left)
        if not self._publisher.is_alive():  # or it hangs in the store, and a later process takes over what this one leaves
            self._queue.close()
            if self._buffer.end > self._publisher.state.written:
                self._progress.close()
            else:
                self._progress.remove()
                self._publisher.forget_mark()
        return left

    def _drop(self, rows: int) -> None:
        if self._full == "fail":
            full = "the prediction log is full: store and disk take nothing; start the store or free the disk"
            raise unavailable("log_full", full)
        with self._dropping:
            self._dropped += rows
            written = self._publisher.state.written
            if self._reported == written:
                return  # the store has taken nothing since the last report
            self._reported = written
        error = PredictionsLost("store, memory and disk take no more predictions: they are answered, counted and not logged")
        logger.error("%s", error)
        report(error, group=("service", "predictions-dropped"))

    def _tell_observer(self) -> None:
        with self._observing:
            self._observe(self.state())
