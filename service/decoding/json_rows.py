"""JSON bodies of the form `{"instances": [row, ...]}`: decoded and checked by msgspec in one pass, explained when wrong.

The type of a row is a msgspec struct, so that a body becomes checked values without a dict in between, and one that is nested,
or has a million objects of another form, ends at its first wrong byte. Of a key that stands twice the last value counts, as in
every JSON reader. Only a body that was refused is looked at a second time, to name row, column, value and what was expected:
msgspec's message says where (`tests/service/decoding/test_json_rows.py` holds its wording).
"""

import json
import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import msgspec

from perennial.errors import PerennialError, RequestError
from service.errors import too_large

MAX_TEXT = 65_536  # characters of one text: a category is a word; what is longer is a document, and would go into the log as one
MAX_NAME = 80  # characters of a client's column name that a message repeats
MAX_ROW = 262_144  # bytes of a row in which a refused value is looked for

_BYTE = re.compile(r"\(byte (\d+)\)")
_KEY = re.compile(r'"((?:[^"\\]|\\.){1,80})"\s*:')
_PLACE = re.compile(r"(?s).* - at `\$\.(?P<key>\w+)(?:\[(?P<row>\d+)\])?(?:\.(?P<column>.*))?`")
_FIELD = re.compile(r"(?s)Object (contains unknown|missing required) field `(.*?)`(?: - at `\$\.\w+\[\d+\]`)?\Z")
_KINDS = {"array": "a list", "object": "an object", "str": "a text", "int": "a number", "float": "a number", "bool": "a Boolean"}


class RowsDecoder:
    """Decodes bodies whose only key is `key` and whose rows are of one struct type; safe to share between threads.

    `expected` says by column what it takes, for messages; every column a row may have is in it.
    """

    def __init__(self, key: str, row: type[msgspec.Struct], expected: Mapping[str, str]) -> None:
        self._key = key
        self._expected = expected
        self._alias = {name: alias for place, name in enumerate(expected) if (alias := alias_of(name, place)) != name}
        self._body = _body_type(key, list[row])  # type: ignore[valid-type]
        self._decoder = msgspec.json.Decoder(self._body)
        self._counter = msgspec.json.Decoder(_body_type(key, list[_Anything]))
        self._splitter = msgspec.json.Decoder(_body_type(key, list[msgspec.Raw]))

    def decode(self, body: bytes, max_rows: int) -> Sequence[msgspec.Struct]:
        """The rows of a body; raises RequestError naming what is wrong and where, or ServiceError (413)."""
        try:
            found = self._decoder.decode(body) if not self._alias else self._decode_renamed(body)
        except msgspec.ValidationError as error:
            raise self._explain(str(error), body, max_rows) from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise _not_json(error, body) from None
        rows: Sequence[msgspec.Struct] = getattr(found, self._key)
        if not 0 < len(rows) <= max_rows:
            raise self._wrong_count(len(rows), max_rows)
        return rows

    def wrong(self, row: int, column: str, value: object, expected: str | None = None) -> RequestError:
        """The error of a value that its struct let through and a closer look does not."""
        message = f"row {row}, column {column!r:.80}: {show(value)}, expected {expected or self._expected[column]}"
        return RequestError(message, row=row, column=column[:MAX_NAME])

    def _decode_renamed(self, body: bytes) -> Any:
        raw = msgspec.json.decode(body)
        rows = raw.get(self._key) if isinstance(raw, dict) else None
        if isinstance(rows, list):
            own = self._alias.get
            renamed = [{own(name, name): cell for name, cell in row.items()} if isinstance(row, dict) else row for row in rows]
            raw = {**raw, self._key: renamed}
        return msgspec.convert(raw, self._body)

    def _explain(self, message: str, body: bytes, max_rows: int) -> PerennialError:
        found = _PLACE.fullmatch(message)
        if found is None or found["row"] is None:
            return self._wrong_envelope(message, body, max_rows)
        if (count := self._count(body)) > max_rows:
            return self._wrong_count(count, max_rows)
        row, column = int(found["row"]), found["column"]
        if column is not None:
            name = self._own_name(column)
            return self.wrong(row, name, self._cell(body, row, name) if count else _UNSEEN)
        if field := _FIELD.match(message):
            return self._wrong_shape(row, self._own_name(field[2]), unknown=field[1] == "contains unknown")
        return RequestError(f"{self._key}[{row}] is {_kind(message)}, expected an object of column: value", row=row)

    def _wrong_envelope(self, message: str, body: bytes, max_rows: int) -> RequestError:
        key, field = self._key, _FIELD.match(message)
        if "`$." in message:
            return RequestError(f"{key!r} is {_kind(message)}, expected a list of 1 to {max_rows} objects", column=key)
        if field and field[1] == "contains unknown" and f'"{key}"'.encode() in body:
            other = field[2][:MAX_NAME]
            return RequestError(f"key {other!r} is unknown beside {key!r}: a row's columns belong inside {key!r}", column=other)
        what = f"an object without {key!r}" if field else _kind(message)
        return RequestError(f'the body is {what}, expected an object {{"{key}": [...]}}', column=key)

    def _wrong_count(self, count: int, max_rows: int) -> PerennialError:
        if count > max_rows:
            return too_large(f"{count} rows in one request, expected at most {max_rows}: split them")
        return RequestError(f"{self._key!r} is a list of 0, expected a list of 1 to {max_rows} objects", column=self._key)

    def _wrong_shape(self, row: int, column: str, *, unknown: bool) -> RequestError:
        if not unknown:
            message = f"row {row}: column {column!r} is missing, expected {self._expected[column]}"
        else:
            near = get_close_matches(column[:MAX_NAME], self._expected, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"expected {', '.join(self._expected):.200}"
            message = f"row {row}: unknown column {column[:MAX_NAME]!r}; {hint}"
        return RequestError(message, row=row, column=column[:MAX_NAME])

    def _count(self, body: bytes) -> int:
        """Rows of a body that was refused, without making them; 0 when they are no objects."""
        try:
            return len(getattr(self._counter.decode(body), self._key))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return 0

    def _cell(self, body: bytes, row: int, column: str) -> object:
        """A value that was refused, in a body whose rows are all objects."""
        raw = getattr(self._splitter.decode(body), self._key)[row]
        try:
            cells = json.loads(bytes(raw)) if len(raw) <= MAX_ROW else {}
        except (ValueError, RecursionError):  # such as a whole number of more digits than Python reads
            cells = {}
        return cells.get(column, _UNSEEN)

    def _own_name(self, name: str) -> str:
        return next((own for own, alias in self._alias.items() if alias == name), name)


def define_row(name: str, columns: Sequence[tuple[Any, ...]]) -> type[msgspec.Struct]:
    """A struct type of columns, each (name, type) or (name, type, default), in this order; they may have any name."""
    fields = [(f"f{place}", *rest) for place, (_, *rest) in enumerate(columns)]
    names = {f"f{place}": alias_of(column, place) for place, (column, *_) in enumerate(columns)}
    return msgspec.defstruct(name, fields, rename=names, kw_only=True, forbid_unknown_fields=True, gc=False)


def alias_of(column: str, place: int) -> str:
    """The name under which a column is decoded: its own, unless msgspec takes none with a quote or a control character."""
    odd = column.startswith("column ") or any(letter in '"\\' or letter < " " for letter in column)
    return f"column {place}" if odd else column


def show(value: object) -> str:
    """A client's value, short: what a container holds is not repeated."""
    if value is _UNSEEN:
        return "a value too long to show"
    if isinstance(value, list | dict):
        return f"{'a list' if isinstance(value, list) else 'an object'} of {len(value)}"
    return f"{value!r:.80}"


_UNSEEN = object()  # stands for a value that a message cannot repeat


class _Anything(msgspec.Struct, gc=False):
    """A row of which only its being there counts."""


def _body_type(key: str, rows: Any) -> type[msgspec.Struct]:
    return msgspec.defstruct("Body", [(key, rows)], forbid_unknown_fields=True)


def _kind(message: str) -> str:
    """What msgspec found, in the words of JSON."""
    found = message.partition("got `")[2].partition("`")[0]
    return _KINDS.get(found, found or "another value")


def _not_json(error: Exception, body: bytes) -> RequestError:
    place = _BYTE.search(str(error))
    column = _key_before(body, int(place[1])) if place else _key_before(body, len(body))
    near = f", after key {column!r}" if column else ""
    return RequestError(f"the body is not JSON ({error!s:.100}{near})", column=column)


def _key_before(body: bytes, position: int) -> str | None:
    """The last key before a place in the body."""
    keys = _KEY.findall(body[max(0, position - 400) : position].decode(errors="replace"))
    return keys[-1] if keys else None
