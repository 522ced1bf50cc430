"""The row contract: rows are read as `perennial`'s table forms read them, few and many alike, and what is wrong is named."""

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import orjson
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perennial.errors import RequestError
from perennial.features import CompiledFeatures, compile_features, fit_features
from perennial.row_encoder import compile_row_encoder
from perennial.schema import POLARS, Schema, infer_schema
from perennial.spec import parse_spec
from perennial.value_types import check_value
from service.decoding.row_contract import DecodedRows, RowContract
from service.decoding.row_encoding import FEW
from tests.perennial.test_row_encoder import FEATURES, OWN, ROWS, TIMES, training_frame
from tests.support import models

NOW = datetime(2024, 3, 1, tzinfo=UTC)
SENT = st.lists(
    st.tuples(
        ROWS,
        st.one_of(st.just({}), TIMES.map(lambda time: {"event_time": time.isoformat()}), st.just({"asked_at": None})),
        st.one_of(st.just({}), st.uuids().map(lambda name: {"id": str(name)}), st.integers(0, 9).map(lambda name: {"id": name})),
    ).map(lambda parts: {**parts[0], **parts[1], **parts[2]}),
    min_size=1,
    max_size=4,
)
GOOD = {"amount": 1.5, "shop": "north"}


def model_of(features: dict[str, Any], base: Path) -> Any:
    """What a contract needs of a model that has these features: no trees are asked."""
    raw = {"name": "m", "task": "binary", "target": "late", "event_time": "asked_at", "sources": {"rows": {"path": "rows.csv"}}}
    spec, frame = parse_spec({**raw, "features": features}, "the test"), training_frame()
    fitted = fit_features(spec, frame, base)
    card = SimpleNamespace(schema_=infer_schema(spec, frame), features=fitted)
    return SimpleNamespace(card=card, compiled=compile_features(fitted, base), encoder=compile_row_encoder(fitted, base))


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Features of every kind, computed ones and columns of every type."""
    base = tmp_path_factory.mktemp("spec")
    (base / "own.py").write_text(OWN, encoding="utf-8")
    return model_of(FEATURES, base)


def decode(model: Any, rows: list[dict[str, Any]]) -> DecodedRows:
    return RowContract(model).decode(orjson.dumps({"instances": rows}), 10_000, NOW)


def table_of(rows: list[dict[str, Any]], schema: Schema, times: list[datetime]) -> pl.DataFrame:
    """The same rows as a table of the kernel: each value checked alone, nothing of the service."""
    columns = {
        column.name: pl.Series([check_value(row[column.name], column.dtype) for row in rows], dtype=POLARS[column.dtype])
        for column in schema.columns
    }
    return pl.DataFrame({**columns, schema.event_time: pl.Series(times, dtype=POLARS["datetime"])})


def check(model: Any, rows: list[dict[str, Any]]) -> DecodedRows:
    """Whatever the contract makes of rows, the kernel's tables make of them too."""
    decoded, schema = decode(model, rows), model.card.schema_
    times = [datetime.fromisoformat(row.get("event_time") or NOW.isoformat()).astimezone(UTC) for row in rows]
    assert list(decoded.event_times) == times
    assert [name for name, row in zip(decoded.ids, rows, strict=True) if "id" in row] == [
        str(row["id"]) for row in rows if "id" in row
    ]
    compiled: CompiledFeatures = model.compiled
    table = compiled.table(table_of(rows, schema, times))
    np.testing.assert_array_equal(decoded.encoded.to_matrix(), compiled.codes(table))
    assert dict(decoded.encoded.unknown) == positive(compiled.count_unknown(table))
    assert dict(decoded.encoded.nulls) == positive(compiled.count_nulls(table))
    logged = RowContract(model).log_columns(decoded.cells)
    expected = {column.name: [scalar(check_value(row[column.name], column.dtype)) for row in rows] for column in schema.columns}
    assert typed(logged) == typed(expected)
    return decoded


def positive(counts: Any) -> dict[str, int]:
    return {name: count for name, count in counts.items() if count}


def scalar(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def typed(columns: Any) -> dict[str, list[tuple[type, Any]]]:
    """1 and 1.0 are not the same cell of the log."""
    return {name: [(type(cell), cell) for cell in cells] for name, cells in columns.items()}


def sendable(sent: list[dict[str, Any]]) -> bool:
    """Whether a JSON client could send it: huge integers and repeated ids are tested elsewhere."""
    ids = [str(row["id"]) for row in sent if "id" in row]
    return len(set(ids)) == len(ids) and all(abs(cell) < 2**63 for row in sent for cell in row.values() if type(cell) is int)


@settings(deadline=None, max_examples=100)
@given(SENT.filter(sendable))
def test_few_rows_and_many_are_read_as_tables_are(rich: Any, sent: list[dict[str, Any]]) -> None:
    few = check(rich, sent)
    filler = [{key: value for key, value in sent[0].items() if key != "id"}] * FEW
    many = check(rich, [*sent, *filler])
    assert many.encoded.matrix is not None
    np.testing.assert_array_equal(few.encoded.to_matrix(), many.encoded.matrix[: len(sent)])


def test_a_model_of_plain_columns_reads_few_rows_without_a_table() -> None:
    decoded = check(models.small_model(), [GOOD, {"amount": None, "shop": "mars"}, {"amount": 2, "shop": None}])
    assert decoded.encoded.matrix is None
    assert (decoded.encoded.unknown, decoded.encoded.nulls) == ({"shop": 1}, {"amount": 1, "shop": 1})


def test_ids_are_kept_and_given_where_they_are_absent() -> None:
    rows = [{**GOOD, **key} for key in ({"id": "a"}, {"id": 7}, {"row_id": "b"}, {}, {"id": None}, {"id": None, "row_id": 9})]
    ids = decode(models.small_model(), rows).ids
    assert [ids[0], ids[1], ids[2], ids[5]] == ["a", "7", "b", "9"]
    assert {len(name) for name in (ids[3], ids[4])} == {32}
    assert len({*ids, *(decode(models.small_model(), [GOOD]).ids[0] for _ in range(600))}) == 606


def test_times_are_read_as_utc_and_default_to_now() -> None:
    sent = ("2024-02-01T10:00:00", "2024-02-01T10:00:00Z", "2024-02-01T10:00:00+02:00", "2024-02-01")
    rows = [*({**GOOD, "event_time": time} for time in sent), GOOD, {**GOOD, "asked_at": "2024-02-01T10:00:00"}]
    times = decode(models.small_model(), rows).event_times
    assert [time.hour for time in times] == [10, 10, 8, 0, 0, 10]
    assert times[4] is NOW
    assert all(time.tzinfo is UTC for time in times)


def test_an_id_and_a_time_may_stand_under_both_keys_where_they_are_the_same() -> None:
    decoded = decode(
        models.small_model(), [{**GOOD, "id": 7, "row_id": "7", "asked_at": "2024-02-01", "event_time": "2024-02-01T00:00:00Z"}]
    )
    assert (decoded.ids, decoded.event_times[0].day) == (["7"], 1)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"row_id": 7, "id": 8}, "column 'id': 8, expected '7', the row's id by another key"),
        ({"row_id": 7, "id": ""}, "column 'id': '', expected a text of 1 to"),
        ({"asked_at": "2024-02-01", "event_time": "2024-02-02"}, "expected 2024-02-01 00:00:00+00:00, the row's event time by"),
        ({"asked_at": "2024-02-01", "event_time": "soon"}, "column 'event_time': 'soon', expected"),
    ],
)
def test_keys_that_contradict_each_other_are_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError) as refused:
        decode(models.small_model(), [{**GOOD, **keys}])
    assert message in str(refused.value)


def with_columns(*columns: str) -> Any:
    """A model whose inputs are these columns, all numeric."""
    spec = {
        "name": "m",
        "task": "binary",
        "target": "late",
        "event_time": "asked_at",
        "id": "row_id",
        "sources": {"rows": {"path": "r"}},
    }
    frame = pl.DataFrame({**{name: [1.0, 2.0] for name in columns}, "asked_at": [NOW, NOW], "late": [0, 1]})
    parsed = parse_spec({**spec, "features": {name: {} for name in columns}}, "the test")
    fitted = fit_features(parsed, frame)
    card = SimpleNamespace(schema_=infer_schema(parsed, frame), features=fitted)
    return SimpleNamespace(card=card, compiled=compile_features(fitted, Path()), encoder=compile_row_encoder(fitted, Path()))


def test_a_column_that_is_called_id_or_event_time_is_a_column_and_nothing_else() -> None:
    decoded = decode(
        with_columns("id", "event_time"), [{"id": 7, "event_time": 3.5}, {"id": 7, "event_time": 1, "row_id": "named"}]
    )
    assert decoded.ids[1] == "named"
    assert len(decoded.ids[0]) == 32
    assert list(decoded.event_times) == [NOW, NOW]
    assert [cells[:2] for cells in decoded.cells] == [(7.0, 3.5), (7.0, 1.0)]


def test_an_id_column_that_is_an_input_too_is_both() -> None:
    decoded = decode(with_columns("row_id"), [{"row_id": 7}, {"row_id": 8.5}])
    assert list(decoded.ids) == ["7", "8.5"]
    assert [cells[0] for cells in decoded.cells] == [7.0, 8.5]


@pytest.mark.parametrize("filler", [0, FEW])
@pytest.mark.parametrize(
    ("row", "column", "message"),
    [
        ({**GOOD, "amount": "1"}, "amount", "'1', expected a finite number or null"),
        ({**GOOD, "shop": 7}, "shop", "7, expected a text of at most 65536 characters or null"),
        ({**GOOD, "shop": "x" * 70_000}, "shop", "expected a text of at most 65536 characters or null"),
        ({"amount": 1}, "shop", "column 'shop' is missing"),
        ({**GOOD, "shoe": 1}, "shoe", "unknown column 'shoe'; did you mean 'shop'?"),
        ({**GOOD, "id": ""}, "id", "'', expected a text of 1 to 256 characters or a whole number"),
        ({**GOOD, "id": "x" * 257}, "id", "expected a text of 1 to 256"),
        ({**GOOD, "id": True}, "id", "True, expected a text"),
        ({**GOOD, "id": 1.5}, "id", "1.5, expected a text"),
        ({**GOOD, "id": "first"}, "id", "'first', expected an id that no other row of the request has"),
        ({**GOOD, "event_time": "yesterday"}, "event_time", "'yesterday', expected a time in ISO 8601"),
        ({**GOOD, "event_time": 1709251200}, "event_time", "1709251200, expected a time"),
        ({**GOOD, "event_time": "0001-01-01T00:00:00+23:00"}, "event_time", "expected a time"),
        ({**GOOD, "asked_at": "2024-01-01", "event_time": "2024-01-01T12:99:00Z"}, "event_time", "expected a time in ISO 8601"),
        ({**GOOD, "asked_at": {}}, "asked_at", "an object of 0, expected a time"),
    ],
)
def test_a_wrong_row_is_named_however_many_rows_there_are(filler: int, row: dict[str, Any], column: str, message: str) -> None:
    rows = [{**GOOD, "id": "first"}, *[GOOD] * filler, row]
    with pytest.raises(RequestError) as caught:
        decode(models.small_model(), rows)
    assert (caught.value.row, caught.value.column) == (filler + 1, column)
    assert f"row {filler + 1}" in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize("cell", [1.5, 2**63, 1e300, True, "1"])
def test_a_whole_number_is_whole(rich: Any, cell: Any) -> None:
    (column,) = [column.name for column in rich.card.schema_.columns if column.dtype == "int"][:1]
    row = {column.name: None for column in rich.card.schema_.columns}
    assert decode(rich, [{**row, column: 3.0}]).cells[0][list(RowContract(rich)._columns).index(column)] == 3
    with pytest.raises(RequestError, match="expected a whole number or null") as caught:
        decode(rich, [{**row, column: cell}])
    assert caught.value.column == column
