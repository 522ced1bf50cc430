"""Features of tables: each operation, its nulls, and the dictionary that is frozen with the model."""

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from perennial.errors import DataError, FunctionError, SpecError
from perennial.features import MAX_CATEGORIES, CompiledFeatures, EncodedRows, FeatureSet, compile_features, fit_features
from perennial.log_columns import EVENT_TIME
from perennial.spec import ModelSpec, parse_spec

NOON = datetime(2024, 7, 1, 12, 30, tzinfo=UTC)  # a Monday of week 27


def spec_of(**features: Any) -> ModelSpec:
    raw = {"name": "m", "task": "binary", "target": "late", "event_time": "asked_at", "sources": {"rows": {"path": "rows.csv"}}}
    return parse_spec({**raw, "features": features}, "the test")


def frame_of(**columns: Any) -> pl.DataFrame:
    return pl.DataFrame(columns).with_columns(asked_at=pl.lit(NOON))


def compiled(frame: pl.DataFrame, base: Path = Path(), **features: Any) -> CompiledFeatures:
    return compile_features(fit_features(spec_of(**features), frame, base), base)


def values(frame: pl.DataFrame, base: Path = Path(), **features: Any) -> list[Any]:
    """The readable values of the one feature that is given."""
    return compiled(frame, base, **features).table(frame).to_series().to_list()


def test_a_column_as_it_is() -> None:
    assert values(frame_of(x=[1, None, -3]), x={}) == [1.0, None, -3.0]
    assert values(frame_of(x=[1, None, -3]), y={"of": "x"}) == [1.0, None, -3.0]
    assert values(frame_of(x=["b", None, "a"]), x={}) == ["b", None, "a"]


def test_a_bool_is_a_number_unless_the_spec_says_otherwise() -> None:
    assert values(frame_of(x=[True, False, None]), x={}) == [1.0, 0.0, None]
    assert values(frame_of(x=[True, False, None]), x="categorical") == ["true", "false", None]


def test_a_whole_number_as_a_category_is_written_without_a_point() -> None:
    assert values(frame_of(x=[1, None, 20]), x="categorical") == ["1", None, "20"]
    assert values(frame_of(x=[1.0, None, 2.5, float("nan")]), x="categorical") == ["1", None, "2.5", None]


@pytest.mark.parametrize(
    ("part", "value"),
    [("minute_of_day", 750), ("hour", 12), ("weekday", 1), ("day", 1), ("week", 27), ("month", 7), ("year", 2024)],
)
def test_date_parts_are_of_the_event_time_unless_told_otherwise(part: str, value: int) -> None:
    assert values(frame_of(x=[0]), t={"date_part": part}) == [value]
    assert values(frame_of(x=[NOON + timedelta(days=366)]), t={"date_part": "year", "of": "x"}) == [2025]


def test_a_date_part_is_read_in_its_time_zone() -> None:
    assert values(frame_of(x=[0]), t={"date_part": "hour", "time_zone": "America/New_York"}) == [8]
    assert values(frame_of(x=[0]), t={"date_part": "minute_of_day", "time_zone": "Asia/Kolkata"}) == [18 * 60]


def test_a_date_part_may_be_a_category() -> None:
    assert values(frame_of(x=[0]), t={"date_part": "weekday", "kind": "categorical"}) == ["1"]


def test_differences_of_numbers_and_of_times_in_seconds() -> None:
    assert values(frame_of(a=[5, None], b=[2.5, 1]), d={"difference": ["a", "b"]}) == [2.5, None]
    frame = frame_of(opened=[NOON - timedelta(minutes=2)])
    assert values(frame, d={"difference": ["asked_at", "opened"]}) == [120.0]


def test_a_ratio_over_zero_is_null() -> None:
    assert values(frame_of(a=[1, 1, 0, None], b=[4, 0, 0, 1]), r={"ratio": ["a", "b"]}) == [0.25, None, None, None]


def test_a_number_that_is_not_finite_is_null() -> None:
    assert values(frame_of(a=[1e308], b=[1e-308]), r={"ratio": ["a", "b"]}) == [None]


def test_bins_count_the_edges_reached() -> None:
    assert values(frame_of(x=[-1, 0, 5, 10, 99, None]), b={"bins": [0, 10], "of": "x"}) == [0, 1, 1, 2, 2, None]


def test_logs_are_of_one_more_and_null_below() -> None:
    assert values(frame_of(x=[0, 1, -1, -2, None]), g={"log": "x"}) == [0.0, math.log1p(1), None, None, None]


def test_a_cross_joins_categories_and_cannot_be_confused() -> None:
    frame = frame_of(a=["x", "x|y", "x", None, "x\\"], b=["y|z", "z", None, "y", "|z"])
    crossed = values(frame, c={"cross": ["a", "b"]})
    assert crossed == ["x|y\\|z", "x\\|y|z", None, None, "x\\\\|\\|z"]
    assert values(frame_of(a=["x"], n=[3]), c={"cross": ["a", "n"]}) == ["x|3"]


def test_user_functions_are_expressions_on_their_columns(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "import polars as pl\n"
        "def total(a, b):\n    return a + b\n"
        "def size(a):\n    return pl.when(a > 1).then(pl.lit('big')).otherwise(pl.lit('small'))\n"
        "def half(a):\n    return a / 2\n"
        "def one(a):\n    return pl.lit(1)\n"
        "def demeaned(a):\n    return a - a.mean()\n"
        "def number(a):\n    return 1\n"
        "def fails(a):\n    raise KeyError('x')\n"
        "def foreign(a):\n    return a.str.to_uppercase()\n",
        encoding="utf-8",
    )
    frame = frame_of(a=[1, 3], b=[10, None])
    assert values(frame, tmp_path, f={"function": "own.py:total", "of": ["a", "b"]}) == [11.0, None]
    assert values(frame, tmp_path, f={"function": "own.py:size", "of": "a"}) == ["small", "big"]
    assert values(frame, tmp_path, f={"function": "own.py:half", "of": "a", "kind": "categorical"}) == ["0.5", "1.5"]
    assert values(frame, tmp_path, f={"function": "own.py:one", "of": "a"}) == [1.0, 1.0]
    for name, message in {
        "demeaned": "may not look at other rows",
        "number": "must return a polars expression, got 1",
        "fails": "own.py:fails fails: KeyError",
        "foreign": "cannot be applied to a",
    }.items():
        with pytest.raises(FunctionError, match=message):
            values(frame, tmp_path, f={"function": f"own.py:{name}", "of": "a"})


def test_rows_are_encoded_when_they_are_asked_for_and_as_among_all() -> None:
    frame = frame_of(shop=["c", "a", None, "b", "a"], n=[1, None, 3, 4, 5])
    features = compiled(frame, shop={}, n={"log": "n"})
    rows, whole = EncodedRows(features, frame), features.matrix(frame)
    assert (rows.shape, len(rows)) == (whole.shape, 5)
    for asked in (slice(None), slice(1, 3), slice(-2, None), np.array([3, 0]), whole[:, 0] > 0, 2, (slice(None), 1), (4, 0)):
        np.testing.assert_array_equal(rows[asked], whole[asked])
    np.testing.assert_array_equal(np.asarray(rows), whole)


def test_the_dictionary_is_sorted_and_codes_are_places_in_it() -> None:
    frame = frame_of(shop=["c", "a", None, "b", "a"])
    features = compiled(frame, shop={})
    assert features.features.categories == {"shop": ("a", "b", "c")}
    np.testing.assert_array_equal(features.matrix(frame)[:, 0], [2, 0, np.nan, 1, 0])


def test_an_unknown_category_is_served_and_counted() -> None:
    features = compiled(frame_of(shop=["a", "b"], n=[1, 2]), shop={}, n={})
    later = frame_of(shop=["b", "new", None], n=[None, 1, 1])
    np.testing.assert_array_equal(features.matrix(later), [[1, np.nan], [np.nan, 1], [np.nan, 1]])
    assert features.count_unknown(features.table(later)) == {"shop": 1}
    assert features.count_nulls(features.table(later)) == {"shop": 1, "n": 1}
    assert features.table(later)["shop"].to_list() == ["b", "new", None]


def test_a_category_without_any_value_has_an_empty_dictionary() -> None:
    frame = frame_of(shop=pl.Series([None, None], dtype=pl.String))
    features = compiled(frame, shop={})
    assert features.count_unknown(features.table(frame_of(shop=["a", None]))) == {"shop": 1}
    assert np.isnan(features.matrix(frame)).all()


def test_the_dictionary_keeps_the_most_frequent_categories() -> None:
    names = [f"c{number:05d}" for number in range(MAX_CATEGORIES + 10)]
    features = compiled(frame_of(shop=[*names, *names[10:]]), shop={})
    assert features.features.categories["shop"] == tuple(names[10:])


def test_a_lazy_table_and_columns_beside_the_inputs_are_taken() -> None:
    frame = frame_of(x=[1.0, 2.0], late=[0, 1])
    features = compiled(frame, x={})
    np.testing.assert_array_equal(features.matrix(frame.lazy()), features.matrix(frame))
    assert features.matrix(frame.head(0)).shape == (0, 1)


def test_the_event_time_of_the_prediction_log_stands_in() -> None:
    features = compiled(frame_of(x=[1]), hour={"date_part": "hour"})
    assert features.matrix(pl.DataFrame({EVENT_TIME: [NOON]})).tolist() == [[12.0]]


def test_a_feature_may_bear_the_name_of_a_column_others_read() -> None:
    features = compiled(frame_of(x=[1.0]), x={"log": "x"}, y={"of": "x"})
    assert features.table(frame_of(x=[0.0])).row(0) == (0.0, 0.0)
    assert features.table(frame_of(x=[2.0])).row(0) == (math.log1p(2), 2.0)


def test_a_feature_set_survives_as_json() -> None:
    features = compiled(frame_of(x=[1.5], shop=["a"]), x={}, shop={}, b={"bins": [0.1], "of": "x"}).features
    assert FeatureSet.model_validate_json(features.model_dump_json()) == features


def test_a_table_that_lacks_a_column_is_refused() -> None:
    with pytest.raises(DataError, match="no column 'x'"):
        compiled(frame_of(x=[1]), x={}).matrix(frame_of(y=[1]))


@pytest.mark.parametrize(
    ("feature", "message"),
    [
        ({"cross": ["s", "s"], "kind": "numeric"}, "a cross is categorical"),
        ({"cross": ["s", "t"]}, "'t' holds times"),
        ({"bins": [1], "of": ["n", "m"]}, "bins reads one column"),
        ({"date_part": "hour", "time_zone": "New York"}, "no time zone 'New York'"),
        ({"date_part": "hour", "time_zone": "../etc"}, "no time zone '../etc'"),
        ({"of": ["n", "m"]}, "column reads one column"),
    ],
)
def test_a_feature_that_makes_no_sense_is_refused(feature: dict[str, Any], message: str) -> None:
    frame = frame_of(s=["a"], n=[1], m=[2], t=[NOON])
    with pytest.raises((SpecError, DataError), match=message):
        fit_features(spec_of(f=feature), frame)
