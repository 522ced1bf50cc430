"""The spool: entries on disk while the store is away, in segments of one source, read back in order.

    {source}.{n}.spool    frames: magic, CRC-32 of the payload, start, end, length; then the payload

What `write` has returned from is safe against a loss of power. A frame that a kill cut short is where a segment ends.
How far the store has got is not kept here: the store knows, and says so by position.
"""

import logging
import os
import struct
import threading
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from perennial.error_reporting import report
from perennial.errors import RecordError
from service.prediction_log.buffer import Entry, take

SUFFIX = ".spool"
SEGMENT = 64 * 1024 * 1024
"""Bytes after which a new segment begins: what the store has is given back to the disk by whole segments."""

_FRAME = struct.Struct("<4sIQQI")
_MAGIC = b"pred"

logger = logging.getLogger(__name__)


class Spool:
    """One source's spool. One thread writes, another reads; segments that are there already are only read."""

    def __init__(self, directory: Path, source: str, segment: int = SEGMENT) -> None:
        self._directory = directory
        self._source = source
        self._size = segment
        self._segments = deque(sorted(directory.glob(f"{source}.*{SUFFIX}")))
        self._next = len(self._segments)
        self._file: int | None = None
        self._offset = 0
        self._done = 0
        self._end = 0
        self._rows = sum(self._count(path) for path in self._segments)
        self._lock = threading.Lock()

    @property
    def waiting(self) -> int:
        """Rows that are only here."""
        return self._rows if self._segments else 0

    def write(self, entries: Sequence[Entry]) -> int:
        """Add what is new of the entries and see it to the disk; returns its rows. After an OSError it holds none of them."""
        fresh = [entry for entry in entries if entry.end > max(self._end, self._done)]
        if not fresh:
            return 0
        with self._lock:
            file = self._open()
            before = os.lseek(file, 0, os.SEEK_END)
            try:
                _write_all(file, b"".join(map(_frame, fresh)))
                os.fsync(file)
            except OSError:
                self._undo(file, before)
                raise
            self._end = fresh[-1].end
            rows = sum(entry.end - entry.start for entry in fresh)
            self._rows += rows
            return rows

    def oldest(self, limit: int) -> list[Entry]:
        """The oldest entries that are not forgotten, some `limit` bytes of them; empty when there is none."""
        with self._lock:
            while self._segments:
                if found := self._read(self._segments[0], limit):
                    return found
                if len(self._segments) == 1 and self._file is not None:
                    return []
                self._retire()
            return []

    def forget(self, position: int) -> int:
        """The store has everything up to `position`; returns how many rows were waiting for that."""
        with self._lock:
            self._done = max(self._done, position)
            if self._file is not None and self._end <= self._done:
                while self._segments:
                    self._retire()
            before, self._rows = self._rows, self._remaining()
            return before - self._rows

    def remove(self) -> None:
        """Delete what is left of it."""
        with self._lock:
            while self._segments:
                self._retire()

    def close(self) -> None:
        """Stop writing; what is here stays for the next process."""
        with self._lock:
            self._close()

    def _open(self) -> int:
        if self._file is not None and os.lseek(self._file, 0, os.SEEK_END) >= self._size:
            self._close()
        if self._file is None:
            self._directory.mkdir(parents=True, exist_ok=True)
            path = self._directory / f"{self._source}.{self._next:06d}{SUFFIX}"
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
            self._next += 1
            self._segments.append(path)
            _sync_directory(self._directory)
        return self._file

    def _undo(self, file: int, length: int) -> None:
        try:
            os.ftruncate(file, length)
        except OSError:
            self._close()  # the torn frame ends this segment

    def _close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _read(self, path: Path, limit: int) -> list[Entry]:
        try:
            with path.open("rb") as file:
                file.seek(self._offset)
                return take(self._unforgotten(file), limit)
        except (RecordError, FileNotFoundError) as error:
            self._set_aside(path, error)
            return []

    def _unforgotten(self, file: BinaryIO) -> Iterator[tuple[Entry, int]]:
        for entry in _entries(file):
            if entry.end <= self._done:
                self._offset = file.tell()
            else:
                yield entry, len(entry.payload)

    def _retire(self) -> None:
        """The first segment is used up."""
        if len(self._segments) == 1:
            self._close()
        self._segments.popleft().unlink(missing_ok=True)
        self._offset = 0

    def _set_aside(self, path: Path, error: Exception) -> None:
        logger.error("%s is damaged (%s): what follows is not read; it is kept as %s.broken", path, error, path.name)
        report(error, group=("service", "spool-damaged"))
        with suppress(OSError):
            path.rename(path.with_suffix(".broken"))

    def _remaining(self) -> int:
        return max(0, min(self._rows, self._end - self._done)) if self._segments else 0

    def _count(self, path: Path) -> int:
        rows = 0
        with suppress(RecordError, OSError), path.open("rb") as file:
            for start, end in _spans(file):
                rows, self._end = rows + end - start, end
        return rows


def _frame(entry: Entry) -> bytes:
    head = _FRAME.pack(_MAGIC, zlib.crc32(entry.payload), entry.start, entry.end, len(entry.payload))
    return head + entry.payload


def _entries(file: BinaryIO) -> Iterator[Entry]:
    while (head := _head(file)) is not None:
        digest, start, end, length = head
        payload = file.read(length)
        if len(payload) < length:
            return
        if zlib.crc32(payload) != digest:
            raise RecordError(f"the frame that ends at row {end} has another digest")
        yield Entry(start, end, payload)


def _spans(file: BinaryIO) -> Iterator[tuple[int, int]]:
    size = os.fstat(file.fileno()).st_size
    while (head := _head(file)) is not None:
        _, start, end, length = head
        if file.seek(length, os.SEEK_CUR) > size:
            return
        yield start, end


def _head(file: BinaryIO) -> tuple[int, int, int, int] | None:
    """CRC, start, end and length of the next frame; None at the end of the segment, or of what a kill left of it."""
    head = file.read(_FRAME.size)
    if len(head) < _FRAME.size:
        return None
    magic, digest, start, end, length = _FRAME.unpack(head)
    if magic != _MAGIC:
        raise RecordError(f"no frame at byte {file.tell() - _FRAME.size}")
    return digest, start, end, length


def _write_all(file: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(file, view) :]


def _sync_directory(directory: Path) -> None:
    """A new file is safe only when its directory says so."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
