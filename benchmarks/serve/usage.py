"""Processor time of a process and everything below it."""

import threading
import time

import psutil

CALM = 0.05
"""Share of a core below which a server counts as done with what it had taken on."""

LOOK = 0.5
"""Seconds over which that is judged."""


def cpu_seconds(pid: int) -> float:
    """User and system time of the tree so far; a process that ended is counted by the parent that waited for it."""
    return sum(_own_seconds(process) for process in tree(pid))


def tree(pid: int) -> list[psutil.Process]:
    """The process and all its descendants that live; empty when it has gone."""
    try:
        top = psutil.Process(pid)
        return [top, *top.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def busy_seconds() -> float:
    """Time that all cores of the machine have been busy since it started."""
    times = psutil.cpu_times()
    # guest times are part of user times already
    idle = times.idle + getattr(times, "iowait", 0.0)
    guest = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
    return float(sum(times) - idle - guest)


def settle(pid: int, patience: float = 20.0) -> None:
    """Wait until the tree is calm: requests that were in flight when the load ended must not burden the next one."""
    pause, deadline, before = threading.Event(), time.monotonic() + patience, cpu_seconds(pid)
    while time.monotonic() < deadline:
        pause.wait(LOOK)
        after = cpu_seconds(pid)
        if after - before < CALM * LOOK:
            return
        before = after


def idle_percent(pid: int, seconds: float) -> float:
    """Per cent of one core that the tree uses while nobody asks it anything."""
    before, began = cpu_seconds(pid), time.monotonic()
    threading.Event().wait(seconds)
    return 100 * (cpu_seconds(pid) - before) / (time.monotonic() - began)


def _own_seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system + times.children_user + times.children_system)
