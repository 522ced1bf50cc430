"""A table: many ordinary JSON rows taken column by column, so that a row costs no Python of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

from perennial.schema import POLARS
from perennial.value_types import check_value
from service.encoding import Encoded
from service.layout import Layout, OddError, as_logged, id_of, new_ids, take, time_of
from service.rows import ALL_FLOATS, NUMBERS, TEXTS

Column = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows that are answered together: ids[i] happened at times[i]."""

    ids: tuple[str, ...]
    times: tuple[datetime, ...]
    encoded: Encoded


def read_table(rows: Sequence[dict[str, Any]], layout: Layout, now: datetime) -> Table | None:
    """The rows, or None when one needs a closer look. Takes the dicts apart; one without event time happens `now`."""
    try:
        ids, times = _ids(rows, layout), _times(rows, layout, now)
        if len(set(ids)) < len(ids) or set(map(len, rows)) != {len(layout.columns)}:
            return None
        return Table(ids, times, _encode(rows, layout, times))
    except (OddError, KeyError, TypeError, ValueError, OverflowError, pl.exceptions.PolarsError):
        return None


def _ids(rows: Sequence[dict[str, Any]], layout: Layout) -> tuple[str, ...]:
    if any(key in row for key, _ in layout.ids for row in rows):
        return tuple([id_of(take(row, layout.ids)) for row in rows])
    return new_ids(len(rows))


def _times(rows: Sequence[dict[str, Any]], layout: Layout, now: datetime) -> tuple[datetime, ...]:
    if any(key in row for key, _ in layout.times for row in rows):
        return tuple([time_of(take(row, layout.times), now) for row in rows])
    return (now,) * len(rows)


def _encode(rows: Sequence[dict[str, Any]], layout: Layout, times: Sequence[datetime]) -> Encoded:
    floats = [_floats(column) for column in zip(*map(layout.get_floats, rows), strict=True)]
    texts = [_texts(column) for column in zip(*map(layout.get_texts, rows), strict=True)]
    others = [tuple([check_value(row[name], dtype) for row in rows]) for name, dtype in layout.others]
    coded = [tuple(map(codes.get, texts[at])) for at, codes in zip(layout.coded_texts, layout.dictionaries, strict=True)]
    numbers = [np.array(column, dtype=np.float64) for column in (*floats, *coded)]  # None becomes NaN
    unknown, nulls = _count_direct(layout, texts, coded, numbers)
    cells = dict(zip(layout.columns, (*floats, *texts, *others), strict=True))
    if layout.computed:
        table = layout.rest.table(_frame(cells, layout, times))
        numbers += list(layout.rest.codes(table).T)
        unknown |= layout.rest.count_unknown(table)
        nulls |= layout.rest.count_nulls(table)
    for name, _ in layout.others:
        cells[name] = tuple(map(as_logged, cells[name]))
    matrix = np.column_stack([numbers[place] for place in layout.order]) if layout.order else np.empty((len(rows), 0))
    return Encoded(matrix, cells, _positive(unknown), _positive(nulls))


def _floats(column: Column) -> Column:
    kinds = set(map(type, column))
    if kinds == ALL_FLOATS:
        return column
    if not kinds <= NUMBERS:
        raise OddError
    return tuple([None if cell is None else float(cell) for cell in column]) if int in kinds else column


def _texts(column: Column) -> Column:
    if not set(map(type, column)) <= TEXTS:
        raise OddError
    return column


def _count_direct(
    layout: Layout, texts: Sequence[Column], coded: Sequence[Column], numbers: Sequence["np.ndarray[Any, Any]"]
) -> tuple[dict[str, int], dict[str, int]]:
    """Of the features that are columns as they are: rows with an unknown category, and rows without a value."""
    absent = {name: texts[at].count(None) for name, at in zip(layout.sources, layout.coded_texts, strict=True)}
    unknown = {name: codes.count(None) - absent[name] for name, codes in zip(layout.sources, coded, strict=True)}
    return unknown, absent | {name: int(np.isnan(numbers[place]).sum()) for name, place in layout.numeric.items()}


def _frame(cells: dict[str, Column], layout: Layout, times: Sequence[datetime]) -> pl.DataFrame:
    dtypes = layout.model.card.schema_.dtypes
    columns = {name: pl.Series(name, cells[name], dtype=POLARS[dtypes[name]]) for name in layout.columns}
    return pl.DataFrame({**columns, layout.event_time: pl.Series(layout.event_time, times, dtype=POLARS["datetime"])})


def _positive(counts: dict[str, int]) -> dict[str, int]:
    return {name: count for name, count in counts.items() if count}
