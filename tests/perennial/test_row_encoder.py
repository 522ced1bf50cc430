"""The scalar encoder gives what the table gives, bit for bit: skew between training and serving has nowhere to live."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from perennial.features import CompiledFeatures, compile_features, fit_features
from perennial.row_encoder import RowEncoder, compile_row_encoder
from perennial.schema import POLARS, Schema, infer_schema
from perennial.spec import parse_spec
from perennial.value_types import check_value

NOON = datetime(2024, 7, 1, 12, 30, tzinfo=UTC)
PARTS = ("minute_of_day", "hour", "weekday", "day", "week", "month", "year")
FEATURES: dict[str, Any] = {
    "amount": {},
    "gate": "categorical",
    "rate": "categorical",
    "express": {},
    "gift": "categorical",
    "shop": {},
    "same_amount": {"of": "amount"},
    **{part: {"date_part": part} for part in PARTS},
    **{f"{part}_there": {"date_part": part, "time_zone": "America/New_York"} for part in PARTS},
    "opening_hour": {"date_part": "hour", "of": "opened", "time_zone": "Australia/Lord_Howe"},
    "opening_day": {"date_part": "weekday", "of": "opened", "kind": "categorical"},
    "margin": {"difference": ["amount", "cost"]},
    "gate_over_cost": {"difference": ["gate", "cost"]},
    "waited": {"difference": ["asked_at", "opened"]},
    "opened_seconds": {"difference": ["opened", "amount"]},
    "share": {"ratio": ["amount", "cost"]},
    "share_name": {"ratio": ["amount", "cost"], "kind": "categorical"},
    "express_share": {"ratio": ["express", "amount"]},
    "size": {"bins": [-5, 0, 0.1, 100], "of": "amount"},
    "size_name": {"bins": [0, 10], "of": "cost", "kind": "categorical"},
    "log_amount": {"log": "amount"},
    "gate_shop": {"cross": ["gate", "shop"]},
    "all_crossed": {"cross": ["shop", "gift", "rate"]},
    "own_total": {"function": "own.py:total", "of": ["amount", "cost"]},
    "own_name": {"function": "own.py:name", "of": ["shop", "gift"]},
    "own_age": {"function": "own.py:age", "of": ["opened", "asked_at"]},
}
OWN = """\
import polars as pl

def total(amount, cost):
    return amount.sqrt() * cost

def name(shop, gift):
    return pl.when(gift).then(shop.str.to_uppercase()).otherwise(shop)

def age(opened, asked_at):
    return (asked_at - opened).dt.total_hours()
"""

SHOPS = ["", "north", "east", "a|b", "a\\", "größe", "1", "1.0"]
NUMBERS = st.one_of(
    st.none(),
    st.integers(-(2**70), 2**70),
    st.integers(-3, 12),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0.0, -0.0, 1.0, 0.5, 2.5, -1.0, 0.1, 1e17, 1e-7, 2.0**53]),
)
WHOLE = st.one_of(st.none(), st.integers(-(2**63) + 1, 2**63 - 1), st.integers(0, 5), st.integers(0, 5).map(float))
TIMES = st.one_of(
    st.datetimes(timezones=st.just(UTC)),
    st.datetimes(min_value=datetime(2013, 1, 1), max_value=datetime(2030, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
)
ROWS = st.fixed_dictionaries(
    {
        "amount": NUMBERS,
        "gate": WHOLE,
        "rate": NUMBERS,
        "express": st.one_of(st.none(), st.booleans()),
        "gift": st.one_of(st.none(), st.booleans()),
        "shop": st.one_of(st.none(), st.sampled_from(SHOPS), st.text(max_size=6)),
        "opened": st.one_of(st.none(), TIMES.map(datetime.isoformat)),
        "cost": NUMBERS,
    }
)


def training_frame() -> pl.DataFrame:
    """Sixty rows in which every column has several values and a null."""
    count = range(60)
    return pl.DataFrame(
        {
            "amount": [None if row % 7 == 0 else row / 4 - 2 for row in count],
            "gate": [None if row % 11 == 0 else row % 5 for row in count],
            "rate": [[None, 0.5, 1.0, 2.5, 1e17, 1e-7, 0.1][row % 7] for row in count],
            "express": [[True, False, None][row % 3] for row in count],
            "gift": [[True, None, False, True][row % 4] for row in count],
            "shop": [[*SHOPS, None][row % 9] for row in count],
            "opened": [datetime(2024, 1 + row % 12, 1 + row % 28, row % 24, tzinfo=UTC) for row in count],
            "cost": [float(row % 4) for row in count],
            "asked_at": [datetime(2024, 6, 1, row % 24, row, tzinfo=UTC) for row in count],
        }
    )


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Schema, CompiledFeatures, RowEncoder]:
    base = tmp_path_factory.mktemp("spec")
    (base / "own.py").write_text(OWN, encoding="utf-8")
    raw = {"name": "m", "task": "binary", "target": "late", "event_time": "asked_at", "sources": {"rows": {"path": "rows.csv"}}}
    spec, frame = parse_spec({**raw, "features": FEATURES}, "the test"), training_frame()
    features = fit_features(spec, frame, base)
    return infer_schema(spec, frame), compile_features(features, base), compile_row_encoder(features, base)


def checked(row: dict[str, Any], schema: Schema) -> dict[str, Any]:
    """A row with its values in their contract types."""
    return {column.name: check_value(row[column.name], column.dtype) for column in schema.columns}


def encode(encoder: RowEncoder, row: dict[str, Any], time: datetime) -> list[float]:
    return [step({**row, "asked_at": time}) for step in encoder.values()]


@settings(deadline=None, max_examples=60)
@given(rows=st.lists(st.tuples(ROWS, TIMES), min_size=1, max_size=4))
@example(rows=[(dict.fromkeys(("amount", "gate", "rate", "express", "gift", "shop", "opened", "cost")), NOON)])
def test_a_row_alone_is_encoded_as_in_a_table(
    parts: tuple[Schema, CompiledFeatures, RowEncoder], rows: list[tuple[dict[str, Any], datetime]]
) -> None:
    schema, compiled, encoder = parts
    times = pl.Series("asked_at", [time for _, time in rows], dtype=pl.Datetime("us", "UTC"))
    dtypes = {column.name: POLARS[column.dtype] for column in schema.columns}
    table = pl.DataFrame([checked(row, schema) for row, _ in rows], schema=dtypes, orient="row")
    expected = compiled.matrix(table.with_columns(times))
    encoded = [encode(encoder, checked(row, schema), time) for row, time in rows]
    for name, one, other in zip(compiled.features.names, np.array(encoded).T, expected.T, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=name, strict=True)


def test_the_training_rows_are_encoded_as_in_the_training_table(parts: tuple[Schema, CompiledFeatures, RowEncoder]) -> None:
    schema, compiled, encoder = parts
    frame = training_frame()
    rows = frame.select(schema.names).to_dicts()
    encoded = [encode(encoder, row, time) for row, time in zip(rows, frame["asked_at"], strict=True)]
    np.testing.assert_array_equal(np.array(encoded), compiled.matrix(frame))
    assert np.isfinite(np.array(encoded)).any(axis=0).all(), "each feature has a value in some row"


def test_a_naive_event_time_is_read_as_utc(parts: tuple[Schema, CompiledFeatures, RowEncoder]) -> None:
    row = dict.fromkeys(parts[0].names)
    naive = encode(parts[2], row, datetime(2024, 7, 1, 12, 30))  # noqa: DTZ001 - the naive time is the point
    np.testing.assert_array_equal(naive, encode(parts[2], row, NOON))
