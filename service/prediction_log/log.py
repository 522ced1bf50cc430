"""The prediction log: a request appends its batch to a buffer in memory; two threads bring what is in it to a safe place.

A log belongs to one model: its buffer, positions, disk queue and stream. The threads serve all logs of the process: the publisher
brings rows to the store, the disk thread to the disk queue when the store does not take them in time (threads.py), so that no
store that is away or frozen is waited for. Everything has a position, and the store says up to which one it has the
rows: whatever both threads did with a row, it is in the stream once. What is in memory is in a mapped file too, so that a process
that is killed takes no answered row along (journal.py). Each thread's state is its own; shared are buffer with journal and disk
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
from service.prediction_log.buffer import Buffer, Signals
from service.prediction_log.disk_queue import DiskQueue
from service.prediction_log.journal import Journal, create_journal
from service.prediction_log.log_publisher import LogPublisher
from service.prediction_log.parts import LogParts
from service.prediction_log.progress_file import create_progress
from service.prediction_log.redis_client import connect
from service.prediction_log.spooler import Spooler
from service.prediction_log.threads import DiskThread, PublisherThread

CAPACITY = 64 * 1024 * 1024  # bytes that wait in memory: seconds of the largest requests, while the disk is slow or full
LEAST_CAPACITY = 4 * 1024 * 1024  # of one of many logs
JOURNAL_SHARE, LEAST_JOURNAL = 64, 64 * 1024  # of a log's bytes in memory those that a kill spares: 1 MB of 64, at least 64 KB
STORE_TIMEOUT = timedelta(seconds=1)  # for an answer of the store; the publisher's thread waits for it, requests do not
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
    """One process's log of one model. Any thread may call `append`; `PredictionLogs` starts and closes it."""

    def __init__(
        self,
        logs: "PredictionLogs",
        model: str,
        directory: Path,
        *,
        full: Literal["fail", "count"],
        observe: Callable[[LogState], None],
        capacity: int,
    ) -> None:
        self._full, self._observe, self._signals = full, observe, logs.signals
        self._progress = progress = create_progress(directory)
        size = max(LEAST_JOURNAL, capacity // JOURNAL_SHARE)
        self._journal = create_journal(directory, progress.source, size) if progress.is_on_disk else Journal(None, None, size)
        self.buffer = buffer = Buffer(capacity, partial(setattr, progress, "answered"), logs.signals, self._journal)
        self._queue = queue = DiskQueue(directory, progress.source)
        parts = LogParts(buffer, queue, progress, self._tell_observer)
        self.publisher = LogPublisher(logs.store, logs.url, model, directory, parts)
        self.spooler = Spooler(parts, lambda: self.publisher.state.reached)
        self._observing = threading.Lock()
        self._dropping = threading.Lock()
        self._dropped, self._reported = 0, -1

    @property
    def has_room(self) -> bool:
        """Whether an append would return at once and be kept; a caller that must not wait looks here first."""
        return self.buffer.has_room

    def append(self, batch: PredictionBatch, size: int) -> None:
        """Hand over a batch of some `size` bytes. Waits at most PATIENCE for room, and not at all where there is some.

        A batch that finds no room is counted as dropped, or raises a 503 where the policy is fail.
        """
        if self._signals.closing.is_set():
            raise unavailable("ending", "the service is ending; ask another one, or try again")
        if not self.buffer.append(batch, size, _PATIENCE if self.spooler.is_writable else 0.0):
            self._drop(len(batch.ids))

    def state(self) -> LogState:
        counts, publisher = self._queue.counts, self.publisher.state
        waiting, size = self.buffer.waiting()
        return LogState(
            waiting=waiting,
            waiting_bytes=size,
            spool_waiting=counts.waiting + publisher.orphaned,
            reached=publisher.reached,
            spoolable=self.spooler.is_writable,
            written=publisher.written,
            spooled=counts.written,
            replayed=counts.removed + publisher.recovered,
            dropped=self._dropped,
            lost=publisher.lost,
        )

    def finish(self) -> None:
        """After the threads' end: leave what the store does not have to a later process."""
        self._queue.close()
        if self.buffer.end > self.publisher.state.written:
            self._journal.close()
            self._progress.close()
        else:
            self._journal.remove()
            self._progress.remove()
            self.publisher.forget_mark()

    def _drop(self, rows: int) -> None:
        if self._full == "fail":
            full = "the prediction log is full: store and disk take nothing; start the store or free the disk"
            raise unavailable("log_full", full)
        with self._dropping:
            self._dropped += rows
            written = self.publisher.state.written
            if self._reported == written:
                return  # the store has taken nothing since the last report
            self._reported = written
        error = PredictionsLost("store, memory and disk take no more predictions: they are answered, counted and not logged")
        logger.error("%s", error)
        report(error, group=("service", "predictions-dropped"))

    def _tell_observer(self) -> None:
        with self._observing:
            self._observe(self.state())


class PredictionLogs:
    """One process's logs, with the two threads that serve all of them and one connection to the store at `url`."""

    def __init__(self, url: str) -> None:
        self.url, self.store, self.signals = url, connect(url, timeout=STORE_TIMEOUT), Signals()
        self._logs: list[PredictionLog] = []
        self._threads: tuple[PublisherThread, DiskThread] | None = None

    def add(
        self,
        model: str,
        directory: Path,
        *,
        full: Literal["fail", "count"] = "count",
        observe: Callable[[LogState], None] = lambda _: None,
        capacity: int = CAPACITY,
    ) -> PredictionLog:
        """One more log, before the start."""
        log = PredictionLog(self, model, directory, full=full, observe=observe, capacity=capacity)
        self._logs.append(log)
        return log

    def start(self) -> None:
        publisher = PublisherThread(self.store, self.url, [log.publisher for log in self._logs], self.signals)
        self._threads = (publisher, DiskThread([log.spooler for log in self._logs], self.signals))
        for thread in self._threads:
            thread.start()

    def close(self, timeout: timedelta) -> int:
        """Bring everything to the store or to disk within `timeout`; returns how many batches are in neither."""
        deadline = time.monotonic() + timeout.total_seconds()
        self.signals.close()
        threads = [thread for thread in self._threads or () if thread.is_alive()]
        if threads:
            for log in self._logs:
                log.buffer.wait_empty(max(0.0, deadline - time.monotonic()))
            self.signals.stopped.set()
            for thread in threads:
                thread.join(max(0.0, deadline - time.monotonic()))
        left = sum(log.buffer.waiting()[0] for log in self._logs)
        if left:
            logger.error("the prediction log closed with %d batches that neither store nor disk took", left)
        if not any(thread.is_alive() for thread in threads):  # or one hangs, and a later process takes over what this one leaves
            for log in self._logs:
                log.finish()
        return left
