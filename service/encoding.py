"""Encoding: a client's rows as the model's matrix, with what the prediction log and the counters want to know.

Few rows go one by one through the scalar encoder, many together through polars; the kernel's tests hold the two equal.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from perennial.record import Scalar
from perennial.schema import POLARS, cast_rows, check_row
from service.requests import Instances

if TYPE_CHECKING:
    from perennial.model import Model

ROW_BY_ROW = 32
"""Up to this many rows the encoder wins: a polars table costs a millisecond, a row of 20 columns some 20 microseconds."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """`matrix` is (n, k); `cells` the raw inputs by column; `unknown` and `nulls` count rows by feature, without zeros."""

    matrix: "np.ndarray[Any, np.dtype[np.float64]]"
    cells: Mapping[str, tuple[Scalar, ...]]
    unknown: Mapping[str, int]
    nulls: Mapping[str, int]


def encode_instances(instances: Instances, model: "Model") -> Encoded:
    """Check the rows against the model's schema and encode them; raises RequestError naming row, column and value."""
    if len(instances.rows) > ROW_BY_ROW:
        return _encode_table(cast_rows(instances.rows, model.card.schema_), instances, model)
    return _encode_rows(instances, model)


def _encode_rows(instances: Instances, model: "Model") -> Encoded:
    schema = model.card.schema_
    rows = [check_row(row, schema, number) for number, row in enumerate(instances.rows)]
    encoded = [model.encoder.encode(row, time) for row, time in zip(rows, instances.event_times, strict=True)]
    matrix = np.array(encoded, dtype=np.float64)
    if np.isnan(matrix[:, model.card.features.categorical_indices]).any():
        # NaN says "null or unknown": only the table tells which.
        dtypes = {name: POLARS[dtype] for name, dtype in schema.dtypes.items()}
        return _encode_table(pl.DataFrame(rows, schema=dtypes, orient="row"), instances, model)
    absent = np.isnan(matrix).sum(axis=0).tolist()
    cells = {name: tuple(_scalar(row[name]) for row in rows) for name in schema.names}
    return Encoded(matrix, cells, {}, _positive(dict(zip(model.card.features.names, absent, strict=True))))


def _encode_table(frame: pl.DataFrame, instances: Instances, model: "Model") -> Encoded:
    times = pl.Series(model.card.schema_.event_time, instances.event_times, dtype=POLARS["datetime"])
    return encode_frame(frame, times, model)


def encode_frame(frame: pl.DataFrame, times: pl.Series, model: "Model") -> Encoded:
    """Encode a table of inputs in contract types; `times` is named as the event time."""
    schema, compiled = model.card.schema_, model.compiled
    table = compiled.table(frame.with_columns(times))
    cells = {name: _scalars(frame[name].to_list()) for name in schema.names}
    return Encoded(compiled.codes(table), cells, _positive(compiled.count_unknown(table)), _positive(compiled.count_nulls(table)))


def _scalars(values: Sequence[object]) -> tuple[Scalar, ...]:
    return tuple(map(_scalar, values))


def _scalar(value: object) -> Scalar:
    """A cell as the log keeps it: a time as text, everything else as it is."""
    return value.isoformat() if isinstance(value, datetime) else value  # type: ignore[return-value]  # a schema has no other types


def _positive(counts: Mapping[str, int]) -> dict[str, int]:
    return {name: count for name, count in counts.items() if count}
