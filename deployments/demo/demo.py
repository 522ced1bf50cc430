"""The demo: a year of real flights sent through the whole loop, without a person's help.

`run_demo` is the order of events. It brings a stack up in a home of its own, has the first champion trained by its deployment,
lets the driver replay the table, collects the evidence, writes the report, and takes the stack down.
"""

import os
import shutil
import signal
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import polars as pl
from rich.console import Console

from deployments.demo.evidence import Evidence, collect_evidence
from deployments.demo.report import exit_code, write_report
from deployments.demo.summary import summarise
from deployments.package_data import EXAMPLES
from deployments.prefect_client import PrefectClient, PrefectHistory
from deployments.replay.display import print_line
from deployments.replay.replay import Stretch, paced_driver
from deployments.replay.waits import TRAINING_TIMEOUT, LoopHandles, LoopWaiter, if_ended, poll_until
from deployments.stack.process_tree import PeakMemory
from deployments.stack.stack import down, running_stack, up
from deployments.stack.supervisord import find_supervisor
from monitoring.page import read_story
from perennial.errors import StackError
from perennial.registry import Registry
from perennial.settings import Settings, authorization
from perennial.spec import ModelSpec, load_spec
from service.prediction_log.redis_client import connect
from tasks.data.ingest import assemble
from tasks.serving.replay import prepare

SPEC = EXAMPLES / "flights.toml"

START = datetime(2013, 3, 1, tzinfo=UTC)  # the first champion learns January and February; from here on the service is asked
QUICK_UNTIL = datetime(2013, 5, 1, tzinfo=UTC)  # the end of `--quick`: the whole of April
LABEL_DELAY = timedelta(days=1)
_OWN = ("PERENNIAL_REGISTRY", "PERENNIAL_ARCHIVE")  # the demo has its own


def replay_end(until: datetime | None, *, quick: bool) -> datetime | None:
    """Until when the replay goes (excluded; None is the end of the year); a day given as `until` is replayed to its end."""
    if until is None:
        return QUICK_UNTIL if quick else None
    day = until.replace(tzinfo=UTC) if until.tzinfo is None else until.astimezone(UTC)
    return day + timedelta(days=1) if day.time() == datetime.min.time() else day


def run_demo(settings: Settings, environ: Mapping[str, str], until: datetime | None, keep: bool, console: Console) -> int:
    """Run it from a clean home below the given one, and take the stack down at the end, however it ends, unless `keep`.

    Returns 0 when nothing was lost and, over the whole year, the loop closed and helped; 1, with the reason printed, when not.
    A component that fails raises a PerennialError, SIGTERM a KeyboardInterrupt.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    own, stack_environ = demo_settings(settings), {name: value for name, value in environ.items() if name not in _OWN}
    try:
        down(own)  # that of an earlier demo which kept it up
        shutil.rmtree(own.home, ignore_errors=True)
        own.home.mkdir(parents=True)
        return exit_code(_replay_and_report(own, stack_environ, until, console), until is None, console)
    finally:
        if not keep:
            down(own)
        elif stack := running_stack(own):
            urls = [stack.prefect.url.removesuffix("/api"), *([f"{stack.service.url}/docs"] if stack.service else [])]
            print_line(console, f"Prefect UI and service: {', '.join(urls)}")
            print_line(console, f"the stack stays up; end it with: PERENNIAL_HOME={own.home} perennial down")


def demo_settings(settings: Settings) -> Settings:
    """The demo's own home, registry and prediction log, so that it touches nothing of its user's."""
    return settings.model_copy(update={"home": settings.home.absolute() / "demo", "registry": "", "archive": ""})


def _replay_and_report(own: Settings, environ: Mapping[str, str], until: datetime | None, console: Console) -> Evidence:
    began, now, spec = time.monotonic(), datetime.now(UTC), load_spec(SPEC)
    stack, _ = up([SPEC], own, environ, now, lambda component, state: print_line(console, f"{component}: {state}"))
    supervisor = find_supervisor(stack.state_dir)
    pids = [os.getpid(), *([supervisor.pid] if supervisor else [])]
    with PeakMemory(pids) as memory, PrefectClient(stack.prefect.url, environ) as api:
        service, home = stack.service, own.model_home(spec.name)
        assert service is not None
        store, registry = connect(stack.store.url), Registry(own.registry_url)
        history = PrefectHistory(api, spec.name, now, str(SPEC))
        loop = LoopHandles(spec.name, home, service.url, stack.store.url, store, registry, history, authorization(own, spec.name))
        table = _train(loop, spec, console, environ)
        waiter = LoopWaiter(loop, tolerant=True, explain=lambda text: print_line(console, text))
        driver = paced_driver(waiter, Stretch(spec, SPEC.parent, table, START, until, LABEL_DELAY), console, now)
        sent = driver.replay(table, until, LABEL_DELAY, console)
        print_line(console, "counting what happened")
        wall_time = timedelta(seconds=time.monotonic() - began)
        evidence = collect_evidence(waiter, spec, SPEC.parent, sent)
    story = read_story(home, registry, spec.name, stack.prefect.url)
    write_report(evidence, summarise(evidence, memory.mb, wall_time), own.home, story, console)
    for name, path in (("summary", "summary.json"), ("timeline", "timeline.html"), ("logs", "stack/logs")):
        print_line(console, f"{name}: {own.home / path}")
    return evidence


def _train(loop: LoopHandles, spec: ModelSpec, console: Console, environ: Mapping[str, str]) -> pl.DataFrame:
    """Have the first champion trained by its deployment; meanwhile read the table to replay. Returns that table."""
    print_line(console, f"training the first champion on everything before {START:%d %B %Y}")
    run_id = loop.history.start("train", {"until": START.isoformat()})
    table = prepare(assemble(spec, SPEC.parent, environ).frame, spec)
    run = poll_until(lambda: if_ended(loop.history.client.run(run_id)), TRAINING_TIMEOUT, "the first training to end")
    if run.state != "COMPLETED":
        raise StackError(f"the first training ended {run.state}: {run.message}; see flow run {run.name} in the Prefect UI")
    return table
