"""Ctrl-C is heeded wherever it falls: Python drops what is raised in a finaliser or in a callback of its imports.

A command that was starting a stack then came up whole and ended with success. What was dropped is raised again a moment later,
when that callback has ended. Imported by the command line before anything else.
"""

import signal
import sys
import threading
from datetime import timedelta

AGAIN = timedelta(milliseconds=50)
"""From the interrupt that was dropped to the one in its place; callbacks take microseconds."""


def repeat_dropped_interrupts() -> None:
    """Have this process raise a KeyboardInterrupt again that Python could only report."""
    sys.unraisablehook = _repeat_interrupt


def came_of_interrupt(error: BaseException | None) -> bool:
    """Whether it is an interrupt, or was raised where one was handled: Prefect fails on a task that had not quite begun."""
    return error is not None and (isinstance(error, KeyboardInterrupt) or came_of_interrupt(error.__context__))


def _repeat_interrupt(dropped: "sys.UnraisableHookArgs") -> None:
    if issubclass(dropped.exc_type, KeyboardInterrupt):
        main = threading.main_thread().ident
        threading.Timer(AGAIN.total_seconds(), signal.pthread_kill, (main, signal.SIGINT)).start()
    else:
        sys.__unraisablehook__(dropped)
