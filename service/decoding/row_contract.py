"""The row contract of one model version: from a request's bytes to ids, event times, encoded rows and cells of the log.

Compiled when a version is loaded; shared by all threads. `json_rows` decodes a row into a struct whose first fields are the
model's columns: numbers, texts, then the other types. From there on a row is a tuple in that order and every step picks by
position, so that no name is looked up per row.

No promotion breaks a client: a version also takes rows by the schemas of other versions (`service.inference.champion_history`).
A column that one of them does not have may be left out and is null then; a value of the type that only others have is translated
(a number is its text and the reverse) or null; a column that only others have is checked and ignored. All are counted.
"""

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import reduce
from operator import or_
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import astuple

from perennial.model import Model
from perennial.record import Scalar
from perennial.schema import Schema
from perennial.value_types import EXPECTED, Dtype, check_value, parse_time
from service.decoding.json_rows import MAX_TEXT, RowsDecoder, define_row
from service.decoding.row_encoding import EncodedRows, RowEncoding

MAX_ID = 256  # characters of an id; it is a key in the archive, not a document
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
_NO_COUNTS: Counter[str] = Counter()  # of a request by a contract that is no union; not changed


class DecodedRows(msgspec.Struct, frozen=True, gc=False):
    """Checked rows of one request: row i has ids[i], event_times[i] and the values cells[i], in the contract's order.

    `odd` counts rows by column where there is anything to count: with an unknown category, with a null, without a column that
    another version does not have, with one that only others have.
    """

    ids: Sequence[str]
    event_times: Sequence[datetime]
    cells: Sequence[tuple[Any, ...]]
    encoded: EncodedRows
    odd: Sequence[Mapping[str, int]] = ()


class RowKeys(msgspec.Struct, frozen=True):
    """The keys that a row may have: columns with their types, and names under which its id and its event time travel.

    The spec's own id and event time always do; `id` and `event_time` do where no column bears that name.
    """

    required: Mapping[str, Dtype]
    optional: Mapping[str, Dtype]
    ignored: Mapping[str, Dtype]
    ids: Sequence[str]
    times: Sequence[str]


def row_keys(own: Schema, others: Iterable[Schema] = ()) -> RowKeys:
    """What a version takes beside which the schemas of others are accepted."""
    schemas = (own, *others)
    foreign = {name: dtype for schema in schemas for name, dtype in schema.dtypes.items() if name not in own.dtypes}
    optional = {name for name in own.names if any(name not in schema.dtypes for schema in schemas)}
    named_ids = dict.fromkeys(schema.id for schema in schemas if schema.id)
    ids = [name for name in named_ids if name not in own.dtypes or name == own.id]
    times = [name for name in dict.fromkeys(schema.event_time for schema in schemas) if name not in {*own.dtypes, *ids}]
    taken = {*own.dtypes, *foreign, *named_ids, *times}
    return RowKeys(
        required={name: dtype for name, dtype in own.dtypes.items() if name not in optional},
        optional={name: dtype for name, dtype in own.dtypes.items() if name in optional},
        ignored={name: dtype for name, dtype in foreign.items() if name not in {*ids, *times}},
        ids=[*ids, *({"id"} - taken)],
        times=[*times, *({"event_time"} - taken)],
    )


class RowContract:
    """What one model version takes, and how its rows are read; `others` are schemas by which clients may write rows too."""

    def __init__(self, model: Model, others: Sequence[Schema] = ()) -> None:
        schema = model.card.schema_
        self.keys = keys = row_keys(schema, others)
        columns = sorted(schema.columns, key=lambda column: _ORDER.get(column.dtype, 2))
        dtypes = {column.name: column.dtype for column in columns}
        kinds: dict[str, set[Dtype]] = {}
        for one in (column for some in (schema, *others) for column in some.columns):
            kinds.setdefault(one.name, set()).add(one.dtype)
        self._columns, self._form = tuple(dtypes), tuple(dtypes.items())
        self._others = [(place, column.dtype) for place, column in enumerate(columns) if column.dtype not in _ORDER]
        self._decoder, names = _compile(dtypes, kinds, keys)
        self._id_places, self._time_places, self._optional_places, self._ignored_places = (
            [names.index(name) for name in some] for some in (keys.ids, keys.times, keys.optional, keys.ignored)
        )
        self._retyped = [(place, dtype) for place, (name, dtype) in enumerate(dtypes.items()) if len(kinds[name]) > 1]
        self._is_union = bool(keys.optional or keys.ignored or self._retyped)
        self._names = names
        self._encoding = RowEncoding(model, dtypes)

    def decode(self, body: bytes, max_rows: int, now: datetime) -> DecodedRows:
        """The rows of a body; one without event time happens `now`.

        Raises RequestError naming row, column, value and what was expected, or ServiceError (413) for too many rows.
        """
        rows = [astuple(row) for row in self._decoder.decode(body, max_rows)]
        missing, ignored = (Counter[str](), Counter[str]()) if self._is_union else (_NO_COUNTS, _NO_COUNTS)
        if self._is_union:
            rows = [self._in_own_form(cells, missing, ignored) for cells in rows]
        ids = self._ids(rows)
        times = [self._time(cells, row) or now for row, cells in enumerate(rows)]
        if self._others:
            rows = [self._checked(cells, row) for row, cells in enumerate(rows)]
        return self.encode(ids, times, rows, missing, ignored)

    @property
    def form(self) -> tuple[tuple[str, Dtype], ...]:
        """The columns of decoded rows, in order: a contract of the same form may encode what this one has decoded."""
        return self._form

    def encode(
        self,
        ids: Sequence[str],
        times: Sequence[datetime],
        rows: Sequence[tuple[Any, ...]],
        missing: Mapping[str, int] = _NO_COUNTS,
        ignored: Mapping[str, int] = _NO_COUNTS,
    ) -> DecodedRows:
        """Decoded rows as input of this version; the counts are those of the columns that the client's form had otherwise."""
        encoded = self._encoding.encode(rows, times)
        odd = (encoded.unknown, encoded.nulls, missing, ignored)
        return DecodedRows(ids, times, rows, encoded, odd if any(odd) else ())

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
            key = next(self._names[place] for place in self._id_places if rows[row][place] is not None)
            raise self._decoder.wrong(row, key, ids[row], "an id that no other row of the request has")
        return ids

    def _id(self, cells: tuple[Any, ...], row: int) -> str:
        found = None
        for place in self._id_places:
            if (value := cells[place]) is not None:
                text = value if type(value) is str else _number_text(value)
                if not 0 < len(text) <= MAX_ID:
                    raise self._decoder.wrong(row, self._names[place], value, ID_EXPECTED)
                if found not in (None, text):
                    raise self._decoder.wrong(row, self._names[place], value, f"{found!r:.80}, the row's id by another key")
                found = text
        return found or new_id()

    def _time(self, cells: tuple[Any, ...], row: int) -> datetime | None:
        found = None
        for place in self._time_places:
            if (value := cells[place]) is not None:
                try:
                    time = parse_time(value)
                except ValueError:
                    raise self._decoder.wrong(row, self._names[place], value) from None
                if found not in (None, time):
                    raise self._decoder.wrong(row, self._names[place], value, f"{found}, the row's event time by another key")
                found = time
        return found

    def _in_own_form(self, cells: tuple[Any, ...], missing: Counter[str], ignored: Counter[str]) -> tuple[Any, ...]:
        """The row as this version's own schema has it; what another's lacks or has otherwise is null."""
        own = list(cells)
        for place in self._ignored_places:
            if cells[place] is not UNSET:
                ignored[self._names[place]] += 1
        for place in self._optional_places:
            if cells[place] is UNSET:
                own[place] = None
                missing[self._names[place]] += 1
        for place, dtype in self._retyped:
            try:
                own[place] = check_value(own[place], dtype)
            except (ValueError, OverflowError):
                own[place] = _translate(cells[place], dtype)
                missing[self._names[place]] += 1
        return tuple(own)

    def _checked(self, cells: tuple[Any, ...], row: int) -> tuple[Any, ...]:
        """The row with the values of `_others` in their contract types."""
        checked = list(cells)
        for place, dtype in self._others:
            try:
                checked[place] = check_value(cells[place], dtype)
            except (ValueError, OverflowError):
                raise self._decoder.wrong(row, self._names[place], cells[place]) from None
        return tuple(checked)


def _compile(
    dtypes: Mapping[str, Dtype], kinds: Mapping[str, Iterable[Dtype]], keys: RowKeys
) -> tuple[RowsDecoder, tuple[str, ...]]:
    """The decoder, and the keys of a row in the order of its struct."""
    ids, times = ([name for name in some if name not in dtypes] for some in (keys.ids, keys.times))
    types = {name: reduce(or_, [_TYPES[dtype] for dtype in sorted(some)]) for name, some in kinds.items()}
    fields = [
        *((name, types[name] | UnsetType, UNSET) if name in keys.optional else (name, types[name]) for name in dtypes),
        *((name, ID_TYPE | None, None) for name in ids),
        *((name, TEXT_TYPE | None, None) for name in times),
        *((name, types[name] | UnsetType, UNSET) for name in keys.ignored),
    ]
    texts = f"a text of at most {MAX_TEXT} characters"
    in_words = {
        name: " or ".join(texts if dtype == "string" else EXPECTED[dtype] for dtype in sorted(some)) + " or null"
        for name, some in kinds.items()
    }
    beside = {**dict.fromkeys(ids, ID_EXPECTED), **dict.fromkeys(times, EXPECTED["datetime"])}
    expected = {name: beside.get(name) or in_words[name] for name, *_ in fields}
    return RowsDecoder("instances", define_row("Row", fields), expected), tuple(expected)


def _translate(value: object, dtype: Dtype) -> Any:
    """A value of the type that another version has, in this one: a number is its text and the reverse, others are null."""
    try:
        if dtype == "string" and isinstance(value, int | float) and not isinstance(value, bool):
            return _number_text(value)
        return check_value(float(value), dtype) if isinstance(value, str) else None
    except (ValueError, OverflowError):
        return None


def _number_text(value: float) -> str:
    """A number as a text: 7 and 7.0 are the same."""
    return str(int(value) if isinstance(value, float) and value.is_integer() else value)


POOL = 256  # ids made at once: the operating system is asked for randomness once for all of them

_pool: list[str] = []


def new_id() -> str:
    """An id that no client and no other row has: 128 random bits, as 32 hexadecimal digits."""
    try:
        return _pool.pop()
    except IndexError:
        digits = os.urandom(16 * POOL).hex()
        _pool.extend([digits[start : start + 32] for start in range(32, len(digits), 32)])
        return digits[:32]
