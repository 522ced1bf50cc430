"""Recovery: a living process takes over what dead ones of the same model left, and counts what a kill has cost.

A process that was killed leaves a progress file (how far it had answered), the store's mark (how far the store has its rows),
a journal of what was in its memory, and perhaps a disk queue. The queue is brought in, and then the journal; what is then still
missing was lost. For the publisher's thread.
"""

import logging
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import redis

from perennial.error_reporting import report
from perennial.errors import NewerFormat
from service.prediction_log.disk_queue import DiskQueue
from service.prediction_log.entries import MAX_BYTES, Entry
from service.prediction_log.journal import SUFFIX as JOURNAL
from service.prediction_log.journal import read_journal
from service.prediction_log.progress_file import SUFFIX, ProgressFile, take_over
from service.prediction_log.publisher import StreamPublisher

SEARCH_INTERVAL = timedelta(seconds=5)  # between two looks for what dead processes left

logger = logging.getLogger(__name__)


class OrphanedLog:
    """What one dead process left; its progress file is locked, so no other process works on it."""

    def __init__(self, progress: ProgressFile, queue: DiskQueue, publisher: StreamPublisher, journal: Path) -> None:
        self.source, self.queue, self._path, self._journal = progress.source, queue, journal, read_journal(journal)
        self._progress, self._publisher = progress, publisher
        self._is_loaded = self.is_done = False

    def advance(self) -> tuple[int, int]:
        """Bring in a part of it, or close it when nothing is left; rows brought in and lost. Raises StoreUnreachable, OSError."""
        if not self._is_loaded:
            self._publisher.load_position()
            self.queue.remove_until(self._publisher.position)
            self._is_loaded = True
        if entries := self.queue.oldest(MAX_BYTES):
            position, lost = self._publisher.publish(entries)
            self._progress.stored = position
            return self.queue.remove_until(position), lost
        if entries := first_run(self._journal, before := self._publisher.position):
            position, lost = self._publisher.publish(entries)
            self._progress.stored = position
            return max(0, position - before - lost), lost
        lost = max(0, self._progress.answered - self._publisher.position)
        self._publisher.forget_mark()
        self.queue.remove()
        self._path.unlink(missing_ok=True)
        self._progress.remove()
        self.is_done = True
        return 0, lost

    def release(self) -> None:
        """Leave it to another process."""
        self.queue.close()
        self._progress.close()


class Recovery:
    """The orphaned logs in a directory, taken over one after another."""

    def __init__(self, directory: Path, store: redis.Redis, url: str, model: str) -> None:
        self._directory, self._store, self._url, self._model = directory, store, url, model
        self.orphans: list[OrphanedLog] = []
        self._skipped: set[Path] = set()
        self._next_search = 0.0

    @property
    def waiting(self) -> int:
        return sum(orphan.queue.counts.waiting for orphan in self.orphans)

    def search(self) -> None:
        """Take over what dead processes left, if the last look was long ago."""
        now = time.monotonic()
        if now < self._next_search:
            return
        self._next_search = now + SEARCH_INTERVAL.total_seconds()
        for path in sorted(self._directory.glob(f"*{SUFFIX}")):
            if path not in self._skipped:
                self._take(path)

    def advance(self) -> tuple[int, int]:
        """One step for the oldest orphaned log; rows brought in and lost. Raises StoreUnreachable."""
        if not self.orphans:
            return 0, 0
        orphan = self.orphans[0]
        try:
            rows, lost = orphan.advance()
        except OSError as error:
            del self.orphans[0]
            orphan.release()
            self._skip(self._directory / f"{orphan.source}{SUFFIX}", error)
            return 0, 0
        if lost:
            logger.warning("%d rows of the dead process %s were lost", lost, orphan.source)
        if orphan.is_done:
            del self.orphans[0]
        return rows, lost

    def _take(self, path: Path) -> None:
        progress = None
        try:
            if (progress := take_over(path)) is None:
                return
            queue = DiskQueue(self._directory, progress.source)
            publisher = StreamPublisher(self._store, self._url, self._model, progress.source, progress.stored)
            orphan = OrphanedLog(progress, queue, publisher, path.with_suffix(JOURNAL))
        except (OSError, NewerFormat) as error:
            if progress is not None:
                progress.close()
            self._skip(path, error)
            return
        logger.info("taking over the log of a dead process (%s): %d rows on disk", progress.source, queue.counts.waiting)
        self.orphans.append(orphan)

    def _skip(self, path: Path, error: Exception) -> None:
        """Another process, perhaps of another release, tries again."""
        self._skipped.add(path)
        logger.error("what a dead process left in %s cannot be taken over: %s", path, error)
        report(error, group=("service", "orphaned-log"))


def first_run(entries: Sequence[Entry], position: int) -> list[Entry]:
    """The first entries beyond a position that follow each other without a gap; what is in a gap was in memory alone."""
    found: list[Entry] = []
    for entry in entries:
        if found and entry.start > found[-1].end:
            break
        if entry.end > position:
            found.append(entry)
    return found
