"""The stream consumer: reads both streams of a model in the consumer group, oldest entry first, and ingests what it read.

Entries that a dead consumer left pending come first, then new ones. `ingest` writes a batch to the archive and only then
acknowledges it. An entry leaves the pending list by `acknowledge` or, when it cannot be read, by `dead_letter`, which moves
it to the dead letters (dead_letters.py) with the reason. Acknowledged entries are trimmed up to the oldest one that is pending
or undelivered.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Generic, TypeVar

import polars as pl
import redis

from monitoring.archive import Archive
from monitoring.dead_letters import put_aside
from perennial.base import FrozenModel
from perennial.error_reporting import report
from perennial.errors import DataError, NewerFormat, PerennialError, RecordError
from perennial.record import LabelBatch, PredictionBatch, decode_label_batch, decode_prediction_batch
from service.prediction_log.streams import GROUP, from_entry, labels_stream, predictions_stream, to_entry

READ_COUNT = 500
"""Entries per read and stream: a few MB of requests, and enough to make one Parquet file worth writing."""

CONSUMER_NAME = "monitor"
"""One name for all runs: only the lease's holder reads, and finds what its predecessor left under its own name."""

Record = TypeVar("Record", PredictionBatch, LabelBatch)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Entry(Generic[Record]):
    """One readable entry: where it is in the stream and what it says."""

    stream: str
    id: bytes
    payload: bytes
    record: Record


@dataclass(frozen=True, slots=True)
class Batch:
    """The entries of one read. `more`: streams that gave as many as were asked for, so probably have more."""

    predictions: tuple[Entry[PredictionBatch], ...] = ()
    labels: tuple[Entry[LabelBatch], ...] = ()
    entries: int = 0
    unreadable: int = 0
    more: frozenset[str] = frozenset()

    @property
    def rows(self) -> int:
        """Predictions and labels in it."""
        return sum(len(one.record.ids) for one in self.predictions) + sum(len(one.record.ids) for one in self.labels)

    def __add__(self, other: "Batch") -> "Batch":
        """This one and the one read after it."""
        predictions, labels = self.predictions + other.predictions, self.labels + other.labels
        return Batch(predictions, labels, self.entries + other.entries, self.unreadable + other.unreadable, other.more)


class IngestResult(FrozenModel):
    """What became of some entries; `predictions` and `labels` are rows that were new."""

    entries: int = 0
    unreadable: int = 0
    predictions: int = 0
    labels: int = 0

    @property
    def unreadable_share(self) -> float:
        """Unreadable entries over entries."""
        return self.unreadable / self.entries if self.entries else 0.0

    def __add__(self, other: "IngestResult") -> "IngestResult":
        return IngestResult(**{name: count + getattr(other, name) for name, count in self})


class StreamConsumer:
    """One model's two streams, read as a consumer of the group."""

    def __init__(self, store: redis.Redis, model: str) -> None:
        self._store, self.model = store, model
        self.streams = (predictions_stream(model), labels_stream(model))

    def ensure_groups(self) -> None:
        """Create streams and group where they are not there yet; a new group starts at the oldest entry."""
        for stream in self.streams:
            try:
                self._store.xgroup_create(stream, GROUP, id="0", mkstream=True)
            except redis.ResponseError as error:
                if not str(error).startswith("BUSYGROUP"):
                    raise

    def read_pending(self, count: int = READ_COUNT) -> Batch:
        """Entries delivered before, to this run or to dead ones, and never acknowledged; empty when none is left."""
        return self.decode(self._group_read("0", count, None), count)

    def read(self, count: int = READ_COUNT, block: timedelta | None = None) -> Batch:
        """New entries, at most `count` of each stream; waits up to `block` for the first one."""
        return self.decode(self._group_read(">", count, block), count)

    def acknowledge(self, entries: Iterable[Entry[Any]]) -> None:
        """Acknowledge entries whose content is safe, and trim what the group is done with."""
        done: dict[str, list[bytes]] = {}
        for entry in entries:
            done.setdefault(entry.stream, []).append(entry.id)
        for stream, ids in done.items():
            self._store.xack(stream, GROUP, *ids)
            self._trim(stream)

    def ingest(self, batch: Batch, archive: Archive) -> IngestResult:
        """Archive a batch, then acknowledge it; raises ArchiveError, with nothing acknowledged that is not archived.

        An entry that decodes but does not fit the archive's columns is found by trying entries one by one, and goes to
        the dead stream; the others are archived.
        """
        predictions, stored, misfits = self._fit(batch.predictions, archive.prediction_rows)
        labels, labelled, malformed = self._fit(batch.labels, archive.label_rows)
        result = IngestResult(
            entries=batch.entries,
            unreadable=batch.unreadable + misfits + malformed,
            predictions=archive.store_predictions(predictions),
            labels=archive.store_labels(labels),
        )
        self.acknowledge([*stored, *labelled])
        return result

    def dead_letter(self, stream: str, id_: bytes, fields: Mapping[bytes, bytes], error: PerennialError) -> None:
        """Move an entry to the dead stream with the reason, in one step, and report it."""
        put_aside(self._store, self.model, stream, id_, fields, str(error))
        kept = f"`perennial dead-letters {self.model}` shows it"
        log.error("entry %s of %s is unreadable: %s; it is put aside: %s", id_.decode(), stream, error, kept)
        report(error, group=("monitoring", "unreadable-entry", stream), model=self.model)

    def decode(self, reply: dict[str, list[tuple[bytes, Any]]], count: int) -> Batch:
        """The entries of this model in a reply of the store; those that cannot be read go to the dead stream."""
        predictions, labels = self.streams
        counter: Counter[str] = Counter()
        return Batch(
            predictions=self._records(predictions, reply.get(predictions, []), decode_prediction_batch, counter),
            labels=self._records(labels, reply.get(labels, []), decode_label_batch, counter),
            entries=sum(len(reply.get(stream, ())) for stream in self.streams),
            unreadable=counter["unreadable"],
            more=frozenset(stream for stream in self.streams if len(reply.get(stream, ())) >= count),
        )

    def _group_read(self, after: str, count: int, block: timedelta | None) -> dict[str, list[tuple[bytes, Any]]]:
        try:
            return group_read(self._store, self.streams, after, count, block)
        except redis.ResponseError as error:
            if not str(error).startswith("NOGROUP"):
                raise
            # The stream was deleted, or the store lost it: begin it anew.
            self.ensure_groups()
            return {}

    def _records(
        self, stream: str, entries: Sequence[tuple[bytes, Any]], decode: Callable[[bytes], Record], counter: Counter[str]
    ) -> tuple[Entry[Record], ...]:
        found = []
        for id_, fields in entries:
            try:
                payload = from_entry(fields or {})
                record = decode(payload)
                if record.model != self.model:
                    raise RecordError(f"the record is about model {record.model!r:.80}, not {self.model!r}")
                found.append(Entry(stream, id_, payload, record))
            except (RecordError, NewerFormat) as error:
                counter["unreadable"] += 1
                self.dead_letter(stream, id_, fields or {}, error)
        return tuple(found)

    def _fit(
        self, entries: Sequence[Entry[Record]], to_rows: Callable[[Sequence[Record]], pl.DataFrame]
    ) -> tuple[pl.DataFrame, list[Entry[Record]], int]:
        """The rows of the entries that fit, those entries, and how many went to the dead stream."""
        try:
            return to_rows([entry.record for entry in entries]), list(entries), 0
        except DataError as error:
            if len(entries) == 1:
                self.dead_letter(entries[0].stream, entries[0].id, to_entry(entries[0].payload), error)
                return to_rows([]), [], 1
            good = [entry for entry in entries if not self._fit([entry], to_rows)[2]]
            return to_rows([entry.record for entry in good]), good, len(entries) - len(good)

    def _trim(self, stream: str) -> None:
        """Drop the entries before the oldest one that is still pending or undelivered."""
        pending = self._store.xpending(stream, GROUP)
        bound = pending["min"]
        if not pending["pending"]:
            groups = {_text(group["name"]): group for group in self._store.xinfo_groups(stream)}
            millis, number = _text(groups[GROUP]["last-delivered-id"]).split("-")
            bound = f"{millis}-{int(number) + 1}"
        self._store.xtrim(stream, minid=_text(bound), approximate=False)


def read_first(store: redis.Redis, consumers: Sequence[StreamConsumer], block: timedelta) -> dict[str, Batch]:
    """One new entry of each stream, by model, of those models that have any; waits up to `block` for the first of all.

    Raises redis.ResponseError when a stream of any model is gone or is none.
    """
    reply = group_read(store, [stream for one in consumers for stream in one.streams], ">", 1, block)
    return {one.model: one.decode(reply, 1) for one in consumers if any(stream in reply for stream in one.streams)}


def group_read(
    store: redis.Redis, streams: Sequence[str], after: str, count: int, block: timedelta | None
) -> dict[str, list[tuple[bytes, Any]]]:
    """The store's entries after an id, by stream."""
    wait = int(block.total_seconds() * 1000) if block else None
    reply = store.xreadgroup(GROUP, CONSUMER_NAME, dict.fromkeys(streams, after), count, wait)
    pairs = reply.items() if isinstance(reply, dict) else reply or ()
    return {_text(stream): _flat(entries) for stream, entries in pairs}


def _flat(entries: Any) -> list[tuple[bytes, Any]]:
    """RESP3 replies through older redis-py wrap each stream's entries once more."""
    nested = bool(entries) and isinstance(entries[0], list) and bool(entries[0]) and isinstance(entries[0][0], (list, tuple))
    return list(entries[0]) if nested else list(entries)


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
