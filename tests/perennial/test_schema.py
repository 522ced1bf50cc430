"""The schema: inferred from a training table, kept by every table and request afterwards."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import polars as pl
import pytest

from perennial.errors import DataError
from perennial.schema import Column, Schema, cast_frame, infer_schema
from perennial.spec import ModelSpec, parse_spec

NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)
SCHEMA = Schema(
    columns=(
        Column(name="amount", kind="numeric", dtype="float"),
        Column(name="gate", kind="categorical", dtype="int"),
        Column(name="express", kind="numeric", dtype="bool"),
        Column(name="shop", kind="categorical", dtype="string"),
        Column(name="opened", kind="numeric", dtype="datetime"),
    ),
    target="late",
    event_time="asked_at",
    id=None,
)
ROW = {"amount": 1.5, "gate": 3, "express": True, "shop": "north", "opened": "2024-01-01T12:00:00Z"}


def spec_of(**features: Any) -> ModelSpec:
    raw = {"name": "m", "task": "binary", "target": "late", "event_time": "asked_at", "sources": {"rows": {"path": "rows.csv"}}}
    return parse_spec({**raw, "features": features}, "the test")


def frame_of(**columns: Any) -> pl.DataFrame:
    return pl.DataFrame(columns).with_columns(asked_at=pl.lit(NOON))


def contract(frame: pl.DataFrame, **features: Any) -> dict[str, tuple[str, str]]:
    return {column.name: (column.kind, column.dtype) for column in infer_schema(spec_of(**features), frame).columns}


def test_types_follow_from_the_table_and_the_use() -> None:
    frame = frame_of(
        amount=[1, 2],
        gate=[1, 2],
        express=[True, None],
        shop=["a", None],
        grade=pl.Series(["x", "y"], dtype=pl.Categorical),
        opened=[datetime(2024, 1, 1).date()] * 2,  # noqa: DTZ001 - a date has no zone
    )
    found = contract(
        frame, amount={}, gate="categorical", express={}, shop={}, grade={}, hour={"date_part": "hour", "of": "opened"}
    )
    assert found == {
        "amount": ("numeric", "float"),
        "gate": ("categorical", "int"),
        "express": ("numeric", "bool"),
        "shop": ("categorical", "string"),
        "grade": ("categorical", "string"),
        "opened": ("numeric", "datetime"),
    }


def test_a_text_used_as_a_number_or_a_time_is_read_as_one() -> None:
    frame = frame_of(amount=["1.5", None], opened=["2024-01-01T12:00:00Z", "2024-01-02"])
    features = {"amount": "numeric", "hour": {"date_part": "hour", "of": "opened"}}
    assert contract(frame, **features) == {"amount": ("numeric", "float"), "opened": ("numeric", "datetime")}
    cast = cast_frame(frame, infer_schema(spec_of(**features), frame))
    assert cast["amount"].to_list() == [1.5, None]
    assert cast["opened"].to_list() == [NOON, datetime(2024, 1, 2, tzinfo=UTC)]


def test_a_column_without_any_value_still_has_a_type() -> None:
    frame = frame_of(amount=[None], shop=[None])
    assert contract(frame, amount="numeric", shop="categorical") == {
        "amount": ("numeric", "float"),
        "shop": ("categorical", "string"),
    }


def test_a_function_is_given_what_the_column_holds() -> None:
    frame = frame_of(shop=["a"], amount=[1], opened=[NOON])
    found = contract(frame, own={"function": "own.py:f", "of": ["shop", "amount", "opened"]})
    assert found == {"shop": ("categorical", "string"), "amount": ("numeric", "float"), "opened": ("numeric", "datetime")}


@pytest.mark.parametrize(
    ("values", "features", "message"),
    [
        ([NOON], {"x": {}}, "feature 'x' is a time as it is"),
        ([timedelta(1)], {"r": {"log": "x"}}, "no feature can read"),
        ([[1]], {"x": "categorical"}, "no feature can read"),
        (["a"], {"x": "categorical", "r": {"log": "x"}}, "used as number and text"),
        ([1.0], {"h": {"date_part": "hour", "of": "x"}}, "used as time"),
    ],
)
def test_a_column_no_feature_can_use_is_refused(values: list[Any], features: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        infer_schema(spec_of(**features), frame_of(x=values))


def test_a_missing_column_names_the_nearest() -> None:
    with pytest.raises(DataError, match="no column 'carrier'; did you mean 'carier'"):
        infer_schema(spec_of(carrier={}), frame_of(carier=["UA"]))
    with pytest.raises(DataError, match="no column 'asked_at'"):
        infer_schema(spec_of(x={}), pl.DataFrame({"x": [1.0]}))


def test_a_table_is_cast_to_the_contract() -> None:
    frame = pl.DataFrame(
        {
            "amount": [1, 2],
            "gate": pl.Series([3.0, None], dtype=pl.Float32),
            "express": ["True", None],
            "shop": pl.Series(["a", "b"], dtype=pl.Enum(["a", "b"])),
            "opened": [datetime(2024, 1, 1, 13, tzinfo=timezone(timedelta(hours=1)))] * 2,
            "asked_at": pl.Series([datetime(2024, 1, 1, 12)] * 2, dtype=pl.Datetime("ns")),  # noqa: DTZ001 - naive on purpose
            "late": [0, 1],
        }
    )
    cast = cast_frame(frame, SCHEMA)
    assert cast.to_dicts()[0] == {
        "amount": 1.0,
        "gate": 3,
        "express": True,
        "shop": "a",
        "opened": NOON,
        "asked_at": NOON,
        "late": 0,
    }
    assert cast.schema["asked_at"] == pl.Datetime("us", "UTC")
    assert cast_frame(cast, SCHEMA).equals(cast)


def test_not_a_number_is_null_in_a_table() -> None:
    frame = cast_frame(pl.DataFrame([ROW, ROW]), SCHEMA).with_columns(amount=pl.Series([float("nan"), 1.0]))
    assert cast_frame(frame, SCHEMA)["amount"].to_list() == [None, 1.0]


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("amount", ["1.5", "dear"], "column 'amount', row 1: 'dear' is not a finite number"),
        ("amount", [1.0, float("inf")], "column 'amount', row 1: inf is not"),
        ("amount", [NOON, NOON], "column 'amount', row 0"),
        ("gate", [1.0, 1.5], "column 'gate', row 1: 1.5 is not a whole number"),
        ("gate", pl.Series([1, 2**63], dtype=pl.UInt64), "column 'gate', row 1"),
        ("express", [1, 2], "column 'express', row 1: 2 is not true or false"),
        ("express", ["true", "maybe"], "column 'express', row 1: 'maybe'"),
        ("opened", ["2024-01-01", "soon"], "column 'opened', row 1: 'soon' is not a time"),
        ("opened", [1, 2], "column 'opened', row 0"),
        ("shop", [[1], None], "column 'shop', row 0"),
    ],
)
def test_a_foreign_value_in_a_table_names_column_row_and_value(column: str, values: Any, message: str) -> None:
    frame = cast_frame(pl.DataFrame([ROW, ROW]), SCHEMA).with_columns(pl.Series(column, values))
    with pytest.raises(DataError, match=message.replace("(", r"\(")):
        cast_frame(frame, SCHEMA)


def test_whole_numbers_stored_as_floats_keep_their_names() -> None:
    frame = cast_frame(pl.DataFrame([ROW] * 3), SCHEMA).with_columns(shop=pl.Series([1.0, 2.5, None]))
    assert cast_frame(frame, SCHEMA)["shop"].to_list() == ["1", "2.5", None]
