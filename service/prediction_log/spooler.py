"""A log's spooler: brings rows to the disk queue that the store has not taken in time, so that no row waits for the store."""

import logging
import time
from collections.abc import Callable
from datetime import timedelta

from perennial.error_reporting import report
from service.prediction_log.entries import MAX_BYTES, encode_entries
from service.prediction_log.parts import LogParts

GRACE = timedelta(milliseconds=100)  # until a row that the store has not taken goes to disk: far above a healthy round trip
COMMIT_INTERVAL = timedelta(milliseconds=10)  # between two commits while the store is away
RETRY_INTERVAL = timedelta(milliseconds=250)  # until a disk that took nothing is tried again

logger = logging.getLogger(__name__)


class Spooler:
    """For the disk thread, which alone changes it; `is_reached` says whether the store took the log's last write."""

    def __init__(self, parts: LogParts, is_reached: Callable[[], bool]) -> None:
        self._buffer, self._queue, self._progress = parts.buffer, parts.queue, parts.progress
        self._on_change, self.is_reached = parts.on_change, is_reached
        self.is_writable = True  # whether the disk took the last write
        self._again = 0.0

    @property
    def has_rows(self) -> bool:
        return self._buffer.has_rows

    @property
    def is_due(self) -> bool:
        return time.monotonic() >= self._again

    def spool_some(self, is_full: bool) -> None:
        """Write what is overdue, or the oldest rows where memory is full."""
        try:
            self._write_older_than(GRACE if self.is_reached() and not is_full else timedelta())
        except OSError as error:
            if self.is_writable:
                logger.error("the disk takes no predictions (%s); they wait in memory", error)
                report(error, group=("service", "spool-unwritable"))
            self.is_writable = False
            self._again = time.monotonic() + RETRY_INTERVAL.total_seconds()
            self._on_change()

    def _write_older_than(self, age: timedelta) -> None:
        overdue = self._buffer.older_than(age.total_seconds(), MAX_BYTES)
        if not overdue:
            self.is_writable = self.is_writable or self.is_reached()  # the store takes everything: the disk is not needed
            return
        if not self._progress.is_on_disk:
            raise OSError("there was no room for a progress file when the process started, so no process could take it over")
        self._queue.write(encode_entries(overdue))
        self.is_writable = True
        self._buffer.drop(overdue[-1].end)
        self._on_change()
