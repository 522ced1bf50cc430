"""Arrow: the same rows give the same answers and the same errors as JSON, and no bytes end the process."""

import io
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import orjson
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perennial.errors import RequestError
from perennial.spec import Task
from service.answers import prediction_body
from service.arrow import answer_arrow, read_arrow
from service.encoding import encode_instances
from service.refusal import Refused
from service.requests import parse_instances
from service.table import Table
from tests.service.serving import Serving, rows
from tests.support import models

NOW = datetime(2024, 3, 1, tzinfo=UTC)
ARROW = "application/vnd.apache.arrow.stream"

FAR = pl.lit(2**62).cast(pl.Datetime("us", "UTC"))
"""A time that no calendar of Python's has."""


def stream(frame: pl.DataFrame, **options: Any) -> bytes:
    body = io.BytesIO()
    frame.write_ipc_stream(body, **{"compression": "uncompressed", **options})
    return body.getvalue()


def sent(count: int = 40) -> pl.DataFrame:
    frame = pl.DataFrame(rows(count))
    return frame.with_columns(pl.col("event_time").str.to_datetime("%+", time_unit="us", time_zone="UTC"))


def read(frame: pl.DataFrame, max_rows: int = 1_000) -> Table:
    return read_arrow(stream(frame), max_rows, models.small_model(), NOW)


def from_json(given_rows: list[dict[str, Any]]) -> Table:
    model = models.small_model()
    instances = parse_instances(orjson.dumps({"instances": given_rows}), 1_000, model.card.schema_, NOW)
    return Table(instances.ids, instances.event_times, encode_instances(instances, model))


def assert_same(one: Table, other: Table) -> None:
    assert (one.ids, one.times) == (other.ids, other.times)
    np.testing.assert_array_equal(one.encoded.matrix, other.encoded.matrix)
    assert one.encoded.cells == other.encoded.cells
    assert (one.encoded.unknown, one.encoded.nulls) == (other.encoded.unknown, other.encoded.nulls)


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"shop": pl.col("shop").cast(pl.Categorical)},
        {"shop": pl.col("shop").cast(pl.Enum(models.SHOPS))},
        {"shop": pl.lit(None)},
        {"shop": pl.lit("mars")},
        {"amount": pl.col("amount").cast(pl.Float32).cast(pl.Float64)},
        {"amount": pl.lit(7)},
        {"amount": pl.lit(None)},
        {"event_time": pl.col("event_time").dt.replace_time_zone(None)},
        {"event_time": pl.col("event_time").dt.convert_time_zone("America/New_York")},
        {"event_time": pl.col("event_time").dt.to_string("iso:strict")},
        {"event_time": pl.lit(None)},
        {"event_time": pl.when(pl.col("amount") > 0).then("event_time")},
        {"id": pl.int_range(pl.len())},
    ],
)
def test_rows_are_read_as_from_json(changed: dict[str, pl.Expr]) -> None:
    frame = sent().with_columns(**changed)
    times = (
        pl.col("event_time").dt.to_string("iso:strict") if isinstance(frame.schema["event_time"], pl.Datetime) else "event_time"
    )
    assert_same(read(frame), from_json(frame.with_columns(times).to_dicts()))


def test_ids_and_times_are_given_where_they_are_absent() -> None:
    table = read(sent().drop("id", "event_time"))
    assert len(set(table.ids)) == 40
    assert set(table.times) == {NOW}


def test_an_id_is_given_to_a_row_without_one() -> None:
    table = read(sent(3).with_columns(id=pl.Series(["a", None, "b"])))
    assert (table.ids[0], table.ids[2], len(table.ids[1])) == ("a", "b", 32)


@pytest.mark.parametrize(
    ("changed", "row", "column"),
    [
        ({"amount": pl.lit("1")}, 0, "amount"),
        ({"amount": pl.when(pl.int_range(pl.len()) == 2).then(float("nan")).otherwise("amount")}, 2, "amount"),
        ({"amount": pl.when(pl.int_range(pl.len()) == 3).then(float("inf")).otherwise("amount")}, 3, "amount"),
        ({"amount": pl.lit(True)}, 0, "amount"),
        ({"shop": pl.lit(1)}, 0, "shop"),
        ({"extra": pl.lit(1)}, 0, "extra"),
        ({"id": pl.lit("same")}, 1, "id"),
        ({"id": pl.lit("x" * 300)}, 0, "id"),
        ({"id": pl.lit(1.5)}, 0, "id"),
        ({"event_time": pl.lit("soon")}, 0, "event_time"),
        ({"event_time": pl.lit(timedelta(1))}, 0, "event_time"),
        (
            {"event_time": pl.when(pl.int_range(pl.len()) == 4).then(pl.lit(2**62).cast(pl.Datetime("us", "UTC")))},
            4,
            "event_time",
        ),
    ],
)
def test_what_is_wrong_is_named_as_in_json(changed: dict[str, pl.Expr], row: int, column: str) -> None:
    with pytest.raises(RequestError) as caught:
        read(sent().with_columns(**changed))
    assert (caught.value.row, caught.value.column) == (row, column)


def test_a_missing_column_is_named() -> None:
    with pytest.raises(RequestError, match="column 'shop' is missing"):
        read(sent().drop("shop"))


@pytest.mark.parametrize("task", models.TASKS)
def test_answers_are_those_of_json(task: Task) -> None:
    model, frame = models.small_model(task), models.small_frame(task, rows=20)
    ids, scores = frame["row_id"].to_list(), model.predict_frame(frame).tolist()
    answer = pl.read_ipc_stream(io.BytesIO(answer_arrow(model, ids, scores)))
    expected = orjson.loads(prediction_body(model, ids, scores))
    assert answer.drop("model", "version").to_dicts() == expected["predictions"]
    assert (answer["model"].unique().to_list(), answer["version"].unique().to_list()) == ([expected["model"]], [1])


def test_too_many_rows_none_and_compressed_ones_are_refused() -> None:
    with pytest.raises(Refused, match="40 rows in one request, expected at most 30"):
        read(sent(), max_rows=30)
    with pytest.raises(RequestError, match="no rows"):
        read(sent().clear())
    with pytest.raises(RequestError, match="compressed"):
        read_arrow(stream(sent(), compression="zstd"), 1_000, models.small_model(), NOW)
    with pytest.raises(RequestError, match="plain columns"):
        read(sent().with_columns(amount=pl.concat_list("amount")))


BODY = stream(sent(5))
BATCHES = stream(sent(5).with_columns(pl.col("shop").cast(pl.Categorical)))


@settings(deadline=None, max_examples=400)
@given(
    body=st.sampled_from([BODY, BATCHES]),
    changes=st.lists(st.tuples(st.integers(0, len(BATCHES)), st.binary(min_size=1, max_size=9)), max_size=4),
    end=st.none() | st.integers(0, len(BODY)),
)
def test_damaged_streams_are_refused_and_end_nothing(body: bytes, changes: list[tuple[int, bytes]], end: int | None) -> None:
    damaged = bytearray(body)
    for at, what in changes:
        damaged[at : at + len(what)] = what
    with suppress(RequestError, Refused):
        read_arrow(bytes(damaged[:end]), 100, models.small_model(), NOW)


@given(st.binary(max_size=200))
def test_noise_is_refused(body: bytes) -> None:
    with pytest.raises(RequestError):
        read_arrow(body, 100, models.small_model(), NOW)


@pytest.mark.parametrize("accept", ["", "*/*", ARROW, "application/json"])
def test_the_answer_comes_in_the_form_that_was_asked_for(service: Serving, accept: str) -> None:
    headers = {"content-type": ARROW, "accept": accept}
    response = service.client.post("/predict", content=stream(sent()), headers=headers)
    assert response.status_code == 200, response.text
    expected = service.predict(rows(40)).json()["predictions"]
    if accept == "application/json":
        assert response.json()["predictions"] == expected
        return
    assert response.headers["content-type"] == ARROW
    assert pl.read_ipc_stream(io.BytesIO(response.content)).drop("model", "version").to_dicts() == expected


def test_json_may_be_answered_by_arrow(service: Serving) -> None:
    response = service.client.post("/predict", json={"instances": rows(3)}, headers={"accept": ARROW})
    assert pl.read_ipc_stream(io.BytesIO(response.content))["id"].to_list() == ["row-0", "row-1", "row-2"]


def test_an_error_is_json_whatever_was_asked_for(service: Serving) -> None:
    body = stream(sent().with_columns(amount=pl.lit("much")))
    response = service.client.post("/predict", content=body, headers={"content-type": ARROW, "accept": ARROW})
    assert (response.status_code, response.headers["content-type"]) == (422, "application/json")
    assert response.json()["error"]["column"] == "amount"
