"""Erasure: the rows of one id, or all of before a moment, taken out of a model's prediction log, streams and reports.

`find_log_rows` reads and changes nothing. `erase_log` rewrites each file of the archive that has such rows without them; a reader
sees the old file or the new one. `erase_streams` adds what is left of an entry as a new one in the step that deletes the old one.
It may be repeated after a crash. The caller holds the model's lease, so that no monitor writes meanwhile (`monitoring.pause`).
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import redis

from monitoring.part_files import PartFiles, log_files
from monitoring.partitions import collect, part_content
from monitoring.report import report_path
from monitoring.state import WindowResult, load_results, save_result
from perennial.errors import NewerFormat, RecordError
from perennial.log_columns import EVENT_TIME, ID, RECEIVED_AT
from perennial.record import LabelBatch, PredictionBatch, decode_label_batch, decode_prediction_batch, encode_batch
from service.prediction_log.streams import GROUP, append, dead_stream, from_entry, labels_stream, predictions_stream

READ_COUNT = 500
"""Entries of a stream in memory at once."""


@dataclass(frozen=True)
class Subject:
    """Whose rows: those of `id`, or those of before a moment in event time; one of them is given."""

    id: str | None = None
    before: datetime | None = None

    def rows(self, id_column: str | None, time_column: str) -> pl.Expr:
        """The rows of a table; none where it has no ids and an id is asked for."""
        if self.before is not None:
            return pl.col(time_column) < self.before
        return pl.col(id_column).cast(pl.String) == self.id if id_column else pl.lit(value=False)

    def has(self, id_: str, time: datetime) -> bool:
        """Whether a row is the subject's."""
        return id_ == self.id if self.before is None else time < self.before


@dataclass(frozen=True)
class LogRows:
    """What the archive has of a subject: files with rows to leave out, and how many; the times of the predictions."""

    predictions: int
    labels: int
    times: pl.Series
    files: tuple[tuple[PartFiles, Path, pl.Expr], ...]


def find_log_rows(home: Path, subject: Subject, url: str | None = None) -> LogRows:
    """Look through the archive, in the home or below `url`; raises ArchiveError where a file cannot be read."""
    asked_files, told_files = log_files(home, url, "predictions"), log_files(home, url, "labels")
    ours, predictions, labels = subject.rows(ID, EVENT_TIME), _parts(asked_files), _parts(told_files)
    seen = [collect(pl.scan_parquet(path).select(ID, EVENT_TIME, ours.alias("ours")), path) for path in predictions]
    asked = pl.concat(seen) if seen else pl.DataFrame(schema={ID: pl.String, EVENT_TIME: pl.Datetime("us", "UTC"), "ours": bool})
    gone, kept = asked.filter(pl.col("ours")), asked.filter(~pl.col("ours"))
    orphaned = gone.join(kept, on=ID, how="anti")[ID].unique()
    theirs = _label_rows(subject) | pl.col(ID).is_in(orphaned.to_list())
    answers, truths = list(_having(predictions, ours)), list(_having(labels, theirs))
    files = [(asked_files, path, ours) for path, _ in answers] + [(told_files, path, theirs) for path, _ in truths]
    return LogRows(gone.height, sum(count for _, count in truths), gone[EVENT_TIME], tuple(files))


def erase_log(found: LogRows) -> None:
    """Write the files without the rows that were found; one of which nothing is left goes. Raises ArchiveError."""
    for files, path, rows in found.files:
        rest = collect(pl.scan_parquet(path, hive_partitioning=False), path).filter(~rows.fill_null(value=False))
        if rest.is_empty():
            files.remove(path)
        else:
            files.replace(path, part_content(rest))


def erase_streams(store: redis.Redis, model: str, subject: Subject, *, dry: bool = False) -> int:
    """Take the subject's rows out of the model's three streams, or only count them; returns how many, dead entries as one."""
    kinds: tuple[tuple[str, Callable[[bytes], Any]], ...] = (
        (predictions_stream(model), decode_prediction_batch),
        (labels_stream(model), decode_label_batch),
    )
    count = 0
    for stream, decode in kinds:
        for id_, fields in _entries(store, stream):
            try:
                batch = decode(from_entry(fields))
            except (RecordError, NewerFormat):
                continue  # the monitor moves it to the dead stream
            keep = [not subject.has(*row) for row in _rows(batch)]
            if not all(keep):
                count += keep.count(False)
                if not dry:
                    _rewrite(store, stream, id_, _kept(batch, keep))
    return count + _erase_dead(store, dead_stream(model), subject, dry=dry)


def affected_windows(home: Path, times: pl.Series) -> tuple[WindowResult, ...]:
    """The closed windows in which predictions of these times lie."""
    return tuple(one for one in load_results(home) if times.is_between(one.window.start, one.window.end, closed="left").any())


def erase_reports(home: Path, results: tuple[WindowResult, ...]) -> int:
    """Delete the reports of these windows, and their runs in Evidently's workspace; returns how many files."""
    files = [path for one in results for path in _report_files(home, one) if path.exists()]
    for path in files:
        path.unlink()
    for result in results:
        if result.report is not None:
            save_result(home, result.model_copy(update={"report": None}))
    return len(files)


def _report_files(home: Path, result: WindowResult) -> Iterator[Path]:
    path = report_path(home, result.window)
    yield from (path, path.with_suffix(".json"))
    named = json.dumps(str(result.window))
    yield from (run for run in (home / "evidently").glob("*/snapshots/*.json") if named in run.read_text(encoding="utf-8"))


def _label_rows(subject: Subject) -> pl.Expr:
    if subject.before is None:
        return pl.col(ID) == subject.id
    return pl.coalesce(EVENT_TIME, RECEIVED_AT) < subject.before


def _parts(files: PartFiles) -> list[Path]:
    return files.parts_of(tuple(sorted(files.days())))


def _having(paths: list[Path], rows: pl.Expr) -> Iterator[tuple[Path, int]]:
    for path in paths:
        count = int(collect(pl.scan_parquet(path, hive_partitioning=False).filter(rows).select(pl.len()), path).item())
        if count:
            yield path, count


def _entries(store: redis.Redis, stream: str) -> Iterator[tuple[bytes, Any]]:
    """Every entry that is there at the start, oldest first."""
    newest: Any = store.xrevrange(stream, count=1)
    after, last = "-", newest[0][0].decode() if newest else "0-0"
    while entries := list(_read(store, stream, after, last)):
        yield from entries
        after = f"({entries[-1][0].decode()}"


def _read(store: redis.Redis, stream: str, after: str, last: str) -> Any:
    return store.xrange(stream, min=after, max=last, count=READ_COUNT)


def _rows(batch: PredictionBatch | LabelBatch) -> Iterator[tuple[str, datetime]]:
    """Id and event time of each row; a label without one is of the time when it came."""
    if isinstance(batch, PredictionBatch):
        return zip(batch.ids, batch.event_times, strict=True)
    return ((id_, time or batch.received_at) for id_, time in zip(batch.ids, batch.event_times, strict=True))


def _kept(batch: Any, keep: list[bool]) -> Any:
    """The batch with the rows to keep; None where there are none."""

    def of(cells: Any) -> Any:
        return tuple(cell for cell, kept in zip(cells, keep, strict=True) if kept)

    if not any(keep):
        return None
    rest = replace(batch, ids=of(batch.ids), event_times=of(batch.event_times))
    if isinstance(rest, LabelBatch):
        return replace(rest, labels=of(rest.labels))
    return replace(rest, scores=of(rest.scores), columns={name: of(cells) for name, cells in rest.columns.items()})


def _rewrite(store: redis.Redis, stream: str, id_: bytes, rest: Any) -> None:
    """In one step: the rest as a new entry, the old one acknowledged, should a dead run have left it so, and deleted."""
    pipeline = store.pipeline(transaction=True)
    if rest is not None:
        append(pipeline, stream, encode_batch(rest))
    if store.exists(stream) and any(group["name"] in (GROUP, GROUP.encode()) for group in store.xinfo_groups(stream)):
        pipeline.xack(stream, GROUP, id_)
    pipeline.xdel(stream, id_)
    pipeline.execute()


def _erase_dead(store: redis.Redis, stream: str, subject: Subject, *, dry: bool) -> int:
    """Entries that no one can read: those that hold the id as a text, or that came before the moment."""
    count = 0
    for id_, fields in _entries(store, stream):
        came = datetime.fromtimestamp(int(id_.partition(b"-")[0]) / 1000, UTC)
        named = subject.id is not None and json.dumps(subject.id, ensure_ascii=False).encode() in fields.get(b"b", b"")
        if named or (subject.before is not None and came < subject.before):
            count += 1
            if not dry:
                store.xdel(stream, id_)
    return count
