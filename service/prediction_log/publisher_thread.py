"""The publisher's thread: brings what waits on disk and in memory to the store, in order of the positions.

What it alone touches: the connection to the store, the publisher, the recovery of orphaned logs, its counts. It shares the
buffer, the disk queue and the progress file's `stored`; the other threads see its `state`, an immutable snapshot.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
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

LINGER = timedelta(milliseconds=10)
"""For which a row may wait for others: a round trip for each request would cost more than the prediction."""

STORE_TIMEOUT = timedelta(seconds=1)
"""For an answer of the store; this thread waits for it, requests do not."""

IDLE_WAIT = timedelta(seconds=5)
"""For a first row, before the thread looks for orphaned logs again."""

FIRST_PAUSE, LAST_PAUSE = timedelta(seconds=0.05), timedelta(seconds=1)
"""Between two tries while the store is away: doubles from the first to the last."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PublisherState:
    """Whether the store took the last write; rows waiting in, and brought in from, orphaned logs; rows stored, and lost."""

    reached: bool = True
    orphaned: int = 0
    recovered: int = 0
    written: int = 0
    lost: int = 0


class PublisherThread(threading.Thread):
    """`closing` is set when requests have ended, `stopped` when the thread has to end; `on_change` is called after each round."""

    def __init__(
        self,
        url: str,
        model: str,
        directory: Path,
        buffer: Buffer,
        queue: DiskQueue,
        progress: ProgressFile,
        closing: threading.Event,
        stopped: threading.Event,
        on_change: Callable[[], None],
    ) -> None:
        super().__init__(name="prediction-log-publisher", daemon=True)
        self._model, self._directory = model, directory
        self._buffer, self._queue, self._progress = buffer, queue, progress
        self._closing, self._stopped, self._on_change = closing, stopped, on_change
        store = connect(url, timeout=STORE_TIMEOUT)
        self._publisher = StreamPublisher(store, url, model, progress.source, 0)
        self._recovery = Recovery(directory, store, url, model)
        self._pause = FIRST_PAUSE
        self.state = PublisherState()

    def run(self) -> None:
        """The thread."""
        while not self._stopped.is_set():
            try:
                self._publish_some()
                self._pause = FIRST_PAUSE
                self._on_change()
            except StoreUnreachable as error:
                self._note_unreachable(error)
                self._on_change()
                self._wait_for_store()
            except Exception as error:
                # The outermost place of the thread: without it every later prediction would go to the disk for good.
                logger.exception("the prediction log's publisher failed; it goes on")
                report(error, group=("service", "log-writer"))
                self._stopped.wait(LAST_PAUSE.total_seconds())

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

    def _note_unreachable(self, error: StoreUnreachable) -> None:
        if self.state.reached:  # once per absence, not once per try
            logger.warning("predictions go to the disk queue in %s: %s", self._directory, error)
            report(error, group=("service", "store-unreachable"))
        self.state = replace(self.state, reached=False, orphaned=self._recovery.waiting)

    def _wait_for_store(self) -> None:
        # The end of the service does not wait for a store that is away.
        if self._closing.wait(self._pause.total_seconds()):
            self._stopped.wait(FIRST_PAUSE.total_seconds())
        self._pause = min(2 * self._pause, LAST_PAUSE)
