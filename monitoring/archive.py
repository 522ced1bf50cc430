"""The prediction log: every prediction once, every label as it was sent, each label joined to one prediction.

    predictions/date=YYYY-MM-DD/   by event time: _id, _digest, _event_time, _served_at, _version, _score, raw inputs
    labels/date=YYYY-MM-DD/        by receipt: _id, _label, _received_at, _event_time

A prediction that comes twice (a client's retry, a replayed disk queue, a crash between write and acknowledgement) is one row:
the first. The same id asked about with other values, or later than RETRY_SPAN, is another prediction: id, event time and a
digest of the values are its key. A label is about the newest prediction of its id at or before the label's event time, or, where
the client sent none, about the newest one that had been served when it was received; one that came before them all is about the
first. Of several labels of one prediction the latest counts.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from itertools import chain, repeat
from pathlib import Path
from typing import Any
from zlib import crc32

import msgspec
import polars as pl

from monitoring.part_files import log_files
from monitoring.partitions import Partitions, collect
from monitoring.window import CORROBORATION, Asked, newest_rows
from perennial.base import FrozenModel
from perennial.errors import DataError
from perennial.labels import LabelCodec, StoredLabel
from perennial.log_columns import DIGEST, EVENT_TIME, ID, LABEL, RECEIVED_AT, SCORE, SERVED_AT, VERSION
from perennial.record import LabelBatch, PredictionBatch
from perennial.schema import POLARS, Schema, cast_or_null, cast_series
from perennial.settings import Settings
from perennial.spec import ModelSpec, Task
from perennial.value_types import EXPECTED, OLDEST, Dtype

TIME = POLARS["datetime"]
_encoder = msgspec.json.Encoder()

RETRY_SPAN = timedelta(minutes=10)
"""Time in which the same id with the same values is asked about again by a client that got no answer, rather than anew."""

MAX_CLOCK_SKEW = timedelta(minutes=5)
"""How far ahead of the clock a row may lie and move the watermark: machines whose clocks are set disagree by less."""

CONTRADICTED = "_contradicted"
"""Beside a label: whether another one was sent for the row before it."""

UNMATCHED, CONTRADICTORY = "no prediction has this id", "a later label says otherwise"
_KEY = (ID, EVENT_TIME, DIGEST)
_KNOWN_AT, _PLACE, _LAST, _AT, _TIMES = "_known_at", "_place", "_last", "_at", "_times"
_MATCHED = (*_KEY, LABEL, RECEIVED_AT, _PLACE)


class Counts(FrozenModel):
    """How much the log holds: rows, distinct labelled ids, and ids that have both."""

    predictions: int
    labels: int
    joined: int


class Archive:
    """One model's prediction log. One writer (the monitor), any number of readers."""

    def __init__(
        self,
        home: Path,
        task: Task,
        schema: Schema,
        schema_of: Callable[[int], Schema | None] = lambda _version: None,
        url: str | None = None,
    ) -> None:
        """`schema` is that of the rows that are read; `schema_of` tells that of a version whose rows are written.

        The rows are in the model's home, or below `url` (`Settings.archive_url`), with copies of them in the home.
        """
        self.home = home
        self._schema_of = schema_of
        self._task = task
        self._codec = LabelCodec(task)
        self._schema = schema
        asked, sent = _prediction_schema(task, schema), _label_schema(task)
        self._predictions = Partitions(log_files(home, url, "predictions"), asked, (ID, DIGEST), EVENT_TIME, RETRY_SPAN)
        self._labels = Partitions(log_files(home, url, "labels"), sent, (ID, LABEL, EVENT_TIME), RECEIVED_AT)

    def store_predictions(self, rows: pl.DataFrame) -> int:
        """Store the new ones among rows made by `prediction_rows`; returns how many they were. Raises ArchiveError."""
        return self._predictions.append(rows)

    def store_labels(self, rows: pl.DataFrame) -> int:
        """Store the new ones among rows made by `label_rows`; returns how many they were. Raises ArchiveError."""
        return self._labels.append(rows)

    def prediction_rows(self, batches: Sequence[PredictionBatch]) -> pl.DataFrame:
        """The batches as typed rows; raises DataError naming the column that does not fit.

        Rows of a version with another contract keep its own columns too; what it has in another type is converted, or null.
        """
        groups: dict[tuple[int, tuple[str, ...]], list[PredictionBatch]] = defaultdict(list)
        for batch in batches:
            groups[batch.version, tuple(batch.columns)].append(batch)
        frames = [self._prediction_frame(alike) for alike in groups.values()]
        return pl.concat(frames, how="diagonal") if frames else pl.DataFrame(schema=self._predictions.schema)

    def _prediction_frame(self, batches: list[PredictionBatch]) -> pl.DataFrame:
        served = self._schema_of(batches[0].version) or self._schema
        more = tuple(column for column in served.columns if column.name not in self._schema.names)
        whole = self._schema.model_copy(update={"columns": (*self._schema.columns, *more)})
        return _prediction_frame(batches, _prediction_schema(self._task, whole), whole.dtypes, served.dtypes)

    def rows_by_version(self, since: datetime, until: datetime) -> dict[int, int]:
        """How many predictions of a window each version answered."""
        counts = self.scan(since, until).group_by(VERSION).len().sort(VERSION)
        return dict(collect(counts, self._predictions.folder).iter_rows())

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
        """Predictions with since <= event time < until, columns as in the module's docstring."""
        rows = self._predictions.scan(since and since.date(), until and until.date())
        if since is not None:
            rows = rows.filter(pl.col(EVENT_TIME) >= since)
        return rows if until is None else rows.filter(pl.col(EVENT_TIME) < until)

    def with_labels(
        self, since: datetime | None = None, until: datetime | None = None, *, received: bool = False
    ) -> pl.LazyFrame:
        """`scan` with `_label`, the latest one sent for a row or null, and `_contradicted`, whether one before said otherwise.

        With `received`, `_received_at` is when that label came.
        """
        rows = self._joined(self.scan(since, until))
        return rows if received else rows.drop(RECEIVED_AT)

    def predictions_of(self, id_: str) -> pl.LazyFrame:
        """Every prediction of an id, with its label and when that came; looks through all dates for it."""
        return self._joined(self.scan().filter(pl.col(ID) == id_))

    def _joined(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        matched = self._matched(rows.select(ID).unique()).sort(RECEIVED_AT, _PLACE)
        newest = pl.col(LABEL, RECEIVED_AT).last()
        latest = matched.group_by(_KEY).agg(newest, (pl.col(LABEL).n_unique() > 1).alias(CONTRADICTED))
        return rows.join(latest, on=_KEY, how="left", nulls_equal=True)

    def labelled(self, since: datetime | None = None, until: datetime | None = None) -> pl.LazyFrame:
        """`with_labels` without the rows that have none (yet)."""
        return self.with_labels(since, until).filter(pl.col(LABEL).is_not_null())

    def labels(self) -> pl.LazyFrame:
        """Every label as it was sent: _id, _label, _received_at, _event_time."""
        return self._labels.scan()

    def asked_again(self, since: datetime, until: datetime) -> int:
        """How many predictions of a window have an id that was asked about more than once."""
        rows = self.scan(since, until).select(ID)
        again = self.scan().join(rows.unique(), on=ID, how="semi").group_by(ID).len().filter(pl.col("len") > 1)
        return int(collect(rows.join(again, on=ID, how="semi").select(pl.len()), self._predictions.folder).item())

    def label_issues(self) -> pl.DataFrame:
        """The labels that no prediction has, and those that a later label of the same prediction contradicts, as they were sent.

        `issue` says which, `answered` is the event time of the prediction.
        """
        known = self._matched().sort(RECEIVED_AT, _PLACE).with_columns(pl.col(LABEL).last().over(_KEY).alias(_LAST))
        old = known.filter(pl.col(LABEL) != pl.col(_LAST)).select(_PLACE, pl.col(EVENT_TIME).alias("answered"))
        sent = self._sent().join(old, on=_PLACE, how="left")
        unmatched = sent.join(self.scan().select(ID), on=ID, how="anti").with_columns(issue=pl.lit(UNMATCHED))
        contradictory = sent.filter(pl.col("answered").is_not_null()).with_columns(issue=pl.lit(CONTRADICTORY))
        found = pl.concat([unmatched, contradictory]).sort(RECEIVED_AT, _PLACE)
        return collect(found.select(ID, LABEL, pl.col(_KNOWN_AT).alias(EVENT_TIME), RECEIVED_AT, "issue", "answered"), self.home)

    def _sent(self) -> pl.LazyFrame:
        return self._labels.scan().with_row_index(_PLACE).rename({EVENT_TIME: _KNOWN_AT})

    def _matched(self, ids: pl.LazyFrame | None = None) -> pl.LazyFrame:
        """Each label (of these ids) with the key of the prediction that it is about."""
        sent, asked = self._sent(), self.scan().select(*_KEY, SERVED_AT)
        if ids is not None:
            sent, asked = sent.join(ids, on=ID, how="semi"), asked.join(ids, on=ID, how="semi")
        times = asked.group_by(ID).len(_TIMES)
        once = sent.join(asked.join(times.filter(pl.col(_TIMES) == 1), on=ID, how="semi"), on=ID)
        again = times.filter(pl.col(_TIMES) > 1)
        sent, asked = sent.join(again, on=ID, how="semi"), asked.join(again, on=ID, how="semi")
        by_event_time = _nearest(sent.filter(pl.col(_KNOWN_AT).is_not_null()), _KNOWN_AT, asked, EVENT_TIME)
        by_receipt = _nearest(sent.filter(pl.col(_KNOWN_AT).is_null()), RECEIVED_AT, asked, SERVED_AT)
        return pl.concat([once.select(_MATCHED), by_event_time, by_receipt])

    def counts(self) -> Counts:
        """Count what the log holds; reads the ids only."""
        labels = self._labels.scan().select(ID).unique().collect()
        ids = self._predictions.scan().select(ID).collect()
        return Counts(predictions=ids.height, labels=labels.height, joined=ids.join(labels, on=ID, how="semi").height)

    def drop_unmatched_labels(self, after: date | None, until: date) -> int:
        """Delete the labels received after one day, up to another, of ids that no prediction has; returns how many."""
        since = after + timedelta(days=1) if after is not None else None
        if not self._labels.days(since, until):
            return 0
        sent = self._labels.scan(since, until).select(ID).unique()
        known = collect(sent.join(self._predictions.scan().select(ID), on=ID, how="semi"), self.home)
        return self._labels.keep_only(known, ID, since, until)

    def has_labels(self) -> bool:
        """Whether any label has ever come."""
        return bool(self._labels.days())

    def dates(self) -> tuple[date, ...]:
        """Event dates that have predictions, ascending."""
        return self._predictions.days()

    def oldest(self) -> datetime | None:
        """The first event time since OLDEST; None where there is no prediction yet."""
        days = self._predictions.days(since=OLDEST.date())
        if not days:
            return None
        first: datetime | None = collect(
            self._predictions.scan(days[0], days[0]).select(pl.col(EVENT_TIME).min()), self._predictions.folder
        ).item()
        return first

    def newest(self, now: datetime) -> tuple[Asked, ...]:
        """The newest rows that do not lie in the future, as many as the watermark rests on."""
        found: tuple[Asked, ...] = ()
        for day in reversed(self._predictions.days(OLDEST.date(), (now + MAX_CLOCK_SKEW).date())):
            rows = self._predictions.scan(day, day).select(EVENT_TIME, ID).filter(pl.col(EVENT_TIME) <= now + MAX_CLOCK_SKEW)
            newest = collect(rows.unique().top_k(CORROBORATION, by=[EVENT_TIME, ID]), self._predictions.folder)
            found = newest_rows(found, newest.iter_rows())
            if len(found) == CORROBORATION:
                break
        return found


def open_labels(spec: ModelSpec, settings: Settings) -> Archive:
    """The prediction log of a model without its inputs: for what looks at ids and labels, and needs no champion."""
    schema = Schema(columns=(), target=spec.target, event_time=spec.event_time, id=spec.id)
    return Archive(settings.model_home(spec.name), spec.task, schema, url=settings.archive_url(spec.name))


def _nearest(sent: pl.LazyFrame, at: str, asked: pl.LazyFrame, time: str) -> pl.LazyFrame:
    """Labels with the newest prediction of their id whose `time` is at or before `at`, else with the first one after it."""
    labels = sent.select(ID, LABEL, RECEIVED_AT, _PLACE, pl.col(at).alias(_AT)).sort(_AT)
    rows = asked.with_columns(pl.col(time).alias(_AT)).sort(_AT, SERVED_AT)
    # By sorted times, not by all pairs: a client may call thousands of rows by one id.
    before = labels.join_asof(rows, on=_AT, by=ID, check_sortedness=False)
    late = before.filter(pl.col(EVENT_TIME).is_null()).select(labels.collect_schema().names())
    after = late.join_asof(rows, on=_AT, by=ID, strategy="forward", check_sortedness=False)
    return pl.concat([part.filter(pl.col(EVENT_TIME).is_not_null()).select(_MATCHED) for part in (before, after)])


def as_table(rows: pl.DataFrame, schema: Schema, *, labels: bool = False) -> pl.DataFrame:
    """Log rows as a source table: raw inputs and the event time under its own name; with labels, the target too."""
    names = {EVENT_TIME: schema.event_time} | ({LABEL: schema.target} if labels else {})
    inputs = [column.name for column in schema.columns if column.name not in names.values()]
    return rows.select(*inputs, *(pl.col(name).alias(alias) for name, alias in names.items()))


def _prediction_schema(task: Task, schema: Schema) -> pl.Schema:
    score = pl.List(pl.Float64) if task == "multiclass" else pl.Float64()
    meta = {ID: pl.String(), DIGEST: pl.UInt32(), EVENT_TIME: TIME, SERVED_AT: TIME, VERSION: pl.Int64(), SCORE: score}
    return pl.Schema(meta | {column.name: POLARS[column.dtype] for column in schema.columns})


def _label_schema(task: Task) -> pl.Schema:
    return pl.Schema({ID: pl.String(), LABEL: LabelCodec(task).dtype, RECEIVED_AT: TIME, EVENT_TIME: TIME})


def _prediction_frame(
    batches: list[PredictionBatch], wanted: pl.Schema, dtypes: Mapping[str, Dtype], served: Mapping[str, Dtype]
) -> pl.DataFrame:
    """Batches of the same columns as one frame; a column that the version that served did not know is null."""
    cells: dict[str, list[Any]] = {
        ID: [id_ for batch in batches for id_ in batch.ids],
        EVENT_TIME: [time for batch in batches for time in batch.event_times],
        SERVED_AT: [batch.served_at for batch in batches for _ in batch.ids],
        VERSION: [batch.version for batch in batches for _ in batch.ids],
        SCORE: [score for batch in batches for score in batch.scores],
        DIGEST: [digest for batch in batches for digest in _digests(batch)],
    }
    for name in batches[0].columns.keys() & dtypes.keys():
        cells[name] = [cell for batch in batches for cell in batch.columns[name]]
    columns = []
    for name, dtype in wanted.items():
        known, given = dtypes.get(name), served.get(name, dtypes.get(name))
        found = cells.get(name, [None] * len(cells[ID]))
        if known is not None and given is not None and given != known:
            columns.append(cast_or_null(_series(name, found, POLARS[given], given), known))
        else:
            columns.append(_series(name, found, dtype, known))
    return pl.DataFrame(columns)


def _digests(batch: PredictionBatch) -> Iterable[int]:
    """A checksum of each row's values: rows of one id in which it is alike are the same row."""
    rows = zip(*batch.columns.values(), strict=True) if batch.columns else repeat((), len(batch.ids))
    return (crc32(_encoder.encode(row)) for row in rows)


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
