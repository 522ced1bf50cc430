"""The loop that a demo lives through: a stack of its own, or services that run already, by the environment's addresses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from deployments.package_data import EXAMPLES
from deployments.prefect_client import PrefectClient
from deployments.replay.display import print_line
from deployments.stack.stack import up
from deployments.stack.supervisord import find_supervisor
from perennial.errors import StackError
from perennial.fleet import spec_files
from perennial.registry import Registry
from perennial.settings import Settings
from perennial.spec import load_spec

SPEC = EXAMPLES / "flights.toml"


@dataclass(frozen=True)
class DemoLoop:
    """Where the parts of one loop are, since when the demo has it, and the processes beside the demo's whose memory counts.

    `spec` is the path by which its flows open the spec, `service_url` where the model answers.
    """

    settings: Settings
    spec: Path
    since: datetime
    service_url: str
    store_url: str
    prefect_url: str
    pids: tuple[int, ...] = ()


def bring_up_loop(settings: Settings, environ: Mapping[str, str], console: Console) -> DemoLoop:
    """The loop of a stack that is brought up in the home of these settings; raises what `up` raises."""
    now = datetime.now(UTC)
    stack, _ = up([SPEC], settings, environ, now, lambda component, state: print_line(console, f"{component}: {state}"))
    assert stack.service is not None
    supervisor = find_supervisor(stack.state_dir)
    pids = (supervisor.pid,) if supervisor else ()
    return DemoLoop(settings, SPEC, now, stack.service.url, stack.store.url, stack.prefect.url, pids)


def find_loop(url: str, settings: Settings, environ: Mapping[str, str]) -> DemoLoop:
    """The loop of services that run already, in which the demo's model answers at `url`; raises StackError where it is none.

    A model that has versions is refused: a demo begins with the first one. The events of a second demo would have the ids of the
    first one's, and a server answers each only once.
    """
    store, prefect, now = settings.redis_url, settings.prefect_api_url, datetime.now(UTC)
    if store is None or prefect is None:
        raise StackError("`--on` is about services that run already: REDIS_URL and PREFECT_API_URL must say where theirs are")
    with PrefectClient(prefect, environ) as api:
        spec = find_spec(api.followed_specs(), prefect)
    registry, name = settings.registry_url, load_spec(spec).name
    if Registry(registry).versions(name):
        fix = f"use a home, a registry and a store without {name}"
        raise StackError(f"{name} has versions in {registry}, and a demo begins with the first one: {fix}")
    return DemoLoop(settings, spec, now, url.rstrip("/"), store, prefect)


def find_spec(followed: Sequence[str], prefect_url: str) -> Path:
    """The path of the demo's spec among those that a deployed monitor follows; raises StackError where it is none of them."""
    name = load_spec(SPEC).name
    found = next((file for file in spec_files(followed) if load_spec(Path(file)).name == name), None)
    if found is None:
        raise StackError(f"no monitor of {prefect_url} follows {name}: run `perennial deploy {SPEC}` first")
    return Path(found)
