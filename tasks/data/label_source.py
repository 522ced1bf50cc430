"""The label source: what a spec's `[labels]` names, read again and again by the monitor, each label delivered once.

    {home}/label_source/state.json          what was read of each file or query, and how that went
    {home}/label_source/read/*.parquet      the rows read of each of them
    {home}/label_source/current.parquet     the last label delivered of each id and time

A poll looks at the size and the time of change of each file, and reads those that changed; of their rows it delivers those that
are new or say otherwise than before. They go straight into the prediction log, where those of `/feedback` come by way of the
stream: unknown ids wait there for their prediction, a later label replaces an earlier one. A crash delivers nothing twice: the
moment of receipt, which tells one delivery from another, is written down first. A file that cannot be read, or that changes while
it is read, is named once and tried again at every poll. A last line that does not end is left out until the file rests.
"""

import hashlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from glob import escape, glob
from pathlib import Path

import fsspec
import httpx
import polars as pl
from pydantic import AwareDatetime, Field, ValidationError

from monitoring.archive import Archive
from monitoring.state import write_stored
from perennial.base import FrozenModel, StoredModel, read_stored
from perennial.error_reporting import report
from perennial.errors import SET_ASIDE, ArchiveError, DataError, FunctionError, SourceError
from perennial.labels import LabelCodec, codec_of
from perennial.log_columns import EVENT_TIME, ID, LABEL, RECEIVED_AT
from perennial.spec import ModelSpec
from perennial.spec_sources import LabelsSpec
from tasks.data.datasets import write_parquet
from tasks.data.label_table import KEY, TIME, LabelTable, missing_in, read_label_table
from tasks.data.sources import WEB, WEB_TIMEOUT
from tasks.job import Job

REST = timedelta(seconds=10)
"""A file that has not changed for this long has come to rest: its last line is whole, whether or not it ends."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LINES = (".csv", ".tsv")
_STATES = ("etag", "ETag", "last-modified", "LastModified", "last_modified", "mtime", "updated")  # of a remote file

log = logging.getLogger(__name__)


class PartRead(FrozenModel):
    """What is known of one file, or of the query: counts are of its last reading, `delivered` is of all of them."""

    stamp: str | None = Field(None, description="size and time of change of what was read")
    read_at: AwareDatetime | None = None
    rows: int = 0
    unlabelled: int = 0
    refused: int = 0
    reasons: tuple[str, ...] = ()
    delivered: int = 0
    cut: bool = Field(False, description="whether its last line was left out, for it did not end")
    error: str | None = Field(None, description="why it could not be read the last time")


class Delivery(FrozenModel):
    """A delivery that has begun: which part's, and the moment of receipt that its labels have."""

    part: str
    received_at: AwareDatetime


class LabelSourceState(StoredModel):
    """Everything that is remembered between polls but the rows themselves."""

    parts: dict[str, PartRead] = Field(default_factory=dict)
    newest: AwareDatetime | None = Field(None, description="the newest time read, which a query may begin with")
    begun: Delivery | None = None


@dataclass(frozen=True)
class Part:
    """One file, or the query or loader as a whole; `stamp` is None where nothing shows whether it has changed."""

    name: str
    source: LabelsSpec
    stamp: str | None = None
    cut: bool = False


def label_source(job: Job) -> "LabelSource | None":
    """The source of the job's labels; None where its spec names none."""
    source = job.spec.labels
    return None if source is None else LabelSource(job.spec, source, job.base, job.home, job.environ)


class LabelSource:
    """The labels of one model's spec; used by the one active monitor."""

    def __init__(self, spec: ModelSpec, source: LabelsSpec, base: Path, home: Path, environ: Mapping[str, str]) -> None:
        self._spec, self._source, self._base, self._environ = spec, source, base, environ
        self._folder = home / "label_source"
        self._next = EPOCH
        self.state = load_state(home)

    def poll(self, archive: Archive, texts: tuple[str, ...], now: datetime, *, at_once: bool = False) -> int:
        """Deliver what is new, if it is time to look again or a window is about to close; returns how many labels.

        `texts` are the values of a binary target that the champion has learnt. Raises ArchiveError.
        """
        if now < self._next and not at_once:
            return 0
        self._next, codec = now + self._source.every, codec_of(self._spec, texts)
        return sum(self._read(part, archive, codec, now) for part in self._parts(now))

    def _parts(self, now: datetime) -> Iterator[Part]:
        path = self._source.path
        if path is None:
            yield Part(self._source.where, self._source)
            return
        path = path.removeprefix("file://")
        if "://" in path:
            yield Part(self._source.where, self._source, _remote_stamp(path))
            return
        for found in sorted(glob(str(self._base / path))):  # noqa: PTH207 - Path.glob refuses an absolute pattern
            yield self._file(Path(found), now)

    def _file(self, file: Path, now: datetime) -> Part:
        source, stamp = self._source.model_copy(update={"path": escape(str(file))}), _stamp(file)
        known = self.state.parts.get(str(file))
        resting = known is not None and known.cut and known.stamp == stamp
        return Part(str(file), source, stamp, cut=not resting and _is_cut(file, now))

    def _read(self, part: Part, archive: Archive, codec: LabelCodec, now: datetime) -> int:
        known = self.state.parts.get(part.name, PartRead())
        if part.stamp is not None and part.stamp == known.stamp and known.cut == part.cut:
            return 0
        since = (self.state.newest or EPOCH) if part.source.asks_since else None
        try:
            table = read_label_table(
                part.source, self._spec, codec, self._base, self._environ, since=since, without_last=part.cut
            )
            if part.stamp is not None and "://" not in part.name and _stamp(Path(part.name)) != part.stamp:
                raise SourceError(f"{part.name} changed while it was read: it is being written still")
        except (DataError, FunctionError, OSError) as error:
            self._note_failure(part, known, error)
            return 0
        delivered = self._deliver(part, table, archive, now)
        self._note_reading(part, known, table, delivered, now)
        return delivered

    def _deliver(self, part: Part, table: LabelTable, archive: Archive, now: datetime) -> int:
        """Archive the rows that are new in this part and differ from what was delivered last; then remember both."""
        rows, read, current = table.latest, self._stored(_file_name(part.name)), self._stored("current")
        fresh = missing_in(missing_in(rows, read), current)
        if fresh.height:
            begun = self.state.begun
            received = begun.received_at if begun is not None and begun.part == part.name else now
            self._save(self.state.model_copy(update={"begun": Delivery(part=part.name, received_at=received)}))
            archive.store_labels(fresh.select(ID, LABEL, pl.lit(received).cast(TIME).alias(RECEIVED_AT), EVENT_TIME))
            self._store("current", _replaced(current, fresh))
        if missing_in(rows, read).height:
            self._store(_file_name(part.name), _replaced(read, rows))
        return fresh.height

    def _note_reading(self, part: Part, known: PartRead, table: LabelTable, delivered: int, now: datetime) -> None:
        if table.refused and table.reasons != known.reasons:
            log.warning("%s: %d rows are no labels; the first: %s", part.name, table.refused, table.reasons[0])
        if delivered:
            log.info("%s: %d labels, of %d rows", part.name, delivered, table.rows.height)
        done = PartRead(
            stamp=part.stamp,
            read_at=now,
            rows=table.rows.height,
            unlabelled=table.unlabelled,
            refused=table.refused,
            reasons=table.reasons,
            delivered=known.delivered + delivered,
            cut=part.cut,
        )
        times = [time for time in (self.state.newest, table.rows[EVENT_TIME].max()) if isinstance(time, datetime)]
        newest = max(times, default=None)
        changes = {"parts": {**self.state.parts, part.name: done}, "newest": newest, "begun": None}
        self._save(self.state.model_copy(update=changes))

    def _note_failure(self, part: Part, known: PartRead, error: Exception) -> None:
        message = str(error) if part.name in str(error) else f"{part.name}: {error}"
        if message == known.error:
            return  # said before
        log.warning("labels are read again at the next poll: %s", message)
        report(error, group=("label-source", part.name), model=self._spec.name)
        failed = known.model_copy(update={"error": message})
        self._save(self.state.model_copy(update={"parts": {**self.state.parts, part.name: failed}}))

    def _stored(self, name: str) -> pl.DataFrame:
        path = self._folder / f"{name}.parquet"
        schema = {ID: pl.String(), EVENT_TIME: TIME, LABEL: LabelCodec(self._spec.task).dtype}
        try:
            return pl.read_parquet(path) if path.exists() else pl.DataFrame(schema=schema)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise ArchiveError(
                f"{path} cannot be read ({error}): delete {self._folder} to read all labels anew ({SET_ASIDE})"
            ) from error

    def _store(self, name: str, rows: pl.DataFrame) -> None:
        path = self._folder / f"{name}.parquet"
        try:
            write_parquet(rows, path)
        except OSError as error:
            raise ArchiveError(
                f"{path} cannot be written ({error.strerror or error}): free space or mend the directory"
            ) from error

    def _save(self, state: LabelSourceState) -> None:
        write_stored(self._folder / "state.json", state)
        self.state = state


def load_state(home: Path) -> LabelSourceState:
    """What the monitor knows of the label source; nothing where it has never looked. Raises ArchiveError, NewerFormat."""
    path = home / "label_source" / "state.json"
    try:
        return read_stored(LabelSourceState, path.read_bytes(), str(path))
    except FileNotFoundError:
        return LabelSourceState()
    except (OSError, ValidationError) as error:
        raise ArchiveError(
            f"{path} cannot be read ({error}): delete {path.parent} to read all labels anew ({SET_ASIDE})"
        ) from error


def _replaced(known: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    return pl.concat([known.join(rows, on=KEY, how="anti", nulls_equal=True), rows])


def _file_name(part: str) -> str:
    return f"read/{hashlib.sha256(part.encode()).hexdigest()[:16]}"


def _stamp(file: Path) -> str | None:
    """Size and time of change; None for a file that is gone by now."""
    try:
        found = file.stat()
    except OSError:
        return None
    return f"{found.st_size}-{found.st_mtime_ns}-{found.st_ino}"


def _remote_stamp(url: str) -> str | None:
    """What a server or storage says of a file's state; None where it says nothing, and the file is then read at every poll."""
    try:
        if url.startswith(WEB):
            answer = httpx.head(url, follow_redirects=True, timeout=WEB_TIMEOUT.total_seconds())
            info: Mapping[str, object] = answer.raise_for_status().headers
        else:
            filesystem, path = fsspec.core.url_to_fs(url)
            info = filesystem.info(path)
    except Exception:  # noqa: BLE001 - every protocol has its own errors, and the reading itself says what is wrong
        return None
    known = [str(info[key]) for key in _STATES if info.get(key)]
    return "-".join(known) or None


def _is_cut(file: Path, now: datetime) -> bool:
    """Whether a text file does not end with a line's end and has changed just now, so that its last line may be half written."""
    if not file.name.lower().endswith(_LINES):
        return False
    try:
        with file.open("rb") as stream:
            stream.seek(max(0, file.stat().st_size - 1))
            return stream.read(1) not in (b"\n", b"\r", b"") and now.timestamp() - file.stat().st_mtime < REST.total_seconds()
    except OSError:
        return False  # the reading itself says so
