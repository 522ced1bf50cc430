"""The driver of the demo: sends a replay tick by tick and paces it, so that the loop can react at the event time it would have.

Before a tick whose rows close a window it waits until everything sent is archived, and afterwards for the window's result and for
the training or promotion it requests; once a day of event time it waits until the monitor is close behind. It decides nothing
about the model: which windows fall due is the monitor's own arithmetic.
"""

import time
from datetime import date, datetime, timedelta

import polars as pl
from rich.console import Console
from rich.live import Live

from deployments.demo.display import ReplayProgress, outcome_text, panel, print_line, window_line
from deployments.demo.frozen_baseline import FrozenBaseline
from deployments.demo.waits import LoopHandles, LoopWaiter
from deployments.prefect_client import FlowRun
from monitoring.policy import Flow
from monitoring.window import Asked, Window, due_windows, newest_rows, watermark
from perennial.log_columns import EVENT_TIME, ID
from perennial.spec import ModelSpec
from tasks.serving.replay import Client, Sent, Tick, ticks

MAX_BACKLOG = 200  # stream entries the monitor may be behind: four days of hourly requests


class ReplayDriver:
    """One replay of one model against a running loop, from `start` on."""

    def __init__(self, loop: LoopHandles, spec: ModelSpec, baseline: FrozenBaseline, console: Console, start: datetime) -> None:
        self.waiter = LoopWaiter(loop)
        self._loop, self._spec, self._baseline, self._console, self._start = loop, spec, baseline, console, start
        self._progress, self._closed_until, self._dates = ReplayProgress(start, spec.task), start, list[date]()
        self._newest: tuple[Asked, ...] = ()

    def replay(self, rows: pl.DataFrame, until: datetime | None, label_delay: timedelta) -> Sent:
        """Send all requests and labels from the start to `until`, then wait until all of it is in the archive."""
        self._dates, self._progress.version = rows[EVENT_TIME].dt.date().unique().to_list(), self.waiter.wait_for_champion()
        live = Live(get_renderable=lambda: panel(self._progress, self.waiter.waiting), console=self._console, transient=True)
        with live, Client(self._loop.service_url, headers=self._loop.authorization) as client:
            for tick in ticks(rows, self._start, until, label_delay):
                self._send(client, tick)
            self.waiter.wait_for_monitor()
            return client.total

    def _send(self, client: Client, tick: Tick) -> None:
        due = self._take_due(tick)
        if due:
            # What was sent before a window closes must be in it, or two runs would not give the same windows.
            self.waiter.wait_for_monitor()
        if tick.clock.date() != self._progress.clock.date():
            self.waiter.wait_for_monitor(MAX_BACKLOG)
        began = time.perf_counter()
        client.send(tick)
        self._progress.sending_s += time.perf_counter() - began
        self._progress.clock, self._progress.sent = tick.clock, client.total
        for window in due:
            self._await_window(window)

    def _take_due(self, tick: Tick) -> list[Window]:
        """The windows that the rows of this tick close, each once; labels alone close none."""
        self._newest = newest_rows(self._newest, ((row[EVENT_TIME], row[ID]) for row in tick.rows))
        due = list(due_windows(self._spec.window, self._closed_until, watermark(self._newest) or self._start, self._dates))
        self._closed_until = due[-1].end if due else self._closed_until
        return due

    def _await_window(self, window: Window) -> None:
        """Wait for the window's result and for the flow it requests; show both."""
        result, comparison = self.waiter.wait_for_window(window), self._baseline.window(window)
        self._progress.windows.append((result, comparison))
        print_line(self._console, window_line(result, comparison, self._spec.task))
        if (flow := result.decision.flow) is not None and result.decision.event_id is not None:
            self._show_run(flow, self.waiter.wait_for_run(flow, result.decision.event_id))
        elif result.decision.kind == "rollback":
            self._progress.version = self.waiter.wait_for_champion()

    def _show_run(self, flow: Flow, run: FlowRun | None) -> None:
        registry, model = self._loop.registry, self._loop.model
        before, after, newest = self._progress.version, registry.aliases(model).champion, registry.versions(model)[-1]
        outcome = outcome_text(flow, before, after, newest, run.message if run else "")
        text = f"{run.name} ended {run.state.lower()}; {outcome}" if run else self.waiter.problems[-1]
        print_line(self._console, f"  {flow}: {text}")
        self._progress.version, self._progress.runs = after, self._progress.runs + (run is not None)
