"""Waiting for something to become true, instead of sleeping and hoping."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

INTERVAL = 0.02
"""Seconds between two looks: short enough not to be felt, long enough to leave the cores to the thing waited for."""


def wait_until(predicate: Callable[[], T | None], timeout: float = 30.0, description: str = "") -> T:
    """Look until `predicate()` is truthy and return what it gave; AssertionError names `description` after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    pause = threading.Event()
    while not (found := predicate()):
        if time.monotonic() > deadline:
            what = description or getattr(predicate, "__name__", "the condition")
            raise AssertionError(f"waited {timeout:g} s in vain for {what}; last seen: {found!r}")
        pause.wait(INTERVAL)
    return found
