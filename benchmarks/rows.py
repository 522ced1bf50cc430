"""Rows to measure with: flights, and a model of them that is trained in a second."""

import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import polars as pl

from perennial.features import CompiledFeatures, compile_features, fit_features
from perennial.record import PredictionBatch
from perennial.schema import Schema, cast_frame, infer_schema
from perennial.spec import ModelSpec, load_spec
from perennial.user_functions import load_function

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


@dataclass(frozen=True)
class Flights:
    """The spec, rows as a client sends them, and the features compiled from both."""

    spec: ModelSpec
    schema: Schema
    frame: pl.DataFrame
    features: CompiledFeatures

    def batches(self, rows: int, size: int) -> list[PredictionBatch]:
        """`rows` predictions in batches of `size`, as the service logs them."""
        return [self._batch(self.frame.slice(start, size), start) for start in range(0, rows, size)]

    def _batch(self, part: pl.DataFrame, start: int) -> PredictionBatch:
        times: tuple[datetime, ...] = tuple(part[self.spec.event_time])
        columns = {name: tuple(part[name]) for name in self.spec.inputs}
        ids = tuple(f"row-{start + offset}" for offset in range(part.height))
        return PredictionBatch(self.spec.name, 1, times[0], ids, times, columns, (0.25,) * part.height)


def flights(rows: int) -> Flights:
    """The first `rows` flights of 2013 with their weather."""
    sys.stderr.write("reading flights\n")
    spec = load_spec(EXAMPLES / "flights.toml")
    base, weather = (load_function(f"flights.py:{name}", EXAMPLES)() for name in ("flights", "weather"))
    table = base.head(rows).join(weather, on=["origin", "time_hour"], how="left").sort(spec.event_time)
    table = table.with_columns(pl.col(spec.event_time).dt.replace_time_zone("UTC"))
    schema = infer_schema(spec, table)
    frame = cast_frame(table, schema)
    return Flights(spec, schema, frame, compile_features(fit_features(spec, frame, EXAMPLES), EXAMPLES))
