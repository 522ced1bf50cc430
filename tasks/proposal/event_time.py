"""The event time of a table: the columns that can be it, alone or put together, and the one that a person means.

Dates and times, whole numbers that count from 1970, days written as numbers (20190131), a date beside an hour, and year, month
and day. Where there are several the person chooses; where there is none, rows get times by their order if the person says so.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from perennial.errors import DataError, PerennialError
from perennial.schema import cast_or_null, free_name
from perennial.spec_sources import SourceSpec
from perennial.value_types import OLDEST
from tasks.data.times import epoch_of, look_like_times, read_format, read_times, times_of_rows
from tasks.proposal.questions import Ask, Question
from tasks.proposal.spec_text import Key
from tasks.proposal.table import Table

KNOWN = 0.9  # share of a column's rows that must have a time for it to be one that rows are asked at

_TIME = re.compile(
    r"(^|[^a-z])(time|date|datetime|timestamp|ts|day|when|at|epoch|created|event|dt)([^a-z]|$)|time|date|stamp", re.IGNORECASE
)
_HOUR = re.compile(r"^(h|hh|hr|hour|hours|hour_?of_?day|stunde)$", re.IGNORECASE)
_CLOCK = re.compile(r"^([01]?\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d+)?)?$")
_PARTS = {
    "year": r"^(y|yr|year|jahr)$",
    "month": r"^(m|mo|mon|mnth|month|monat)$",
    "day": r"^(d|dd|dy|day|dom|tag|day_?of_?month)$",
}
_NUMBERED = ("%Y%m%d", "%Y%m%d%H%M%S")


@dataclass(frozen=True)
class EventTime:
    """The event time as a spec says it: its column, the keys that make or read it, and the moments (UTC) of the sample's rows."""

    column: str
    why: str
    times: pl.Series
    of: tuple[str, ...] = ()
    source_keys: tuple[Key, ...] = ()
    derive: Key | None = None
    from_rows: bool = False

    @property
    def shown(self) -> str:
        """What a person calls it: its columns."""
        return "+".join(self.of) if self.of else self.column


def find_event_time(table: Table, wanted: str | None, form: str | None, ask: Ask) -> EventTime:
    """The column that is meant, or the only one that can be; raises DataError or SpecError saying what to give."""
    if form is not None and wanted is None:
        raise DataError(f"--time-format {form!r} is said of no column: name the one that is written so with --time")
    found = [*_combined(table), *_single(table)]
    if wanted is not None:
        return _wanted(table, wanted, form, found, ask)
    parts = {column for one in found if one.of for column in one.of}
    left = [one for one in found if one.of or one.column not in parts]
    ambiguous = [name for name in table.frame.columns if name not in parts and _is_ambiguous(table, name)]
    choices = tuple((one.shown, one.why) for one in left) + tuple((name, "a date, in two orders possible") for name in ambiguous)
    if len(choices) == 1:
        return left[0] if left else _formatted(table, ambiguous[0], None, ask)
    if not choices:
        raise DataError(NO_TIME.format(columns=", ".join(table.frame.columns[:20])))
    answer = ask(Question("time", "several columns can be the time at which a row is asked about", choices))
    return _wanted(table, answer, form, found, ask)


NO_TIME = (
    "no column is a time (the table has {columns}): name one with --time, and how it is written with --time-format; or, where "
    "the rows stand in the order in which they came, give --time-from-rows 1000/day. Then so many rows make a day: the newest "
    "rows are the test, windows and their bounds follow the order of rows, and hours and weekdays mean nothing"
)


def time_from_rows(table: Table, rate: str, rows: int, now: datetime) -> EventTime:
    """Times by the order of rows, ending today: what is asked about from now on then follows on the table."""
    source = SourceSpec.model_validate({**table.source.model_dump(), "time_from_rows": rate})
    interval = source.row_interval or timedelta()
    start = now.date() - timedelta(days=math.ceil(rows * interval / timedelta(days=1)))
    if start < OLDEST.date():
        raise DataError(f"{rows:,} rows at {rate} reach back to {start}: give --time-from-rows more rows, such as 1000/day")
    name = free_name("row_time", table.frame.columns)
    why = f"the rows stand in the order in which they came, {rate}, as --time-from-rows says; its hours and weekdays mean nothing"
    keys = (
        Key("time_from_rows", rate, "the rows' times follow from their order: append new rows, never insert any"),
        Key("time_start", start, f"so that the {rows:,} rows end today"),
    )
    return EventTime(name, why, times_of_rows(table.frame.height, start, interval), source_keys=keys, from_rows=True)


def _single(table: Table) -> Iterator[EventTime]:
    """Columns that hold times, or numbers that stand for them."""
    for name in table.frame.columns:
        if (found := _as_time(table, name)) is not None:
            yield found


def _as_time(table: Table, name: str, *, named: bool = True) -> EventTime | None:
    """A column as an event time; numbers only where their name or, unless `named`, the person says that they are times."""
    values = table.frame[name]
    if values.dtype == pl.String and look_like_times(values) and not _is_ambiguous(table, name):
        values = read_times(values, name, name)
    if isinstance(values.dtype, (pl.Date, pl.Datetime)):
        moments = cast_or_null(values, "datetime")
        known = moments.count() >= KNOWN * moments.len()
        return (
            EventTime(name, f"holds {'dates' if values.dtype == pl.Date else 'times'}", moments) if known or not named else None
        )
    if not values.dtype.is_numeric() or (named and not _TIME.search(name)):
        return None
    form = _number_format(values)
    if form is None:
        return None
    raw = table.raw.frame[name]
    moments = cast_or_null(read_format(raw, form, name, "time_format"), "datetime")
    why = (
        f"its numbers are days such as {moments.drop_nulls()[0]:%Y-%m-%d}"
        if "%" in form
        else f"its numbers count from 1970 ({form})"
    )
    return EventTime(name, why, moments, source_keys=(Key("time_format", {name: form}, why),))


def _number_format(values: pl.Series) -> str | None:
    known = values.drop_nulls()
    if known.is_empty() or known.n_unique() < 2:
        return None
    if not known.dtype.is_float() or bool((known == known.floor()).all()):
        texts = known.cast(pl.Int64, strict=False).cast(pl.String)
        for form, length in zip(_NUMBERED, (8, 14), strict=True):
            if (texts.str.len_chars() == length).all() and texts.str.to_datetime(form, strict=False).null_count() == 0:
                return form
    found = epoch_of(known)
    return found[0] if found is not None else None


def _combined(table: Table) -> Iterator[EventTime]:
    """A date beside an hour or a time of day, and year, month and day (and hour)."""
    frame = table.frame
    hours = [name for name in frame.columns if _is_hour(name, frame[name]) or _is_clock(frame[name])]
    for name in frame.columns:
        whole_days = frame.schema[name] == pl.Date or _is_midnight(frame[name]) or (_numbered_days(table, name))
        if whole_days and len(hours) == 1 and frame[name].n_unique() < frame.height:
            cast = isinstance(frame.schema[name], pl.Datetime)
            yield from _made(table, (name, hours[0]), f"CAST({_quoted(name)} AS DATE)" if cast else _quoted(name))
    parts = [next((name for name in frame.columns if re.search(form, name, re.IGNORECASE)), None) for form in _PARTS.values()]
    if all(name is not None and frame.schema[name].is_integer() for name in parts):
        given = tuple(str(name) for name in parts)
        years = frame[given[0]].drop_nulls()
        if years.len() and years.is_between(OLDEST.year, 2200).all():
            days = "CONCAT(" + ", '-', ".join(map(_quoted, given)) + ")"
            yield from _made(table, (*given, *hours[:1]), days)


def _made(table: Table, of: tuple[str, ...], day: str) -> Iterator[EventTime]:
    """The event time that an expression makes of columns, where it reads nearly all rows."""
    clock = of[-1] if _is_hour(of[-1], table.frame[of[-1]]) or _is_clock(table.frame[of[-1]]) else None
    hour = "" if clock is None else f", ' ', {_quoted(clock)}" + ("" if _is_clock(table.frame[clock]) else ", ':00'")
    expression = f"CONCAT({day}{hour})" if hour else day
    name = free_name("event_time", table.frame.columns)
    try:
        texts = table.frame.select(pl.sql_expr(expression).alias(name)).to_series()
        moments = cast_or_null(read_times(texts, name, name), "datetime")
    except (PerennialError, pl.exceptions.PolarsError):
        return
    if moments.count() >= KNOWN * moments.len():
        why = f"made of {' and '.join(of)}"
        yield EventTime(name, why, moments, of=of, derive=Key(name, expression, f"the moment: {' and '.join(of)}"))


def _wanted(table: Table, wanted: str, form: str | None, found: list[EventTime], ask: Ask) -> EventTime:
    """The event time of the columns that a person names."""
    named = [one for one in found if wanted in (one.shown, one.column)]
    if named and form is None:
        return named[0]
    if wanted not in table.frame.columns:
        known = ", ".join(dict.fromkeys([*(one.shown for one in found), *table.frame.columns[:20]]))
        raise DataError(f"--time {wanted!r} is no column: choose from {known}")
    if form is None and (alone := _as_time(table, wanted, named=False)) is not None:
        return alone
    if form is not None or _is_ambiguous(table, wanted):
        return _formatted(table, wanted, form, ask)
    values = table.frame[wanted].drop_nulls().head(3).to_list()
    raise DataError(
        f"--time {wanted!r} holds {values}, which is no time that can be read: give --time-format, such as '%d/%m/%Y'"
    )


def _formatted(table: Table, name: str, form: str | None, ask: Ask) -> EventTime:
    """A column whose format a person gives, because its values do not show it."""
    chosen = form if form is not None else ask(_order_question(table, name))
    moments = cast_or_null(read_format(table.raw.frame[name], chosen, f"column {name!r}", "--time-format"), "datetime")
    key = Key("time_format", {name: chosen}, "as it was said")
    return EventTime(name, f"holds times written as {chosen}", moments, source_keys=(key,))


def _order_question(table: Table, name: str) -> Question:
    message = ""
    try:
        read_times(table.raw.frame[name], f"column {name!r}", "time_format")
    except DataError as error:
        message = str(error)
    formats = re.findall(r'= "([^"]+)" \}', message)
    names = ("month first", "day first")
    return Question(
        "time-format", message.partition("; write")[0].partition(": write")[0], tuple(zip(formats, names, strict=False))
    )


def _is_ambiguous(table: Table, name: str) -> bool:
    if table.frame.schema[name] != pl.String or not look_like_times(table.frame[name]):
        return False
    try:
        read_times(table.frame[name], name, name)
    except DataError:
        return True
    return False


def _is_hour(name: str, values: pl.Series) -> bool:
    known = values.drop_nulls()
    return bool(_HOUR.search(name)) and values.dtype.is_integer() and known.len() > 0 and bool(known.is_between(0, 23).all())


def _is_clock(values: pl.Series) -> bool:
    if values.dtype == pl.Time:
        return True
    known = values.drop_nulls().head(500) if values.dtype == pl.String else pl.Series([], dtype=pl.String)
    return known.len() > 0 and bool(known.str.contains(_CLOCK.pattern).all())


def _is_midnight(values: pl.Series) -> bool:
    return isinstance(values.dtype, pl.Datetime) and bool((values.drop_nulls().dt.time() == datetime.min.time()).all())


def _numbered_days(table: Table, name: str) -> bool:
    values = table.frame[name]
    return bool(_TIME.search(name)) and values.dtype.is_integer() and _number_format(values) == _NUMBERED[0]


def _quoted(name: str) -> str:
    doubled = name.replace('"', '""')
    return f'"{doubled}"'
