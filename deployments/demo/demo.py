"""The demo: a year of real flights sent through the whole loop, without a person's help.

`run_demo` brings a stack up in a home of its own, and takes it down; `run_demo_on` does without, on services that run already.
What both do in between is `_live_through`: the first champion is trained by its deployment, the driver replays the table, the
evidence is collected, the report written.
"""

import os
import shutil
import signal
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import polars as pl
from rich.console import Console

from deployments.demo.evidence import Evidence, collect_evidence
from deployments.demo.loop import DemoLoop, bring_up_loop, find_loop
from deployments.demo.report import exit_code, write_report
from deployments.demo.summary import summarise
from deployments.prefect_client import PrefectClient, PrefectHistory
from deployments.replay.display import print_line
from deployments.replay.replay import Stretch, paced_driver
from deployments.replay.waits import TRAINING_TIMEOUT, LoopHandles, LoopWaiter, if_ended, poll_until
from deployments.stack.process_tree import PeakMemory
from deployments.stack.stack import down, running_stack
from monitoring.page import read_story
from perennial.errors import StackError
from perennial.registry import Registry
from perennial.settings import Settings, authorization
from perennial.spec import ModelSpec, load_spec
from service.prediction_log.redis_client import connect
from tasks.data.ingest import assemble
from tasks.serving.replay import prepare

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
        evidence = _live_through(bring_up_loop(own, stack_environ, console), stack_environ, until, console)
        print_line(console, f"logs: {own.home / 'stack/logs'}")
        return exit_code(evidence, until is None, console)
    finally:
        if not keep:
            down(own)
        elif stack := running_stack(own):
            urls = [stack.prefect.url.removesuffix("/api"), *([f"{stack.service.url}/docs"] if stack.service else [])]
            print_line(console, f"Prefect UI and service: {', '.join(urls)}")
            print_line(console, f"the stack stays up; end it with: PERENNIAL_HOME={own.home} perennial down")


def run_demo_on(url: str, settings: Settings, environ: Mapping[str, str], until: datetime | None, console: Console) -> int:
    """Run it on services that run already, in which flights answers at `url`; returns and raises as `run_demo` does.

    Nothing is started and nothing ended. The report goes into the home, which is that of the services.
    """
    return exit_code(_live_through(find_loop(url, settings, environ), environ, until, console), until is None, console)


def demo_settings(settings: Settings) -> Settings:
    """The demo's own home, registry and prediction log, so that it touches nothing of its user's."""
    return settings.model_copy(update={"home": settings.home.absolute() / "demo", "registry": "", "archive": ""})


def _live_through(found: DemoLoop, environ: Mapping[str, str], until: datetime | None, console: Console) -> Evidence:
    settings, spec, base = found.settings, load_spec(found.spec), found.spec.parent
    home, registry = settings.model_home(spec.name), Registry(settings.registry_url)
    with (
        PeakMemory([os.getpid(), *found.pids]) as memory,
        PrefectClient(found.prefect_url, environ) as api,
        connect(found.store_url) as store,
    ):
        history, headers = PrefectHistory(api, spec.name, found.since, str(found.spec)), authorization(settings, spec.name)
        archive = settings.archive_url(spec.name)
        loop = LoopHandles(spec.name, home, found.service_url, found.store_url, store, registry, history, headers, archive)
        table = _train(loop, found, spec, console, environ)
        waiter = LoopWaiter(loop, tolerant=True, explain=lambda text: print_line(console, text))
        driver = paced_driver(waiter, Stretch(spec, base, table, START, until, LABEL_DELAY), console, found.since)
        sent = driver.replay(table, until, LABEL_DELAY, console)
        print_line(console, "counting what happened")
        wall_time = datetime.now(UTC) - found.since
        evidence = collect_evidence(waiter, spec, base, sent)
    story = read_story(home, registry, spec.name, found.prefect_url)
    write_report(evidence, summarise(evidence, memory.mb, wall_time), settings.home, story, console)
    for name, file in (("summary", "summary.json"), ("timeline", "timeline.html")):
        print_line(console, f"{name}: {settings.home / file}")
    return evidence


def _train(loop: LoopHandles, found: DemoLoop, spec: ModelSpec, console: Console, environ: Mapping[str, str]) -> pl.DataFrame:
    """Have the first champion trained by its deployment; meanwhile read the table to replay. Returns that table."""
    print_line(console, f"training the first champion on everything before {START:%d %B %Y}")
    run_id = loop.history.start("train", {"until": START.isoformat()})
    table = prepare(assemble(spec, found.spec.parent, environ).frame, spec)
    run = poll_until(lambda: if_ended(loop.history.client.run(run_id)), TRAINING_TIMEOUT, "the first training to end")
    if run.state != "COMPLETED":
        raise StackError(f"the first training ended {run.state}: {run.message}; see flow run {run.name} in the Prefect UI")
    return table
