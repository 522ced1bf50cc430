"""What a process and its descendants hold."""

import os
import socket
import subprocess
import sys
from datetime import timedelta

import psutil

from deployments.stack.process_tree import PeakMemory, is_alive, tree_listens, tree_memory_mb, wait_ended
from tests.support.waiting import wait_until

GONE = 2**22 + 1
"""No process has this number: it is above the kernel's highest."""


def test_a_listener_is_found_by_its_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = int(server.getsockname()[1])
        assert tree_listens(os.getpid(), port)
        assert not tree_listens(GONE, port)
    assert not tree_listens(os.getpid(), 1)


def test_memory_is_that_of_the_whole_tree() -> None:
    code = "import sys; held = bytes(range(200)) * 250_000; print('held', flush=True); sys.stdin.read()"
    alone = tree_memory_mb([os.getpid()])
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"held\n"
        assert tree_memory_mb([os.getpid()]) > alone + 40
        assert tree_memory_mb([os.getpid(), child.pid]) < alone + 100, "a process that is named twice counts once"
        child.communicate()


def test_a_process_that_has_ended_counts_nothing() -> None:
    assert tree_memory_mb([GONE]) == 0


def test_the_peak_is_kept() -> None:
    with PeakMemory([os.getpid()]) as memory:
        pass
    assert memory.mb > 0


def test_a_process_whose_status_is_never_read_has_ended() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        process = psutil.Process(child.pid)
        wait_until(lambda: process.status() == psutil.STATUS_ZOMBIE, description="the child to end")
        assert psutil.pid_exists(child.pid)
        assert not is_alive(process)
        assert wait_ended([process], timedelta(hours=1)) == []


def test_what_does_not_end_in_time_is_told() -> None:
    assert wait_ended([psutil.Process()], timedelta(0)) == [psutil.Process()]
