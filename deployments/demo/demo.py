"""The demo: a year of real flights through the whole loop, with nobody touching it.

This file is the order of events; the driver sends, the parts act, the outcome is counted from what they left.
"""

import os
import shutil
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
from rich.console import Console

from deployments.demo.display import Display, display_on
from deployments.demo.evidence import Measured, conclude, gather
from deployments.demo.frozen_baseline import open_baseline
from deployments.demo.replay_driver import Driver
from deployments.demo.summary import Summary, closed_loop, lossless
from deployments.demo.waits import Hold, Loop, patiently
from deployments.prefect_client.client import PrefectApi
from deployments.prefect_client.history import Run, Witness
from deployments.stack.process_tree import PeakMemory
from deployments.stack.stack import down, running_stack, up
from deployments.stack.supervisord import supervisor_of
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

TRAINING_PATIENCE = 900.0
"""Seconds for the first training, its search included; about a minute on two quiet cores."""

STOPPED = 130
"""The exit code of a program ended by Ctrl-C."""


@dataclass(frozen=True)
class Script:
    """What is to be played: until when (excluded, None is the end of the year), and whether the stack stays up after it."""

    until: datetime | None = None
    keep: bool = False

    @property
    def whole(self) -> bool:
        """Whether it must show everything the loop can do, not only that nothing is lost."""
        return self.until is None


def script(until: datetime | None, *, keep: bool, quick: bool) -> Script:
    """The command's options as a script; a day given as `until` is lived through to its end."""
    if until is not None:
        day = until.replace(tzinfo=UTC) if until.tzinfo is None else until.astimezone(UTC)
        return Script(day + timedelta(days=1) if day.time() == datetime.min.time() else day, keep)
    return Script(QUICK_UNTIL if quick else None, keep)


def run(settings: Settings, environ: Mapping[str, str], play: Script, console: Console) -> int:
    """Play it from a clean home below the given one; returns the exit code.

    0: nothing was lost and, over the whole year, the loop closed and helped. 1: it did not, or a part failed; the reason
    is printed. 130: ended by Ctrl-C. The stack goes down at the end unless it is to be kept.
    """
    # Whoever ends it politely gets a clean end, not only the keyboard.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    own, surroundings = demo_settings(settings), {name: value for name, value in environ.items() if name != "PERENNIAL_REGISTRY"}
    try:
        clear(own)
        with display_on(console) as display:
            summary = _play(own, surroundings, play, display, console)
        return verdict(summary, play, console)
    except PerennialError as error:
        console.print(f"the demo failed: {error}", markup=False, style="red")
        return 1
    except KeyboardInterrupt:
        console.print("stopped")
        return STOPPED
    finally:
        _leave(own, play, console)


def demo_settings(settings: Settings) -> Settings:
    """The demo's own home and registry, so that it touches nothing of its user's."""
    return settings.model_copy(update={"home": settings.home.absolute() / "demo", "registry": ""})


def clear(own: Settings) -> None:
    """Take down what an earlier demo kept up, and remove what it left."""
    down(own)
    shutil.rmtree(own.home, ignore_errors=True)
    own.home.mkdir(parents=True)


def verdict(summary: Summary, play: Script, console: Console) -> int:
    """Say what was asked of this run and whether it holds; returns the exit code."""
    asked = (
        "nothing lost, the loop closed and helped" if play.whole else "nothing lost (a whole year must also show that it helps)"
    )
    missing = [*lossless(summary), *(closed_loop(summary) if play.whole else ())]
    for text in [*missing, *(f"note: {problem}" for problem in summary.problems)]:
        console.print(text, markup=False, highlight=False, soft_wrap=True)
    console.print(f"asked of this run: {asked}: {'NO' if missing else 'yes'}", markup=False)
    return 1 if missing else 0


def _play(own: Settings, environ: Mapping[str, str], play: Script, display: Display, console: Console) -> Summary:
    began, now, spec = time.monotonic(), datetime.now(UTC), load_spec(SPEC)
    stack = up(SPEC, own, environ, now, lambda part, state: display.say(f"{part}: {state}"))
    service = stack.service_of(spec.name)
    assert service is not None
    supervisor = supervisor_of(stack.state_dir)
    roots = [os.getpid(), *([supervisor.pid] if supervisor else [])]
    registry, store = Registry(own.registry_url), connect(stack.store.url)
    with PeakMemory(lambda: roots) as memory, PrefectApi(stack.prefect.url, environ) as api:
        witness = Witness(api, spec.name, now)
        loop = Loop(
            spec.name, own.model_home(spec.name), service.url, stack.store.url, store, registry, witness, authorization(own)
        )
        table = _train(loop, spec, display, environ)
        driver = Driver(loop, spec, open_baseline(registry, spec, SPEC.parent, loop.home), display, START)
        sent = driver.live(table, play.until, LABEL_DELAY)
        display.say("counting what happened")
        measured = Measured(sent, START, _end(table, play), memory.mb, time.monotonic() - began)
        evidence = gather(driver.hold, spec, SPEC.parent, measured)
    summary = conclude(evidence, own.home, spec, console)
    _addresses(console, own, stack.prefect.url, service.url, play)
    return summary


def _train(loop: Loop, spec: ModelSpec, display: Display, environ: Mapping[str, str]) -> pl.DataFrame:
    """The first champion, by the deployment and its worker; meanwhile the table to replay is read. Returns that table."""
    display.say(f"training the first champion on everything before {START:%d %B %Y}")
    asked = loop.witness.start("train", {"until": START.isoformat()})
    table = prepare(assemble(spec, SPEC.parent, environ), spec)
    run = patiently(lambda: _ended(loop.witness, asked), TRAINING_PATIENCE, "the first training to end")
    if run.state != "COMPLETED":
        raise StackError(f"the first training ended {run.state}: {run.message}; see flow run {run.name} in the Prefect UI")
    Hold(loop, lambda _: None).for_champion()
    return table


def _ended(witness: Witness, run_id: str) -> Run | None:
    run = witness.run(run_id)
    return run if run.terminal else None


def _end(table: pl.DataFrame, play: Script) -> datetime:
    last = table[EVENT_TIME].max()
    assert isinstance(last, datetime)
    return play.until or last + timedelta(microseconds=1)


def _addresses(console: Console, own: Settings, prefect: str, service: str, play: Script) -> None:
    names = {"summary": "summary.json", "timeline": "timeline.html", "logs": "stack/logs"}
    lines = {name: str(own.home / path) for name, path in names.items()}
    if play.keep:
        lines |= {"Prefect UI": prefect.removesuffix("/api"), "service": f"{service}/docs"}
    for name, where in lines.items():
        console.print(f"{name}: {where}", markup=False, highlight=False, soft_wrap=True)


def _leave(own: Settings, play: Script, console: Console) -> None:
    if not play.keep:
        down(own)
    elif running_stack(own):
        console.print(f"the stack stays up; end it with: PERENNIAL_HOME={own.home} perennial down", markup=False)
