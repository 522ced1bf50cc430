"""Rows: a few ordinary JSON rows as numbers for the trees and cells for the log, in microseconds each."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import NoneType
from typing import Any

from perennial.record import Scalar
from perennial.value_types import check_value
from service.layout import NAN, Layout, OddError, as_logged, id_of, take, time_of

ALL_FLOATS, NUMBERS, TEXTS = {float}, {float, int, NoneType}, {str, NoneType}

_code: Callable[[Any, Any], Any] = dict.get


@dataclass(frozen=True, slots=True)
class Row:
    """One row: `cells` in the order of the layout, `values` in that of the matrix, and the features that have none."""

    name: str
    time: datetime
    cells: tuple[Scalar, ...]
    values: Sequence[float]
    unknown: Sequence[str] = ()
    nulls: Sequence[str] = ()


def read_rows(rows: Sequence[dict[str, Any]], layout: Layout, now: datetime) -> list[Row] | None:
    """The rows, or None when one needs a closer look. Takes the dicts apart; one without event time happens `now`."""
    try:
        read = [_read(row, layout, now) for row in rows]
    except (OddError, KeyError, TypeError, ValueError, OverflowError):
        return None
    return read if len({row.name for row in read}) == len(read) else None


def _read(row: dict[str, Any], layout: Layout, now: datetime) -> Row:
    name, time = id_of(take(row, layout.ids)), time_of(take(row, layout.times), now)
    if len(row) != len(layout.columns):
        raise OddError
    floats, texts = layout.get_floats(row), layout.get_texts(row)
    kinds = set(map(type, floats))
    if kinds != ALL_FLOATS:
        floats = _floats(floats, kinds)
    if not set(map(type, texts)) <= TEXTS:
        raise OddError
    # Which code a text has, in one go; None where it has none. A text can equal no other type's value.
    codes = tuple(map(_code, layout.dictionaries, layout.get_coded(texts)))
    cells: tuple[Any, ...] = floats + texts
    computed: tuple[float, ...] = ()
    if layout.others or layout.steps:
        cells, computed = _compute(row, cells, layout, time)
    values = layout.arrange(floats + codes + computed)
    if None in values or (computed and not math.isfinite(sum(computed))):
        return _incomplete(Row(name, time, cells, values), layout)
    return Row(name, time, cells, values)


def _floats(cells: tuple[Any, ...], kinds: set[type]) -> tuple[Any, ...]:
    if not kinds <= NUMBERS:
        raise OddError
    return tuple([None if cell is None else float(cell) for cell in cells])


def _compute(
    row: Mapping[str, Any], cells: tuple[Any, ...], layout: Layout, time: datetime
) -> tuple[tuple[Any, ...], tuple[float, ...]]:
    """The cells with those of other types, and the features that are no columns."""
    others = tuple([check_value(row[column], dtype) for column, dtype in layout.others])
    given = dict(zip(layout.columns, cells + others, strict=True))
    given[layout.event_time] = time
    return cells + tuple(map(as_logged, others)), tuple([step(given) for step in layout.steps])


def _incomplete(row: Row, layout: Layout) -> Row:
    """A row that lacks a value: by which features, and whether it is absent or unknown."""
    features, given = layout.model.card.features, dict(zip(layout.columns, row.cells, strict=True))
    values = [NAN if value is None else value for value in row.values]
    unknown, nulls = [], []
    for name, value in zip(features.names, values, strict=True):
        if not math.isnan(value):
            continue
        if name in layout.sources and given[layout.sources[name]] is not None:
            unknown.append(name)
        elif name in layout.sources or features.kinds[name] == "numeric":
            nulls.append(name)
        else:
            raise OddError  # a computed category: only a table tells the two apart
    return Row(row.name, row.time, row.cells, values, unknown, nulls)
