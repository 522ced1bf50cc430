"""The driver of the demo: sends a replay tick by tick and paces it, so that the loop can react at the event time it would have.

Before a tick whose rows close a window it waits until everything sent is archived, and afterwards for the window's result and for
the retraining it requests; once a day of event time it waits until the monitor is close behind. It decides nothing about the
model: it knows from the spec when a window falls due.
"""

import time
from collections import deque
from dataclasses import replace
from datetime import datetime, timedelta

import polars as pl

from deployments.demo.display import Display, Snapshot, number
from deployments.demo.frozen_baseline import Comparison, FrozenBaseline, mean_of, windows_between
from deployments.demo.waits import LoopHandles, LoopWaiter
from deployments.prefect_client.client import FlowRun
from monitoring.state import WindowResult
from monitoring.window import Window
from perennial.log_columns import EVENT_TIME
from perennial.signals import SIGNALS
from perennial.spec import ModelSpec
from tasks.serving.replay import Client, Sent, Tick, ticks

ROLLING_WINDOWS = 4
"""Windows over which the display averages a metric: one is noise."""

SMOOTHING_TICKS = 24
"""Ticks over which the shown speed is smoothed: a tick is an hour, and an hour of night has three rows."""

METRICS = {"binary": "auc", "multiclass": "accuracy", "regression": "rmse"}
"""The one metric that lines and panel show, by task."""

METRIC_NAMES = {"auc": "AUC", "accuracy": "accuracy", "rmse": "RMSE"}


class ReplayDriver:
    """One replay of one model against a running loop."""

    def __init__(self, loop: LoopHandles, spec: ModelSpec, baseline: FrozenBaseline, display: Display, start: datetime) -> None:
        self.waiter = LoopWaiter(loop, self._show_wait)
        self._loop, self._spec, self._baseline, self._display, self._start = loop, spec, baseline, display, start
        self._metric = METRICS[spec.task]
        self._recent: deque[Comparison] = deque(maxlen=ROLLING_WINDOWS)
        self._now = Snapshot(start)

    def replay(self, rows: pl.DataFrame, until: datetime | None, label_delay: timedelta) -> Sent:
        """Send all requests and labels from the start to `until`, then wait until all of it is in the archive."""
        self._now = replace(self._now, version=self.waiter.wait_for_champion())
        with Client(self._loop.service_url, headers=self._loop.authorization) as client:
            pending = self._windows(rows, until)
            for tick in ticks(rows, self._start, until, label_delay):
                self._send(client, tick, pending)
            self.waiter.wait_for_archive()
            return client.total

    def _send(self, client: Client, tick: Tick, pending: deque[Window]) -> None:
        due = pop_due_windows(pending, max((row[EVENT_TIME] for row in tick.rows), default=None), self._spec.window.lateness)
        if due:
            # What was sent before a window closes must be in it, or two runs would not give the same windows.
            self.waiter.wait_for_archive()
        if tick.clock.date() != self._now.clock.date():
            self.waiter.wait_for_monitor()
        began = time.perf_counter()
        client.send(tick)
        self._show_tick(tick, client.total, timedelta(seconds=time.perf_counter() - began))
        for window in due:
            self._await_window(window)

    def _windows(self, rows: pl.DataFrame, until: datetime | None) -> deque[Window]:
        """The windows of this replay that hold a row, oldest first."""
        times = rows[EVENT_TIME]
        last = times.max()
        if not isinstance(last, datetime):
            return deque()
        windows = windows_between(self._start, min(until or last, last), self._spec.window.length)
        return deque(window for window in windows if times.is_between(window.start, window.end, closed="left").any())

    def _await_window(self, window: Window) -> None:
        """Wait for the window's result and for the retraining it requests; show both."""
        result, comparison = self.waiter.wait_for_window(window), self._baseline.window(window)
        if comparison is not None:
            self._recent.append(comparison)
        self._show_result(result)
        self._display.print_line(window_line(result, comparison, self._metric))
        if result.decision.requests_retraining and result.decision.event_id is not None:
            self._now = replace(self._now, events=self._now.events + 1)
            self._show_retraining(self.waiter.wait_for_retraining(result.decision.event_id))

    def _show_result(self, result: WindowResult) -> None:
        recent = list(self._recent)
        self._now = replace(
            self._now,
            values=result.findings.values,
            bounds=result.findings.bounds,
            windows=self._now.windows + 1,
            metric=METRIC_NAMES[self._metric],
            loop=mean_of(recent, "loop", self._metric),
            static=mean_of(recent, "static", self._metric),
        )

    def _show_retraining(self, run: FlowRun | None) -> None:
        registry, model = self._loop.registry, self._loop.model
        before, after, newest = self._now.version, registry.aliases(model).champion, registry.versions(model)[-1]
        if run is None:
            self._display.print_line(f"  retraining: {self.waiter.problems[-1]}")
        else:
            outcome = outcome_text(before, after, newest, run.message)
            self._display.print_line(f"  retraining: {run.name} ended {run.state.lower()}; {outcome}")
        self._now = replace(self._now, version=after, retrainings=self._now.retrainings + (run is not None))

    def _show_tick(self, tick: Tick, total: Sent, took: timedelta) -> None:
        before = self._now.rows_per_second
        speed = len(tick.rows) / took.total_seconds() if tick.rows and took else before
        self._now = replace(
            self._now,
            clock=tick.clock,
            requests=total.requests,
            failed=total.failed,
            rows=total.predictions,
            rows_per_second=speed if self._now.rows == 0 else before + (speed - before) / SMOOTHING_TICKS,
        )
        self._display.update(self._now)

    def _show_wait(self, what: str) -> None:
        self._now = replace(self._now, waiting=what)
        self._display.update(self._now)


def pop_due_windows(pending: deque[Window], watermark: datetime | None, lateness: timedelta) -> list[Window]:
    """Take the windows off the front of `pending` that rows up to `watermark` close; without a watermark, none."""
    due: list[Window] = []
    while pending and watermark is not None and pending[0].end + lateness <= watermark:
        due.append(pending.popleft())
    return due


def window_line(result: WindowResult, comparison: Comparison | None, metric: str) -> str:
    """One window in one line."""
    findings = result.findings
    when = f"{findings.window.start:%d %b} to {findings.window.end:%d %b}"
    signals = "  ".join(
        f"{one.label} {number(findings.values.get(one.name))} (bound {number(findings.bounds.get(one.name))})"
        for one in SIGNALS
        if not one.needs_labels
    )
    loop, frozen = (number(mean_of([comparison] if comparison else [], side, metric)) for side in ("loop", "static"))
    kind = "" if result.decision.kind == "none" else f"{result.decision.kind.upper()}: "
    quality = f"{METRIC_NAMES[metric]} {loop} (frozen {frozen})"
    return f"{when}  {findings.rows:>6,} rows  v{result.version}  {signals}  {quality}  {kind}{result.decision.reason}"


def outcome_text(before: int | None, after: int | None, newest: int, message: str) -> str:
    """What a retraining led to: `before` and `after` are the champions around it, `newest` the newest version there is."""
    if after != before:
        return f"version {after} answers now"
    if newest > (before or 0) and not message:
        return f"the gate refused version {newest}, version {before} answers on"
    return f"{message or 'nothing was published'}; version {before} answers on"
