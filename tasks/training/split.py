"""Split: the newest stretch of a table apart from the rest, by time only; nothing here is ever random."""

import itertools
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from perennial.arrays import Indices
from perennial.durations import format_duration
from perennial.errors import TrainingError
from tasks.task_defaults import local_task


@dataclass(frozen=True)
class Split:
    """A table in two: every row of `train`, of which the newest is of `until`, is older than every row of `test`."""

    train: pl.DataFrame
    test: pl.DataFrame
    until: datetime


@local_task("split")
def split_newest(frame: pl.DataFrame, event_time: str, length: timedelta) -> Split:
    """Set the newest `length` of a table sorted in time apart; raises TrainingError when that leaves nothing to learn from."""
    newest = frame[event_time].max()
    if not isinstance(newest, datetime):
        raise TrainingError("no row is left to split: the table is empty")
    cut = newest - length
    older = int((frame[event_time] <= cut).sum())
    if older == 0:
        span = f"{frame[event_time].min()!s} to {newest}"
        within = f"all rows ({span}) lie within the newest {format_duration(length)}, which are held out"
        raise TrainingError(f"{within}: shorten it in the spec, or bring more rows")
    return Split(frame.head(older), frame.slice(older), frame[older - 1, event_time])


def forward_chain(times: NDArray[np.datetime64], folds: int) -> list[tuple[Indices, Indices]]:
    """Folds of rows sorted in time: fold k learns from the first k+1 of `folds` + 1 equal parts and is judged on the next.

    Rows of one moment stay on one side. Parts that become empty by that are left out; at least one fold remains
    unless all rows share one moment, which is a TrainingError.
    """
    rows = times.size
    cuts = {_moment_start(times, rows * part // (folds + 1)) for part in range(1, folds + 1)}
    edges = [*sorted(cut for cut in cuts if cut < rows), rows]
    if len(edges) < 2:
        raise TrainingError("all rows have the same event time, so nothing can be learnt from the past about the future")
    return [(np.arange(start), np.arange(start, stop)) for start, stop in itertools.pairwise(edges)]


def _moment_start(times: NDArray[np.datetime64], place: int) -> int:
    """The first row of the moment that `place` lies in; of the next moment where that would be the very first row."""
    return int(np.searchsorted(times, times[place], "left")) or int(np.searchsorted(times, times[place], "right"))
