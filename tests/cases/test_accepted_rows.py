"""What a service accepts is what training accepted: each row that a training read can be asked as it was read, with its code."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
import pytest

from perennial.errors import DataError, RequestError
from perennial.features import compile_features, fit_features
from perennial.spec import load_spec
from tasks.data.ingest import assemble
from tasks.serving.replay import _instance, prepare, ticks
from tests.cases.inputs import CASES, copy_case, edit_spec, read_rows, write_rows
from tests.cases.test_request_names import NOW, contract_of, decode

REFUSED = {"join-matches-nothing", "us-dates-early-in-month"}
"""Cases whose tables are no training's, by their very point."""


def asked(spec_path: Path) -> tuple[pl.DataFrame, list[dict[str, Any]]]:
    """The table that a training reads, and its rows as a replay sends them."""
    spec = load_spec(spec_path)
    table = assemble(spec, spec_path.parent, {}).frame
    found = [
        row
        for tick in ticks(prepare(table, spec), datetime(1970, 1, 1, tzinfo=UTC), None, timedelta(days=1))
        for row in tick.rows
    ]
    return table, [orjson.loads(orjson.dumps(_instance(row))) for row in found]


@pytest.mark.parametrize("case", sorted(set(CASES) - REFUSED))
def test_each_row_of_a_training_can_be_asked_and_is_encoded_alike(case: str, tmp_path: Path) -> None:
    path = copy_case(case, tmp_path)
    spec, (table, rows) = load_spec(path), asked(path)
    compiled = compile_features(fit_features(spec, table, path.parent), path.parent)
    decoded = contract_of(spec, table).decode(orjson.dumps({"instances": rows}), len(rows), NOW)
    known = table.drop_nulls(spec.event_time).sort(spec.event_time, maintain_order=True)
    np.testing.assert_array_equal(decoded.encoded.to_matrix(), compiled.codes(compiled.table(known)))
    if spec.id:
        assert list(decoded.ids) == known[spec.id].cast(pl.String).to_list()


@pytest.mark.parametrize(
    ("cells", "sent", "wrong"),
    [
        (["01234", "1234"], ["01234", "1234"], 1234),
        (["1E5", "100000"], ["1E5", "100000"], 100_000),
        (["true", "TRUE"], ["true", "TRUE"], True),
        (["1.0", "1"], ["1.0", "1"], 1),
        (["20260901", "2026-09-01"], ["20260901", "2026-09-01"], 20_260_901),
    ],
)
def test_a_categorical_column_of_texts_takes_texts_and_says_so_of_a_number(
    cells: list[str], sent: list[str], wrong: object, tmp_path: Path
) -> None:
    path = copy_case("zip-codes", tmp_path)
    rows = read_rows(path)
    write_rows(path, rows.with_columns(c=pl.Series([cells[number % 2] for number in range(rows.height)])))
    spec, (table, _) = load_spec(path), asked(path)
    contract = contract_of(spec, table)
    one, other = decode(contract, *({"x": 1.0, "c": cell} for cell in sent)).encoded.to_matrix().tolist()
    assert one != other, "they are two categories"
    with pytest.raises(RequestError, match=re.escape(f"row 0, column 'c': {wrong!r}, expected a text")):
        decode(contract, {"x": 1.0, "c": wrong})


def test_whole_numbers_that_are_categories_take_whole_numbers(tmp_path: Path) -> None:
    """A Parquet file says itself that a column holds whole numbers."""
    path = copy_case("zip-codes", tmp_path)
    numbers = {"x": pl.col("x").cast(pl.Float64), "y": pl.col("y").cast(pl.Int64), "c": pl.int_range(pl.len()) % 3}
    rows = read_rows(path).with_columns(**numbers)
    rows.with_columns(pl.col("ts").str.to_datetime()).write_parquet(path.parent / "rows.parquet")
    spec = load_spec(edit_spec(path, **{"sources.rows.path": 'sources.rows.path = "rows.parquet"'}))
    contract = contract_of(spec, assemble(spec, path.parent, {}).frame)
    one, same, other = decode(contract, *({"x": 1, "c": cell} for cell in (1, 1.0, 2))).encoded.to_matrix().tolist()
    assert one == same != other
    for wrong in ("1", 1.5, True):
        with pytest.raises(RequestError, match="expected a whole number or null"):
            decode(contract, {"x": 1, "c": wrong})


@pytest.mark.parametrize("case", sorted(REFUSED))
def test_what_no_training_accepts_is_refused_before_there_is_a_service(case: str, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        asked(copy_case(case, tmp_path))
