"""IPC: the framing of an Arrow stream, looked at before polars reads it, because its head may promise anything.

A stream of a few bytes can announce a buffer of a terabyte, or unfold from one by compression; who allocates what it is
told ends the process. Here every length is held against the bytes that are there. Only what a table of plain columns
needs is let through. Layout: https://arrow.apache.org/docs/format/Columnar.html#ipc-streaming-format, Message.fbs and
Schema.fbs; tables inside are FlatBuffers.
"""

from collections.abc import Iterator
from struct import Struct, error

from perennial.errors import RequestError
from service.refusal import too_large

CONTINUES = 0xFFFFFFFF
"""Marks each message."""

SCHEMA, DICTIONARY, BATCH = 1, 2, 3
"""Kinds of message."""

_PREFIX, _I32, _U32, _I64, _U16, _PAIR = Struct("<II"), Struct("<i"), Struct("<I"), Struct("<q"), Struct("<H"), Struct("<qq")


def check_stream(body: bytes, max_rows: int) -> None:
    """Raise RequestError for what is not a stream of plain columns, Refused (413) for more than `max_rows` rows."""
    try:
        rows = sum(_check_message(*message, max_rows) for message in _messages(body))
    except (error, IndexError) as wrong:
        raise _not_arrow(str(wrong)) from None
    if rows > max_rows:
        raise too_large(f"{rows} rows in one request, expected at most {max_rows}: split them")
    if rows < 1:
        raise RequestError(f"the stream has no rows, expected 1 to {max_rows}")


class _Table:
    """A FlatBuffers table: fields by number, absent ones have defaults."""

    def __init__(self, data: bytes, at: int) -> None:
        if at < 0:
            raise _not_arrow("an offset is negative")
        self._data = data
        self._at = at
        self._fields = at - _I32.unpack_from(data, at)[0]
        if self._fields < 0:
            raise _not_arrow("an offset is negative")
        self._size = _U16.unpack_from(data, self._fields)[0]

    def place(self, field: int) -> int | None:
        slot = 4 + 2 * field
        offset = _U16.unpack_from(self._data, self._fields + slot)[0] if slot + 2 <= self._size else 0
        return self._at + offset if offset else None

    def small(self, field: int) -> int:
        place = self.place(field)
        return 0 if place is None else self._data[place]

    def long(self, field: int) -> int:
        place = self.place(field)
        return 0 if place is None else int(_I64.unpack_from(self._data, place)[0])

    def table(self, field: int) -> "_Table":
        place = self.place(field)
        if place is None:
            raise _not_arrow("a part is missing")
        return _Table(self._data, place + _U32.unpack_from(self._data, place)[0])

    def vector(self, field: int, width: int) -> range:
        """Places of the elements, each of `width` bytes."""
        place = self.place(field)
        if place is None:
            return range(0)
        start = place + _U32.unpack_from(self._data, place)[0]
        count = _U32.unpack_from(self._data, start)[0]
        if start + 4 + count * width > len(self._data):
            raise _not_arrow("a list is longer than its message")
        return range(start + 4, start + 4 + count * width, width)

    def tables(self, field: int) -> Iterator["_Table"]:
        for place in self.vector(field, 4):
            yield _Table(self._data, place + _U32.unpack_from(self._data, place)[0])

    def pairs(self, field: int) -> Iterator[tuple[int, int]]:
        return (_PAIR.unpack_from(self._data, place) for place in self.vector(field, 16))


def _messages(body: bytes) -> Iterator[tuple[int, _Table, int]]:
    """Kind, header and length of the data of each message."""
    at = 0
    while at < len(body):
        mark, size = _PREFIX.unpack_from(body, at)
        if mark != CONTINUES:
            raise _not_arrow("a message begins otherwise")
        if size == 0:
            return
        if size > len(body) - at - _PREFIX.size:
            raise _not_arrow("a message is longer than the body")
        head = body[at + _PREFIX.size : at + _PREFIX.size + size]
        message = _Table(head, _U32.unpack_from(head, 0)[0])
        data = message.long(3)
        at += _PREFIX.size + size + data
        if data < 0 or at > len(body):
            raise _not_arrow("a message is longer than the body")
        yield message.small(1), message.table(2), data


def _check_message(kind: int, header: _Table, size: int, max_rows: int) -> int:
    """Rows of this message."""
    match kind:
        case 1:
            for column in header.tables(1):
                if column.vector(5, 4):
                    raise RequestError("a column holds lists or structs, expected plain columns")
            return 0
        case 2:
            _check_batch(header.table(1), size, most=size)
            return 0
        case 3:
            return _check_batch(header, size, most=max_rows)
        case _:
            raise _not_arrow(f"a message is of kind {kind}")


def _check_batch(batch: _Table, size: int, most: int) -> int:
    if batch.place(3) is not None:
        raise RequestError("the stream is compressed, expected it as it is")
    if any(offset < 0 or length < 0 or offset + length > size for offset, length in batch.pairs(2)):
        raise _not_arrow("a buffer lies outside its message")
    rows = batch.long(0)
    if rows > most:
        raise too_large(f"{rows} rows in one request, expected at most {most}: split them")
    if rows < 0 or any(not 0 <= length <= rows for length, _ in batch.pairs(1)):
        raise _not_arrow("a column is longer than its batch")
    return rows


def _not_arrow(why: str) -> RequestError:
    return RequestError(f"the body is not an Arrow IPC stream ({why:.80})")
