"""Encoding: both ways give the model the same matrix, the log the same cells and the counters the same counts."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perennial.errors import RequestError
from perennial.model import Model
from service import encoding
from service.encoding import Encoded, encode_instances
from service.requests import Instances, parse_instances
from tests.support import models

NOW = datetime(2024, 3, 1, tzinfo=UTC)
AMOUNTS = st.none() | st.integers(-1000, 1000) | st.floats(-1e6, 1e6)
SHOPS = st.none() | st.sampled_from([*models.SHOPS, "mars", ""])


def read(rows: list[dict[str, Any]], model: Model) -> Instances:
    return parse_instances(orjson.dumps({"instances": rows}), 10_000, model.card.schema_, NOW)


def through_table(instances: Instances, model: Model) -> Encoded:
    """What more than `ROW_BY_ROW` rows get: the same rows among many."""
    filler = Instances(
        tuple(f"filler-{number}" for number in range(encoding.ROW_BY_ROW)),
        (NOW,) * encoding.ROW_BY_ROW,
        ({"amount": 0.0, "shop": "north"},) * encoding.ROW_BY_ROW,
    )
    more = Instances(instances.ids + filler.ids, instances.event_times + filler.event_times, instances.rows + filler.rows)
    return encode_instances(more, model)


@settings(deadline=None)
@given(st.lists(st.fixed_dictionaries({"amount": AMOUNTS, "shop": SHOPS}), min_size=1, max_size=5))
def test_few_rows_and_many_are_encoded_alike(rows: list[dict[str, Any]]) -> None:
    model = models.small_model()
    instances = read(rows, model)
    few, many = encode_instances(instances, model), through_table(instances, model)
    np.testing.assert_array_equal(few.matrix, many.matrix[: len(rows)])
    assert {name: cells[: len(rows)] for name, cells in many.cells.items()} == few.cells
    assert (few.unknown, few.nulls) == (many.unknown, many.nulls)


def test_unknown_categories_and_nulls_are_told_apart() -> None:
    model = models.small_model()
    rows = [{"amount": None, "shop": "mars"}, {"amount": 1, "shop": None}, {"amount": 2, "shop": "north"}]
    encoded = encode_instances(read(rows, model), model)
    assert (encoded.unknown, encoded.nulls) == ({"shop": 1}, {"amount": 1, "shop": 1})


@pytest.mark.parametrize("filler", [0, encoding.ROW_BY_ROW])
@pytest.mark.parametrize(
    ("row", "column"),
    [
        ({"amount": "1", "shop": "north"}, "amount"),
        ({"amount": 1, "shop": 7}, "shop"),
        ({"amount": 1}, "shop"),
        ({"amount": 1, "shop": "north", "shoe": 1}, "shoe"),
        ({"amount": [1], "shop": "north"}, "amount"),
        ({"amount": True, "shop": "north"}, "amount"),
    ],
)
def test_a_wrong_cell_is_named_however_many_rows_there_are(filler: int, row: dict[str, Any], column: str) -> None:
    model = models.small_model()
    rows = [{"amount": 1, "shop": "north"}] * filler + [row]
    with pytest.raises(RequestError) as caught:
        encode_instances(read(rows, model), model)
    assert (caught.value.row, caught.value.column) == (filler, column)
