"""What runs now: every component of the stack with its address, state and memory, and automations that failed."""

from collections.abc import Mapping

from deployments.prefect_client.client import PrefectClient
from deployments.prefect_client.history import AutomationFailure, failed_actions
from deployments.stack import programs, supervisord
from deployments.stack.embedded_redis import store_is_up
from deployments.stack.process_tree import tree_memory_mb
from deployments.stack.state import Stack
from perennial.base import FrozenModel
from perennial.logs import without_credentials

RUNNING = "running"
"""The state of a component that is as it should be."""


class ComponentStatus(FrozenModel):
    """One component of the stack."""

    name: str
    address: str
    state: str
    pid: int | None = None
    memory_mb: float | None = None

    @property
    def healthy(self) -> bool:
        """Whether it does its work."""
        return self.state == RUNNING


class StackStatus(FrozenModel):
    """The whole stack, and automations that failed since it came up."""

    components: tuple[ComponentStatus, ...]
    failures: tuple[AutomationFailure, ...]

    @property
    def healthy(self) -> bool:
        """Whether every component runs."""
        return all(component.healthy for component in self.components)


def stack_status(stack: Stack, environ: Mapping[str, str]) -> StackStatus:
    """The state of a running stack; raises StackError when its supervisor does not answer."""
    supervised = supervisord.states(stack.socket)
    with PrefectClient(stack.prefect.url, environ) as api:
        up = {programs.STORE: store_is_up(stack.store.url), programs.PREFECT: api.healthy()}
        components = tuple(
            _supervised(supervised[name], address) if name in supervised else _external(name, address, up.get(name, False))
            for name, address in _addresses(stack)
        )
        failures = failed_actions(api, stack.started_at) if up[programs.PREFECT] else ()
        return StackStatus(components=components, failures=failures)


def _addresses(stack: Stack) -> tuple[tuple[str, str], ...]:
    services = ((service.program, service.url) for service in stack.services)
    store, ui = without_credentials(stack.store.url), stack.prefect.url.removesuffix("/api")
    return ((programs.STORE, store), (programs.PREFECT, ui), *services, (programs.WORKER, ""))


def _supervised(program: supervisord.ProgramState, address: str) -> ComponentStatus:
    if program.state != "RUNNING":
        return ComponentStatus(name=program.name, address=address, state=program.state.lower())
    memory = tree_memory_mb([program.pid])
    return ComponentStatus(name=program.name, address=address, state=RUNNING, pid=program.pid, memory_mb=memory or None)


def _external(name: str, address: str, up: bool) -> ComponentStatus:
    return ComponentStatus(name=name, address=address, state=RUNNING if up else "does not answer")
