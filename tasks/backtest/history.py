"""The history that a backtest lives through: labelled rows in time, cut into the windows that the monitor would have closed."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

from monitoring.window import Window, window_at
from perennial.durations import format_duration, parse_duration
from perennial.errors import DataError
from perennial.learners.declarations import Params
from perennial.spec import ModelSpec
from perennial.version import __version__
from tasks.data.datasets import Manifest
from tasks.data.retraining_data import MODES, in_mode
from tasks.job import Job

WHOLE = 0.9
"""Share of a window that the newest row must have reached for the window to count."""

PAST = 1 / 6
"""Share of the history that comes before the simulated life, where no start is given."""

FEWEST = 3
"""Windows of a life: with fewer there is nothing to compare."""

NOT_TRAINED_BY = {"name", "policy", "gate", "signals", "slices", "label_threshold", "contract_until"}
"""Keys of a spec that change nothing of the matrix."""


@dataclass(frozen=True)
class History:
    """Labelled rows sorted in time, cut into whole windows.

    `ahead` is how far the newest known label lies beyond a boundary when the window before it is closed. `first` is the
    boundary at which the simulated life begins; `params` are found by one search before any training.
    """

    job: Job
    rows: pl.DataFrame
    manifest: Manifest
    windows: tuple[Window, ...]
    first: int
    ahead: timedelta
    params: Params

    @property
    def earliest(self) -> int:
        """As many boundaries before the first as bounds are calibrated from, as far as there are rows to train on."""
        known = (boundary for boundary in range(self.first) if self.known(boundary).height >= self.job.spec.checks.min_rows)
        return max(next(known, self.first), self.first - self.job.spec.signals.blocks)

    @property
    def boundaries(self) -> range:
        """Boundaries whose models are trained."""
        return range(self.earliest, len(self.windows))

    def before(self, moment: datetime) -> int:
        """How many rows come before a moment."""
        return int(self.rows[self.job.spec.event_time].search_sorted(moment, side="left"))

    def known(self, boundary: int) -> pl.DataFrame:
        """The rows before a boundary whose labels have come when the window before it is closed."""
        return self.rows.head(self.before(self.windows[boundary].start + min(self.ahead, timedelta())))

    @property
    def counts(self) -> tuple[int, ...]:
        """Labelled rows of each window."""
        return tuple(self.before(window.end) - self.before(window.start) for window in self.windows)

    @property
    def directory(self) -> Path:
        """Where what is done is kept: another one for anything that changes the outcome."""
        job = self.job
        spec = job.spec.model_dump_json(exclude=NOT_TRAINED_BY, exclude_defaults=True)
        known = (__version__, spec, self.manifest.fingerprint, self.first, self.ahead, self.params)
        return job.home / "backtest" / hashlib.sha256(repr(known).encode()).hexdigest()[:16]

    def with_data(self, mode: str) -> "History":
        """The same history, learnt from in another mode."""
        return replace(self, job=in_mode(self.job, mode))


def parse_label_delay(spec: ModelSpec, text: str | None) -> timedelta:
    """How long after its event a label comes: as long as the monitor waits for it where nothing is said."""
    try:
        return spec.window.lateness if text is None else parse_duration(text)
    except ValueError as error:
        raise DataError(f"the label delay {error}") from None


def modes_of(spec: ModelSpec, further: Sequence[str]) -> tuple[str, ...]:
    """The data modes to compare, the spec's own first (all of them for `auto`); raises DataError for a name that is none."""
    if wrong := [mode for mode in further if mode not in MODES]:
        raise DataError(f"{wrong[0]!r} is no data mode; choose from {', '.join(MODES)}")
    own = MODES if spec.retrain.data == "auto" else (spec.retrain.data,)
    return tuple(dict.fromkeys((*own, *further)))


def plan_history(job: Job, rows: pl.DataFrame, manifest: Manifest, start: datetime | None, label_delay: timedelta) -> History:
    """Cut checked rows into windows and say where the life begins; raises DataError with fewer than three windows to live in."""
    spec, times = job.spec, rows[job.spec.event_time]
    since, until = times[0], times[-1]
    begin = start or since + PAST * (until - since)
    windows = whole_windows(since, until, spec.window.length)
    first = next((index for index, window in enumerate(windows) if index > 0 and window.start >= begin), len(windows))
    ahead = spec.window.lateness - label_delay
    history = History(job, rows, manifest, windows, first, ahead, {})
    while history.first < len(windows) and history.known(history.first).height < spec.checks.min_rows:
        history = replace(history, first=history.first + 1)
    if len(windows) - history.first < FEWEST:
        raise DataError(
            f"{rows.height:,} labelled rows from {since:%Y-%m-%d} to {until:%Y-%m-%d} leave {len(windows) - history.first} whole "
            f"windows of window.length = {format_duration(spec.window.length)} after the first {begin - since} for a first "
            f"training, and a backtest needs {FEWEST}: bring more history, start earlier, or make window.length shorter"
        )
    return history


def whole_windows(since: datetime, until: datetime, length: timedelta) -> tuple[Window, ...]:
    """The windows that the rows reach over, aligned as the monitor's are; the last one is nearly whole."""
    found, window = [], window_at(since, length)
    while window.start + WHOLE * length <= until:
        found.append(window)
        window = Window(start=window.end, end=window.end + length)
    return tuple(found)
