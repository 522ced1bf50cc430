"""The pause: a file in a model's home by which a command asks the monitor to leave that model alone for a while.

A command that changes the prediction log, whose one writer is the monitor, writes it and waits until it holds the model's lease.
A monitor that finds it gives the lease back after its turn. A pause older than LONGEST is over, so that a command that was killed
holds no model up.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

LONGEST = timedelta(minutes=10)
FILE = "monitor/pause"


@contextmanager
def pausing(home: Path) -> Iterator[None]:
    """Ask the monitor to leave the model of this home alone while the block runs."""
    path = home / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def is_paused(home: Path) -> bool:
    """Whether the model is to be left alone now."""
    try:
        age = time.time() - (home / FILE).stat().st_mtime
    except OSError:
        return False
    return age < LONGEST.total_seconds()
