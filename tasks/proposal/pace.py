"""Pace: how many rows a table has when, what of the loop can happen at that pace, and the windows that suit it.

The one rule for both: `perennial check` tells it of a spec (`pace_facts`), and `perennial init` chooses by it (`fit_to_pace`).
A window is judged with `window.min_rows` rows, bounds need three windows that can be judged from their past, and the gate
compares with `gate.min_rows`: what a slow table never reaches would leave a loop that neither alarms nor promotes on proof.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from monitoring.calibration import MIN_BLOCKS
from monitoring.policy import MIN_COVERAGE
from monitoring.window import CORROBORATION, ORIGIN
from perennial.base import FrozenModel
from perennial.durations import format_duration
from perennial.spec import GateSpec, ModelSpec, SignalsSpec, SplitSpec, WindowSpec
from tasks.training.calibrate import judgeable_blocks

DAY = timedelta(days=1)
LENGTHS = (
    *(timedelta(minutes=minutes) for minutes in (10, 30, 60, 180, 360, 720)),
    *(timedelta(days=days) for days in (1, 2, 7, 14, 28, 91, 182, 364)),
)
"""Lengths of windows that a person would choose; days and weeks of them tile each other."""

USUAL = WindowSpec()  # what suits a busy table, and is kept where it suits
LEAST_ROWS = 60  # of a typical window: the mean loss of so many rows has an error of an eighth of its rows' deviation
WINDOWS = 16  # that a history should hold: eight to calibrate on, judged from at least as many before them
JUDGED_SHARE = 0.5  # of the rows of a typical window that are enough to judge one: a slower week than usual is judged too
STRAY = 0.01  # share of the rows that may be strays
FEWEST = 10  # rows under which nothing is judged, whatever the pace


@dataclass(frozen=True)
class Pace:
    """The event times of a table, ascending."""

    times: NDArray[np.datetime64]

    @classmethod
    def of(cls, times: pl.Series) -> "Pace":
        """The pace of event times (UTC) in any order; nulls are left out."""
        return cls(times.drop_nulls().sort().dt.replace_time_zone(None).cast(pl.Datetime("us")).to_numpy())

    @property
    def rows(self) -> int:
        return len(self.times)

    @property
    def middle(self) -> datetime:
        """By when half of the rows have come."""
        return _moment(self.times[self.rows // 2])

    @property
    def since(self) -> datetime:
        return _moment(self.times[0])

    @property
    def until(self) -> datetime:
        return _moment(self.times[-1])

    @property
    def span(self) -> timedelta:
        return self.until - self.since

    @property
    def per_day(self) -> float:
        """Rows a day, from the first to the last."""
        return (self.rows - 1) / (self.span / DAY) if self.span else float(self.rows)

    @property
    def step(self) -> timedelta:
        """The typical time between two times that differ; zero where none do."""
        steps = np.diff(self.times)
        steps = steps[steps > np.timedelta64(0)]
        return timedelta(microseconds=int(np.median(steps.astype(np.int64)))) if len(steps) else timedelta()

    @property
    def without_strays(self) -> "Pace":
        """The same without its first or last rows, where these are few and lie further away than all others reach.

        A clock that was not set writes 1970, a date that was mistyped 2204: one such row would make a history of decades.
        """
        few = int(STRAY * self.rows)
        is_far = np.diff(self.times) > self.times[-1 - few] - self.times[few]
        first = 1 + np.flatnonzero(is_far[:few]).max(initial=-1)
        after = few - np.flatnonzero(is_far[len(is_far) - few :]).min(initial=few)
        return Pace(self.times[first : self.rows - after])

    def counts(self, length: timedelta) -> list[int]:
        """The rows of each whole window, as the monitor lays them; one that the table covers well enough counts as whole."""
        origin, step = np.datetime64(ORIGIN.replace(tzinfo=None), "us"), np.timedelta64(length)
        first, last = ((np.datetime64(one.replace(tzinfo=None), "us") - origin) // step for one in (self.since, self.until))
        found: list[int] = np.bincount((self.times - origin) // step - first, minlength=int(last - first) + 1).tolist()
        slack = (1 - MIN_COVERAGE) * length
        begun = self.since - (ORIGIN + int(first) * length) <= slack
        ended = (ORIGIN + int(last + 1) * length) - self.until <= slack
        return found[0 if begun else 1 : len(found) if ended else -1]

    def typical(self, length: timedelta) -> float:
        """The rows of the median whole window that has any; what the mean pace gives where there is none."""
        counts = [count for count in self.counts(length) if count]
        return float(np.median(counts)) if counts else self.per_day * (length / DAY)

    def newest(self, length: timedelta) -> int:
        """The rows of the newest stretch of a length."""
        since = np.datetime64((self.until - length).replace(tzinfo=None), "us")
        return int(self.rows - np.searchsorted(self.times, since, "right"))


class Fact(FrozenModel):
    """One thing that is so at a pace; `possible` is false where a part of the loop can never happen, and `text` has the fix."""

    name: str
    text: str
    possible: bool = True


class Fitted(FrozenModel):
    """Sections of a spec that suit a pace."""

    split: SplitSpec
    gate: GateSpec
    window: WindowSpec
    signals: SignalsSpec
    half_life: timedelta


def fit_to_pace(pace: Pace) -> Fitted:
    """The sections of a spec with which windows close, bounds are found and the gate compares, as far as the table lets them."""
    pace = pace.without_strays
    length = _length(pace)
    enough = max(FEWEST, min(USUAL.min_rows, int(JUDGED_SHARE * pace.typical(length))))
    late = USUAL.lateness if length >= USUAL.length else next(one for one in _parts(length) if one <= length / 4)
    return Fitted(
        split=SplitSpec(test=length),
        gate=GateSpec(holdout=length, min_rows=enough),
        window=WindowSpec(length=length, lateness=late, min_rows=enough),
        signals=SignalsSpec.model_validate({"blocks": min(8, max(MIN_BLOCKS, int(pace.span / length / 3)))}),
        half_life=8 * length,
    )


def pace_facts(spec: ModelSpec, pace: Pace) -> Iterator[Fact]:
    """What can happen with a spec on a table of this pace, and what never will; nothing of a table without rows."""
    if not pace.rows:
        return
    text = f"{format_rate(pace.per_day)}: {pace.rows:,} from {pace.since:%Y-%m-%d %H:%M} to {pace.until:%Y-%m-%d %H:%M}"
    yield Fact(name="pace", text=text)
    if (strays := pace.rows - (core := pace.without_strays).rows) > 0:
        between = f"{core.since:%Y-%m-%d %H:%M} and {core.until:%Y-%m-%d %H:%M}"
        yield Fact(name="stray", text=f"{strays:,} of them far away from the others, which are between {between}: correct them")
    yield _windows(spec, pace)
    yield _closing(spec, pace)
    yield _bounds(spec, pace)
    yield _gate(spec, pace)
    yield _test(spec, pace)


def format_rate(per_day: float) -> str:
    """A pace in words."""
    if per_day >= 1:
        rows = f"{per_day:,.0f}" if per_day >= 9.5 else f"{per_day:.2g}"
        return f"{rows} {'row' if rows == '1' else 'rows'} a day"
    return f"a row in {1 / per_day:.2g} days" if per_day > 0 else "all rows at one moment"


def _windows(spec: ModelSpec, pace: Pace) -> Fact:
    window, counts = spec.window, pace.counts(spec.window.length)
    typical, least = pace.typical(window.length), window.min_rows
    judged = sum(count >= least for count in counts)
    empty = f", {counts.count(0):,} of them without a row" if 0 in counts else ""
    text = f"{len(counts):,} of {format_duration(window.length)} are whole{empty}, {typical:,.0f} rows in a typical one; "
    if typical >= least:
        return Fact(name="windows", text=f"{text}{judged:,} have window.min_rows = {least} or more and are judged")
    text += f"window.min_rows = {least} asks for more, so that one can neither alarm nor count towards a promotion"
    return Fact(name="windows", text=f"{text}: {_window_fix(pace)}", possible=False)


def _closing(spec: ModelSpec, pace: Pace) -> Fact:
    window = spec.window
    wait = window.lateness + (CORROBORATION * pace.span / max(1, pace.rows - 1))
    after = f"one closes when {CORROBORATION} rows lie {format_duration(window.lateness)} past its end"
    if pace.span < window.length + window.lateness:
        short = f"{after}, and this table is {_rough(pace.span)} long: a replay of it closes none; shorten window.length"
        return Fact(name="closing", text=short, possible=False)
    return Fact(name="closing", text=f"{after}: at this pace {_rough(wait)} after it")


def _bounds(spec: ModelSpec, pace: Pace) -> Fact:
    found = len(judgeable_blocks(spec, pace.times, pace.since, pace.until))
    unnamed = [signal.bound_key for signal in spec.enabled_signals if signal.name not in spec.signals.named_bounds]
    text = f"from {found} of at most {spec.signals.blocks} windows that can be judged from rows before them"
    if found >= MIN_BLOCKS or not unnamed:
        return Fact(name="bounds", text=text)
    fix = f"bring more rows, shorten window.length, lower window.min_rows, or name {', '.join(unnamed)} under signals"
    return Fact(name="bounds", text=f"{text}, and {MIN_BLOCKS} are needed: no alarm, ever; {fix}", possible=False)


def _gate(spec: ModelSpec, pace: Pace) -> Fact:
    length, least = spec.judged_length, spec.gate.min_rows
    rows = pace.typical(length) if pace.counts(length) else float(pace.newest(length))
    text = f"it compares on the newest {format_duration(length)}, {rows:,.0f} rows at this pace; "
    if rows >= least:
        return Fact(name="gate", text=f"{text}gate.min_rows = {least}")
    text += f"gate.min_rows = {least} asks for more, so that guardrails alone decide and nothing is ever compared"
    fix = f"gate.min_rows = {max(FEWEST, int(JUDGED_SHARE * rows))} or a longer gate.holdout"
    return Fact(name="gate", text=f"{text}: set {fix}", possible=False)


def _test(spec: ModelSpec, pace: Pace) -> Fact:
    length = max(spec.split.test, spec.judged_length)
    rows = pace.newest(spec.split.test)
    text = f"the newest {format_duration(spec.split.test)}, {rows:,} rows"
    if pace.span <= length:
        why = f"{text}, and the whole table is no longer than {format_duration(length)}: nothing is left to learn from"
        return Fact(name="test", text=f"{why}; shorten split.test and gate.holdout", possible=False)
    return Fact(name="test", text=text)


def _window_fix(pace: Pace) -> str:
    window = fit_to_pace(pace).window
    return f'set window.length = "{format_duration(window.length)}" and window.min_rows = {window.min_rows}'


def _length(pace: Pace) -> timedelta:
    """The usual length where it has enough rows and the history enough windows of it, else the nearest one that has.

    None is shorter than the step of the times: where all rows of a month bear its first day, a week has all of them or none.
    """
    lengths = [one for one in LENGTHS if one >= 0.9 * pace.step] or [LENGTHS[-1]]  # a February is a month, too
    longest = max((one for one in lengths if one <= pace.span / WINDOWS), default=lengths[0])
    shortest = next((one for one in lengths if pace.typical(one) >= LEAST_ROWS), lengths[-1])
    if shortest <= longest:
        return min(max(USUAL.length, shortest), longest)
    # Too few rows for both: fewer windows, but enough of them for a bound, or fewer rows in each.
    return max((one for one in lengths if one <= min(shortest, pace.span / (2 * MIN_BLOCKS + 1))), default=lengths[0])


def _parts(length: timedelta) -> Iterator[timedelta]:
    yield from reversed(LENGTHS)
    yield length / 4


def _rough(duration: timedelta) -> str:
    """A duration in its largest unit that it fills."""
    for unit in (DAY, timedelta(hours=1), timedelta(minutes=1)):
        if duration >= unit:
            name = {86_400: "days", 3_600: "hours", 60: "minutes"}[int(unit.total_seconds())]
            return f"{duration / unit:.1f} {name}"
    return f"{duration.total_seconds():.0f} seconds"


def _moment(time: np.datetime64) -> datetime:
    moment: datetime = time.astype("datetime64[us]").item()
    return moment.replace(tzinfo=UTC)
