"""The row contract of one model version: from a request's bytes to ids, event times, encoded rows and cells of the log.

Compiled once when a version is loaded; shared by all threads. `json_rows` decodes a row into a struct whose first
fields are the model's columns, in the order of `columns`: numbers, texts, then the other types. From there on a row is a
tuple in that order and every step picks by position, so that no name is looked up per row.

The id travels in the column that the spec names, or as `id`, and the time as the spec's event time or as `event_time`;
the general names only where no column of the model bears them.
"""

import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec.structs import astuple

from perennial.model import Model
from perennial.record import Scalar
from perennial.value_types import EXPECTED, Dtype, check_value, parse_time
from service.decoding.json_rows import MAX_TEXT, RowsDecoder, define_row
from service.decoding.row_encoding import EncodedRows, RowEncoding

MAX_ID = 256
"""Characters of an id; it is a key in the archive, not a document."""

ID_TYPE: Any = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ID)] | int
TEXT_TYPE: Any = Annotated[str, msgspec.Meta(max_length=MAX_TEXT)]

ID_EXPECTED = f"a text of 1 to {MAX_ID} characters or a whole number"

_ORDER: Mapping[Dtype, int] = {"float": 0, "string": 1}
_TYPES: Mapping[Dtype, Any] = {
    "float": float | None,
    "int": int | float | None,  # 3.0 is a whole number; `check_value` refuses what is none
    "bool": bool | None,
    "string": TEXT_TYPE | None,
    "datetime": TEXT_TYPE | None,
}


class DecodedRows(msgspec.Struct, frozen=True, gc=False):
    """Checked rows of one request: row i has ids[i], event_times[i] and the values cells[i], in the contract's order."""

    ids: Sequence[str]
    event_times: Sequence[datetime]
    cells: Sequence[tuple[Any, ...]]
    encoded: EncodedRows


class RowContract:
    """What one model version takes, and how its rows are read."""

    def __init__(self, model: Model) -> None:
        schema = model.card.schema_
        columns = sorted(schema.columns, key=lambda column: _ORDER.get(column.dtype, 2))
        dtypes = {column.name: column.dtype for column in columns}
        self._columns = tuple(dtypes)
        self._others = [(place, column.dtype) for place, column in enumerate(columns) if column.dtype not in _ORDER]
        ids = [name for name in dict.fromkeys(("id", schema.id)) if name and name not in dtypes]
        times = [name for name in dict.fromkeys(("event_time", schema.event_time)) if name not in dtypes]
        self._names = (*dtypes, *ids, *times)
        self._id_places = [self._names.index(name) for name in dict.fromkeys((*ids, schema.id)) if name]
        self._time_places = [self._names.index(name) for name in times]
        self._decoder = _compile(dtypes, ids, times)
        self._encoding = RowEncoding(model, dtypes)

    def decode(self, body: bytes, max_rows: int, now: datetime) -> DecodedRows:
        """The rows of a body; one without event time happens `now`.

        Raises RequestError naming row, column, value and what was expected, or ServiceError (413) for too many rows.
        """
        rows = [astuple(row) for row in self._decoder.decode(body, max_rows)]
        ids = self._ids(rows)
        times = [self._time(cells, row) or now for row, cells in enumerate(rows)]
        if self._others:
            rows = [self._checked(cells, row) for row, cells in enumerate(rows)]
        return DecodedRows(ids, times, rows, self._encoding.encode(rows, times))

    def log_columns(self, rows: Sequence[tuple[Any, ...]]) -> dict[str, tuple[Scalar, ...]]:
        """The cells of rows by column, as the log keeps them: a time as text, everything else as it is."""
        columns = dict(zip(self._columns, zip(*rows, strict=True), strict=False))
        for place, dtype in self._others:
            if dtype == "datetime":
                name = self._columns[place]
                columns[name] = tuple([None if cell is None else cell.isoformat() for cell in columns[name]])
        return columns

    def _ids(self, rows: Sequence[tuple[Any, ...]]) -> list[str]:
        ids = [self._id(cells, row) for row, cells in enumerate(rows)]
        if len(ids) > 1 and len(set(ids)) < len(ids):
            seen: set[str] = set()
            row = next(row for row, name in enumerate(ids) if name in seen or seen.add(name))  # type: ignore[func-returns-value]
            raise self._decoder.wrong(row, "id", ids[row], "an id that no other row of the request has")
        return ids

    def _id(self, cells: tuple[Any, ...], row: int) -> str:
        for place in self._id_places:
            if (value := cells[place]) is not None:
                text = value if type(value) is str else _id_text(value)
                if not 0 < len(text) <= MAX_ID:
                    raise self._decoder.wrong(row, self._names[place], value, ID_EXPECTED)
                return text
        return new_id()

    def _time(self, cells: tuple[Any, ...], row: int) -> datetime | None:
        for place in self._time_places:
            if (value := cells[place]) is not None:
                try:
                    return parse_time(value)
                except ValueError:
                    raise self._decoder.wrong(row, self._names[place], value) from None
        return None

    def _checked(self, cells: tuple[Any, ...], row: int) -> tuple[Any, ...]:
        """The row with the values of `_others` in their contract types."""
        checked = list(cells)
        for place, dtype in self._others:
            try:
                checked[place] = check_value(cells[place], dtype)
            except (ValueError, OverflowError):
                raise self._decoder.wrong(row, self._names[place], cells[place]) from None
        return tuple(checked)


def _compile(dtypes: Mapping[str, Dtype], ids: Sequence[str], times: Sequence[str]) -> RowsDecoder[msgspec.Struct]:
    required = [(name, _TYPES[dtype]) for name, dtype in dtypes.items()]
    optional = [*((name, ID_TYPE | None) for name in ids), *((name, TEXT_TYPE | None) for name in times)]
    texts = f"a text of at most {MAX_TEXT} characters"
    expected = {name: f"{texts if dtype == 'string' else EXPECTED[dtype]} or null" for name, dtype in dtypes.items()}
    beside = {**dict.fromkeys(ids, ID_EXPECTED), **dict.fromkeys(times, EXPECTED["datetime"])}
    return RowsDecoder("instances", define_row("Row", required, optional), expected | beside)


def _id_text(value: float) -> str:
    """A number as an id: 7 and 7.0 are the same."""
    return str(int(value) if isinstance(value, float) and value.is_integer() else value)


POOL = 256
"""Ids made at once: the operating system is asked for randomness once for all of them."""

_pool: list[str] = []


def new_id() -> str:
    """An id that no client and no other row has: 128 random bits, as 32 hexadecimal digits."""
    try:
        return _pool.pop()
    except IndexError:
        digits = os.urandom(16 * POOL).hex()
        _pool.extend([digits[start : start + 32] for start in range(32, len(digits), 32)])
        return digits[:32]
