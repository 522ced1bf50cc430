"""Requests: every way to be wrong is named with its row, column, value and what was expected."""

from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perennial.errors import RequestError
from perennial.schema import Column, Schema
from service.refusal import Refused, status_of
from service.requests import Instances, parse_instances, parse_labels

NOW = datetime(2024, 3, 1, 12, tzinfo=UTC)
SCHEMA = Schema(
    columns=(Column(name="amount", kind="numeric", dtype="float"),), target="outcome", event_time="asked_at", id="row_id"
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
"""Any JSON value."""


def read(*rows: Any) -> Instances:
    return parse_instances(orjson.dumps({"instances": rows}), 10, SCHEMA, NOW)


def labels(*given_rows: Any, task: Any = "binary") -> Any:
    return parse_labels(orjson.dumps({"labels": given_rows}), 10, "small", task, NOW)


def test_ids_are_kept_and_given_where_they_are_absent() -> None:
    ids = read({"id": "a"}, {"id": 7}, {"row_id": "b"}, {}, {"id": None}).ids
    assert ids[:3] == ("a", "7", "b")
    assert len(set(ids)) == 5


def test_times_are_read_as_utc_and_default_to_now() -> None:
    sent = ("2024-02-01T10:00:00", "2024-02-01T10:00:00Z", "2024-02-01T10:00:00+02:00", "2024-02-01")
    read_ = read(*({"event_time": time} for time in sent), {}, {"asked_at": "2024-02-01T10:00:00"}).event_times
    assert [time.hour for time in read_] == [10, 10, 8, 0, 12, 10]
    assert all(time.tzinfo is UTC for time in read_)


def test_only_input_columns_are_left_in_a_row() -> None:
    (row,) = read({"id": "a", "row_id": None, "event_time": None, "asked_at": None, "amount": 1, "other": 2}).rows
    assert row == {"amount": 1, "other": 2}


def test_an_input_that_is_called_id_stays_an_input() -> None:
    schema = SCHEMA.model_copy(update={"columns": (*SCHEMA.columns, Column(name="id", kind="categorical", dtype="string"))})
    instances = parse_instances(b'{"instances": [{"id": "a", "amount": 1}]}', 10, schema, NOW)
    assert instances.ids == ("a",)
    assert instances.rows == ({"id": "a", "amount": 1},)


@pytest.mark.parametrize(
    ("row", "column", "message"),
    [
        ({"id": ""}, "id", "row 1, column 'id': '', expected a text of 1 to 256 characters or a whole number"),
        ({"id": "x" * 257}, "id", "expected a text of 1 to 256"),
        ({"id": True}, "id", "True, expected a text"),
        ({"id": 1.5}, "id", "1.5, expected a text"),
        ({"id": ["x"]}, "id", "a list of 1, expected a text"),
        ({"id": "first"}, "id", "'first', expected an id that no other row of the request has"),
        ({"event_time": "yesterday"}, "event_time", "row 1, column 'event_time': 'yesterday', expected a time in ISO 8601"),
        ({"event_time": 1709251200}, "event_time", "1709251200, expected a time"),
        ({"event_time": "0001-01-01T00:00:00+23:00"}, "event_time", "expected a time"),
        ({"asked_at": {}}, "asked_at", "an object of 0, expected a time"),
    ],
)
def test_a_wrong_row_is_named_with_column_value_and_expectation(row: dict[str, Any], column: str, message: str) -> None:
    with pytest.raises(RequestError) as caught:
        read({"id": "first"}, row)
    assert (caught.value.row, caught.value.column) == (1, column)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "not JSON"),
        (b'{"instances": [', "not JSON"),
        (b'{"instances": [{"amount": NaN}]}', "not JSON"),
        (b'{"instances": [{"amount": 1e999}]}', "not JSON"),
        (b'\xff{"instances": []}', "not JSON"),
        (b"[" * 5_000, "levels deep, expected at most 16"),
        (b"[]", "the body is a list of 0, expected an object"),
        (b"null", "the body is None"),
        (b"{}", "the body is an object of 0"),
        (b'{"instances": []}', "'instances' is a list of 0, expected a list of 1 to 10 objects"),
        (b'{"instances": {"amount": 1}}', "'instances' is an object of 1, expected a list"),
        (b'{"instances": [1]}', r"instances[0] is 1, expected an object of column: value"),
        (b'{"instances": [{}], "parameters": {}}', "key 'parameters' is unknown beside 'instances'"),
    ],
)
def test_a_wrong_envelope_says_what_was_expected(body: bytes, message: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_instances(body, 10, SCHEMA, NOW)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 400


def test_too_many_rows_are_too_large() -> None:
    with pytest.raises(Refused, match="11 rows in one request, expected at most 10") as caught:
        read(*[{}] * 11)
    assert status_of(caught.value) == 413


@pytest.mark.parametrize(
    ("task", "good", "kept"),
    [
        ("binary", [True, False, 0, 1, 1.0], (True, False, False, True, True)),
        ("multiclass", ["a", 3], ("a", "3")),
        ("regression", [-1, 2.5], (-1.0, 2.5)),
    ],
)
def test_labels_of_the_task_are_taken_as_they_are_stored(task: str, good: list[Any], kept: tuple[Any, ...]) -> None:
    batch = labels(*({"id": number, "label": label} for number, label in enumerate(good)), task=task)
    assert batch.labels == kept
    assert [type(label) for label in batch.labels] == [type(label) for label in kept]
    assert batch.received_at == NOW
    assert set(batch.event_times) == {None}


@pytest.mark.parametrize(
    ("task", "row", "column"),
    [
        ("binary", {"id": "a", "label": 2}, "label"),
        ("binary", {"id": "a", "label": "true"}, "label"),
        ("binary", {"id": "a", "label": 0.5}, "label"),
        ("regression", {"id": "a", "label": True}, "label"),
        ("regression", {"id": "a", "label": "1"}, "label"),
        ("multiclass", {"id": "a", "label": ""}, "label"),
        ("multiclass", {"id": "a", "label": ["a"]}, "label"),
        ("binary", {"id": "a"}, "label"),
        ("binary", {"id": "a", "label": None}, "label"),
        ("binary", {"label": 1}, "id"),
        ("binary", {"id": "a", "label": 1, "event_time": "x"}, "event_time"),
        ("binary", {"id": "a", "lable": 1}, "lable"),
    ],
)
def test_a_wrong_label_is_named(task: str, row: dict[str, Any], column: str) -> None:
    with pytest.raises(RequestError) as caught:
        labels({"id": "first", "label": "x" if task == "multiclass" else 1}, row, task=task)
    assert (caught.value.row, caught.value.column) == (1, column)


@given(ANYTHING)
def test_no_json_value_is_an_error_of_ours(value: Any) -> None:
    for body in ({"instances": value}, {"instances": [value]}, {"instances": [{"id": value, "event_time": value}]}, value):
        with suppress(RequestError, Refused):
            parse_instances(orjson.dumps(body), 10, SCHEMA, NOW)


@given(ANYTHING, st.sampled_from(["binary", "multiclass", "regression"]))
def test_no_json_label_is_an_error_of_ours(value: Any, task: Any) -> None:
    with suppress(RequestError, Refused):
        labels({"id": "a", "label": value, "event_time": value}, task=task)


@given(st.binary(max_size=200))
def test_no_bytes_are_an_error_of_ours(body: bytes) -> None:
    with pytest.raises((RequestError, Refused)):
        parse_instances(body, 10, SCHEMA, NOW)
