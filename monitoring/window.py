"""Windows: half-open stretches of event time, aligned to one origin, closed by the watermark.

Only arithmetic lives here: which window a time falls into, which windows a watermark closes.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from heapq import nlargest

from pydantic import AwareDatetime

from perennial.base import FrozenModel
from perennial.spec import WindowSpec
from perennial.value_types import OLDEST

ORIGIN = datetime(1970, 1, 5, tzinfo=UTC)
"""A Monday: windows of a week start on Mondays, windows of a day at midnight UTC."""

MOST_EMPTY = 60
"""Windows without rows that are listed in one run; a longer gap (a stray time decades ago) is skipped."""


CORROBORATION = 3
"""Rows that must have reached a moment for the watermark to: two wrong clocks close no window."""

Asked = tuple[datetime, str]
"""The event time and id of a prediction."""


class Window(FrozenModel):
    """Event times t with start <= t < end, both UTC."""

    start: AwareDatetime
    end: AwareDatetime

    @property
    def key(self) -> str:
        """The window's name in paths: its start."""
        return f"{self.start:%Y%m%dT%H%M%S}"

    def __str__(self) -> str:
        return f"{self.start:%Y-%m-%d %H:%M} to {self.end:%Y-%m-%d %H:%M}"

    def dates(self) -> tuple[date, ...]:
        """Every UTC date the window touches."""
        days = (self.end - timedelta(microseconds=1)).date() - self.start.date()
        return tuple(self.start.date() + timedelta(days=day) for day in range(days.days + 1))


def window_at(moment: datetime, length: timedelta) -> Window:
    """The window that holds `moment`; a time before OLDEST, which is a misread one, counts as OLDEST."""
    start = ORIGIN + (max(moment, OLDEST) - ORIGIN) // length * length
    return Window(start=start, end=start + length)


def newest_rows(*rows: Iterable[Asked]) -> tuple[Asked, ...]:
    """The newest CORROBORATION different rows of all, the newest first: what the watermark rests on."""
    return tuple(nlargest(CORROBORATION, set().union(*rows)))


def watermark(newest: Sequence[Asked]) -> datetime | None:
    """The event time that enough rows have reached; None while there are fewer."""
    return newest[-1][0] if len(newest) == CORROBORATION else None


def due_windows(spec: WindowSpec, since: datetime, watermark: datetime, occupied: Iterable[date]) -> Iterator[Window]:
    """Windows from the one that holds `since` on whose end the watermark has passed by the allowed lateness.

    Oldest first. `occupied` are the dates with rows: a run of more than MOST_EMPTY windows without
    any is left out, so that one stray time long ago does not close a thousand empty windows.
    """
    days = sorted(datetime.combine(day, time(), UTC) for day in occupied)
    window = window_at(since, spec.length)
    while window.end + spec.lateness <= watermark:
        yield window
        window = _following(window, days, spec.length)


def _following(window: Window, days: Sequence[datetime], length: timedelta) -> Window:
    day = next((day for day in days if day + timedelta(days=1) > window.end), None)
    if day is not None and day - window.end > MOST_EMPTY * length:
        return window_at(day, length)
    return Window(start=window.end, end=window.end + length)
