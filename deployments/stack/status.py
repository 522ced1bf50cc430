"""What a person sees of the stack: a line for each component as it starts, then its address, state and memory."""

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from threading import Event

import httpx
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from deployments.prefect_client import FLEET, FlowRun, PrefectClient
from deployments.stack import supervisord
from deployments.stack.embedded_redis import store_is_up
from deployments.stack.process_tree import tree_memory_mb
from deployments.stack.state import MONITOR, PREFECT, SERVICE, STORE, WORKER, Stack
from monitoring.dead_letters import count_dead_letters
from monitoring.lease import lease_key
from monitoring.state import newest_result
from monitoring.trouble import read_trouble
from perennial.errors import PerennialError
from perennial.redaction import without_credentials
from service.prediction_log.redis_client import connect, translate_redis_errors

RUNNING, NO_MODEL, AWAY = "running", "no model yet", "does not answer"
"""States of components: as it should be, waiting for the first training, and its process may run but nothing comes back."""

READY_TIMEOUT = timedelta(seconds=5)
"""For a service to say whether it is ready; it takes milliseconds."""

MONITOR_START = timedelta(minutes=1)
"""In which a monitor run that was asked for has begun to follow; it takes some seconds, longer on a busy machine."""

HANDOVER = timedelta(seconds=2)
"""In which a run that ends is succeeded by the one that stands by, which looks twice a second."""

FRESH = "has been promoted yet"
"""In what a service says of a model that was never trained."""

FINAL = ("ready", "stopped")
"""States after which a component's clock stands still."""


class StackProgress(Progress):
    """A live line for each component on a terminal; one plain line for each step elsewhere. Call it with (name, state)."""

    def __init__(self, console: Console) -> None:
        columns = (SpinnerColumn(finished_text="[green]✓"), TextColumn("{task.description:<20} {task.fields[state]:<10}"))
        super().__init__(*columns, TimeElapsedColumn(), console=console, disable=not console.is_terminal)
        self._lines, self._began = dict[str, TaskID](), time.monotonic()

    def __call__(self, name: str, state: str) -> None:
        """Show that a component has come to a state."""
        if not self.console.is_terminal:
            self.console.print(f"{time.monotonic() - self._began:6.1f} s  {name:<20} {state}")
            return
        if name not in self._lines:
            self._lines[name] = self.add_task(name, total=1, state=state)
        self.update(self._lines[name], state=state, completed=1 if state in FINAL else 0)


@dataclass(frozen=True)
class ComponentStatus:
    """One component of the stack; `pid` and `memory_mb` where the stack runs it."""

    name: str
    address: str
    state: str
    pid: int | None = None
    memory_mb: float | None = None

    @property
    def healthy(self) -> bool:
        """Whether it does its work, or waits for a first model to do it with."""
        return self.state in (RUNNING, NO_MODEL)


@dataclass(frozen=True)
class StackStatus:
    """The whole stack: what is wrong now, what each model's newest window led to, and what happened that a person may look at."""

    components: tuple[ComponentStatus, ...]
    failures: tuple[str, ...]
    decisions: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def healthy(self) -> bool:
        """Whether every component does its work, for every model."""
        return all(component.healthy for component in self.components) and not self.failures

    def table(self) -> Table:
        """One row for each component, those that do not run in red."""
        table = Table("part", "state", "address", "pid", "memory", box=None, pad_edge=False)
        for row in self.components:
            memory = f"{row.memory_mb:.0f} MB" if row.memory_mb else ""
            table.add_row(row.name, row.state, row.address, str(row.pid or ""), memory, style=None if row.healthy else "red")
        return table


def stack_status(stack: Stack, environ: Mapping[str, str], now: datetime) -> StackStatus:
    """The state of a running stack, each component asked itself; raises StackError when its supervisor does not answer."""
    with PrefectClient(stack.prefect.url, environ) as api:
        up, stored, failures = api.healthy(), store_is_up(stack.store.url), list[str]()
        wrong = {STORE: None if stored else AWAY, PREFECT: None if up else AWAY, WORKER: None}
        if stack.service is not None:
            wrong[SERVICE], reason = ask_service(stack.service.url)
            failures += [f"{SERVICE}: {reason}"] if reason else []
        programs = supervisord.states(stack.socket)
        components = [_component(name, address, programs.get(name), wrong[name]) for name, address in _addresses(stack).items()]
        if up:
            state, reason = monitor_state(api.newest_run("monitor", FLEET, now), stack, now, stored=stored)
            components.append(ComponentStatus(MONITOR, "", state))
            failures += [f"{MONITOR}: {reason}"] if reason else []
        failures += [line for model in stack.models for line in troubles(model.name, stack.home)]
        notes = [*(api.failed_actions(stack.started_at) if up else ()), *(dead_letter_notes(stack) if stored else ())]
        decisions = [line for model in stack.models for line in newest_decision(stack.home / model.name)]
        return StackStatus(tuple(components), tuple(failures), tuple(decisions), tuple(notes))


def monitor_state(run: FlowRun | None, stack: Stack, now: datetime, *, stored: bool = True) -> tuple[str, str]:
    """What is wrong with the monitor, as a state and in words: its newest run failed, or no run holds the lease of a model."""
    if run is not None and run.state in ("FAILED", "CRASHED"):
        return "failed", f"{run.name}: {run.message}"
    if not stored or (run is not None and now - run.created < MONITOR_START):
        return RUNNING, ""
    names = [model.name for model in stack.models if read_trouble(stack.home / model.name) is None]
    if not (missing := unfollowed(names, stack.store.url)):
        return RUNNING, ""
    newest = f"its newest run, {run.name}, is {run.state.lower()}" if run is not None else "it has had no run"
    return "does not follow", f"no run follows {', '.join(missing)}; {newest}: see its log in the Prefect UI"


def unfollowed(names: Sequence[str], url: str) -> list[str]:
    """The models whose lease no monitor holds, looked at until a run that hands it over has done so."""
    deadline = time.monotonic() + HANDOVER.total_seconds()
    with translate_redis_errors(url), closing(connect(url)) as store:
        while missing := [name for name in names if not store.exists(lease_key(name))]:
            if time.monotonic() > deadline:
                break
            Event().wait(HANDOVER.total_seconds() / 10)
        return missing


def dead_letter_notes(stack: Stack) -> list[str]:
    """How many stream entries of each model were put aside, where there are any."""
    with translate_redis_errors(stack.store.url), closing(connect(stack.store.url)) as store:
        counts = {model.name: count_dead_letters(store, model.name) for model in stack.models}
    return [f"{name}: {count:,} entries put aside: `perennial dead-letters {name}`" for name, count in counts.items() if count]


def troubles(model: str, home: Path) -> list[str]:
    """Why the monitor does not follow a model now, if it does not."""
    trouble = read_trouble(home / model)
    return [f"{model} is not followed since {trouble.since:%Y-%m-%d %H:%M}: {trouble.reason}"] if trouble else []


def newest_decision(home: Path) -> list[str]:
    """What the model's newest window led to and why, with diagnosis, account and what came true; nothing before the first."""
    try:
        result = newest_result(home)
    except PerennialError as error:
        return [str(error)]
    if result is None:
        return []
    said = f"{result.model}, {result.window}: {result.decision.kind}: {result.decision.reason}"
    diagnosis = f"diagnosis: {result.diagnosis}" if result.diagnosis is not None else ""
    beside, truth = (result.account.beside(), result.account.truth()) if result.account is not None else ("", "")
    return [said, *(f"  {line}" for line in (diagnosis, beside, truth) if line)]


def _addresses(stack: Stack) -> dict[str, str]:
    services = {SERVICE: stack.service.url} if stack.service is not None else {}
    store, ui = without_credentials(stack.store.url), stack.prefect.url.removesuffix("/api")
    return {STORE: store, PREFECT: ui, **services, WORKER: ""}


def _component(name: str, address: str, program: supervisord.ProgramState | None, wrong: str | None) -> ComponentStatus:
    if program is None:
        return ComponentStatus(name, address, wrong or RUNNING)
    if program.state != "RUNNING":
        return ComponentStatus(name, address, program.state.lower())
    return ComponentStatus(name, address, wrong or RUNNING, program.pid, tree_memory_mb([program.pid]))


def ask_service(url: str) -> tuple[str | None, str]:
    """What keeps a service from predicting, as a state and in words: None and no words when nothing does."""
    try:
        reply = httpx.get(f"{url}/ready", timeout=READY_TIMEOUT.total_seconds(), trust_env=False)
    except httpx.HTTPError:
        return AWAY, ""
    if reply.is_success:
        return None, _not_ready(reply)
    reason = reply.json()["error"]["message"] if "json" in reply.headers.get("content-type", "") else reply.text[:300]
    return (NO_MODEL, "") if FRESH in reason else ("not ready", reason)


def _not_ready(reply: httpx.Response) -> str:
    """Which of several models do not answer and why; those that are not trained yet are no trouble."""
    reasons = reply.json().get("not_ready", {}) if "json" in reply.headers.get("content-type", "") else {}
    return "; ".join(f"{name}: {reason}" for name, reason in reasons.items() if FRESH not in reason)
