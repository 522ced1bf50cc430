"""Columns: what was found in each column of a table, as `perennial check` and the end of a training show it."""

from collections.abc import Sequence
from datetime import date

import polars as pl
from rich import box
from rich.table import Column, Table

from perennial.base import FrozenModel
from perennial.errors import DataError
from perennial.schema import infer_schema
from perennial.spec import ModelSpec

EXAMPLES = 3  # values shown of a column, and odd ones
WIDTH = 24  # characters shown of one value


class ColumnSummary(FrozenModel):
    """One column: its type in the table, what the model takes it for, and what is in it."""

    name: str
    dtype: str
    kind: str
    nulls: int
    distinct: int | None
    examples: tuple[str, ...]
    odd: int = 0
    odd_examples: tuple[str, ...] = ()


def summarise_columns(
    frame: pl.DataFrame, spec: ModelSpec, odd: pl.DataFrame | None = None, unread: pl.Series | None = None
) -> tuple[ColumnSummary, ...]:
    """Every column of a table, with its odd values: texts that were read as null, and event times that could not be read."""
    kinds = _kinds(frame, spec)
    strange = {} if odd is None else dict(odd.group_by("column", maintain_order=True).agg("text").iter_rows())
    strange |= {} if unread is None else {spec.event_time: unread.drop_nulls().to_list()}
    return tuple(_summary(values, kinds.get(values.name, ""), strange.get(values.name, [])) for values in frame.iter_columns())


def column_table(columns: Sequence[ColumnSummary]) -> Table:
    """The columns as a table for the terminal."""
    counts = (Column(name, justify="right") for name in ("nulls", "distinct"))
    table = Table("column", "type", "kind", *counts, "examples", "odd values", box=box.SIMPLE_HEAD, pad_edge=False)
    for one in columns:
        distinct = "" if one.distinct is None else f"{one.distinct:,}"
        odd = f"{one.odd:,}: {', '.join(one.odd_examples)}" if one.odd else ""
        cells = (one.name, one.dtype, one.kind, f"{one.nulls:,}", distinct, ", ".join(one.examples), odd)
        table.add_row(*(cell.replace("[", r"\[") for cell in cells))
    return table


def _kinds(frame: pl.DataFrame, spec: ModelSpec) -> dict[str, str]:
    """What the model takes each column for; a column that it does not use has no kind."""
    try:
        kinds: dict[str, str] = {column.name: column.kind for column in infer_schema(spec, frame).columns}
    except DataError:  # said where the table is checked
        kinds = dict.fromkeys(spec.inputs, "input")
    kinds = {name: "time" if isinstance(frame.schema.get(name), (pl.Date, pl.Datetime)) else kind for name, kind in kinds.items()}
    return {**kinds, **({spec.id: "id"} if spec.id else {}), spec.target: "target", spec.event_time: "event time"}


def _summary(values: pl.Series, kind: str, odd: list[str]) -> ColumnSummary:
    known = values.drop_nulls()
    try:
        different = known.unique(maintain_order=True)
        distinct, shown = different.len(), different.head(EXAMPLES)
    except pl.exceptions.PolarsError:  # a type whose values cannot be compared
        distinct, shown = None, known.head(1)
    return ColumnSummary(
        name=values.name,
        dtype=str(values.dtype).replace("time_unit=", "").replace("time_zone=", ""),
        kind=kind,
        nulls=values.null_count(),
        distinct=distinct,
        examples=tuple(map(_short, shown.to_list())),
        odd=len(odd),
        odd_examples=tuple(map(_short, dict.fromkeys(odd)))[:EXAMPLES],
    )


def _short(value: object) -> str:
    """A value as Python writes it, so that blanks are seen; a time without its zone, which the type names."""
    text = str(value).removesuffix("+00:00") if isinstance(value, date) else repr(value)
    return text if len(text) <= WIDTH else f"{text[: WIDTH - 3]}..."
