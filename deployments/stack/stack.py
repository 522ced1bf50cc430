"""Starting and ending the local stack, and finding the one that runs.

`up` plans what is to run, writes the supervisor's configuration, starts the supervisor, and waits until each component answers in
turn: the store, the Prefect server, the worker, the deployments, the first monitor run, the service. When it is interrupted, or
a component does not start, every process that the call has started is ended (tests/deployments/stack/test_stack.py). One `up`
at a time holds the lock of a home directory.
"""

import shlex
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from deployments import deploy
from deployments.deploy import POOL, TAG
from deployments.namesakes import refuse_namesakes
from deployments.prefect_client import FLEET, PrefectClient, require_api
from deployments.stack import plan, programs, state, supervisord, triage
from deployments.stack.embedded_redis import require_store, store_is_up
from deployments.stack.given_specs import read_specs, unreadable
from deployments.stack.health import is_healthy, serves_its_models
from deployments.stack.ports import PortReservations, is_free, reachable
from deployments.stack.prefect_worker import RUN_COMMAND
from deployments.stack.process_tree import tree_listens
from deployments.stack.state import MONITOR, PREFECT, SERVICE, STORE, TRIAGE, WORKER, Stack, state_dir
from monitoring.lease import lease_key
from perennial.errors import PerennialError, StackError
from perennial.fleet import spec_files, write_spec_list
from perennial.input_contract import changes_of
from perennial.settings import Settings
from perennial.spec import load_spec
from service.prediction_log.redis_client import connect

READY_TIMEOUT = timedelta(seconds=180)  # for one component; a Prefect server takes 5 to 20 s, longer on a busy machine
POLL_INTERVAL = timedelta(seconds=0.1)  # between two looks at a component that is starting


def up(
    specs: Sequence[Path],
    settings: Settings,
    environ: Mapping[str, str],
    now: datetime,
    report: plan.ReportProgress = lambda *_: None,
    options: plan.StackOptions = plan.NO_OPTIONS,
) -> tuple[Stack, Mapping[str, str]]:
    """Bring the stack up for specs, or directories of them, and deploy the flows; models are added to those that run.

    Safe to repeat: what runs is left alone, and the service takes in one more model without refusing a request. Returns the
    stack, and what is wrong with specs of directories that it does without. Raises StackError, SpecError, StoreUnreachable or
    PrefectUnreachable.
    """
    given, directory = read_specs(specs, settings), state_dir(settings.home)
    with _locked(directory) as ports:
        running = supervisord.find_supervisor(directory) is not None
        if not running:
            # What a killed supervisor left behind still holds the ports of last time and reads the same streams.
            supervisord.stop(directory, _socket(settings.home))
        before = state.last_stack(settings)
        ports.own = before.ports.values() if before and running else ()
        stack = plan.base_stack(before, running, settings, ports, now)
        refuse_namesakes(stack.directory)
        lost = unreadable(stack.models, settings)
        for name in lost:
            stack = plan.without_model(stack, name)
        stack = plan.with_options(plan.with_models(stack, given.models, settings, ports), options, running, settings, ports)
        try:
            _launch(stack, environ, None if running else ports.descriptors)
            with PrefectClient(stack.prefect.url, environ) as api:
                _Startup(stack, api, report).run(environ, now)
        except BaseException:
            if not running:
                supervisord.stop(directory, stack.socket)
            raise
    return stack, {**lost, **given.broken}


def take_out(name: str, settings: Settings, environ: Mapping[str, str]) -> Stack:
    """The running stack without a model: it is served and followed no longer when this returns; its state stays."""
    directory = state_dir(settings.home)
    with _locked(directory):
        stack = running_stack(settings)
        if stack is None or stack.spec_of(name) is None:
            raise StackError(f"the running stack has no model {name}")
        stack = plan.without_model(stack, name)
        _launch(stack, environ)
        if stack.service is not None:
            wait_ready(lambda: serves_its_models(stack), SERVICE)
        _remove_schedule(name, stack, environ)
        with connect(stack.store.url) as store:
            wait_ready(lambda: not store.exists(lease_key(name)), MONITOR)
    return stack


def wait_ready(ready: Callable[[], object], what: str) -> None:
    """Poll until something is so; raises StackError naming it after READY_TIMEOUT."""
    deadline, pause = time.monotonic() + READY_TIMEOUT.total_seconds(), threading.Event()
    while not ready():
        if time.monotonic() > deadline:
            raise StackError(
                f"{what} is not ready after {READY_TIMEOUT.total_seconds():g} s: see its log with `perennial status`"
            )
        pause.wait(POLL_INTERVAL.total_seconds())


def spec_changes(stack: Stack, settings: Settings) -> list[str]:
    """What a person must know of specs that changed since their model's last training, or cannot be read any more."""
    found = []
    for model in stack.models:
        try:
            change = changes_of(model.spec, settings)
        except PerennialError as error:
            change = str(error)
        found += [f"{model.name}: {change}"] if change else []
    return found


@contextmanager
def _locked(directory: Path) -> Iterator[PortReservations]:
    """One change of a stack at a time; raises StackError while there is another one."""
    directory.mkdir(parents=True, exist_ok=True)
    with PortReservations() as ports:
        if not ports.lock(directory / "lock"):
            raise StackError(f"another `perennial up` is at work in {directory}: wait for it, or end it")
        yield ports


def down(settings: Settings, report: plan.ReportProgress = lambda *_: None) -> bool:
    """End every process of the stack, in order; False when nothing was running."""
    directory = state_dir(settings.home)
    if supervisord.find_supervisor(directory) is None and not stack_processes(settings):
        return False
    report("stack", "stopping")
    supervisord.stop(directory, _socket(settings.home))
    report("stack", "stopped")
    return True


def running_stack(settings: Settings) -> Stack | None:
    """The stack of this home directory, if its supervisor runs."""
    return state.last_stack(settings) if supervisord.find_supervisor(state_dir(settings.home)) else None


def store_of(stack: Stack | None, settings: Settings) -> str | None:
    """The store's address: that of the running stack, or what the settings say."""
    return stack.store.url if stack is not None else settings.redis_url


def stack_processes(settings: Settings) -> list[int]:
    """Process ids of the stack's programs, running or outliving a supervisor that was killed."""
    return [process.pid for process in supervisord.program_processes(state_dir(settings.home), _socket(settings.home))]


def outlived_supervisor(settings: Settings) -> str | None:
    """What to do about programs of a stack whose supervisor does not run; None where nothing of it does."""
    left = stack_processes(settings)
    count = f"the stack's supervisor was killed and left {len(left)} processes running"
    return f"{count}: `perennial up SPEC` or `perennial down` ends them" if left else None


def environment_of(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """In which a command finds the running stack, or just Prefect's home; raises StackError for what a killed supervisor left."""
    stack = running_stack(settings)
    if stack is not None:
        plan.refuse_other_addresses(stack, settings)
        return programs.environment(stack, environ)
    if settings.prefect_api_url is None and (left := outlived_supervisor(settings)):
        raise StackError(left)  # a second Prefect server on the same home would write the same database
    own = {} if settings.prefect_api_url else {"PREFECT_HOME": str(programs.prefect_home(settings.home))}
    return {**own, **environ}


def running_service(path: Path, settings: Settings) -> str | None:
    """Where the model of a spec answers in the running stack."""
    stack = running_stack(settings)
    return stack.url_of(load_spec(path).name) if stack is not None else None


def require_service(path: Path, settings: Settings) -> str:
    """Where the model of a spec answers: in the running stack, or at the address the settings give; raises StackError."""
    elsewhere = f"http://{reachable(settings.host)}:{settings.port}"
    url = running_service(path, settings) or elsewhere
    if not is_healthy(url.partition("/models/")[0]):
        raise StackError(f"no service answers at {url}: run `perennial up {path}`, or `perennial serve {path}` beside this")
    return url


def refuse_taken_port(settings: Settings) -> None:
    """Raises StackError naming the service of the running stack, or the stranger, that listens where another service is to."""
    if is_free(settings.host, settings.port):
        return
    stack = running_stack(settings)
    ours = stack is not None and stack.service is not None and stack.service.port == settings.port
    holder = "has the service of the running stack" if ours else "is taken"
    raise StackError(f"port {settings.port} on {settings.host} {holder}: ask for another with PERENNIAL_PORT")


def deploy_fleet(
    paths: Sequence[Path], stack: Stack | None, settings: Settings, environ: Mapping[str, str], directory: Path
) -> Path:
    """Deploy the flows to the stack, or to the API of PREFECT_API_URL for these specs beside those that its monitor follows.

    Returns the file that was applied. The stack's worker is on this machine; elsewhere the paths stay as given: relative to the
    directory in which the workers are started.
    """
    for path in spec_files(paths):
        name = load_spec(Path(path)).name
        if stack is not None and stack.spec_of(name) is None:
            raise StackError(f"the running stack has no model {name}: add it with `perennial up {path}`")
    if stack is not None:
        return _deploy_to_stack(stack, environ)
    if settings.prefect_api_url is None:
        raise StackError("no Prefect API to deploy to: run `perennial up SPEC`, or set PREFECT_API_URL")
    target = settings.home / "prefect.yaml"
    with PrefectClient(settings.prefect_api_url, environ) as api:
        deploy.ensure_pool(api, directory, environ)
        specs = tuple(dict.fromkeys([*api.followed_specs(), *map(str, paths)]))
        here = {path: load_spec(Path(path)) for path in spec_files(one for one in specs if Path(one).exists())}
        deploy.write(specs, target, schedules=deploy.schedules_of(here))
        deploy.apply(target, directory, environ)
        api.delete_deployments_of_single_models(TAG)
    return target


def _deploy_to_stack(stack: Stack, environ: Mapping[str, str], api: PrefectClient | None = None) -> Path:
    """Deploy the flows once for all models: one more model is one more entry of the list that the monitor reads.

    Where the API, if given, has them already, nothing is done: automations that are applied anew forget what they wait for.
    """
    target, changed = _write_deployments(stack)
    if changed or api is None or not deploy.is_applied(target, api):
        deploy.apply(target, stack.directory, programs.environment(stack, environ))
        with PrefectClient(stack.prefect.url, environ) as own:
            own.delete_deployments_of_single_models(TAG)
    return target


def _write_deployments(stack: Stack) -> tuple[Path, bool]:
    """The file of the stack's deployments, and whether it had to be written anew."""
    target = stack.state_dir / "prefect.yaml"
    schedules = deploy.schedules_of({str(model.spec): load_spec(model.spec) for model in stack.models})
    return target, deploy.write([str(stack.spec_list)], target, shlex.join(RUN_COMMAND), schedules)


@dataclass(frozen=True)
class _Startup:
    """Waits for the components of a launched stack, one after the other."""

    stack: Stack
    api: PrefectClient
    report: plan.ReportProgress

    def run(self, environ: Mapping[str, str], now: datetime) -> None:
        stack, service = self.stack, self.stack.service
        assert service is not None
        if (port := stack.triage_port) is not None:
            self._start(TRIAGE, lambda: triage.answers(port))
        self._start(STORE, lambda: self._owns(STORE, stack.store.port) and store_is_up(stack.store.url))
        self._start(PREFECT, lambda: self._owns(PREFECT, stack.prefect.port) and self.api.healthy())
        self._start_worker(now)
        self._wait(WORKER, lambda: self.api.has_pool(POOL))
        self.report("deployments", "applying")
        _deploy_to_stack(stack, environ, self.api)
        self.report("deployments", "ready")
        self._start(WORKER, lambda: self.api.online_workers(POOL, stack.started_at))
        self._start_monitor(now)
        self.report(MONITOR, "ready")
        self._start(SERVICE, lambda: self._owns(SERVICE, service.port) and serves_its_models(stack))

    def _start_worker(self, now: datetime) -> None:
        """A worker that was not running cannot have runs: those the API believes running are ended first."""
        if supervisord.states(self.stack.socket)[WORKER].state not in supervisord.ALIVE_STATES:
            if self.stack.prefect.port is not None and self.api.has_pool(POOL):
                self.api.end_crashed_runs(POOL, now)
            supervisord.start_program(self.stack.socket, WORKER)

    def _start_monitor(self, now: datetime) -> None:
        """The schedule begins an interval from now; the first monitor run is asked for at once."""
        monitor = self.api.deployment_id(f"monitor/{FLEET}")
        due = (run for run in self.api.pool_runs(POOL, ("SCHEDULED",)) if run.is_due(now))
        if not any(run.deployment_id == monitor for run in (*self.api.pool_runs(POOL, ("RUNNING", "PENDING")), *due)):
            self.api.start_run(monitor)

    def _start(self, name: str, ready: Callable[[], object]) -> None:
        self.report(name, "starting")
        self._wait(name, ready)
        self.report(name, "ready")

    def _wait(self, name: str, ready: Callable[[], object]) -> None:
        """Poll until a component is ready; raises StackError with the end of its log when it dies or takes too long."""
        deadline, pause = time.monotonic() + READY_TIMEOUT.total_seconds(), threading.Event()
        while not ready():
            program = supervisord.states(self.stack.socket).get(name)
            if program is not None and program.state in supervisord.DEAD_STATES:
                raise StackError(f"{name} does not start{self._log_end(name)}")
            if time.monotonic() > deadline:
                raise StackError(f"{name} is not ready after {READY_TIMEOUT.total_seconds():g} s{self._log_end(name)}")
            pause.wait(POLL_INTERVAL.total_seconds())

    def _owns(self, name: str, port: int | None) -> bool:
        """Whether our own process listens: another server that took the port in the meantime would answer as well."""
        return port is None or tree_listens(supervisord.states(self.stack.socket)[name].pid, port)

    def _log_end(self, name: str) -> str:
        log = supervisord.log_file(self.stack.state_dir, name)
        return f"; the end of {log}:\n{log.read_text(errors='replace').strip()[-1_500:]}" if log.exists() else ""


def _socket(home: Path) -> Path:
    """The supervisor's socket: as stack.json has it, which may come from an environment with another TMPDIR; else computed."""
    try:
        stack = state.load_stack(home)
    except StackError:
        stack = None
    return stack.socket if stack is not None else supervisord.socket_path(state_dir(home))


def _launch(stack: Stack, environ: Mapping[str, str], port_locks: Sequence[int] | None = None) -> None:
    """Start the supervisor with the locks of its ports, or, without them, let the running one take in what is new.

    A store or API that the stack does not run must answer before anything is started: waiting would not bring it up.
    """
    if stack.store.port is None:
        require_store(stack.store.url)
    if stack.prefect.port is None:
        require_api(stack.prefect.url, environ, "start it, or change or unset PREFECT_API_URL")
    for directory in (programs.store_home(stack.home), programs.prefect_home(stack.home)):
        directory.mkdir(parents=True, exist_ok=True)
    if stack.triage_port is not None and port_locks is not None:
        triage.prepare(programs.triage_home(stack.home), stack.triage_port)
    supervisord.write_config(stack.state_dir, stack.socket, programs.stack_programs(stack))
    state.save_stack(stack)
    write_spec_list(stack.spec_list, [model.spec for model in stack.models])
    if port_locks is None:
        supervisord.update_programs(stack.socket)
        for program in (one for one in programs.stack_programs(stack) if one.autostart):
            supervisord.start_program(stack.socket, program.name)
    else:
        supervisord.start(stack.state_dir, programs.environment(stack, environ), port_locks)


def _remove_schedule(name: str, stack: Stack, environ: Mapping[str, str]) -> None:
    """Take a model's trainings by the clock away, those that are planned too, and nothing of the others."""
    with PrefectClient(stack.prefect.url, environ) as api:
        api.delete_schedules("retrain", FLEET, slug=name)
    _write_deployments(stack)
