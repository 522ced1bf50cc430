"""Ctrl-C that falls where Python cannot raise it."""

import subprocess

import pytest

from tests.support.processes import ROOT, python

FALLS_INTO_A_FINALISER = """
import os, signal, threading
signal.signal(signal.SIGINT, signal.default_int_handler)  # a parent may have it ignored
from deployments.interrupts import repeat_dropped_interrupts

class Ending:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        sum(range(10))  # the interpreter looks for signals here

{install}
try:
    Ending()
    threading.Event().wait({seconds})
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize(
    ("install", "seconds", "said"),
    [("repeat_dropped_interrupts()", 60, "interrupted\n"), ("", 0.2, "")],
    ids=["ours", "Python's"],
)
def test_an_interrupt_that_python_drops_comes_again(install: str, seconds: float, said: str) -> None:
    script = FALLS_INTO_A_FINALISER.format(install=install, seconds=seconds)
    done = subprocess.run(python("-c", script), cwd=ROOT, capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout == said
    assert ("Exception ignored" in done.stderr) == (not install)


def test_what_else_python_drops_is_still_reported() -> None:
    script = (
        "from deployments.interrupts import *; repeat_dropped_interrupts()\nclass A:\n def __del__(self): raise OSError('x')\nA()"
    )
    done = subprocess.run(python("-c", script), cwd=ROOT, capture_output=True, text=True, check=True, timeout=30)
    assert "OSError: x" in done.stderr
