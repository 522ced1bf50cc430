"""The processes of a stack, found as an operator finds them: by the supervisor, by the service's log, by their flow run."""

import os
import re
import signal

import psutil

from deployments.stack import supervisord
from tests.support.stack import LOOP_TIMEOUT, Stage
from tests.support.waiting import wait_until

PARTS = ("store", "prefect", "worker", "service")
"""What the supervisor starts again."""

CHILDREN = {"service worker": r"worker (\d+) answers"}
"""What the service's main process starts again, by the line in which each says its number."""


def process_of(loop: Stage, victim: str) -> int | None:
    """The process that is a part, a child of the service, or the working run of a flow; None while there is none."""
    if victim in PARTS:
        return supervisord.states(loop.stack.socket)[victim].pid or None
    if victim in CHILDREN:
        log = supervisord.log_file(loop.stack.state_dir, "service").read_text(errors="replace")
        return int(re.findall(CHILDREN[victim], log)[-1])
    return flow_process(loop, victim)


def flow_process(loop: Stage, flow: str) -> int | None:
    """The process of the oldest run of a flow that is at work, as the worker has told the API."""
    found = (loop.api.request("GET", f"/flow_runs/{run}")["infrastructure_pid"] for run in _at_work(loop, flow))
    return next((int(pid) for pid in found if pid and psutil.pid_exists(int(pid))), None)


def kill(loop: Stage, victim: str) -> int:
    """SIGKILL it, as the kernel does when memory runs out; returns the number it had."""
    pid = wait_until(lambda: process_of(loop, victim), LOOP_TIMEOUT, f"{victim} to be at work")
    os.kill(pid, signal.SIGKILL)
    return pid


def wait_for_another(loop: Stage, victim: str, than: int) -> None:
    """Until another process stands in the place of the dead one."""
    wait_until(lambda: process_of(loop, victim) not in (None, than), LOOP_TIMEOUT, f"another {victim}")


def _at_work(loop: Stage, flow: str) -> list[str]:
    return [run.id for run in loop.history.runs(flow) if run.state == "RUNNING"]
