"""Rows and tables: what they take they read as the judges of single rows do, and what is out of order they leave to them."""

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perennial.features import compile_features, fit_features
from perennial.record import Scalar
from perennial.row_encoder import RowEncoder
from perennial.schema import infer_schema
from perennial.spec import parse_spec
from service.encoding import Encoded, encode_instances
from service.layout import Layout
from service.requests import Instances, parse_instances
from service.rows import Row, read_rows
from service.table import Table, read_table
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


def layout_of(features: dict[str, Any], base: Path) -> Layout:
    """The layout of a model that has these features and nothing else: no trees are asked."""
    raw = {"name": "m", "task": "binary", "target": "late", "event_time": "asked_at", "sources": {"rows": {"path": "rows.csv"}}}
    spec, frame = parse_spec({**raw, "features": features}, "the test"), training_frame()
    fitted = fit_features(spec, frame, base)
    card = SimpleNamespace(schema_=infer_schema(spec, frame), features=fitted)
    model: Any = SimpleNamespace(card=card, compiled=compile_features(fitted, base), encoder=RowEncoder(fitted, base))
    return Layout(model)


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """Features of every kind, computed ones and columns of every type."""
    base = tmp_path_factory.mktemp("spec")
    (base / "own.py").write_text(OWN, encoding="utf-8")
    return layout_of(FEATURES, base)


@pytest.fixture(scope="module")
def plain() -> Layout:
    """Only columns as they are, as most features of most models."""
    return layout_of({"amount": {}, "shop": {}, "cost": {}, "same": {"of": "amount"}, "again": {"of": "shop"}}, Path())


def judged(sent: list[dict[str, Any]], layout: Layout) -> tuple[Instances, Encoded]:
    instances = parse_instances(orjson.dumps({"instances": sent}), 100, layout.model.card.schema_, NOW)
    return instances, encode_instances(instances, layout.model)


def check_rows(sent: list[dict[str, Any]], layout: Layout) -> list[Row] | None:
    rows = read_rows(orjson.loads(orjson.dumps(sent)), layout, NOW)
    if rows is None:
        return None
    instances, encoded = judged(sent, layout)
    if all("id" in row for row in sent):
        assert [row.name for row in rows] == list(instances.ids)
    assert [row.time for row in rows] == list(instances.event_times)
    np.testing.assert_array_equal(np.array([row.values for row in rows], dtype=float), encoded.matrix)
    cells = dict(zip(layout.columns, zip(*(row.cells for row in rows), strict=True), strict=True))
    assert typed(cells) == typed(encoded.cells)
    assert counts(row.unknown for row in rows) == encoded.unknown
    assert counts(row.nulls for row in rows) == encoded.nulls
    return rows


def check_table(sent: list[dict[str, Any]], layout: Layout) -> Table | None:
    table = read_table(orjson.loads(orjson.dumps(sent)), layout, NOW)
    if table is None:
        return None
    instances, encoded = judged(sent, layout)
    assert table.times == instances.event_times
    np.testing.assert_array_equal(table.encoded.matrix, encoded.matrix)
    assert typed(table.encoded.cells) == typed(encoded.cells)
    assert (table.encoded.unknown, table.encoded.nulls) == (encoded.unknown, encoded.nulls)
    return table


def typed(cells: Any) -> dict[str, list[tuple[type, Scalar]]]:
    """1 and 1.0 are not the same cell of the log."""
    return {name: [(type(cell), cell) for cell in column] for name, column in cells.items()}


def counts(features: Any) -> dict[str, int]:
    names = [name for some in features for name in some]
    return {name: names.count(name) for name in names}


def sendable(sent: list[dict[str, Any]]) -> bool:
    """Whether a JSON client could send it and the judges take it: huge integers and repeated ids are tested elsewhere."""
    ids = [str(row["id"]) for row in sent if "id" in row]
    return len(set(ids)) == len(ids) and all(abs(cell) < 2**63 for row in sent for cell in row.values() if type(cell) is int)


@settings(deadline=None, max_examples=100)
@given(SENT.filter(sendable))
def test_rows_and_tables_are_read_as_they_are_judged(layout: Layout, sent: list[dict[str, Any]]) -> None:
    check_rows(sent, layout)
    check_table(sent, layout)


@settings(deadline=None, max_examples=100)
@given(SENT.filter(sendable))
def test_plain_columns_are_never_left_to_the_judges(plain: Layout, sent: list[dict[str, Any]]) -> None:
    sent = [{key: row[key] for key in row.keys() & {"amount", "shop", "cost", "id", "event_time"}} for row in sent]
    assert check_rows(sent, plain) is not None
    assert check_table(sent, plain) is not None


def test_an_id_is_given_to_a_row_without_one() -> None:
    small = Layout(models.small_model())
    rows, table = read_rows([{**GOOD}, {**GOOD}], small, NOW), read_table([{**GOOD}, {**GOOD}], small, NOW)
    assert rows is not None
    assert table is not None
    assert {len(name) for name in {*table.ids, *(row.name for row in rows)}} == {32}
    assert len({*table.ids, *(row.name for row in rows)}) == 4


@pytest.mark.parametrize(
    "odd",
    [
        {"amount": 1.5},
        {**GOOD, "extra": 1},
        {"amount": 1.5, "shoq": "north"},
        {**GOOD, "amount": "1.5"},
        {**GOOD, "amount": True},
        {**GOOD, "amount": [1.5]},
        {**GOOD, "shop": 1},
        {**GOOD, "shop": ["north"]},
        {**GOOD, "shop": {"a": 1}},
        {**GOOD, "id": ""},
        {**GOOD, "id": "x" * 300},
        {**GOOD, "id": 1.5},
        {**GOOD, "id": True},
        {**GOOD, "event_time": "soon"},
        {**GOOD, "event_time": 7},
        {**GOOD, "event_time": "0001-01-01T00:00:00+14:00"},
    ],
)
def test_what_is_out_of_order_is_left_to_the_judges(odd: dict[str, Any]) -> None:
    small = Layout(models.small_model())
    assert read_rows([{**GOOD}, {**odd}], small, NOW) is None
    assert read_table([{**GOOD}, {**odd}], small, NOW) is None


def test_repeated_ids_are_left_to_the_judges() -> None:
    small = Layout(models.small_model())
    assert read_rows([{**GOOD, "id": "a"}, {**GOOD, "id": "a"}], small, NOW) is None
    assert read_table([{**GOOD, "id": "a"}, {**GOOD, "id": "a"}], small, NOW) is None


def test_the_column_that_names_rows_in_the_model_s_table_names_them_here_too() -> None:
    small = Layout(models.small_model())
    (row,) = read_rows([{**GOOD, "row_id": 7, "asked_at": "2024-02-01T10:00:00+02:00"}], small, NOW) or ()
    assert (row.name, row.time) == ("7", datetime(2024, 2, 1, 8, tzinfo=UTC))
