"""Features of a table: the id, the columns to learn from with their kinds, and those that are left out, each with the reason."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import polars as pl

from perennial.errors import DataError
from perennial.log_columns import PREFIX
from perennial.schema import free_name, refuse_missing, unreadable
from tasks.proposal.event_time import EventTime
from tasks.proposal.leaks import Leak, find_leaks
from tasks.proposal.pace import Pace
from tasks.proposal.spec_text import Key
from tasks.proposal.table import Table
from tasks.proposal.target import Target

FREE_TEXT = 0.3  # share of rows with a text of their own from which a column is no category
LEAST_TEXTS = 50  # different texts under which it is one whatever the share
NO_ID = "none"  # what --id takes where no column names a row

_NAMED = ("id", "key", "uuid", "guid", "rowid", "row_id", "index", "instant", "no", "nr", "number")


@dataclass(frozen=True)
class Id:
    """The column that names a row, if there is one, and why."""

    column: str | None
    why: str


def find_id(table: Table, target: Target, time: EventTime, wanted: str | None) -> Id:
    """The column whose values are all different and that is called like a name of rows, counts them, or holds texts."""
    if wanted == NO_ID:
        return Id(None, "no column names a row, as it was said: the service makes ids up, and a label needs the one it answered")
    if wanted is not None:
        refuse_missing(table.frame.columns, [wanted])
        repeated = table.frame.height - table.frame[wanted].n_unique()
        if repeated:
            raise DataError(f"--id {wanted!r} names no row: {repeated:,} of {table.frame.height:,} values repeat or are null")
        return Id(wanted, "as it was said")
    taken = {target.column, time.column, *time.of}
    names = [name for name in table.frame.columns if name not in taken and _names_rows(table.frame[name])]
    called = [name for name in names if _is_called_id(name)]
    for name in (*called, *names):
        if name in called or _counts_up(table.frame[name]) or table.frame.schema[name] == pl.String:
            return Id(name, f"its {table.frame.height:,} values are all different")
    return Id(
        None, "no column has a value of its own in each row: the service makes ids up, and a label needs the one it answered"
    )


def propose_features(table: Table, target: Target, time: EventTime, id_: Id) -> Iterator[Key]:
    """A key for each feature, and a comment for each column that is left out."""
    frame, taken = table.frame, {target.column, id_.column, *(() if time.of else (time.column,))}
    rest = [name for name in frame.columns if name not in taken]
    unusable = {name: why for name in rest if (why := _unusable(table, name, time)) is not None}
    usable = [name for name in rest if name not in unusable]
    leaks = find_leaks(frame.filter(time.times.is_not_null()), target, usable)
    yield from _parts_of_time(table, time)
    for name in rest:
        if (why := unusable.get(name)) is not None:
            yield Key(_shown(name), None, f"left out: {why}")
        elif name in leaks and leaks[name].sure:
            why = leaks[name].reason
            yield Key(
                _shown(name), None, f"left out, a leak is suspected: {why}; write {_line(table, name)} if it is known in time"
            )
        else:
            yield _feature(table, name, leaks.get(name))


def _feature(table: Table, name: str, leak: Leak | None) -> Key:
    values = table.frame[name]
    different, nulls = values.drop_nulls().n_unique(), values.null_count()
    shown = [f"{different:,} different {'texts' if _kind(values) == 'categorical' else 'values'}"]
    shown += [f"{nulls / values.len():.1%} null"] if nulls else []
    shown += [f"a leak is suspected: {leak.reason}; take the line out if it is known only later"] if leak else []
    return Key(name, _kind(values), ", ".join(shown))


def _line(table: Table, name: str) -> str:
    return Key(name, _kind(table.frame[name])).line


def _kind(values: pl.Series) -> str:
    """Numbers and truths are numeric, but for whole numbers that a float does not hold to the last digit."""
    if values.dtype == pl.Boolean or values.dtype.is_float():
        return "numeric"
    if values.dtype.is_numeric():
        exact = values.cast(pl.Float64, strict=False).cast(values.dtype, strict=False).eq_missing(values).all()
        return "numeric" if exact else "categorical"
    return "categorical"


def _unusable(table: Table, name: str, time: EventTime) -> str | None:
    """Why a column cannot be a feature, or says nothing; None where it can."""
    values = table.frame[name]
    if name.startswith(PREFIX) or name == "*" or (name.startswith("^") and name.endswith("$")) or not name:
        return "a spec cannot name it; have a query or a loader rename it"
    if (why := unreadable(name, values.dtype)) is not None:
        return why
    known = values.drop_nulls()
    if known.is_empty():
        return "it is always null"
    if isinstance(values.dtype, (pl.Date, pl.Datetime)):
        return _of_time(values, time)
    different = known.n_unique()
    if different == 1 and not values.null_count():
        return f"it is always {known[0]!r:.40}"
    if values.dtype == pl.String and different > max(LEAST_TEXTS, FREE_TEXT * known.len()):
        return f"{different:,} different texts in {known.len():,} rows are no categories"
    if _names_rows(values) and values.dtype.is_integer() and (_is_called_id(name) or _counts_up(values)):
        return "it numbers the rows"
    return None


def _of_time(values: pl.Series, time: EventTime) -> str:
    """A time as it is resembles no later one; one after the event time is not known when a row is asked about."""
    if values.name in time.of:
        return "the event time is made of it"
    moments = values.cast(pl.Datetime("us"))
    asked = time.times.dt.replace_time_zone(None).cast(pl.Datetime("us"))
    later = (moments.dt.replace_time_zone(None) > asked).sum() / max(1, moments.count())
    if later > 0.5 and not time.from_rows:
        return f"it lies after {time.column} in {later:.0%} of the rows: it is known only later"
    return f'no later time resembles it; write {{ difference = ["{time.column}", "{values.name}"] }} or a date_part of it'


def _parts_of_time(table: Table, time: EventTime) -> Iterator[Key]:
    """Hour, weekday and month of the event time, as far as it has them and is long enough; a month's first day has no weekday."""
    known = time.times.drop_nulls()
    if time.from_rows or known.is_empty():
        return
    span = Pace.of(known).without_strays.span
    parts = {
        "hour": (known.dt.hour().n_unique() > 1 and not _has_hour(time), timedelta(days=2)),
        "weekday": (known.dt.weekday().n_unique() > 1 and known.dt.day().n_unique() > 1, timedelta(weeks=4)),
        "month": (known.dt.month().n_unique() > 1, timedelta(days=730)),
    }
    for part, (varies, least) in parts.items():
        if varies and span >= least:
            yield Key(free_name(f"{time.column}_{part}", table.frame.columns), {"date_part": part}, f"of {time.column} (UTC)")


def _has_hour(time: EventTime) -> bool:
    return len(time.of) in (2, 4)  # the hour is a column of its own, and a feature


def _names_rows(values: pl.Series) -> bool:
    usable = values.dtype == pl.String or values.dtype.is_integer()
    return usable and values.null_count() <= 0.01 * values.len() and values.drop_nulls().n_unique() == values.drop_nulls().len()


def _counts_up(values: pl.Series) -> bool:
    known = values.drop_nulls()
    if not values.dtype.is_integer() or known.len() < 2:
        return False
    return int(known.max()) - int(known.min()) + 1 == known.len()  # type: ignore[arg-type]


def _is_called_id(name: str) -> bool:
    plain = name.strip().lower()
    return plain in _NAMED or plain.endswith(("_id", "-id", " id", "_key", "_no", "_nr", "uuid")) or name.endswith(("Id", "ID"))


def _shown(name: str) -> str:
    return name.replace("\n", " ").replace("\r", " ") or '""'
