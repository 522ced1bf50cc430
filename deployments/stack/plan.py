"""Deciding what the stack is to consist of: what already runs, what the environment points at, and free ports for the rest.

A program keeps its port over restarts: stack.json remembers the last port of each, and another program is given it only when
PERENNIAL_PORT asks for it by number. A port asked for that another program of the stack has leads to the next free one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from deployments.stack import embedded_redis, prefect_server, triage
from deployments.stack.ports import PortReservations
from deployments.stack.state import PREFECT, SERVICE, STORE, TRIAGE, Address, HostedModel, Service, Stack, state_dir
from deployments.stack.supervisord import socket_path
from perennial.errors import StackError
from perennial.settings import LOOPBACK, Settings


def base_stack(before: Stack | None, running: bool, settings: Settings, ports: PortReservations, now: datetime) -> Stack:
    """The stack that runs, or one without models that is to run in this directory; raises StackError."""
    if not running or before is None:
        return without_models(before, settings, ports, Path.cwd(), now)
    refuse_other_addresses(before, settings)
    return before


def without_models(before: Stack | None, settings: Settings, ports: PortReservations, directory: Path, now: datetime) -> Stack:
    """A stack without models, on the ports of last time where they are still free."""
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


def with_models(stack: Stack, models: Sequence[HostedModel], settings: Settings, ports: PortReservations) -> Stack:
    """The stack with these models beside those it has, and a service for all; the same one when it has them already."""
    for model in models:
        _refuse_other_spec(stack, model)
    new = tuple(model for model in models if stack.spec_of(model.name) is None)
    stack = stack.model_copy(update={"models": (*stack.models, *new)})
    if stack.service is not None:
        _refuse_other_port(stack, stack.service, settings)
        return stack
    service = Service(host=settings.host, port=_service_port(stack, settings, ports))
    return stack.model_copy(update={"service": service, "ports": {**stack.ports, SERVICE: service.port}})


ReportProgress = Callable[[str, str], None]
"""Called with (component, state) at every step: `starting`, then `ready`."""


@dataclass(frozen=True)
class StackOptions:
    """What `up` may be asked for beyond specs and settings."""

    challenger_share: float | None = None
    triage: bool = False


NO_OPTIONS = StackOptions()


def with_options(stack: Stack, options: StackOptions, running: bool, settings: Settings, ports: PortReservations) -> Stack:
    """The stack with what was asked for; raises StackError where a running one cannot have it any more."""
    stack = with_challenger_share(stack, options.challenger_share)
    if not options.triage or stack.triage_port is not None:
        return stack
    if running:
        raise StackError("the stack runs without --triage, and its programs report elsewhere: run `perennial down` first")
    if settings.sentry_dsn is not None:
        raise StackError("SENTRY_DSN is set, so errors go there: unset it, or do without --triage")
    port = ports.find(LOOPBACK[0], stack.ports.get(TRIAGE, triage.PREFERRED_PORT), set(stack.ports.values()))
    return stack.model_copy(update={"triage_port": port, "ports": {**stack.ports, TRIAGE: port}})


def with_challenger_share(stack: Stack, percent: float | None) -> Stack:
    """The stack whose service lets challengers answer this share of the rows; None leaves it as it is."""
    if percent is None or stack.service is None:
        return stack
    return stack.model_copy(update={"service": stack.service.model_copy(update={"challenger_share": percent})})


def without_model(stack: Stack, name: str) -> Stack:
    """The stack without a model, and without a service when it was the last one."""
    models = tuple(model for model in stack.models if model.name != name)
    return stack.model_copy(update={"models": models, "service": stack.service if models else None})


def refuse_other_addresses(stack: Stack, settings: Settings) -> None:
    """A running stack cannot change its store or Prefect API; raises StackError when the environment asks for others."""
    for asked, has, variable in (
        (settings.redis_url, stack.store.url, "REDIS_URL"),
        (settings.prefect_api_url, stack.prefect.url, "PREFECT_API_URL"),
    ):
        if asked and asked.rstrip("/") != has.rstrip("/"):
            raise StackError(f"the running stack does not use what {variable} points at: run `perennial down` first, or unset it")


def _service_port(stack: Stack, settings: Settings, ports: PortReservations) -> int:
    asked, last = _asked_port(settings), stack.ports.get(SERVICE)
    others = {port for name, port in stack.ports.items() if name != SERVICE}
    if asked is not None and asked not in others:
        return ports.claim(settings.host, asked, "the port of the service", "PERENNIAL_PORT")
    return ports.find(settings.host, last or settings.port or 8000, others)


def _asked_port(settings: Settings) -> int | None:
    return settings.port if "port" in settings.model_fields_set and settings.port else None


def _refuse_other_spec(stack: Stack, model: HostedModel) -> None:
    known = stack.spec_of(model.name)
    if known is not None and known != model.spec:
        served = f"the stack serves model {model.name} from {known}"
        raise StackError(f"{served}: run `perennial remove {model.name}` or `perennial down` first, or rename the model")


def _refuse_other_port(stack: Stack, service: Service, settings: Settings) -> None:
    asked = _asked_port(settings)
    if asked is not None and asked not in (stack.store.port, stack.prefect.port, service.port):
        raise StackError(f"the service listens on port {service.port}, not {asked}: run `perennial down` first")
