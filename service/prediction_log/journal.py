"""The journal: the rows in a process's memory once more, in a small mapped file that outlives a kill -9 of it.

    {source}.journal    one page: "journal", format, size, head, tail; then a ring of records: length, start, end, payload

The buffer appends a batch before its client can see the answer, and drops it when the store or the disk queue has it; a process
that takes the log over publishes what is between tail and head. Writing is copying memory, some 2 microseconds for a row with its
encoding, and never waits for a disk. What does not fit (more than a quarter of the ring at once, or more than all of it while
neither store nor disk takes rows) is in memory alone. The file is written whole at the start, for a page of a full disk that is
touched later ends the process.
"""

import logging
import mmap
import os
import struct
from collections import deque
from pathlib import Path

from perennial.base import FORMAT, refuse_newer_format
from service.prediction_log.entries import Entry

SUFFIX = ".journal"
PAGE = 4096  # bytes before the ring

_MAGIC = b"journal\0"
_HEADER = struct.Struct("<8sQQQQ")
_NUMBER = struct.Struct("<Q")
_HEAD, _TAIL = 24, 32  # where those numbers are in the page
_RECORD = struct.Struct("<QQQ")  # length of the payload, start, end; a length of 0 says that the ring begins again

logger = logging.getLogger(__name__)


class Journal:
    """A process's own journal of one model. Its caller holds a lock; where the disk had no room for a file it takes nothing."""

    def __init__(self, path: Path | None, ring: mmap.mmap | None, size: int) -> None:
        self.limit = size // 4 if ring is not None else 0  # bytes of the largest payload that it takes
        self._path, self._ring, self._size = path, ring, size
        self._head = self._tail = 0
        self._ends: deque[tuple[int, int]] = deque()

    def append(self, start: int, end: int, payload: bytes) -> bool:
        """Copy a batch; whether there was room."""
        if self._ring is None:
            return False
        need = -(-(_RECORD.size + len(payload)) // 8) * 8
        left = self._size - self._head % self._size
        skipped = left if left < need else 0
        if self._head + skipped + need - self._tail > self._size:
            return False
        if skipped:
            if left >= _RECORD.size:
                _RECORD.pack_into(self._ring, PAGE + self._head % self._size, 0, 0, 0)
            self._head += skipped
        at = PAGE + self._head % self._size
        _RECORD.pack_into(self._ring, at, len(payload), start, end)
        self._ring[at + _RECORD.size : at + _RECORD.size + len(payload)] = payload
        self._head += need
        self._ends.append((end, self._head))
        _NUMBER.pack_into(self._ring, _HEAD, self._head)  # last: half a record is none
        return True

    def drop(self, position: int) -> None:
        """Rows up to a position are safe elsewhere."""
        before = self._tail
        while self._ends and self._ends[0][0] <= position:
            self._tail = self._ends.popleft()[1]
        if self._ring is not None and self._tail != before:
            _NUMBER.pack_into(self._ring, _TAIL, self._tail)

    def close(self) -> None:
        """Leave the file to another process."""
        if self._ring is not None:
            self._ring.close()
            self._ring, self.limit = None, 0

    def remove(self) -> None:
        """Everything is safe elsewhere."""
        self.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)


def create_journal(directory: Path, source: str, size: int) -> Journal:
    """A process's journal, with a ring of `size` bytes; where the disk has no room for it, one that takes nothing."""
    path, size = directory / f"{source}{SUFFIX}", -(-size // PAGE) * PAGE
    try:
        with path.open("x+b") as file:
            file.write(_HEADER.pack(_MAGIC, FORMAT, size, 0, 0).ljust(PAGE + size, b"\0"))
            file.flush()
            os.fsync(file.fileno())
            return Journal(path, mmap.mmap(file.fileno(), PAGE + size), size)
    except OSError as error:
        logger.warning("no journal in %s (%s): what is in memory is lost with the process", directory, error)
        path.unlink(missing_ok=True)
        return Journal(None, None, size)


def read_journal(path: Path) -> list[Entry]:
    """What a dead process's journal has, in order; nothing where there is none. Raises OSError, NewerFormat."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    if len(content) < PAGE or not content.startswith(_MAGIC):
        logger.warning("%s is damaged: nothing is taken from it", path)
        return []
    _, format_, size, head, tail = _HEADER.unpack_from(content)
    refuse_newer_format(format_, str(path))
    return _records(content[PAGE:], size, tail, head) if len(content) == PAGE + size and head - tail <= size else []


def _records(ring: bytes, size: int, at: int, head: int) -> list[Entry]:
    found: list[Entry] = []
    while at < head:
        offset = at % size
        length, start, end = _RECORD.unpack_from(ring, offset) if size - offset >= _RECORD.size else (0, 0, 0)
        if length == 0:
            at += size - offset
            continue
        if offset + _RECORD.size + length > size or start >= end:
            logger.warning("a journal is damaged after %d of its batches: the others are lost", len(found))
            break
        found.append(Entry(start, end, ring[offset + _RECORD.size : offset + _RECORD.size + length]))
        at += -(-(_RECORD.size + length) // 8) * 8
    return found
