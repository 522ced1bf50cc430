"""Faults of processes: kill -9, SIGSTOP for a while, or an orderly restart of one part of the stack."""

import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress

import psutil

from deployments.stack import supervisord
from perennial.errors import PrefectUnreachable, StackError
from tests.faults.episodes.plan import AT_RANDOM, FLOW_STEPS, Fault
from tests.faults.victims import flow_process
from tests.support.stack import Stage
from tests.support.waiting import wait_until

PROGRAMS = {"prefect worker": "worker", "prefect server": "prefect", "store": "store", "service main": "service"}
"""Names of victims, and of the supervisor's programs."""

FIND_TIMEOUT = 60.0
"""Seconds in which a victim is there: a retraining starts some seconds after its event."""


def harmed_part(fault: Fault) -> str | None:
    """The part whose clients may see it: the service, the store, or none."""
    victim = fault.kind.partition(" ")[2]
    if victim in ("service worker", "service main", "http processes", "supervisor"):
        return "service"
    return "store" if victim == "store" else None


def aim(loop: Stage, fault: Fault) -> list[int]:
    """The processes of a flow run that is to be harmed after a step: found before that, for the next step comes at once."""
    victim = fault.kind.partition(" ")[2]
    if victim not in FLOW_STEPS:
        return []
    pids = wait_until(lambda: victims(loop, victim), FIND_TIMEOUT, f"{victim} to be at work")
    if fault.is_of_training and fault.moment == AT_RANDOM:
        threading.Event().wait(fault.delay / 3)
    return pids


def harm_processes(loop: Stage, fault: Fault, aimed: list[int]) -> str:
    """Do it; returns what was done to which processes. Raises AssertionError where the victim does not come."""
    verb, _, victim = fault.kind.partition(" ")
    pids = aimed or wait_until(lambda: victims(loop, victim), FIND_TIMEOUT, f"{victim} to be at work")
    {"kill": _kill, "stop": _stop, "restart": _restart}[verb](pids, fault.seconds)
    return f"{verb} {victim} {pids}"


def victims(loop: Stage, victim: str) -> list[int]:
    """The processes of a victim now; empty while there is none."""
    try:
        if victim == "supervisor":
            found = supervisord.find_supervisor(loop.stack.state_dir)
            return [found.pid] if found else []
        if victim in FLOW_STEPS:
            pid = flow_process(loop, victim)
        elif victim in PROGRAMS:
            pid = supervisord.states(loop.stack.socket)[PROGRAMS[victim]].pid
        else:
            workers = service_workers(loop)
            return workers if victim == "http processes" else workers[-1:]
    except (PrefectUnreachable, StackError, psutil.Error):
        return []
    return [pid] if pid else []


def service_workers(loop: Stage) -> list[int]:
    """The processes that read HTTP and predict: children of the service's main process, by their start."""
    main = psutil.Process(supervisord.states(loop.stack.socket)["service"].pid)
    found = (child for child in main.children() if "spawn_main" in " ".join(child.cmdline()))
    return [child.pid for child in sorted(found, key=lambda child: child.create_time())]


def pulse(pids: Callable[[], list[int]], seconds: float, rest: float, work: float) -> None:
    """Stop and continue processes by turns, as a slow disk does with whoever writes to it."""
    over = threading.Event()
    timer = threading.Timer(seconds, over.set)
    timer.start()
    try:
        while not over.is_set():
            _stop(pids(), rest)
            over.wait(work)
    finally:
        timer.cancel()


def _kill(pids: list[int], _: float) -> None:
    _signal(pids, signal.SIGKILL)


def _restart(pids: list[int], _: float) -> None:
    _signal(pids, signal.SIGTERM)


def _stop(pids: list[int], seconds: float) -> None:
    _signal(pids, signal.SIGSTOP)
    try:
        threading.Event().wait(seconds)
    finally:
        _signal(pids, signal.SIGCONT)


def _signal(pids: list[int], number: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
