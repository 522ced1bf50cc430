"""The two threads of a prediction log: one brings rows to the store, the other to the disk queue when the store is slow or away.

The publisher brings what waits on disk and in memory to the store, in order of the positions. It alone touches the connection to
the store, the stream publisher, the recovery of orphaned logs and its counts; others see its `state`, an immutable snapshot. The
disk thread brings rows to the disk queue that the store has not taken in time, so that no row waits for the store; it alone
touches whether the disk took the last write. Both share a log's parts.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

from perennial.error_reporting import report
from perennial.errors import PredictionsLost, StoreUnreachable
from service.prediction_log.buffer import Buffer
from service.prediction_log.disk_queue import DiskQueue
from service.prediction_log.entries import MAX_BYTES, encode_entries
from service.prediction_log.progress_file import ProgressFile
from service.prediction_log.publisher import StreamPublisher
from service.prediction_log.recovery import Recovery
from service.prediction_log.redis_client import connect

LINGER = timedelta(milliseconds=10)  # of a row, for others to come: a round trip would cost more than its prediction
STORE_TIMEOUT = timedelta(seconds=1)  # for an answer of the store; this thread waits for it, requests do not
IDLE_WAIT = timedelta(seconds=5)  # for a first row, before the thread looks for orphaned logs again
FIRST_PAUSE, LAST_PAUSE = timedelta(seconds=0.05), timedelta(seconds=1)  # between tries while the store is away, doubling
GRACE = timedelta(milliseconds=100)  # until a row that the store has not taken goes to disk: far above a healthy round trip
COMMIT_INTERVAL = timedelta(milliseconds=10)  # between two commits while the store is away
RETRY_INTERVAL = timedelta(milliseconds=250)  # until a disk that took nothing is tried again
FAILURE_PAUSE = timedelta(seconds=1)  # after an error that is ours

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LogParts:
    """What a log and its threads share; `on_change` is called after each round of the publisher and each commit to disk.

    `closing` is set when requests have ended, `stopped` when the threads have to end.
    """

    buffer: Buffer
    queue: DiskQueue
    progress: ProgressFile
    on_change: Callable[[], None]
    closing: threading.Event = field(default_factory=threading.Event)
    stopped: threading.Event = field(default_factory=threading.Event)


class LogThread(threading.Thread):
    """Does one turn after another; an error that is ours ends no thread, for then rows would stay where they are for good."""

    def __init__(self, name: str, parts: LogParts) -> None:
        super().__init__(name=f"prediction-log-{name}", daemon=True)
        self._buffer, self._queue, self._progress = parts.buffer, parts.queue, parts.progress
        self._closing, self._stopped, self._on_change = parts.closing, parts.stopped, parts.on_change

    def run(self) -> None:
        while not self._stopped.is_set():
            try:
                self._turn()
            except Exception as error:  # the outermost place of the thread
                logger.exception("%s failed; it goes on", self.name)
                report(error, group=("service", self.name))
                self._stopped.wait(FAILURE_PAUSE.total_seconds())

    def _turn(self) -> None:
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class PublisherState:
    """Whether the store took the last write; rows waiting in, and brought in from, orphaned logs; rows stored, and lost."""

    reached: bool = True
    orphaned: int = 0
    recovered: int = 0
    written: int = 0
    lost: int = 0


class PublisherThread(LogThread):
    """Brings rows to the store of `url`, those of dead processes of the model too."""

    def __init__(self, url: str, model: str, directory: Path, parts: LogParts) -> None:
        super().__init__("publisher", parts)
        self._model, self._directory, self._pause = model, directory, FIRST_PAUSE
        store = connect(url, timeout=STORE_TIMEOUT)
        self._publisher = StreamPublisher(store, url, model, parts.progress.source, 0)
        self._recovery = Recovery(directory, store, url, model)
        self.state = PublisherState()

    def _turn(self) -> None:
        try:
            self._publish_some()
            self._pause = FIRST_PAUSE
            self._on_change()
        except StoreUnreachable as error:
            if self.state.reached:  # once per absence, not once per try
                logger.warning("predictions go to the disk queue in %s: %s", self._directory, error)
                report(error, group=("service", "store-unreachable"))
            self.state = replace(self.state, reached=False, orphaned=self._recovery.waiting)
            self._on_change()
            # The end of the service does not wait for a store that is away.
            if self._closing.wait(self._pause.total_seconds()):
                self._stopped.wait(FIRST_PAUSE.total_seconds())
            self._pause = min(2 * self._pause, LAST_PAUSE)

    def forget_mark(self) -> None:
        """After the thread's end: all is in the store, which need not remember this source."""
        try:
            if self.state.reached:
                self._publisher.forget_mark()
        except StoreUnreachable:
            logger.debug("the mark of %s stays until it expires", self._progress.source)

    def _publish_some(self) -> None:
        self._recovery.search()
        if not self.state.reached:
            self._publisher.ping()
        elif not self._queue.counts.waiting and not self._recovery.orphans and not self._wait_for_rows():
            return
        pending = self._buffer.oldest(MAX_BYTES)  # before the queue: what goes to disk in between is found there, or is in here
        if entries := self._queue.oldest(MAX_BYTES) or encode_entries(pending):
            position, lost = self._publisher.publish(entries)
            self._note_stored(position, lost)
        recovered, lost = self._recovery.advance()
        if not self.state.reached:
            logger.info("the store is back; %d rows wait on disk", self._queue.counts.waiting)
        waiting = self._recovery.waiting
        self.state = replace(self.state, reached=True, orphaned=waiting, recovered=self.state.recovered + recovered)
        if lost:
            self._count_lost(lost, "their process was killed before they were written")

    def _wait_for_rows(self) -> bool:
        """Wait for a row and then for others to join it; False when there is none after a while, or the end has come."""
        if self._buffer.wait(IDLE_WAIT.total_seconds()):
            self._closing.wait(LINGER.total_seconds())
            return True
        if self._closing.is_set():
            self._stopped.wait(FIRST_PAUSE.total_seconds())
        return False

    def _note_stored(self, position: int, lost: int) -> None:
        written = max(self.state.written, position)
        self._progress.stored = written
        self._buffer.drop(position)
        self._queue.remove_until(position)
        if lost:
            self._count_lost(lost, "the store or the disk had them and has them no more")
        self.state = replace(self.state, written=written)

    def _count_lost(self, rows: int, reason: str) -> None:
        self.state = replace(self.state, lost=self.state.lost + rows)
        error = PredictionsLost(f"up to {rows} answered predictions of {self._model} are in no log: {reason}")
        logger.error("%s", error)
        report(error, group=("service", "predictions-lost"))


class DiskThread(LogThread):
    """Brings rows to the disk queue; `is_reached` says whether the store took the publisher's last write."""

    def __init__(self, parts: LogParts, is_reached: Callable[[], bool]) -> None:
        super().__init__("disk", parts)
        self._is_reached = is_reached
        self.is_writable = True  # whether the disk took the last write

    def _turn(self) -> None:
        try:
            self._wait_and_write()
        except OSError as error:
            if self.is_writable:
                logger.error("the disk takes no predictions (%s); they wait in memory", error)
                report(error, group=("service", "spool-unwritable"))
            self.is_writable = False
            self._stopped.wait(RETRY_INTERVAL.total_seconds())

    def _wait_and_write(self) -> None:
        if self._buffer.wait(IDLE_WAIT.total_seconds()):
            self._buffer.full.wait((GRACE if self._is_reached() else COMMIT_INTERVAL).total_seconds())
            age = GRACE if self._is_reached() and not self._buffer.full.is_set() else timedelta()
            self._write_older_than(age)
        elif self._closing.is_set():
            self._stopped.wait(COMMIT_INTERVAL.total_seconds())

    def _write_older_than(self, age: timedelta) -> None:
        overdue = self._buffer.older_than(age.total_seconds(), MAX_BYTES)
        if not overdue:
            self.is_writable = self.is_writable or self._is_reached()  # the store takes everything: the disk is not needed
            return
        if not self._progress.is_on_disk:
            raise OSError("there was no room for a progress file when the process started, so no process could take it over")
        self._queue.write(encode_entries(overdue))
        self.is_writable = True
        self._buffer.drop(overdue[-1].end)
        self._on_change()
