"""What `perennial feedback` does: the labels of a table put into the stream of labels, without those that are known already.

Neither service nor monitor need run: the stream keeps the labels until a monitor archives them, as it does those of `/feedback`.
A label is known where the prediction log, or else the stream, has it as the last one of its id and time. So a second run sends
nothing, and one after a failure sends the rest.
"""

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import redis

from deployments.stack.stack import environment_of
from monitoring.archive import open_labels
from monitoring.partitions import collect
from perennial.errors import NewerFormat, RecordError, StackError
from perennial.labels import codec_of
from perennial.log_columns import EVENT_TIME, ID, LABEL, RECEIVED_AT
from perennial.model_loading import load_card
from perennial.record import LabelBatch, decode_label_batch, encode_batch
from perennial.registry import Registry
from perennial.settings import Settings
from perennial.spec import ModelSpec, load_spec
from perennial.spec_sources import LabelsSpec
from service.prediction_log.redis_client import connect, translate_redis_errors
from service.prediction_log.streams import append, from_entry, labels_stream
from tasks.data.label_table import KEY, LabelTable, missing_in, read_label_table

BATCH = 5_000  # labels of an entry: some hundred kilobytes
PAGE = 500  # entries read at once


@dataclass(frozen=True)
class Feedback:
    """What was in the table, and how many of its labels were sent."""

    table: LabelTable
    sent: int

    def rows(self, spec: Path) -> dict[str, str]:
        """For people, row by row."""
        table = self.table
        known = table.rows.height - self.sent
        more = table.refused - len(table.reasons)
        refused = [f"{table.refused:,} rows", *table.reasons, *([f"... and {more:,} more"] if more else [])]
        return {
            "columns": str(table.columns),
            "accepted": f"{self.sent:,} labels, in the stream for the monitor" if self.sent else "none",
            "repeated": f"{known:,} rows that say nothing new" if known else "",
            "no label": f"{table.unlabelled:,} rows" if table.unlabelled else "",
            "rejected": "\n".join(refused) if table.refused else "",
            "next": f"perennial labels {spec}",
        }


def send_feedback(
    path: Path, file: str, columns: Mapping[str, str | None], settings: Settings, environ: Mapping[str, str], now: datetime
) -> Feedback:
    """Send the labels of a CSV or Parquet file or URL; `columns` names its id, label and time where they are given.

    Raises SpecError, DataError, StackError (no store is configured), StoreUnreachable.
    """
    spec, settings_url = load_spec(path), environment_of(settings, environ).get("REDIS_URL")
    if settings_url is None:
        raise StackError(f"there is no store for labels: start the stack with `perennial up {path}`, or set REDIS_URL")
    source = _source(spec, file, columns)
    table = read_label_table(source, spec, codec_of(spec, _label_texts(spec, settings)), Path.cwd(), environ)
    with translate_redis_errors(settings_url), closing(connect(settings_url)) as store:
        known = pl.concat([_archived(spec, settings, table), *_waiting(store, spec, table)])
        known = known.unique(KEY, keep="last", maintain_order=True)
        fresh = missing_in(table.latest, known)
        for part in fresh.iter_slices(BATCH):
            append(store, labels_stream(spec.name), encode_batch(_batch(spec, part, now)))
    return Feedback(table, fresh.height)


def _source(spec: ModelSpec, file: str, columns: Mapping[str, str | None]) -> LabelsSpec:
    """The file as a source: in the dialect of the spec's labels, else in that of its first source."""
    first = next(iter(spec.sources.values()))
    leave = {"path", "query", "connection", "loader", *(() if spec.labels else ("header",))}
    dialect = (spec.labels or first).model_dump(exclude=leave)
    return LabelsSpec.model_validate({**dialect, **{key: name for key, name in columns.items() if name}, "path": file})


def _label_texts(spec: ModelSpec, settings: Settings) -> tuple[str, ...]:
    """The values of a binary target that the champion has learnt."""
    registry = Registry(settings.registry_url)
    champion = registry.aliases(spec.name).champion
    return () if champion is None else load_card(registry, spec.name, champion).label_texts


def _archived(spec: ModelSpec, settings: Settings, table: LabelTable) -> pl.DataFrame:
    """The labels of the table's ids that are in the prediction log, in the order of their receipt."""
    archive = open_labels(spec, settings)
    known = archive.labels().join(table.rows.lazy().select(ID).unique(), on=ID, how="semi", maintain_order="left")
    return collect(known.sort(RECEIVED_AT, maintain_order=True).select(table.rows.columns), archive.home)


def _waiting(store: redis.Redis, spec: ModelSpec, table: LabelTable) -> Iterator[pl.DataFrame]:
    """The labels in the stream, oldest first; an entry that cannot be read is the monitor's matter."""
    after = "-"
    read: Any = store.xrange  # its types leave open what a client decodes
    while entries := read(labels_stream(spec.name), min=after, count=PAGE):
        for _, fields in entries:
            try:
                batch = decode_label_batch(from_entry(fields))
                cells = {ID: batch.ids, EVENT_TIME: batch.event_times, LABEL: batch.labels}
                yield pl.DataFrame(cells, schema=table.rows.schema)
            except (RecordError, NewerFormat, TypeError, pl.exceptions.PolarsError):
                continue
        after = f"({entries[-1][0].decode()}"


def _batch(spec: ModelSpec, rows: pl.DataFrame, now: datetime) -> LabelBatch:
    ids, times, labels = (tuple(rows[name]) for name in (ID, EVENT_TIME, LABEL))
    return LabelBatch(model=spec.name, received_at=now, ids=ids, labels=labels, event_times=times)
