"""The demo: a year of real flights sent through the whole loop, without a person's help.

`run_demo` is the order of events. It brings a stack up in a home of its own, has the first champion trained by its deployment,
lets the driver replay the table, collects the evidence, writes the report, and takes the stack down.
"""

import os
import shutil
import signal
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
from rich.console import Console

from deployments.demo.display import Display, display_on
from deployments.demo.evidence import DriverMeasurements, collect_evidence
from deployments.demo.frozen_baseline import open_frozen_baseline
from deployments.demo.replay_driver import ReplayDriver
from deployments.demo.report import exit_code, write_report
from deployments.demo.summary import Summary
from deployments.demo.waits import LoopHandles, LoopWaiter, poll_until
from deployments.prefect_client.client import FlowRun, PrefectClient
from deployments.prefect_client.history import PrefectHistory
from deployments.stack.process_tree import PeakMemory
from deployments.stack.stack import down, running_stack, up
from deployments.stack.state import Stack
from deployments.stack.supervisord import find_supervisor
from perennial.api_keys import authorization
from perennial.errors import PerennialError, StackError
from perennial.log_columns import EVENT_TIME
from perennial.registry import Registry
from perennial.settings import Settings
from perennial.spec import ModelSpec, load_spec
from service.prediction_log.redis_client import connect
from tasks.data.ingest import assemble
from tasks.serving.replay import prepare

SPEC = Path(__file__).resolve().parents[2] / "examples" / "flights.toml"

START = datetime(2013, 3, 1, tzinfo=UTC)
"""The first champion learns January and February; from here on the service is asked."""

QUICK_UNTIL = datetime(2013, 5, 1, tzinfo=UTC)
"""The end of `--quick`: the whole of April."""

LABEL_DELAY = timedelta(days=1)

TRAINING_TIMEOUT = timedelta(seconds=900)
"""For the first training, its search included; it takes about a minute on two quiet cores."""

INTERRUPTED = 130
"""The exit code of a program ended by Ctrl-C."""


@dataclass(frozen=True)
class DemoOptions:
    """Until when the replay goes (excluded; None is the end of the year), and whether the stack stays up after it."""

    until: datetime | None = None
    keep: bool = False

    @property
    def whole_year(self) -> bool:
        """Whether it must show everything the loop can do, not only that nothing is lost."""
        return self.until is None


def demo_options(until: datetime | None, *, keep: bool, quick: bool) -> DemoOptions:
    """The command's arguments as options; a day given as `until` is replayed to its end."""
    if until is not None:
        day = until.replace(tzinfo=UTC) if until.tzinfo is None else until.astimezone(UTC)
        return DemoOptions(day + timedelta(days=1) if day.time() == datetime.min.time() else day, keep)
    return DemoOptions(QUICK_UNTIL if quick else None, keep)


def run_demo(settings: Settings, environ: Mapping[str, str], options: DemoOptions, console: Console) -> int:
    """Run it from a clean home below the given one; returns the exit code.

    0: nothing was lost and, over the whole year, the loop closed and helped. 1: it did not, or a component failed; the reason
    is printed. 130: ended by Ctrl-C or SIGTERM. The stack goes down at the end unless it is to be kept.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    own, stack_environ = demo_settings(settings), {name: value for name, value in environ.items() if name != "PERENNIAL_REGISTRY"}
    try:
        clear(own)
        with display_on(console) as display:
            summary = _replay_and_report(own, stack_environ, options, display, console)
        return exit_code(summary, options.whole_year, console)
    except PerennialError as error:
        console.print(f"the demo failed: {error}", markup=False, style="red")
        return 1
    except KeyboardInterrupt:
        console.print("stopped")
        return INTERRUPTED
    finally:
        _end_stack(own, options, console)


def demo_settings(settings: Settings) -> Settings:
    """The demo's own home and registry, so that it touches nothing of its user's."""
    return settings.model_copy(update={"home": settings.home.absolute() / "demo", "registry": ""})


def clear(own: Settings) -> None:
    """Take down the stack that an earlier demo kept up, and remove its files."""
    down(own)
    shutil.rmtree(own.home, ignore_errors=True)
    own.home.mkdir(parents=True)


def _replay_and_report(
    own: Settings, environ: Mapping[str, str], options: DemoOptions, display: Display, console: Console
) -> Summary:
    began, now, spec = time.monotonic(), datetime.now(UTC), load_spec(SPEC)
    stack = up(SPEC, own, environ, now, lambda component, state: display.print_line(f"{component}: {state}"))
    with ExitStack() as opened:
        memory = opened.enter_context(PeakMemory(_process_ids(stack)))
        api = opened.enter_context(PrefectClient(stack.prefect.url, environ))
        loop = _loop_handles(stack, own, spec, PrefectHistory(api, spec.name, now))
        table = _train(loop, spec, display, environ)
        driver = ReplayDriver(loop, spec, open_frozen_baseline(loop.registry, spec, SPEC.parent, loop.home), display, START)
        sent = driver.replay(table, options.until, LABEL_DELAY)
        display.print_line("counting what happened")
        wall_time = timedelta(seconds=time.monotonic() - began)
        measured = DriverMeasurements(sent, START, _end(table, options), memory.mb, wall_time)
        evidence = collect_evidence(driver.waiter, spec, SPEC.parent, measured)
    summary = write_report(evidence, own.home, spec, console)
    _print_addresses(console, own, stack, loop.service_url, options)
    return summary


def _process_ids(stack: Stack) -> list[int]:
    supervisor = find_supervisor(stack.state_dir)
    return [os.getpid(), *([supervisor.pid] if supervisor else [])]


def _loop_handles(stack: Stack, own: Settings, spec: ModelSpec, history: PrefectHistory) -> LoopHandles:
    service = stack.service_of(spec.name)
    assert service is not None
    registry, store, home = Registry(own.registry_url), connect(stack.store.url), own.model_home(spec.name)
    return LoopHandles(spec.name, home, service.url, stack.store.url, store, registry, history, authorization(own))


def _train(loop: LoopHandles, spec: ModelSpec, display: Display, environ: Mapping[str, str]) -> pl.DataFrame:
    """Have the first champion trained by its deployment; meanwhile read the table to replay. Returns that table."""
    display.print_line(f"training the first champion on everything before {START:%d %B %Y}")
    started = loop.history.start("train", {"until": START.isoformat()})
    table = prepare(assemble(spec, SPEC.parent, environ), spec)
    run = poll_until(lambda: _ended(loop.history, started), TRAINING_TIMEOUT, "the first training to end")
    if run.state != "COMPLETED":
        raise StackError(f"the first training ended {run.state}: {run.message}; see flow run {run.name} in the Prefect UI")
    LoopWaiter(loop, lambda _: None).wait_for_champion()
    return table


def _ended(history: PrefectHistory, run_id: str) -> FlowRun | None:
    run = history.run(run_id)
    return run if run.terminal else None


def _end(table: pl.DataFrame, options: DemoOptions) -> datetime:
    last = table[EVENT_TIME].max()
    assert isinstance(last, datetime)
    return options.until or last + timedelta(microseconds=1)


def _print_addresses(console: Console, own: Settings, stack: Stack, service_url: str, options: DemoOptions) -> None:
    names = {"summary": "summary.json", "timeline": "timeline.html", "logs": "stack/logs"}
    lines = {name: str(own.home / path) for name, path in names.items()}
    if options.keep:
        lines |= {"Prefect UI": stack.prefect.url.removesuffix("/api"), "service": f"{service_url}/docs"}
    for name, address in lines.items():
        console.print(f"{name}: {address}", markup=False, highlight=False, soft_wrap=True)


def _end_stack(own: Settings, options: DemoOptions, console: Console) -> None:
    if not options.keep:
        down(own)
    elif running_stack(own):
        console.print(f"the stack stays up; end it with: PERENNIAL_HOME={own.home} perennial down", markup=False)
