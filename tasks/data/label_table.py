"""Labels of a table: rows of an id, a label and perhaps a time, each judged as `/feedback` judges one.

A table comes from wherever a source may come from, in the same dialects. A row that HTTP would refuse is left out and named with
the reason; the others stand, for a file is no request that could be sent again. A row without a label is one that has none yet.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import polars as pl

from perennial.errors import DataError
from perennial.labels import LabelCodec
from perennial.log_columns import EVENT_TIME, ID, LABEL
from perennial.schema import POLARS, cast_or_null
from perennial.spec import ModelSpec
from perennial.spec_sources import LabelsSpec
from service.decoding.row_contract import ID_EXPECTED, MAX_ID
from tasks.data.column_types import OF_TARGET, RawTable, Use, type_columns
from tasks.data.csv_dialect import LABELS
from tasks.data.sources import read_source

SHOWN = 20  # refused rows that are named
KEY = [ID, EVENT_TIME]  # what a label is about: a later one of the same replaces it

TIME = POLARS["datetime"]


def missing_in(rows: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
    """The labels of `rows` that `known` does not have, or has otherwise; in their order."""
    return rows.join(known, on=[*KEY, LABEL], how="anti", nulls_equal=True, maintain_order="left")


@dataclass(frozen=True)
class LabelColumns:
    """The columns of a table of labels; `time` is None where it has none."""

    id: str
    label: str
    time: str | None

    def __str__(self) -> str:
        return ", ".join(name for name in (self.id, self.label, self.time) if name)


@dataclass(frozen=True)
class LabelTable:
    """`rows` have `_id`, `_event_time` and `_label`, as the table has them; `reasons` are of the first that were refused."""

    columns: LabelColumns
    rows: pl.DataFrame
    unlabelled: int
    refused: int
    reasons: tuple[str, ...]

    @property
    def latest(self) -> pl.DataFrame:
        """The last row of each id and time."""
        return self.rows.unique(KEY, keep="last", maintain_order=True)


def read_label_table(
    source: LabelsSpec,
    spec: ModelSpec,
    codec: LabelCodec,
    base: Path,
    environ: Mapping[str, str],
    *,
    since: datetime | None = None,
    without_last: bool = False,
) -> LabelTable:
    """Read and judge a table of labels; `since` is what its query may ask for, `without_last` leaves out a row that may be cut.

    Raises SourceError and DataError, FunctionError for a loader's mistake.
    """
    raw = read_source(LABELS, source, base, environ, since=since)
    return judge_labels(raw, source, spec, codec, without_last=without_last)


def judge_labels(
    raw: RawTable, source: LabelsSpec, spec: ModelSpec, codec: LabelCodec, *, without_last: bool = False
) -> LabelTable:
    """A table as it was read, with the rows that can be sent and those that cannot; raises DataError for a missing column."""
    columns = find_columns(source, spec, raw.frame.columns)
    told = raw.frame.select(list(dict.fromkeys(name for name in (columns.id, columns.label, columns.time) if name)))
    told = (told.head(told.height - 1) if without_last else told).with_columns(pl.col(pl.Categorical, pl.Enum).cast(pl.String))
    uses: dict[str, Use] = {columns.id: "text", columns.label: OF_TARGET[spec.task]}
    typed = type_columns(LABELS, source, RawTable(told, raw.untyped, raw.files), _with_time(uses, columns), 1.0).frame
    texts = told.select(pl.all().cast(pl.String, strict=False))
    rows = pl.DataFrame(
        [
            cast_or_null(typed[columns.id], "string").alias(ID),
            _times(typed, columns).alias(EVENT_TIME),
            codec.parse_column(typed[columns.label]).alias(LABEL),
        ]
    )
    present = _is_present(told[columns.label])
    wrong = list(_wrong(rows, texts, columns, present, codec))
    bad = pl.select(pl.any_horizontal(mask for mask, _ in wrong)).to_series() & present
    reasons = tuple(f"{raw.place(row)}: {_reason(row, wrong, texts)}" for row in bad.arg_true().head(SHOWN))
    return LabelTable(columns, rows.filter(present & ~bad), told.height - int(present.sum()), int(bad.sum()), reasons)


def find_columns(source: LabelsSpec, spec: ModelSpec, columns: Sequence[str]) -> LabelColumns:
    """The columns that the spec names, or those of the names that HTTP has, or the spec's own; raises DataError for none."""

    def find(key: str, given: str | None, *others: str | None) -> str | None:
        if given is not None and given not in columns:
            raise DataError(f"labels.{key} names {given!r}, but the columns are {', '.join(columns)}")
        return given or next((name for name in others if name in columns), None)

    id_, label = find("id", source.id, "id", spec.id), find("label", source.label, "label", spec.target)
    time = find("time", source.time, "event_time", spec.event_time)
    missing = [key for key, found in (("id", id_), ("label", label)) if found is None]
    if id_ is None or label is None:
        found = f"the columns are {', '.join(columns)}"
        raise DataError(f"a table of labels needs an id and a label, and {found}: say which one it is by {' and '.join(missing)}")
    return LabelColumns(id_, label, time)


def _with_time(uses: dict[str, Use], columns: LabelColumns) -> dict[str, Use]:
    return {**uses, **({columns.time: "event time"} if columns.time else {})}


def _times(typed: pl.DataFrame, columns: LabelColumns) -> pl.Series:
    if columns.time is None:
        return pl.Series([None] * typed.height, dtype=TIME)
    return cast_or_null(typed[columns.time], "datetime")


def _is_present(labels: pl.Series) -> pl.Series:
    return labels.is_not_null() & labels.is_not_nan() if labels.dtype.is_float() else labels.is_not_null()


Wrong = tuple[pl.Series, tuple[str, str]]
"""Rows that are wrong in one way: which they are, the column, and what was expected of it."""


def _wrong(
    rows: pl.DataFrame, texts: pl.DataFrame, columns: LabelColumns, present: pl.Series, codec: LabelCodec
) -> Iterator[Wrong]:
    """Each way in which a row may be wrong."""
    lengths = rows[ID].str.len_chars()
    yield rows[ID].is_null() | ~lengths.is_between(1, MAX_ID).fill_null(value=False), (columns.id, ID_EXPECTED)
    yield present & rows[LABEL].is_null(), (columns.label, codec.expected)
    if columns.time:
        yield (
            texts[columns.time].is_not_null() & rows[EVENT_TIME].is_null(),
            (columns.time, "a time such as 2024-03-01T06:00:00Z"),
        )


def _reason(row: int, wrong: Sequence[Wrong], texts: pl.DataFrame) -> str:
    column, expected = next(what for mask, what in wrong if mask[row])
    return f"{column} is {texts[column][row]!r:.80}, expected {expected}"
