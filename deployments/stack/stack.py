"""The local stack, up and down: starts the parts in order, waits until each is healthy, and leaves nothing behind."""

import fcntl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import httpx

from deployments import deploy
from deployments.deploy import POOL
from deployments.prefect_client.client import PrefectApi
from deployments.stack import plan, programs, supervisord
from deployments.stack.crashed_runs import settle_orphans
from deployments.stack.embedded_redis import refuse_absent_store, store_answers
from deployments.stack.ports import Ports, listens
from deployments.stack.prefect_worker import run_command
from deployments.stack.state import Service, Stack, remember, remembered, state_dir
from perennial.errors import PrefectUnreachable, StackError
from perennial.settings import Settings
from perennial.spec import ModelSpec, load_spec

READY_TIMEOUT = 180.0
"""Seconds one part may take; a Prefect server takes 5-20, longer on a machine that is busy with other things."""

LOOK_INTERVAL = 0.1
"""Seconds between two looks at a part that is starting."""

Tell = Callable[[str, str], None]
"""Is told (part, state) at every step, for a display: `starting`, then `ready` or what is special about it."""


def quiet(_part: str, _state: str) -> None:
    """Tells nobody."""


def up(path: Path, settings: Settings, environ: Mapping[str, str], now: datetime, tell: Tell = quiet) -> Stack:
    """Bring the stack up for a spec and deploy its flows; safe to repeat, and for a second model it adds a service.

    `path` is the spec's file; `now` the time of the call. Raises StackError, SpecError, StoreUnreachable or PrefectUnreachable;
    whatever ends it early, Ctrl-C too, ends a stack that this call has started.
    """
    spec, directory = load_spec(path), state_dir(settings.home)
    with _alone(directory), Ports() as ports:
        running = supervisord.supervisor_of(directory) is not None
        stack = _planned(running, spec, path, settings, ports, now)
        _refuse_absent(stack, environ)
        try:
            _launch(stack, environ, running)
            _bring_up(stack, spec, settings, environ, now, tell)
        except BaseException:
            if not running:
                supervisord.stop(directory, stack.socket)
            raise
    return stack


def down(settings: Settings, tell: Tell = quiet) -> bool:
    """End every process of the stack, in order; False when nothing was running."""
    directory = state_dir(settings.home)
    stack = remembered(settings.home)
    socket = stack.socket if stack else supervisord.socket_path(directory)
    if supervisord.supervisor_of(directory) is None and not supervisord.marked(socket):
        return False
    tell("stack", "stopping")
    supervisord.stop(directory, socket)
    tell("stack", "stopped")
    return True


def running_stack(settings: Settings) -> Stack | None:
    """The stack of this home directory, if it is up."""
    return remembered(settings.home) if supervisord.supervisor_of(state_dir(settings.home)) else None


def environment_of(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """The environment in which a command finds the parts of the running stack; without one, only Prefect's home is ours."""
    stack = running_stack(settings)
    if stack is not None:
        plan.refuse_other_parts(stack, settings)
        return programs.environment(stack, environ)
    own = {} if settings.prefect_api_url else {"PREFECT_HOME": str(programs.prefect_home(settings.home))}
    return {**own, **environ}


def service_url(path: Path, settings: Settings) -> str:
    """Where the service of a spec answers: in the running stack, or at the address the settings give."""
    stack = running_stack(settings)
    service = stack.service_of(load_spec(path).name) if stack is not None else None
    return service.url if service is not None else f"http://{settings.host}:{settings.port}"


def deploy_model(path: Path, stack: Stack | None, settings: Settings, environ: Mapping[str, str], directory: Path) -> Path:
    """Deploy a spec's flows to the stack, or to the API of PREFECT_API_URL; returns the file that was applied.

    The stack's worker is on this machine, so it gets the spec's absolute path and our interpreter. Elsewhere the path stays
    as given: relative to the directory in which the workers are started.
    """
    spec = load_spec(path)
    target = settings.model_home(spec.name) / "prefect.yaml"
    if stack is not None:
        deploy.write(spec, str(path.absolute()), target, run_command())
        deploy.apply(target, stack.directory, programs.environment(stack, environ))
        return target
    if settings.prefect_api_url is None:
        raise StackError("no Prefect API to deploy to: run `perennial up SPEC`, or set PREFECT_API_URL")
    with PrefectApi(settings.prefect_api_url, environ) as api:
        deploy.ensure_pool(api, directory, environ)
    deploy.apply(deploy.write(spec, str(path), target), directory, environ)
    return target


def _planned(running: bool, spec: ModelSpec, path: Path, settings: Settings, ports: Ports, now: datetime) -> Stack:
    before = remembered(settings.home)
    if running and before is not None:
        plan.refuse_other_parts(before, settings)
        return plan.with_service(before, before, spec, path, settings, ports)
    stack = plan.fresh(before, settings, ports, Path.cwd(), now)
    return plan.with_service(stack, before, spec, path, settings, ports)


def _refuse_absent(stack: Stack, environ: Mapping[str, str]) -> None:
    """Parts that somebody else runs must answer before anything is started: waiting for them would not bring them up."""
    if not stack.store.embedded:
        refuse_absent_store(stack.store.url)
    if not stack.prefect.embedded:
        with PrefectApi(stack.prefect.url, environ) as api:
            if not api.healthy():
                raise PrefectUnreachable(
                    f"the Prefect API at {api.url} does not answer: start it, or change or unset PREFECT_API_URL"
                )


def _launch(stack: Stack, environ: Mapping[str, str], running: bool) -> None:
    """Start the supervisor, or let the running one take in what is new."""
    if not running:
        # What an earlier supervisor left behind when it was killed would hold ports and read the same streams.
        supervisord.stop(stack.state_dir, stack.socket)
    for directory in (programs.store_home(stack.home), programs.prefect_home(stack.home)):
        directory.mkdir(parents=True, exist_ok=True)
    supervisord.write_config(stack.state_dir, stack.socket, programs.programs(stack))
    remember(stack)
    if running:
        supervisord.add_programs(stack.socket)
        for program in programs.programs(stack):
            if program.at_once:
                supervisord.start_program(stack.socket, program.name)
    else:
        supervisord.start(stack.state_dir, programs.environment(stack, environ))


def _bring_up(stack: Stack, spec: ModelSpec, settings: Settings, environ: Mapping[str, str], now: datetime, tell: Tell) -> None:
    service = stack.service_of(spec.name)
    assert service is not None
    with PrefectApi(stack.prefect.url, environ) as api:
        _ready(
            stack, programs.STORE, lambda: _ours(stack, programs.STORE, stack.store.port) and store_answers(stack.store.url), tell
        )
        _ready(stack, programs.PREFECT, lambda: _ours(stack, programs.PREFECT, stack.prefect.port) and api.healthy(), tell)
        _start_worker(stack, api, now)
        _wait(stack, programs.WORKER, lambda: api.has_pool(POOL))
        tell("deployments", "applying")
        deploy_model(service.spec, stack, settings, environ, stack.directory)
        tell("deployments", "ready")
        _ready(stack, programs.WORKER, lambda: api.online_workers(POOL, stack.started_at), tell)
        _keep_watching(api, spec.name, now)
        tell("monitor", "ready")
    _ready(stack, service.program, lambda: _ours(stack, service.program, service.port) and _serves(service), tell)


def _start_worker(stack: Stack, api: PrefectApi, now: datetime) -> None:
    """A worker that was not running cannot have runs: those the API believes alive are settled first."""
    if supervisord.states(stack.socket)[programs.WORKER].state not in supervisord.ALIVE:
        if stack.prefect.embedded and api.has_pool(POOL):
            settle_orphans(api, POOL, now)
        supervisord.start_program(stack.socket, programs.WORKER)


def _keep_watching(api: PrefectApi, model: str, now: datetime) -> None:
    """The schedule begins an interval from now; the first monitor run is asked for at once."""
    monitor = api.deployment_id(f"monitor/{model}")
    alive = api.runs(POOL, ("RUNNING", "PENDING")) + tuple(
        run for run in api.runs(POOL, ("SCHEDULED",)) if run.expected_start is not None and run.expected_start <= now
    )
    if not any(run.deployment_id == monitor for run in alive):
        api.start_run(monitor)


def _ready(stack: Stack, part: str, ready: Callable[[], object], tell: Tell) -> None:
    tell(part, "starting")
    _wait(stack, part, ready)
    tell(part, "ready")


def _wait(stack: Stack, part: str, ready: Callable[[], object]) -> None:
    """Look until a part is ready; raises StackError with the end of its log when it dies or takes too long."""
    deadline, pause = time.monotonic() + READY_TIMEOUT, threading.Event()
    while not ready():
        _refuse_dead(stack, part)
        if time.monotonic() > deadline:
            raise StackError(f"{part} is not ready after {READY_TIMEOUT:g} s{_log_end(stack, part)}")
        pause.wait(LOOK_INTERVAL)


def _refuse_dead(stack: Stack, part: str) -> None:
    state = supervisord.states(stack.socket).get(part)
    if state is not None and state.state in supervisord.DEAD:
        raise StackError(f"{part} does not start{_log_end(stack, part)}")


def _log_end(stack: Stack, part: str) -> str:
    log = supervisord.log_file(stack.state_dir, part)
    if not log.exists():
        return ""
    return f"; the end of {log}:\n{log.read_text(errors='replace').strip()[-1_500:]}"


def _ours(stack: Stack, part: str, port: int | None) -> bool:
    """Whether it is our own process that listens: another server that took the port in the meantime would answer as well."""
    return port is None or listens(supervisord.states(stack.socket)[part].pid, port)


def _serves(service: Service) -> bool:
    try:
        return httpx.get(f"{service.url}/health", timeout=2.0, trust_env=False).is_success
    except httpx.HTTPError:
        return False


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """One `up` at a time per home directory."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StackError(f"another `perennial up` is at work in {directory}: wait for it, or end it") from None
        yield
