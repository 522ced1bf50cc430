"""JSON bodies: what is in order is read as it is; what is wrong is named with row, column, value and what was expected."""

import json
import tracemalloc
from contextlib import suppress
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import astuple

from perennial.errors import PerennialError, RequestError
from service.decoding.json_rows import MAX_TEXT, RowsDecoder, define_row
from service.errors import ServiceError

EXPECTED = {"amount": "a finite number or null", "shop": "a text or null", "id": "an id"}
DECODER = RowsDecoder(
    "instances", define_row("Row", [("amount", float | None), ("shop", str | None), ("id", str | int | None, None)]), EXPECTED
)
GOOD = {"amount": 1.5, "shop": "north"}
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)
CELLS = st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53)


def body(*rows: Any) -> bytes:
    return orjson.dumps({"instances": rows})


def refused(sent: bytes, max_rows: int = 10) -> Any:
    with pytest.raises(PerennialError) as caught:
        DECODER.decode(sent, max_rows)
    assert len(str(caught.value)) < 400
    return caught.value


@given(st.lists(st.fixed_dictionaries({"amount": CELLS, "shop": st.none() | st.text(max_size=9)}), min_size=1, max_size=6))
def test_what_is_in_order_is_read_as_it_is(rows: list[dict[str, Any]]) -> None:
    sent = json.dumps({"instances": rows}, ensure_ascii=True, indent=1) if rows[0]["amount"] else body(*rows).decode()
    with suppress(UnicodeEncodeError):  # half a surrogate pair is no text
        read = DECODER.decode(sent.encode(), 10)
        assert [astuple(row) for row in read] == [(row["amount"], row["shop"], None) for row in rows]


@given(st.lists(NAMES, min_size=1, max_size=4, unique=True), st.lists(CELLS, min_size=4, max_size=4))
def test_a_column_may_have_any_name(names: list[str], cells: list[Any]) -> None:
    expected = dict.fromkeys(names, "a finite number or null")
    decoder = RowsDecoder("instances", define_row("Row", [(name, float | None) for name in names]), expected)
    row = dict(zip(names, cells, strict=False))
    (read,) = decoder.decode(body(row), 10)
    assert list(astuple(read)) == list(row.values())
    with pytest.raises(RequestError) as caught:
        decoder.decode(body(row, {**row, names[-1]: "wrong"}), 10)
    assert (caught.value.row, caught.value.column) == (1, names[-1])
    assert "'wrong', expected a finite number or null" in str(caught.value)


@pytest.mark.parametrize(
    ("row", "column", "message"),
    [
        ({**GOOD, "amount": "1.5"}, "amount", "row 1, column 'amount': '1.5', expected a finite number or null"),
        ({**GOOD, "amount": True}, "amount", "True, expected a finite number"),
        ({**GOOD, "amount": [1.5]}, "amount", "a list of 1, expected a finite number"),
        ({**GOOD, "shop": 7}, "shop", "7, expected a text or null"),
        ({**GOOD, "shop": {"name": "north"}}, "shop", "an object of 1, expected a text or null"),
        ({**GOOD, "id": 1.5}, "id", "1.5, expected an id"),
        ({**GOOD, "amout": 1}, "amout", "row 1: unknown column 'amout'; did you mean 'amount'?"),
        ({**GOOD, "zzz": 1}, "zzz", "row 1: unknown column 'zzz'; expected amount, shop, id"),
        ({"amount": 1}, "shop", "row 1: column 'shop' is missing, expected a text or null"),
        ({"amount": 1, "shoq": "a"}, "shoq", "unknown column 'shoq'; did you mean 'shop'?"),
    ],
)
def test_a_wrong_row_is_named_with_column_value_and_expectation(row: Any, column: str, message: str) -> None:
    """This also holds the wording of msgspec's messages, from which row and column are read."""
    error = refused(body(GOOD, row))
    assert (error.row, error.column) == (1, column)
    assert message in str(error)


@pytest.mark.parametrize(
    ("sent", "message", "column"),
    [
        (b"", "not JSON", None),
        (b'{"instances": [', "not JSON", "instances"),
        (b'{"instances": [{"amount": 1, "shop": "north",}]}', "not JSON", "shop"),
        (b'\xff{"instances": []}', "not JSON", None),
        (b"[]", "the body is a list, expected an object", "instances"),
        (b"null", "the body is null, expected an object", "instances"),
        (b"17", "the body is a number, expected an object", "instances"),
        (b"{}", "the body is an object without 'instances'", "instances"),
        (b'{"rows": []}', "the body is an object without 'instances'", "instances"),
        (b'{"instances": []}', "'instances' is a list of 0, expected a list of 1 to 10 objects", "instances"),
        (b'{"instances": {"amount": 1}}', "'instances' is an object, expected a list", "instances"),
        (b'{"instances": [1]}', "instances[0] is a number, expected an object of column: value", None),
        (body(GOOD)[:-1] + b', "parameters": {}}', "key 'parameters' is unknown beside 'instances'", "parameters"),
        (b"[" * 100_000, "the body is a list", "instances"),
        (b'{"instances": ' + b"[" * 100_000, "instances[0] is a list", None),
        (b'{"instances": [{"amount": 1, "shop": ' + b"[" * 100_000, "a value too long to show, expected a text", "shop"),
    ],
)
def test_a_wrong_envelope_says_what_was_expected(sent: bytes, message: str, column: str | None) -> None:
    error = refused(sent)
    assert message in str(error)
    assert error.column == column


HUGE = [b"1" + b"0" * zeros for zeros in (400, 5_000, 1_000_000)]


@pytest.mark.parametrize("cell", [b"NaN", b"Infinity", b"-Infinity", b"1e400", *HUGE])
def test_numbers_that_are_none_are_named(cell: bytes) -> None:
    error = refused(b'{"instances": [{"shop": "north", "amount": ' + cell + b"}]}")
    assert error.column == "amount"


def test_the_column_is_named_where_letters_take_many_bytes() -> None:
    error = refused('{"instances": [{"shop": "ééééééééééééé", "amount": NaN}]}'.encode())
    assert error.column == "amount"


def test_too_many_rows_are_too_large_whatever_is_in_them() -> None:
    for sent in (body(*[GOOD] * 11), body(*[{}] * 11), body(*[{"amount": "x"}] * 11)):
        error = refused(sent)
        assert (error.status, str(error)) == (413, "11 rows in one request, expected at most 10: split them")


def test_a_value_in_a_row_too_long_to_repeat_is_named_all_the_same() -> None:
    error = refused(body(GOOD, {"amount": "x" * 10_000_000, "shop": "a"}))
    assert (error.row, error.column) == (1, "amount")
    error = refused(body({"x" * 10_000_000: 1}))
    assert (error.row, error.column) == (0, "x" * 80)


def test_a_text_of_the_allowed_length_is_named_in_full_rows() -> None:
    assert DECODER.decode(body({**GOOD, "shop": "x" * MAX_TEXT}), 10)


def test_of_a_key_that_stands_twice_the_last_value_counts() -> None:
    (row,) = DECODER.decode(b'{"instances": [{"amount": 1, "shop": "north", "amount": 2}]}', 10)
    assert row.f0 == 2


@pytest.mark.parametrize("part", [b"[],", b'{"a":[]},', b'{"amount":[[],[]]},', b"1,"])
def test_a_body_of_another_form_is_never_built(part: bytes) -> None:
    """Python's objects take twenty times the bytes of `[],[],[]`; here the first one ends the decoding."""
    sent = b'{"instances": [' + part * 500_000 + b"{}]}"
    tracemalloc.start()
    try:
        refused(sent)
        assert tracemalloc.get_traced_memory()[1] < 5 * len(sent)
    finally:
        tracemalloc.stop()


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(sent: bytes) -> None:
    with suppress(RequestError, ServiceError):
        DECODER.decode(sent, 10)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(ANYTHING)
def test_no_json_value_is_an_error_of_ours(value: Any) -> None:
    for sent in ({"instances": value}, {"instances": [value]}, {"instances": [{**GOOD, "id": value, "shop": value}]}, value):
        with suppress(RequestError, ServiceError):
            DECODER.decode(json.dumps(sent).encode(), 10)
