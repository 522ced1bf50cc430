"""The progress file: how far one process has answered and stored, in a small mapped file that outlives a kill -9 of it.

    {source}.progress    one page: "progress", format, answered, stored

Each number has one writer: `answered` the buffer, under its lock, `stored` the publisher's thread. The owner holds a lock on
the file as long as it lives, so a process that gets the lock knows that the owner is dead and may take over what it left.
"""

import fcntl
import logging
import mmap
import os
import struct
import uuid
from pathlib import Path
from typing import Any

from perennial.base import FORMAT, refuse_newer_format

SUFFIX = ".progress"
SIZE = 4096  # bytes of the file: one page, written whole at the start, so that a disk that fills up later cannot take it away

_MAGIC = b"progress"
_PAGE = struct.Struct("<8sQQQ")
_NUMBER = struct.Struct("<Q")
_EMPTY = _PAGE.pack(_MAGIC, FORMAT, 0, 0).ljust(SIZE, b"\0")

logger = logging.getLogger(__name__)


def _position(offset: int) -> Any:
    """A number of the page as an attribute; an aligned word, so a reader after a kill never sees half of one."""
    return property(
        lambda file: int(_NUMBER.unpack_from(file._page, offset)[0]),
        lambda file, position: _NUMBER.pack_into(file._page, offset, position),
    )


class ProgressFile:
    """Two positions, in rows: `answered` (handed to the log) and `stored` (known to have reached the store)."""

    answered: int = _position(16)
    stored: int = _position(24)

    def __init__(self, source: str, path: Path | None, descriptor: int | None, page: mmap.mmap) -> None:
        self.source, self.is_on_disk = source, path is not None
        self._path, self._descriptor, self._page = path, descriptor, page

    def close(self) -> None:
        """Give up the lock; the file stays for another process."""
        self._page.close()
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def remove(self) -> None:
        if self._path is not None:
            self._path.unlink(missing_ok=True)
        self.close()


def create_progress(directory: Path) -> ProgressFile:
    """A new progress file, locked. Where the disk takes no file it is in memory only, and what a kill loses is not counted."""
    source = uuid.uuid4().hex[:16]
    try:
        return _create(directory, source)
    except OSError as error:
        logger.warning("no progress file in %s (%s): predictions lost to a kill will not be counted", directory, error)
        page = mmap.mmap(-1, SIZE)
        page[:] = _EMPTY
        return ProgressFile(source, None, None, page)


def take_over(path: Path) -> ProgressFile | None:
    """The progress file of a dead process, locked; None when its owner lives or another process has it. NewerFormat, OSError."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return None  # another process is done with it
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_nlink > 0:
            return _read(path, descriptor)
    except BlockingIOError:
        pass
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def has_living_owner(path: Path) -> bool:
    """Whether the process that wrote a progress file lives, or another one has taken it over; also of a file that is gone."""
    try:
        with path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (FileNotFoundError, BlockingIOError):
        return True
    return False


def restore_progress(path: Path) -> None:
    """A progress file that has answered nothing, for a disk queue that has lost its own: the next process takes it over."""
    with path.open("xb") as file:
        file.write(_EMPTY)


def _create(directory: Path, source: str) -> ProgressFile:
    directory.mkdir(parents=True, exist_ok=True)
    # Under another name until it is locked, or another process could take it for a dead one's.
    staged, path = directory / f"{source}.new", directory / f"{source}{SUFFIX}"
    descriptor = os.open(staged, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        os.write(descriptor, _EMPTY)
        os.fsync(descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        staged.rename(path)
        return ProgressFile(source, path, descriptor, mmap.mmap(descriptor, SIZE))
    except OSError:
        os.close(descriptor)
        staged.unlink(missing_ok=True)
        raise


def _read(path: Path, descriptor: int) -> ProgressFile:
    page = os.pread(descriptor, SIZE, 0)
    if len(page) == SIZE and page.startswith(_MAGIC):
        refuse_newer_format(_PAGE.unpack_from(page)[1], str(path))
    else:
        # A machine that lost power: what the disk queue holds is still brought in, what was lost cannot be counted.
        logger.warning("%s is damaged: what its process lost is not counted", path)
        os.pwrite(descriptor, _EMPTY, 0)
        os.ftruncate(descriptor, SIZE)
    return ProgressFile(path.stem, path, descriptor, mmap.mmap(descriptor, SIZE))
