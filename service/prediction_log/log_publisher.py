"""A log's publisher: brings what waits on disk and in memory to the store, in order of the positions, and orphaned logs too."""

import logging
import time
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import redis

from perennial.error_reporting import report
from perennial.errors import PredictionsLost, StoreUnreachable
from service.prediction_log.entries import MAX_BYTES, encode_entries
from service.prediction_log.parts import LogParts
from service.prediction_log.publisher import StreamPublisher
from service.prediction_log.recovery import Recovery

FIRST_PAUSE, LAST_PAUSE = timedelta(seconds=0.05), timedelta(seconds=1)  # between tries while the store refuses, doubling

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PublisherState:
    """Whether the store took the last write; rows waiting in, and brought in from, orphaned logs; rows stored, and lost."""

    reached: bool = True
    orphaned: int = 0
    recovered: int = 0
    written: int = 0
    lost: int = 0


class LogPublisher:
    """For the publisher's thread, which alone changes it; others see its `state`, an immutable snapshot."""

    def __init__(self, store: redis.Redis, url: str, model: str, directory: Path, parts: LogParts) -> None:
        self._model, self._directory, self.on_change = model, directory, parts.on_change
        self._buffer, self._queue, self._progress = parts.buffer, parts.queue, parts.progress
        self._publisher = StreamPublisher(store, url, model, parts.progress.source, 0)
        self._recovery = Recovery(directory, store, url, model)
        self._pause, self.again = FIRST_PAUSE, 0.0  # monotonic time of the next try
        self.state = PublisherState()

    @property
    def is_due(self) -> bool:
        return time.monotonic() >= self.again

    @property
    def has_rows(self) -> bool:
        """Whether rows in memory may be brought to the store now."""
        return self._buffer.has_rows and self.is_due

    @property
    def has_work(self) -> bool:
        """Whether there is something to do that no new row will say."""
        waits = not self.state.reached or self._queue.counts.waiting or self._recovery.orphans
        return bool(waits) and self.is_due

    def search(self) -> None:
        """Take over what dead processes of the model left, if the last look was long ago."""
        self._recovery.search()

    def publish_some(self) -> None:
        """Bring some rows to the store, and a part of an orphaned log; raises StoreUnreachable."""
        pending = self._buffer.oldest(MAX_BYTES)  # before the queue: what goes to disk in between is found there, or is in here
        if entries := self._queue.oldest(MAX_BYTES) or encode_entries(pending):
            position, lost = self._publisher.publish(entries)
            self._note_stored(position, lost)
        recovered, lost = self._recovery.advance()
        if not self.state.reached:
            logger.info("the store is back; %d rows of %s wait on disk", self._queue.counts.waiting, self._model)
        waiting, self._pause = self._recovery.waiting, FIRST_PAUSE
        self.state = replace(self.state, reached=True, orphaned=waiting, recovered=self.state.recovered + recovered)
        if lost:
            self._count_lost(lost, "their process was killed before they were written")

    def refuse(self, error: StoreUnreachable) -> None:
        """The store has not taken rows, or would not: rows go to the disk queue until a later try."""
        if self.state.reached:  # once per absence, not once per try
            logger.warning("predictions go to the disk queue in %s: %s", self._directory, error)
            report(error, group=("service", "store-unreachable"), model=self._model)
        self.state = replace(self.state, reached=False, orphaned=self._recovery.waiting)
        self.again = time.monotonic() + self._pause.total_seconds()
        self._pause = min(2 * self._pause, LAST_PAUSE)
        self.on_change()

    def retry(self) -> None:
        """The store is back."""
        self._pause, self.again = FIRST_PAUSE, 0.0

    def forget_mark(self) -> None:
        """After the thread's end: all is in the store, which need not remember this source."""
        try:
            if self.state.reached:
                self._publisher.forget_mark()
        except StoreUnreachable:
            logger.debug("the mark of %s stays until it expires", self._progress.source)

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
        report(error, group=("service", "predictions-lost"), model=self._model)
