"""The shape of a body: what is too deep, too many, too long, there twice or no JSON is refused, and named."""

import json
from contextlib import suppress
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perennial.errors import PerennialError, RequestError
from service.refusal import Refused, status_of
from service.shape import DEEPEST, LONGEST, SMALL, read_json

TEXTS = st.text(alphabet='[]{}":,\\ a\u00e9\u2028', max_size=12)
ROWS = st.lists(st.dictionaries(TEXTS, st.none() | st.integers(-5, 5) | TEXTS, max_size=4), max_size=6)


def rows(*given_rows: Any) -> bytes:
    return orjson.dumps({"instances": given_rows})


def refused(body: bytes, max_rows: int = 10) -> PerennialError:
    with pytest.raises(PerennialError) as caught:
        read_json(body, max_rows)
    assert len(str(caught.value)) < 300
    return caught.value


@given(ROWS, st.sampled_from([None, 2]), st.booleans())
def test_what_is_flat_is_read_as_it_is(given_rows: list[dict[str, Any]], indent: int | None, ascii_only: bool) -> None:
    body = {"instances": given_rows}
    assert read_json(json.dumps(body, indent=indent, ensure_ascii=ascii_only).encode(), 10) == body


@given(st.integers(1, 60), TEXTS, st.sampled_from(["[%s]", '{"a": %s}', '[{"]": %s}]', '["]]]]", %s]', '{"}": 1, "[": %s}']))
def test_only_what_is_too_deep_is_refused_whatever_texts_hold(levels: int, text: str, wrap: str) -> None:
    body = json.dumps(text)
    for _ in range(levels):
        body = wrap % body
    try:
        assert read_json(body.encode(), 1_000) == json.loads(body)
    except RequestError as error:
        message = str(error)
        assert message == f"the body is nested {depth_of(json.loads(body))} levels deep, expected at most {DEEPEST}"


@pytest.mark.parametrize(("before", "after"), [(b"[", b"]"), (b'{"a": ', b"}")])
def test_the_deepest_body_is_read_and_one_level_more_is_not(before: bytes, after: bytes) -> None:
    assert read_json(before * DEEPEST + b"1" + after * DEEPEST, 10)
    assert "17 levels" in str(refused(before * (DEEPEST + 1) + b"1" + after * (DEEPEST + 1)))


def depth_of(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth_of, inner), default=0)


def test_a_body_that_is_too_deep_names_the_column_where_it_gets_so() -> None:
    error = refused(b'{"instances": [{"amount": 1, "shop": ' + b"[" * 40 + b"]" * 40 + b"}]}")
    assert isinstance(error, RequestError)
    assert (str(error), error.column) == ("the body is nested 43 levels deep, expected at most 16", "shop")


@pytest.mark.parametrize("part", [b"[],", b"{},", b'{"a":[]},', b'{"a":"]}"},'])
def test_more_lists_and_objects_than_rows_could_need_are_not_made(part: bytes) -> None:
    error = refused(b'{"instances": [' + part * 500_000 + b"{}]}")
    assert status_of(error) == 413
    assert "lists and objects, expected at most 84" in str(error)


@pytest.mark.parametrize("text", ["x" * (LONGEST + 1), '"' * (LONGEST + 1), "\\" * (LONGEST + 1), "é" * (LONGEST + 1)])
def test_a_long_value_is_named_with_row_and_column(text: str) -> None:
    error = refused(rows({"shop": "north"}, {"amount": 1, "shop": text}))
    assert isinstance(error, RequestError)
    assert (error.row, error.column) == (1, "shop")
    assert "expected at most 65536" in str(error)


def test_many_short_values_are_no_long_one() -> None:
    body = rows(*({"shop": 'a "quoted" \\ name' * 100} for _ in range(200)))
    assert len(read_json(body, 200)["instances"]) == 200


@pytest.mark.parametrize(
    ("body", "column"),
    [
        (b'{"instances": [{"amount": 1, "shop": "a", "amount": 2}]}', "amount"),
        (b'{"instances": [{"id": "a"}], "instances": []}', "instances"),
        (b'{"instances": [{"amount":1,"\\u0061mount":2}]}', "amount"),
    ],
)
def test_a_key_that_is_there_twice_is_named(body: bytes, column: str) -> None:
    error = refused(body)
    assert isinstance(error, RequestError)
    assert error.column == column
    assert "twice" in str(error)


def test_texts_that_look_like_keys_are_none() -> None:
    given_rows = [{"shop": ":", "a": '":"', '":': ":::", "b": '{"b":1}'}] * 3
    assert read_json(rows(*given_rows), 10)["instances"] == given_rows


def test_a_large_body_is_not_searched_for_repeated_keys() -> None:
    body = b'{"instances": [{"amount": 1, "amount": 2, "shop": "' + b" " * 60_000 + b'"},' + b" " * SMALL + b'{"amount": 3}]}'
    assert read_json(body, 10)["instances"][0]["amount"] == 2


@pytest.mark.parametrize(
    ("cell", "column"),
    [(b"NaN", "amount"), (b"Infinity", "amount"), (b"-Infinity", "amount"), (b"1e400", "amount"), (b"1" + b"0" * 400, "amount")],
)
def test_numbers_that_json_has_not_are_named(cell: bytes, column: str) -> None:
    error = refused(b'{"instances": [{"shop": "north", "amount": ' + cell + b"}]}")
    assert isinstance(error, RequestError)
    assert error.column == column
    assert "not JSON" in str(error)


def test_the_column_is_named_where_letters_take_many_bytes() -> None:
    error = refused('{"instances": [{"läden": "ééééééééééééé", "größe": NaN}]}'.encode())
    assert isinstance(error, RequestError)
    assert error.column == "größe"


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    with suppress(RequestError, Refused):
        read_json(body, 10)
