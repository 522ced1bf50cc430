"""Adoption: disk queues that no living process will find, brought to where one does, or into the store at once.

A dead process is found by its progress file. A queue whose progress file is gone gets a new one, which has answered nothing, so
that nothing counts as lost; a queue that was set aside as damaged is read as far as SQLite can, and what comes out is queued
anew.
Rows that the store has already are told apart by the mark there, and after it by the prediction log's keys.
"""

import shutil
import sqlite3
import uuid
from contextlib import closing, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import redis

from service.prediction_log.disk_queue import DAMAGED, SIDE_FILES, SUFFIX, DiskQueue
from service.prediction_log.entries import Entry
from service.prediction_log.progress_file import SUFFIX as PROGRESS
from service.prediction_log.progress_file import has_living_owner, restore_progress
from service.prediction_log.recovery import Recovery


def orphaned_queues(directory: Path) -> tuple[Path, ...]:
    """Disk queues beside which there is no progress file."""
    return tuple(path for path in sorted(directory.glob(f"*{SUFFIX}")) if not path.with_suffix(PROGRESS).exists())


def adopt_queue(path: Path) -> int:
    """Give a queue its progress file back; returns how many rows wait in it. Raises OSError, NewerFormat."""
    queue = DiskQueue(path.parent, path.stem)
    waiting = queue.counts.waiting
    queue.close()
    restore_progress(path.with_suffix(PROGRESS))
    return waiting


def salvage_queue(path: Path) -> int:
    """Queue anew what can still be read of a damaged queue, under a source of its own; returns the rows. Raises OSError."""
    entries = readable_entries(path)
    if entries:
        source = uuid.uuid4().hex[:16]
        queue = DiskQueue(path.parent, source)
        queue.write(entries)
        queue.close()
        restore_progress(path.parent / f"{source}{PROGRESS}")
    return sum(entry.end - entry.start for entry in entries)


def readable_entries(path: Path) -> list[Entry]:
    """The entries of a queue that SQLite gives, up to the first that it cannot; from a copy, for reading may change a file."""
    found: list[Entry] = []
    with TemporaryDirectory() as directory:
        for end in SIDE_FILES:
            with suppress(FileNotFoundError):
                shutil.copy(f"{path}{end}", Path(directory, f"copy{end}"))
        with suppress(sqlite3.Error), closing(sqlite3.connect(Path(directory, "copy"))) as database:
            rows = database.execute('SELECT start, "end", payload FROM entries ORDER BY "end"')
            found.extend(Entry(*row) for row in rows)  # what came before an error stays
    return found


def damaged_queues(directory: Path) -> tuple[Path, ...]:
    """Queues that a process has set aside because SQLite found them damaged."""
    return tuple(sorted(directory.glob(f"*{DAMAGED}")))


def dead_logs(directory: Path) -> tuple[Path, ...]:
    """Disk queues whose process is dead, and which no other has taken over yet."""
    queues = (path.with_suffix(SUFFIX) for path in sorted(directory.glob(f"*{PROGRESS}")) if not has_living_owner(path))
    return tuple(path for path in queues if path.exists())


def bring_in(directory: Path, store: redis.Redis, url: str, model: str) -> tuple[int, int]:
    """Publish what dead processes left; rows brought in, and rows that were lost. Raises StoreUnreachable."""
    recovery, rows, lost = Recovery(directory, store, url, model), 0, 0
    recovery.search()
    try:
        while recovery.orphans:
            step = recovery.advance()
            rows, lost = rows + step[0], lost + step[1]
    finally:
        for orphan in recovery.orphans:
            orphan.release()
    return rows, lost
