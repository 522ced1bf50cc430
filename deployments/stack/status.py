"""What runs now: every part of the stack with its address, state and memory, as values; who shows them is not its concern."""

from collections.abc import Mapping
from datetime import UTC, datetime

import psutil

from deployments.prefect_client.automation_failures import FailedAction, failed_actions
from deployments.prefect_client.client import PrefectApi
from deployments.stack import programs, supervisord
from deployments.stack.embedded_redis import store_answers
from deployments.stack.state import Stack
from perennial.base import FrozenModel
from perennial.logs import without_credentials

RUNNING = "running"
"""The state of a part that is as it should be."""


class PartStatus(FrozenModel):
    """One part of the stack."""

    name: str
    address: str
    state: str
    pid: int | None = None
    since: datetime | None = None
    memory_mb: float | None = None

    @property
    def well(self) -> bool:
        """Whether the part does its work."""
        return self.state == RUNNING


class Status(FrozenModel):
    """The whole stack, and automations that failed since it came up."""

    parts: tuple[PartStatus, ...]
    failed: tuple[FailedAction, ...]

    @property
    def well(self) -> bool:
        """Every part runs."""
        return all(part.well for part in self.parts)


def look(stack: Stack, environ: Mapping[str, str]) -> Status:
    """The state of a running stack; raises StackError when its supervisor does not answer."""
    supervised = supervisord.states(stack.socket)
    with PrefectApi(stack.prefect.url, environ) as api:
        answering = api.healthy()
        foreign = {programs.STORE: store_answers(stack.store.url), programs.PREFECT: answering}
        listed = tuple(_part(name, address, supervised, foreign) for name, address in _addresses(stack))
        return Status(parts=listed, failed=failed_actions(api, stack.started_at) if answering else ())


def _addresses(stack: Stack) -> tuple[tuple[str, str], ...]:
    services = ((service.program, service.url) for service in stack.services)
    ui = stack.prefect.url.removesuffix("/api")
    return ((programs.STORE, without_credentials(stack.store.url)), (programs.PREFECT, ui), *services, (programs.WORKER, ""))


def _part(name: str, address: str, supervised: Mapping[str, supervisord.ProgramState], foreign: Mapping[str, bool]) -> PartStatus:
    program = supervised.get(name)
    if program is None:
        return PartStatus(name=name, address=address, state=RUNNING if foreign.get(name) else "does not answer")
    if program.state != "RUNNING":
        return PartStatus(name=name, address=address, state=program.state.lower())
    since = datetime.fromtimestamp(program.started, UTC)
    return PartStatus(name=name, address=address, state=RUNNING, pid=program.pid, since=since, memory_mb=memory(program.pid))


def memory(pid: int) -> float | None:
    """MB that a process and its descendants keep resident; None when it has gone."""
    try:
        family = (process := psutil.Process(pid), *process.children(recursive=True))
        return float(sum(one.memory_info().rss for one in family)) / 1e6
    except psutil.Error:
        return None
