"""The disk queue: entries on disk while the store does not take them, in one SQLite file for each source, read back in order.

    {source}.db    start, end, payload of each entry

Thread-safe: the disk thread writes, the publisher's thread reads and removes. What `write` has returned from is committed and
safe against a loss of power (WAL, synchronous=FULL). The file is removed when the last entry is; until then the space of
removed entries is given back as they go. How far the store has got is not kept here: the store knows, by position.
"""

import logging
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from perennial.base import FORMAT, refuse_newer_format
from perennial.error_reporting import report
from service.prediction_log.entries import Entry, first_bytes

SUFFIX, DAMAGED = ".db", ".damaged"


def spool_of(home: Path) -> Path:
    """Where the services of a model keep disk queues and progress files."""
    return home / "service" / "spool"


_SETTINGS = (
    "PRAGMA locking_mode=EXCLUSIVE",  # one process at a time, and so no shared memory file beside the database
    "PRAGMA auto_vacuum=INCREMENTAL",
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
)
_SCHEMA = (
    'CREATE TABLE IF NOT EXISTS entries ("end" INTEGER PRIMARY KEY, start INTEGER NOT NULL, payload BLOB NOT NULL)',
    f"PRAGMA user_version={FORMAT}",
)
SIDE_FILES = ("", "-wal", "-journal")  # ends of the names of a database's files

_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class QueueCounts:
    """Rows that are in the queue, that were written since the start, and that were removed because the store has them."""

    waiting: int = 0
    written: int = 0
    removed: int = 0


class DiskQueue:
    """One source's queue; `counts` is an immutable snapshot. Raises NewerFormat or OSError for a file that is there already."""

    def __init__(self, directory: Path, source: str) -> None:
        self._path = directory / f"{source}{SUFFIX}"
        self._lock = threading.Lock()
        self._database: sqlite3.Connection | None = None
        self._done = self._end = 0
        self.counts = QueueCounts()
        if self._path.exists():
            with self._lock, self._guarded():
                rows, end = self._open().execute('SELECT sum("end" - start), max("end") FROM entries').fetchone()
                self.counts, self._end = QueueCounts(waiting=rows or 0), end or 0

    def write(self, entries: Sequence[Entry]) -> None:
        """Commit those of the entries that are new. After an OSError the queue holds none of them."""
        with self._lock, self._guarded():
            fresh = [(one.end, one.start, one.payload) for one in entries if one.end > max(self._end, self._done)]
            if not fresh:
                return
            with self._open() as transaction:
                transaction.executemany("INSERT INTO entries VALUES (?, ?, ?)", fresh)
            self._end = fresh[-1][0]
            rows = sum(end - start for end, start, _ in fresh)
            self.counts = replace(self.counts, waiting=self.counts.waiting + rows, written=self.counts.written + rows)
            return
        raise OSError(f"{self._path} was damaged and is set aside: the next write begins another one")

    def oldest(self, limit: int) -> list[Entry]:
        """The oldest entries, some `limit` bytes of them; empty when there is none."""
        found: list[Entry] = []
        with self._lock, self._guarded():
            if self._database is not None:
                query = 'SELECT start, "end", payload FROM entries WHERE "end" > ? ORDER BY "end"'
                with closing(self._database.execute(query, (self._done,))) as rows:
                    found = first_bytes((Entry(*row) for row in rows), limit)
        return found

    def remove_until(self, position: int) -> int:
        """The store has everything up to `position`; returns how many of these rows were removed.

        A full disk, which takes no removal either, delays it until the last entry can go, with the file.
        """
        with self._lock:
            self._done = max(self._done, position)
            rows = 0
            if self._database is not None:
                rows = self.counts.waiting if self._end <= self._done else self._remove_rows()
                self.counts = replace(self.counts, waiting=self.counts.waiting - rows, removed=self.counts.removed + rows)
                if self._end <= self._done:
                    self._delete()
            return rows

    def remove(self) -> None:
        """Delete it with what it holds."""
        with self._lock:
            self._delete()
            self.counts = replace(self.counts, waiting=0)

    def close(self) -> None:
        """Stop; what is here stays for another process."""
        with self._lock:
            self._disconnect()

    def _remove_rows(self) -> int:
        rows = 0
        with suppress(OSError), self._guarded(), self._open() as transaction:
            query = 'DELETE FROM entries WHERE "end" <= ? RETURNING "end" - start'
            rows = sum(rows for (rows,) in transaction.execute(query, (self._done,)).fetchall())
        if rows:
            with suppress(OSError), self._guarded():
                self._open().executescript("PRAGMA incremental_vacuum")  # execute would free one page
        return rows

    def _open(self) -> sqlite3.Connection:
        if self._database is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            database = sqlite3.connect(self._path, timeout=0, check_same_thread=False)
            try:
                found = database.execute("PRAGMA user_version").fetchone()[0]
                refuse_newer_format(found, str(self._path))
                for statement in _SETTINGS + (_SCHEMA if found != FORMAT else ()):
                    database.execute(statement).fetchall()
            except BaseException:
                database.close()
                raise
            self._database = database
        return self._database

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """What SQLite cannot do now is an OSError; a damaged file is set aside, and the queue goes on with none."""
        try:
            yield
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _DAMAGED:
                raise OSError(f"{self._path}: {error}") from error
            self._set_aside(error)

    def _set_aside(self, error: sqlite3.Error) -> None:
        aside = self._path.with_suffix(DAMAGED)
        logger.error("%s is damaged (%s): what it holds is not read; it is kept as %s", self._path, error, aside.name)
        report(error, group=("service", "spool-damaged"))
        self._disconnect()
        for end in SIDE_FILES:
            with suppress(OSError):
                Path(f"{self._path}{end}").rename(f"{aside}{end}")
        self.counts = replace(self.counts, waiting=0)

    def _delete(self) -> None:
        self._disconnect()
        for end in SIDE_FILES:
            with suppress(OSError):
                Path(f"{self._path}{end}").unlink()

    def _disconnect(self) -> None:
        if self._database is not None:
            with suppress(sqlite3.Error):
                self._database.close()
            self._database = None
