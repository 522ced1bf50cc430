"""The driver: sends a replay tick by tick, holds the clock when the loop has something to do, and tells the display.

It decides nothing about the model; it only knows from the spec when a window falls due.
"""

import time
from collections import deque
from dataclasses import replace
from datetime import datetime, timedelta

import polars as pl

from deployments.demo.display import Display, Snapshot, number
from deployments.demo.frozen_baseline import Baseline, Compared, mean_of, spanned
from deployments.demo.waits import Hold, Loop
from deployments.prefect_client.history import Run
from monitoring.state import WindowResult
from monitoring.window import Window
from perennial.log_columns import EVENT_TIME
from perennial.signals import SIGNALS
from perennial.spec import ModelSpec
from tasks.serving.replay import Client, Sent, Tick, ticks

ROLLING = 4
"""Windows over which the display averages a metric: one is noise."""

NAMES = {"auc": "AUC", "accuracy": "accuracy", "rmse": "RMSE"}
"""The metric people know, by what a task has."""


class Driver:
    """One replay of one model against a running loop."""

    def __init__(self, loop: Loop, spec: ModelSpec, baseline: Baseline, display: Display, start: datetime) -> None:
        self.hold = Hold(loop, self._holding)
        self._loop, self._spec, self._baseline, self._display, self._start = loop, spec, baseline, display, start
        self._weeks: deque[Compared] = deque(maxlen=ROLLING)
        self._now = Snapshot(start)

    def live(self, rows: pl.DataFrame, until: datetime | None, label_delay: timedelta) -> Sent:
        """Ask and tell everything from the start to `until`, then wait until all of it is in the archive."""
        self._now = replace(self._now, version=self.hold.for_champion())
        with Client(self._loop.service_url, headers=self._loop.authorization) as client:
            pending = self._windows(rows, until)
            for tick in ticks(rows, self._start, until, label_delay):
                self._step(client, tick, pending)
            self.hold.for_archive()
            return client.total

    def _step(self, client: Client, tick: Tick, pending: deque[Window]) -> None:
        due = take_due(pending, max((row[EVENT_TIME] for row in tick.rows), default=None), self._spec.window.lateness)
        if due:
            # Whatever was told before a window closes must be in it, or two runs would not give the same windows.
            self.hold.for_archive()
        if tick.clock.date() != self._now.clock.date():
            self.hold.for_monitor()
        began = time.perf_counter()
        client.send(tick)
        self._show(tick, client.total, time.perf_counter() - began)
        for window in due:
            self._settle(window)

    def _windows(self, rows: pl.DataFrame, until: datetime | None) -> deque[Window]:
        """The windows of this replay that hold a row, oldest first."""
        length = self._spec.window.length
        last = rows[EVENT_TIME].max()
        end = min(until, last) if until is not None and isinstance(last, datetime) else last
        if not isinstance(end, datetime):
            return deque()
        times = rows[EVENT_TIME]
        spanned_ = spanned(self._start, end, length)
        return deque(window for window in spanned_ if times.is_between(window.start, window.end, closed="left").any())

    def _settle(self, window: Window) -> None:
        """Wait for the window's result and for what it asks for; tell both."""
        result = self.hold.for_window(window)
        compared = self._baseline.window(window)
        if compared is not None:
            self._weeks.append(compared)
        self._judged(result)
        self._display.say(line(result, compared, self.metric))
        if result.decision.requests_retraining and result.decision.event_id is not None:
            self._now = replace(self._now, events=self._now.events + 1)
            run = self.hold.for_retraining(result.decision.event_id)
            self._retrained(run)

    @property
    def metric(self) -> str:
        """The one metric that lines and panel show."""
        return {"binary": "auc", "multiclass": "accuracy", "regression": "rmse"}[self._spec.task]

    def _judged(self, result: WindowResult) -> None:
        weeks = list(self._weeks)
        self._now = replace(
            self._now,
            values=result.findings.values,
            bounds=result.findings.bounds,
            windows=self._now.windows + 1,
            quality=NAMES[self.metric],
            loop=mean_of(weeks, "loop", self.metric),
            static=mean_of(weeks, "static", self.metric),
        )

    def _retrained(self, run: Run | None) -> None:
        registry, model = self._loop.registry, self._loop.model
        before, after, newest = self._now.version, registry.aliases(model).champion, registry.versions(model)[-1]
        if run is None:
            self._display.say(f"  retraining: {self.hold.problems[-1]}")
        else:
            self._display.say(f"  retraining: {run.name} ended {run.state.lower()}; {became(before, after, newest, run.message)}")
        self._now = replace(self._now, version=after, retrainings=self._now.retrainings + (run is not None))

    def _show(self, tick: Tick, total: Sent, seconds: float) -> None:
        speed = len(tick.rows) / seconds if tick.rows and seconds > 0 else self._now.rows_per_second
        # An hour of night has three rows: what one tick did says little, so it is smoothed over about a day.
        smooth = speed if self._now.rows == 0 else self._now.rows_per_second + (speed - self._now.rows_per_second) / 24
        self._now = replace(
            self._now,
            clock=tick.clock,
            requests=total.requests,
            failed=total.failed,
            rows=total.predictions,
            rows_per_second=smooth,
        )
        self._display.show(self._now)

    def _holding(self, what: str) -> None:
        self._now = replace(self._now, holding=what)
        self._display.show(self._now)


def take_due(pending: deque[Window], watermark: datetime | None, lateness: timedelta) -> list[Window]:
    """Take the windows off the front of `pending` that rows up to `watermark` close; it may stay where it is (None)."""
    due: list[Window] = []
    while pending and watermark is not None and pending[0].end + lateness <= watermark:
        due.append(pending.popleft())
    return due


def line(result: WindowResult, compared: Compared | None, metric: str) -> str:
    """One window in one line."""
    findings = result.findings
    when = f"{findings.window.start:%d %b} to {findings.window.end:%d %b}"
    signals = "  ".join(
        f"{one.label} {number(findings.values.get(one.name))} (bound {number(findings.bounds.get(one.name))})"
        for one in SIGNALS
        if not one.needs_labels
    )
    quality = f"{NAMES[metric]} {_of(compared, 'loop', metric)} (frozen {_of(compared, 'static', metric)})"
    kind = "" if result.decision.kind == "none" else f"{result.decision.kind.upper()}: "
    return f"{when}  {findings.rows:>6,} rows  v{result.version}  {signals}  {quality}  {kind}{result.decision.reason}"


def became(before: int | None, after: int | None, newest: int, message: str) -> str:
    """What a retraining came to: `before` and `after` are the champions around it, `newest` the newest version there is."""
    if after != before:
        return f"version {after} answers now"
    if newest > (before or 0) and not message:
        return f"the gate refused version {newest}, version {before} answers on"
    return f"{message or 'nothing was published'}; version {before} answers on"


def _of(compared: Compared | None, side: str, metric: str) -> str:
    return number(mean_of([compared] if compared else [], side, metric))
