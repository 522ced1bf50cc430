"""Deciding what the stack is to consist of: what already runs, what the environment points at, and free ports for the rest."""

from datetime import datetime
from pathlib import Path

from deployments.stack import embedded_redis, prefect_server
from deployments.stack.ports import PortReservations
from deployments.stack.state import Address, Service, Stack, state_dir
from deployments.stack.supervisord import socket_path
from perennial.errors import StackError
from perennial.settings import Settings
from perennial.spec import ModelSpec

LOOPBACK = "127.0.0.1"
"""Where the embedded store and Prefect server listen; they have no passwords."""


def without_services(before: Stack | None, settings: Settings, ports: PortReservations, directory: Path, now: datetime) -> Stack:
    """A stack without services, on the ports of last time where they are still free."""
    home = settings.home.absolute()
    redis, prefect = settings.redis_url, settings.prefect_api_url
    return Stack(
        home=home,
        directory=directory,
        socket=socket_path(state_dir(home)),
        started_at=now,
        store=Address(url=redis) if redis else _own_store(before, ports),
        prefect=Address(url=prefect) if prefect else _own_prefect(before, ports),
    )


def with_service(
    stack: Stack, before: Stack | None, spec: ModelSpec, path: Path, settings: Settings, ports: PortReservations
) -> Stack:
    """The stack with a service for this model; the same one when it has it already."""
    known = stack.service_of(spec.name)
    if known is not None:
        _refuse_other(known, path, settings)
        return stack
    last = before.service_of(spec.name) if before else None
    port = _service_port(stack, settings, ports, last.port if last else settings.port or 8000)
    service = Service(model=spec.name, spec=path.absolute(), host=settings.host, port=port)
    return stack.model_copy(update={"services": (*stack.services, service)})


def refuse_other_addresses(stack: Stack, settings: Settings) -> None:
    """A running stack cannot change its store or Prefect API; raises StackError when the environment asks for others."""
    for asked, has, variable in (
        (settings.redis_url, stack.store.url, "REDIS_URL"),
        (settings.prefect_api_url, stack.prefect.url, "PREFECT_API_URL"),
    ):
        if asked and asked.rstrip("/") != has.rstrip("/"):
            raise StackError(f"the running stack does not use what {variable} points at: run `perennial down` first, or unset it")


def _own_store(before: Stack | None, ports: PortReservations) -> Address:
    port = ports.find(LOOPBACK, (before.store.port if before else None) or embedded_redis.PREFERRED_PORT)
    return Address(url=f"redis://{LOOPBACK}:{port}/0", port=port)


def _own_prefect(before: Stack | None, ports: PortReservations) -> Address:
    port = ports.find(LOOPBACK, (before.prefect.port if before else None) or prefect_server.PREFERRED_PORT)
    return Address(url=prefect_server.api_url(port), port=port)


def _asked_port(settings: Settings) -> int | None:
    return settings.port if "port" in settings.model_fields_set and settings.port else None


def _service_port(stack: Stack, settings: Settings, ports: PortReservations, preferred: int) -> int:
    asked = _asked_port(settings)
    if asked is not None:
        return ports.claim(settings.host, asked, "the port of the service", "PERENNIAL_PORT")
    ours = (stack.store.port, stack.prefect.port, *(service.port for service in stack.services))
    return ports.find(settings.host, preferred, {port for port in ours if port is not None})


def _refuse_other(known: Service, path: Path, settings: Settings) -> None:
    if known.spec != path.absolute():
        raise StackError(
            f"the stack serves model {known.model} from {known.spec}: run `perennial down` first, or rename the model"
        )
    asked = _asked_port(settings)
    if asked is not None and asked != known.port:
        raise StackError(f"model {known.model} is served on port {known.port}, not {asked}: run `perennial down` first")
