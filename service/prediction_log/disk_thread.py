"""The disk thread: brings rows to the disk queue that the store has not taken in time, so that no row waits for the store.

What it alone touches is whether the disk took the last write. It shares the buffer and the disk queue.
"""

import logging
import threading
from collections.abc import Callable
from datetime import timedelta

from perennial.error_reporting import report
from service.prediction_log.buffer import Buffer
from service.prediction_log.disk_queue import DiskQueue
from service.prediction_log.entries import MAX_BYTES, encode_entries

GRACE = timedelta(milliseconds=100)
"""After which a row that the store has not taken goes to disk: far above a healthy store's round trip."""

COMMIT_INTERVAL = timedelta(milliseconds=10)
"""Between two commits while the store is away."""

RETRY_INTERVAL = timedelta(milliseconds=250)
"""Until a disk that took nothing is tried again."""

IDLE_WAIT = timedelta(seconds=5)
"""For a first row."""

FAILURE_PAUSE = timedelta(seconds=1)
"""After an error that is ours."""

logger = logging.getLogger(__name__)


class DiskThread(threading.Thread):
    """`is_reached` says whether the store took the publisher's last write; `on_change` is called after each commit."""

    def __init__(
        self,
        buffer: Buffer,
        queue: DiskQueue,
        recoverable: bool,
        is_reached: Callable[[], bool],
        closing: threading.Event,
        stopped: threading.Event,
        on_change: Callable[[], None],
    ) -> None:
        super().__init__(name="prediction-log-disk", daemon=True)
        self._buffer, self._queue, self._recoverable, self._is_reached = buffer, queue, recoverable, is_reached
        self._closing, self._stopped, self._on_change = closing, stopped, on_change
        self.is_writable = True
        """Whether the disk took the last write."""

    def run(self) -> None:
        """The thread."""
        while not self._stopped.is_set():
            try:
                self._wait_and_write()
            except OSError as error:
                if self.is_writable:
                    logger.error("the disk takes no predictions (%s); they wait in memory", error)
                    report(error, group=("service", "spool-unwritable"))
                self.is_writable = False
                self._stopped.wait(RETRY_INTERVAL.total_seconds())
            except Exception as error:
                # The outermost place of the thread: without it memory would be all there is when the store is away.
                logger.exception("the prediction log's disk thread failed; it goes on")
                report(error, group=("service", "log-disk"))
                self._stopped.wait(FAILURE_PAUSE.total_seconds())

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
        if not self._recoverable:
            raise OSError("there was no room for a progress file when the process started, so no process could take it over")
        self._queue.write(encode_entries(overdue))
        self.is_writable = True
        self._buffer.drop(overdue[-1].end)
        self._on_change()
