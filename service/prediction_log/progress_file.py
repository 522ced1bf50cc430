"""The ledger: how far one process has answered, in a small mapped file that outlives a kill -9 of its owner.

Positions count rows since the process started: a batch of 3 rows after position 7 ends at 10. The owner holds a lock on
its ledger as long as it lives, so whoever gets the lock knows that the owner is dead and may take over what it left.
"""

import fcntl
import logging
import mmap
import os
import struct
import uuid
from collections.abc import Iterator
from pathlib import Path

SUFFIX = ".ledger"
MAGIC = b"pledger1"
SIZE = 4096
"""Bytes of the file: one page, written whole at the start, so that a disk that fills up later cannot take it away."""

_FORM = struct.Struct("<8sQQ")
_NUMBER = struct.Struct("<Q")
_ANSWERED, _KEPT = 8, 16
"""Where the two positions are; aligned words, so a reader after a kill never sees half of one."""

logger = logging.getLogger(__name__)


class Ledger:
    """Two positions: `answered` (handed to the log) and `kept` (known to be in the store or in the spool)."""

    def __init__(self, source: str, path: Path | None, descriptor: int | None, page: mmap.mmap) -> None:
        self.source = source
        self._path = path
        self._descriptor = descriptor
        self._page = page

    @property
    def answered(self) -> int:
        """Rows handed to the log."""
        return int(_NUMBER.unpack_from(self._page, _ANSWERED)[0])

    @answered.setter
    def answered(self, position: int) -> None:
        _NUMBER.pack_into(self._page, _ANSWERED, position)

    @property
    def kept(self) -> int:
        """Rows that are in the store or in the spool."""
        return int(_NUMBER.unpack_from(self._page, _KEPT)[0])

    @kept.setter
    def kept(self, position: int) -> None:
        _NUMBER.pack_into(self._page, _KEPT, position)

    @property
    def on_disk(self) -> bool:
        """Whether another process could take over what this one leaves."""
        return self._path is not None

    def close(self) -> None:
        """Give up the lock; the file stays for the next process."""
        self._page.close()
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def remove(self) -> None:
        """Everything is accounted for: nobody needs to look at this ledger again."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)
        self.close()


def open_ledger(directory: Path) -> Ledger:
    """A new ledger, locked. On a disk that takes no file it lives in memory only, and what a kill loses is not counted."""
    source = uuid.uuid4().hex[:16]
    try:
        return _create(directory, source)
    except OSError as error:
        logger.warning("no ledger in %s (%s): predictions lost to a kill will not be counted", directory, error)
        page = mmap.mmap(-1, SIZE)
        _FORM.pack_into(page, 0, MAGIC, 0, 0)
        return Ledger(source, None, None, page)


def take_dead(directory: Path) -> Iterator[Ledger]:
    """The ledgers in `directory` whose owners are dead; each is locked, and so ours, until it is closed or removed."""
    for path in sorted(directory.glob(f"*{SUFFIX}")):
        if (ledger := _take(path)) is not None:
            yield ledger


def _create(directory: Path, source: str) -> Ledger:
    directory.mkdir(parents=True, exist_ok=True)
    # Under another name until it is locked, or an heir could take it for a dead one's.
    staged, path = directory / f"{source}.new", directory / f"{source}{SUFFIX}"
    descriptor = os.open(staged, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        os.write(descriptor, _FORM.pack(MAGIC, 0, 0).ljust(SIZE, b"\0"))
        os.fsync(descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        staged.rename(path)
        return Ledger(source, path, descriptor, mmap.mmap(descriptor, SIZE))
    except OSError:
        os.close(descriptor)
        staged.unlink(missing_ok=True)
        raise


def _take(path: Path) -> Ledger | None:
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return None  # the heir before us is done with it
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_nlink > 0:
            return _read(path, descriptor)
    except OSError:
        pass  # its owner lives, or another heir was faster
    os.close(descriptor)
    return None


def _read(path: Path, descriptor: int) -> Ledger:
    if os.fstat(descriptor).st_size != SIZE or os.pread(descriptor, len(MAGIC), 0) != MAGIC:
        # A machine that lost power: what the spool holds is still brought in, what was lost cannot be counted.
        logger.warning("%s is damaged: what its process lost is not counted", path)
        os.pwrite(descriptor, _FORM.pack(MAGIC, 0, 0).ljust(SIZE, b"\0"), 0)
        os.ftruncate(descriptor, SIZE)
    return Ledger(path.stem, path, descriptor, mmap.mmap(descriptor, SIZE))
