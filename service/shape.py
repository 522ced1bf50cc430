"""Shape: a JSON body is measured before it is decoded, and refused by name when it is none.

What is measured cannot be hidden from: brackets and quotes are counted on the bytes, in passes that run at the speed of
memory, and only a body that looks odd is looked at closely. Python's objects take twenty times the bytes of `[],[],[]`.
"""

import json
import re
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import orjson

from perennial.errors import RequestError
from service.refusal import too_large

DEEPEST = 16
"""Levels of a body: a list of rows in an object has three, and what a client nests by mistake is still named by its column."""

LONGEST = 65_536
"""Characters of one value: a category is a word; what is longer is a document, and would go into the log as one."""

SPARE = 64
"""Lists and objects that a body may have beyond two for every row it may have."""

SMALL = 262_144
"""Bytes up to which repeated keys are looked for: beyond a thousand rows the look costs what a row's prediction does."""

_BESIDE_BRACKETS = bytes(set(range(256)).difference(b"[]{}"))
_BESIDE_MARKS = bytes(set(range(256)).difference(b'[]{}"'))
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_KEY = re.compile(r'"((?:[^"\\]|\\.){1,80})"\s*:')


def read_json(body: bytes, max_rows: int) -> Any:
    """The value of a body; raises RequestError naming the column where it can, or Refused (413)."""
    _refuse_overgrown(body, max_rows)
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        column = _key_before(body, error.pos)
        near = f", after key {column!r}" if column else ""
        raise RequestError(f"the body is not JSON ({error}{near})", column=column) from None
    if _may_have_long_value(body):
        _refuse_long(value)
    if len(body) <= SMALL and _may_repeat_keys(body, _count_keys(value)):
        _refuse_repeated(body)
    return value


def _refuse_overgrown(body: bytes, max_rows: int) -> None:
    brackets = body.translate(None, _BESIDE_BRACKETS)
    most = 2 * max_rows + SPARE
    # Rows are objects without brackets inside: what is left of an ordinary body is the list and the object around them.
    if len(brackets) <= 2 * most and len(brackets.replace(b"{}", b"")) <= DEEPEST:
        return
    marks = _without_texts(body)
    if (levels := _depth(marks[: 2 * most])) > DEEPEST:
        raise RequestError(f"the body is nested {levels} levels deep, expected at most {DEEPEST}", column=_deep_key(body))
    opened = marks.count(b"[") + marks.count(b"{")
    if opened > most:
        raise too_large(f"the body has {opened} lists and objects, expected at most {most}: send fewer rows at once")


def _depth(marks: bytes) -> int:
    return max(accumulate(memoryview(marks.translate(_STEPS)).cast("b")), default=0)


def _without_texts(body: bytes) -> bytes:
    """The brackets of a body that are not inside a text."""
    if b"\\" in body:
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    marks = body.translate(None, _BESIDE_MARKS).replace(b'""', b"")
    return b"".join(marks.split(b'"')[::2])


def _deep_key(body: bytes) -> str | None:
    """The key under which a body gets too deep: the last one before the first long run of brackets."""
    run = re.search(rb"(?:[\[{]\s*){4}", body)
    return _key_before(body, run.start()) if run else None


def _may_have_long_value(body: bytes) -> bool:
    """Whether some stretch of LONGEST bytes has no quote in it; looks at one byte in thousands."""
    position = 0
    while position + LONGEST < len(body):
        found = body.rfind(b'"', position, position + LONGEST)
        if found < 0:
            return True
        if body[found - 1 : found] == b"\\":  # perhaps inside a text: a close look decides
            return True
        position = found + 1
    return False


def _refuse_long(value: Any) -> None:
    for row, cells in enumerate(_rows(value)):
        for column, cell in cells.items():
            longest = max(len(column), len(cell) if isinstance(cell, str) else 0)
            if longest > LONGEST:
                raise too_long(row, column, longest)


def too_long(row: int, column: str, size: int) -> RequestError:
    """A name or a cell that is a document."""
    message = f"row {row}, column {column!r:.80}: a text of {size} characters, expected at most {LONGEST}"
    return RequestError(message, row=row, column=column)


def _count_keys(value: Any) -> int:
    own = len(value) if isinstance(value, dict) else 0
    return own + sum(map(len, _rows(value)))


def _rows(value: Any) -> Sequence[dict[str, Any]]:
    inner = next(iter(value.values()), None) if isinstance(value, dict) else None
    return [row for row in inner if isinstance(row, dict)] if isinstance(inner, list) else []


def _may_repeat_keys(body: bytes, keys: int) -> bool:
    """Whether there are more colons than keys; texts may hold some, hardly one that stands where a key's does."""
    return body.count(b":") != keys and body.count(b'":') != keys


def _refuse_repeated(body: bytes) -> None:
    """Decoders keep the last of two equal keys, so a client would get the answer to half of what it said."""

    def once(pairs: list[tuple[str, object]]) -> None:
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise RequestError(f"key {key!r:.80} is there twice in one object, expected once", column=key)
            seen.add(key)

    json.loads(body, object_pairs_hook=once, parse_int=str)


def _key_before(body: bytes, position: int) -> str | None:
    """The last key before a place in the body, counted in characters."""
    before = body.decode("utf-8", errors="replace")[max(0, position - 400) : position]
    keys = _KEY.findall(before)
    return keys[-1] if keys else None
