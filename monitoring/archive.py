"""The prediction log: every prediction once, every label as it was sent, joined by id.

    {home}/predictions/date=YYYY-MM-DD/   by event time: _id, _event_time, _served_at, _version, _score, raw inputs
    {home}/labels/date=YYYY-MM-DD/        by receipt: _id, _label, _received_at, _event_time

A prediction that comes twice (a client's retry, a replayed disk queue, a crash between write and
acknowledgement) is one row: the first. A label that is sent twice is two rows, of which the latest counts.
"""

from collections import defaultdict
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Any

import polars as pl

from monitoring.partitions import Partitions, collect
from monitoring.window import ORIGIN
from perennial.base import FrozenModel
from perennial.errors import DataError
from perennial.labels import LabelCodec, StoredLabel
from perennial.log_columns import EVENT_TIME, ID, LABEL, RECEIVED_AT, SCORE, SERVED_AT, VERSION
from perennial.record import LabelBatch, PredictionBatch
from perennial.schema import POLARS, Schema, cast_series
from perennial.spec import Task
from perennial.value_types import EXPECTED, Dtype

TIME = POLARS["datetime"]

MAX_CLOCK_SKEW = timedelta(days=1)
"""How far ahead of the clock an event may lie; a stray time beyond it must not close every window."""

_DAY = timedelta(days=1)


class Counts(FrozenModel):
    """How much the log holds: rows, distinct labelled ids, and ids that have both."""

    predictions: int
    labels: int
    joined: int


class Archive:
    """One model's prediction log. One writer (the monitor), any number of readers."""

    def __init__(self, home: Path, task: Task, schema: Schema) -> None:
        self.home = home
        self._task = task
        self._codec = LabelCodec(task)
        self._schema = schema
        self._predictions = Partitions(home / "predictions", _prediction_schema(task, schema), (ID,), reach=1)
        self._labels = Partitions(home / "labels", _label_schema(task), (ID, RECEIVED_AT), reach=0)

    def store_predictions(self, rows: pl.DataFrame) -> int:
        """Store the new ones among rows made by `prediction_rows`; returns how many they were. Raises ArchiveError."""
        return self._predictions.append(rows, EVENT_TIME)

    def store_labels(self, rows: pl.DataFrame) -> int:
        """Store the new ones among rows made by `label_rows`; returns how many they were. Raises ArchiveError."""
        return self._labels.append(rows, RECEIVED_AT)

    def prediction_rows(self, batches: Sequence[PredictionBatch]) -> pl.DataFrame:
        """The batches as typed rows; raises DataError naming the column that does not fit."""
        groups: dict[tuple[str, ...], list[PredictionBatch]] = defaultdict(list)
        for batch in batches:
            groups[tuple(batch.columns)].append(batch)
        frames = [_prediction_frame(alike, self._predictions.schema, self._schema) for alike in groups.values()]
        return pl.concat(frames) if frames else pl.DataFrame(schema=self._predictions.schema)

    def label_rows(self, batches: Sequence[LabelBatch]) -> pl.DataFrame:
        """The batches as typed rows; raises DataError when a label does not suit the task."""
        labels: list[StoredLabel] = []
        for label in chain.from_iterable(batch.labels for batch in batches):
            try:
                labels.append(self._codec.parse(label))
            except ValueError as error:
                kind, wanted = type(label).__name__, f"the labels of a {self._task} model are"
                raise DataError(f"a label of type {kind} is not {error}, as {wanted}") from None
        columns = {
            ID: [id_ for batch in batches for id_ in batch.ids],
            LABEL: labels,
            RECEIVED_AT: [batch.received_at for batch in batches for _ in batch.ids],
            EVENT_TIME: [time for batch in batches for time in batch.event_times],
        }
        return pl.DataFrame(columns, schema=self._labels.schema)

    def scan(self, since: datetime | None = None, until: datetime | None = None) -> pl.LazyFrame:
        """Predictions with since <= event time < until, one row per id, columns as in the module's docstring."""
        rows = self._predictions.scan(since and since.date(), until and until.date())
        if since is not None:
            rows = rows.filter(pl.col(EVENT_TIME) >= since)
        return rows if until is None else rows.filter(pl.col(EVENT_TIME) < until)

    def with_labels(self, since: datetime | None = None, until: datetime | None = None) -> pl.LazyFrame:
        """`scan` with `_label`: the latest one sent for the id, null where there is none."""
        rows = self.scan(since, until)
        latest = self._labels_after(rows).sort(RECEIVED_AT, maintain_order=True).unique(ID, keep="last", maintain_order=True)
        return rows.join(latest.select(ID, LABEL), on=ID, how="left")

    def labelled(self, since: datetime | None = None, until: datetime | None = None) -> pl.LazyFrame:
        """`with_labels` without the rows that have none (yet)."""
        return self.with_labels(since, until).filter(pl.col(LABEL).is_not_null())

    def labels(self) -> pl.LazyFrame:
        """Every label as it was sent: _id, _label, _received_at, _event_time."""
        return self._labels.scan()

    def counts(self) -> Counts:
        """Count what the log holds; reads the ids only."""
        labels = self._labels.scan().select(ID).unique().collect()
        ids = self._predictions.scan().select(ID).collect()
        return Counts(predictions=ids.height, labels=labels.height, joined=ids.join(labels, on=ID, how="semi").height)

    def dates(self) -> tuple[date, ...]:
        """Event dates that have predictions, ascending."""
        return self._predictions.days()

    def oldest(self) -> datetime | None:
        """The first event time since 1970; None where there is no prediction yet."""
        days = self._predictions.days(since=ORIGIN.date())
        return self._edge(days[0], pl.col(EVENT_TIME).min()) if days else None

    def newest(self, now: datetime) -> datetime | None:
        """The watermark: the last event time that does not lie in the future."""
        days = self._predictions.days(until=(now + MAX_CLOCK_SKEW).date())
        credible = pl.col(EVENT_TIME).filter(pl.col(EVENT_TIME) <= now + MAX_CLOCK_SKEW)
        return next((edge for day in reversed(days) if (edge := self._edge(day, credible.max())) is not None), None)

    def _edge(self, day: date, edge: pl.Expr) -> datetime | None:
        found: datetime | None = collect(self._predictions.scan(day, day).select(edge), self._predictions.folder).item()
        return found

    def _labels_after(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        # A label cannot come before its prediction was served; a day is for clocks that disagree.
        served: datetime | None = collect(rows.select(pl.col(SERVED_AT).min()), self._predictions.folder).item()
        return self._labels.scan(served.date() - _DAY if served else None)


def as_table(rows: pl.DataFrame, schema: Schema, *, labels: bool = False) -> pl.DataFrame:
    """Log rows as a source table: raw inputs and the event time under its own name; with labels, the target too."""
    names = {EVENT_TIME: schema.event_time} | ({LABEL: schema.target} if labels else {})
    inputs = [column.name for column in schema.columns if column.name not in names.values()]
    return rows.select(*inputs, *(pl.col(name).alias(alias) for name, alias in names.items()))


def _prediction_schema(task: Task, schema: Schema) -> pl.Schema:
    score = pl.List(pl.Float64) if task == "multiclass" else pl.Float64()
    meta = {ID: pl.String(), EVENT_TIME: TIME, SERVED_AT: TIME, VERSION: pl.Int64(), SCORE: score}
    return pl.Schema(meta | {column.name: POLARS[column.dtype] for column in schema.columns})


def _label_schema(task: Task) -> pl.Schema:
    return pl.Schema({ID: pl.String(), LABEL: LabelCodec(task).dtype, RECEIVED_AT: TIME, EVENT_TIME: TIME})


def _prediction_frame(batches: list[PredictionBatch], wanted: pl.Schema, schema: Schema) -> pl.DataFrame:
    """Batches of the same columns as one frame; a column that the version that served did not know is null."""
    cells: dict[str, list[Any]] = {
        ID: [id_ for batch in batches for id_ in batch.ids],
        EVENT_TIME: [time for batch in batches for time in batch.event_times],
        SERVED_AT: [batch.served_at for batch in batches for _ in batch.ids],
        VERSION: [batch.version for batch in batches for _ in batch.ids],
        SCORE: [score for batch in batches for score in batch.scores],
    }
    for name in batches[0].columns.keys() & set(schema.names):
        cells[name] = [cell for batch in batches for cell in batch.columns[name]]
    dtypes = {column.name: column.dtype for column in schema.columns}
    rows = len(cells[ID])
    return pl.DataFrame([_series(name, cells.get(name, [None] * rows), wanted[name], dtypes.get(name)) for name in wanted])


def _series(name: str, cells: list[Any], wanted: pl.DataType, dtype: Dtype | None) -> pl.Series:
    """A column of the log; one of the model's own, of this `dtype`, is cast: times travel as text, 1 may stand for 1.0."""
    try:
        return pl.Series(name, cells, dtype=wanted)
    except (TypeError, ValueError, pl.exceptions.PolarsError):
        kinds = ", ".join(sorted({type(cell).__name__ for cell in cells}))
        if dtype is None:
            raise DataError(f"field {name!r} holds {kinds} where the prediction log has {wanted}") from None
    try:
        return cast_series(pl.Series(name, cells, strict=False), dtype)
    except (DataError, TypeError, ValueError, pl.exceptions.PolarsError):
        raise DataError(f"column {name!r} holds {kinds} where the model takes {EXPECTED[dtype]}") from None
