"""Deciding what the stack is to consist of: what already runs, what the environment points at, and free ports for the rest.

A program keeps its port over restarts: stack.json remembers the last port of each, and another program is given it only when
PERENNIAL_PORT asks for it by number. A port asked for that another service of the stack has leads to the next free one.
"""

from datetime import datetime
from pathlib import Path

from deployments.stack import embedded_redis, prefect_server
from deployments.stack.ports import PortReservations
from deployments.stack.state import PREFECT, STORE, Address, Service, Stack, state_dir
from deployments.stack.supervisord import socket_path
from perennial.errors import StackError
from perennial.settings import LOOPBACK, Settings
from perennial.spec import ModelSpec


def base_stack(before: Stack | None, running: bool, settings: Settings, ports: PortReservations, now: datetime) -> Stack:
    """The stack that runs, or one without services that is to run in this directory; raises StackError."""
    if not running or before is None:
        return without_services(before, settings, ports, Path.cwd(), now)
    refuse_other_addresses(before, settings)
    return before


def without_services(before: Stack | None, settings: Settings, ports: PortReservations, directory: Path, now: datetime) -> Stack:
    """A stack without services, on the ports of last time where they are still free."""
    home, last = settings.home.absolute(), dict(before.ports) if before else {}
    loopback = LOOPBACK[0]  # where the embedded store and Prefect server listen, for they have no passwords
    store, prefect = Address(url=settings.redis_url or ""), Address(url=settings.prefect_api_url or "")
    if not store.url:
        last[STORE] = port = ports.find(loopback, last.get(STORE, embedded_redis.PREFERRED_PORT))
        store = Address(url=f"redis://{loopback}:{port}/0", port=port)
    if not prefect.url:
        last[PREFECT] = port = ports.find(loopback, last.get(PREFECT, prefect_server.PREFERRED_PORT))
        prefect = Address(url=prefect_server.api_url(port), port=port)
    socket = socket_path(state_dir(home))
    return Stack(home=home, directory=directory, socket=socket, started_at=now, store=store, prefect=prefect, ports=last)


def with_service(stack: Stack, spec: ModelSpec, path: Path, settings: Settings, ports: PortReservations) -> Stack:
    """The stack with a service for this model; the same one when it has it already."""
    known = stack.service_of(spec.name)
    if known is not None:
        _refuse_other(stack, known, path, settings)
        return stack
    service = Service(model=spec.name, spec=path.absolute(), host=settings.host, port=0)
    service = service.model_copy(update={"port": _service_port(stack, service.program, settings, ports)})
    remembered = {**stack.ports, service.program: service.port}
    return stack.model_copy(update={"services": (*stack.services, service), "ports": remembered})


def refuse_other_addresses(stack: Stack, settings: Settings) -> None:
    """A running stack cannot change its store or Prefect API; raises StackError when the environment asks for others."""
    for asked, has, variable in (
        (settings.redis_url, stack.store.url, "REDIS_URL"),
        (settings.prefect_api_url, stack.prefect.url, "PREFECT_API_URL"),
    ):
        if asked and asked.rstrip("/") != has.rstrip("/"):
            raise StackError(f"the running stack does not use what {variable} points at: run `perennial down` first, or unset it")


def _service_port(stack: Stack, program: str, settings: Settings, ports: PortReservations) -> int:
    asked, last = _asked_port(settings), stack.ports.get(program)
    others = {port for name, port in stack.ports.items() if name != program}
    if asked is not None and asked not in (others if last else _in_use(stack)):
        return ports.claim(settings.host, asked, "the port of the service", "PERENNIAL_PORT")
    return ports.find(settings.host, last or settings.port or 8000, others)


def _asked_port(settings: Settings) -> int | None:
    return settings.port if "port" in settings.model_fields_set and settings.port else None


def _in_use(stack: Stack) -> set[int | None]:
    return {stack.store.port, stack.prefect.port, *(service.port for service in stack.services)}


def _refuse_other(stack: Stack, known: Service, path: Path, settings: Settings) -> None:
    if known.spec != path.absolute():
        served = f"the stack serves model {known.model} from {known.spec}"
        raise StackError(f"{served}: run `perennial down` first, or rename the model")
    asked = _asked_port(settings)
    if asked is not None and asked not in _in_use(stack):
        raise StackError(f"model {known.model} is served on port {known.port}, not {asked}: run `perennial down` first")
