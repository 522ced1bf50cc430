"""A small disk of our own for the stack's home, which can be filled up: a tmpfs that only this process and its children see.

The mount is in a mount namespace of its own, so it is gone with the last of them, however they end. That takes root on Linux.
"""

import ctypes
import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SIZE = "700m"
_NEW_MOUNTS = 0x00020000
"""CLONE_NEWNS of unshare(2)."""


def own_disk(directory: Path) -> str | None:
    """Mount it on a directory; why that cannot be done, where it cannot."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "it takes root on Linux to mount a small disk"
    if ctypes.CDLL(None, use_errno=True).unshare(_NEW_MOUNTS):
        return f"no mount namespace of its own: {os.strerror(ctypes.get_errno())}"
    for command in (["--make-rprivate", "/"], ["-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(directory)]):
        done = subprocess.run(["mount", *command], capture_output=True, text=True, check=False)
        if done.returncode:
            return done.stderr.strip()
    return None


@contextmanager
def filled(directory: Path) -> Iterator[None]:
    """Leave no room on the disk of a directory while the block lasts."""
    ballast = directory / "ballast"
    try:
        with ballast.open("wb") as file:
            _take_all(file.fileno(), os.statvfs(directory).f_frsize)
        yield
    finally:
        ballast.unlink(missing_ok=True)


def _take_all(file: int, block: int) -> None:
    """Grow a file until no block is free, by ever smaller pieces: others write at the same time."""
    piece, size = os.fstatvfs(file).f_bavail * block, 0
    while piece >= block:
        try:
            os.posix_fallocate(file, size, piece)
            size += piece
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            piece = piece // 2 // block * block
