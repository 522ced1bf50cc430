"""Parent watch: a thread ends its process when the parent is gone, also when the parent was killed and could not say so."""

import multiprocessing
import os
import threading
from collections.abc import Callable

INTERVAL = 0.5
"""Seconds between two looks at the parent."""


def end_with_parent(before: Callable[[], None] | None = None) -> None:
    """Watch the parent from a thread; when it is gone, run `before` and end this process."""
    main = multiprocessing.parent_process()
    # Not getppid: the parent may be gone already.
    parent = os.getppid() if main is None or main.pid is None else main.pid
    threading.Thread(target=_watch, args=(parent, before), name="parent-watch", daemon=True).start()


def _watch(parent: int, before: Callable[[], None] | None) -> None:
    pause = threading.Event()
    while os.getppid() == parent:
        pause.wait(INTERVAL)
    try:
        if before is not None:
            before()
    finally:
        # Not sys.exit: only the main thread could, and it may be blocked on the dead parent.
        os._exit(1)
