"""Datasets: immutable tables under a fingerprint of their content, and which of them a model's retrainings start from.

A dataset is a list of parts: files of rows that follow each other in time, named by the fingerprints of their contents, which all
datasets of a model share. A part has the rows of a year, of a month where a year has more than MOST rows, of a day where a month
has: so a dataset with later rows stores the parts that have some, and no other. The same content again costs no second copy.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import polars as pl
from pydantic import ValidationError

from perennial.atomic_files import locked, replace_stored
from perennial.base import FrozenModel, StoredModel, read_stored
from perennial.errors import SET_ASIDE, DataError
from perennial.input_contract import read_base
from tasks.data.joins import JoinMatch

PARTS = "parts"  # the directory, beside those of the datasets, with the parts of all

SHORT = 16  # characters of the fingerprint in a directory's name: 64 bits tell the versions of one table apart


SLICE = 100_000  # rows whose bytes are in memory at once for a fingerprint


MOST = 100_000  # rows of a year, or month, that are one part

PERIODS = ("1y", "1mo", "1d")  # as polars writes them


class Part(FrozenModel):
    """Rows that follow each other in time, in a file that the fingerprint of their content names."""

    fingerprint: str
    rows: int


class Manifest(StoredModel):
    """What a dataset holds, and the parts that its rows are in, oldest first; kept as manifest.json."""

    fingerprint: str
    rows: int
    since: datetime
    until: datetime
    columns: dict[str, str]
    origin: tuple[str, ...]
    created_at: datetime
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True)
class Dataset:
    """A table sorted by event time, and the manifest of the version it was kept as.

    Of a table just read: the texts of event times that could not be read (row by row), the texts that were read as null,
    and how many rows each join matched.
    """

    frame: pl.DataFrame
    manifest: Manifest
    path: Path
    unread: pl.Series | None = None
    odd: pl.DataFrame | None = None
    joins: tuple[JoinMatch, ...] = ()

    def without_rows(self) -> "Dataset":
        """What stays of it once its good rows are taken out: these are a copy where one was bad, as large as the table."""
        return replace(self, frame=self.frame.clear(), unread=None, odd=None)


def store_dataset(frame: pl.DataFrame, event_time: str, home: Path, origin: tuple[str, ...], now: datetime) -> Dataset:
    """Store a table sorted in time as a dataset below the model's `home`; parts that are there already are not written again."""
    since, until = frame[event_time].min(), frame[event_time].max()
    if not isinstance(since, datetime) or not isinstance(until, datetime):
        raise DataError(f"no row has an event time: column {event_time!r} is empty; check its name and format")
    with locked(home / "datasets"):
        parts = tuple(_store_part(rows, home) for rows in split_in_time(frame, event_time))
        fingerprint = hashlib.sha256("".join(part.fingerprint for part in parts).encode()).hexdigest()
        directory = home / "datasets" / fingerprint[:SHORT]
        if (directory / "manifest.json").exists():
            return Dataset(frame, read_manifest(directory), directory)
        columns, rows = {column: str(dtype) for column, dtype in frame.schema.items()}, frame.height
        known = {"since": since, "until": until, "columns": columns, "origin": origin, "created_at": now, "parts": parts}
        manifest = Manifest(fingerprint=fingerprint, rows=rows, **known)
        # The manifest comes last and by rename: a directory without one is no dataset.
        replace_stored(directory / "manifest.json", manifest, indent=2)
        return Dataset(frame, manifest, directory)


def split_in_time(frame: pl.DataFrame, event_time: str, periods: tuple[str, ...] = PERIODS) -> Iterator[pl.DataFrame]:
    """The rows by year, by month where a year has more than MOST, by day where a month has; those without a time apart."""
    start = 0
    for length in frame[event_time].dt.truncate(periods[0]).rle().struct.field("len").to_list():
        rows, start = frame.slice(start, length), start + length
        if length > MOST and len(periods) > 1:
            yield from split_in_time(rows, event_time, periods[1:])
        else:
            yield rows


def part_file(home: Path, part: Part) -> Path:
    """Where the rows of a part are."""
    return home / "datasets" / PARTS / f"{part.fingerprint[:SHORT]}.parquet"


def dataset_files(home: Path, manifest: Manifest) -> list[Path]:
    """The files with the rows of a dataset, oldest first; a single one where it was stored before there were parts."""
    own = home / "datasets" / manifest.fingerprint[:SHORT] / "data.parquet"
    return [part_file(home, part) for part in manifest.parts] or [own]


def read_manifests(home: Path) -> list[Manifest]:
    """The manifests of a model's datasets; raises DataError for one that is none."""
    return [read_manifest(path.parent) for path in sorted((home / "datasets").glob("*/manifest.json"))]


def _store_part(rows: pl.DataFrame, home: Path) -> Part:
    part = Part(fingerprint=content_fingerprint(rows), rows=rows.height)
    if not (file := part_file(home, part)).exists():
        write_parquet(rows, file)
    return part


def write_parquet(frame: pl.DataFrame, file: Path) -> None:
    """Write a table whole or not at all: a reader never meets half a file."""
    _write_whole(frame.write_parquet, file)


def write_csv(frame: pl.DataFrame, file: Path) -> None:
    """The same as CSV."""
    _write_whole(frame.write_csv, file)


def _write_whole(write: Callable[[Path], object], file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    write(partial)
    partial.replace(file)


def content_fingerprint(frame: pl.DataFrame) -> str:
    """SHA-256 over the names, types and values of a table in row order: the same on every machine."""
    digest = hashlib.sha256()
    for series in frame.iter_columns():
        digest.update(f"{series.name}\0{series.dtype}\0{series.len()}\0".encode())
        for start in range(0, series.len(), SLICE):
            for part in _parts(series.slice(start, SLICE).alias("values")):  # some methods read a series' name as a pattern
                digest.update(part)
    return digest.hexdigest()


def base_dataset(home: Path) -> Dataset:
    """The dataset that retrainings start from; raises DataError when no training has published one."""
    base = read_base(home)
    if base is None:
        raise DataError(f"no dataset to start from below {home / 'datasets'}: run the `train` flow once before retraining")
    return read_dataset(home, base.fingerprint)


def read_dataset(home: Path, fingerprint: str) -> Dataset:
    """A stored dataset with its rows; raises DataError naming the file that cannot be read."""
    directory = home / "datasets" / fingerprint[:SHORT]
    try:
        manifest = read_manifest(directory)
        return Dataset(pl.read_parquet(dataset_files(home, manifest), hive_partitioning=False), manifest, directory)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{directory} cannot be read ({error}): restore it from a backup, or {SET_ASIDE}") from error


def _parts(series: pl.Series) -> Iterator[bytes]:
    """A column as bytes: validity and values, those of nested columns part by part; texts as lengths and joined bytes."""
    yield series.is_null().to_numpy().tobytes()
    match series.dtype:
        case pl.Struct() as struct:
            for field in struct.fields:
                yield field.name.encode() + b"\0"
                yield from _parts(series.struct.field(field.name).alias("values"))
        case pl.Array():
            yield from _parts(series.arr.to_list())
        case pl.List():
            lengths = series.list.len().fill_null(0)
            yield lengths.to_numpy().tobytes()
            yield from _parts(series.filter(lengths > 0).explode())
        case pl.Binary():
            yield series.bin.size().fill_null(0).to_numpy().tobytes()
            yield b"".join(series.drop_nulls())
        case dtype if dtype.is_temporal() or dtype == pl.Boolean:
            yield series.to_physical().cast(pl.Int64).fill_null(0).to_numpy().tobytes()
        case dtype if dtype.is_float() or (dtype.is_integer() and dtype not in (pl.Int128, pl.UInt128)):
            yield series.fill_null(0).to_numpy().tobytes()
        case dtype if dtype.is_numeric() or dtype in (pl.String, pl.Categorical, pl.Enum):
            texts = series.cast(pl.String)
            yield texts.str.len_bytes().fill_null(0).to_numpy().tobytes()
            yield (texts.drop_nulls().str.join("").item() or "").encode()
        case _:
            yield repr(series.to_list()).encode()


def read_manifest(directory: Path) -> Manifest:
    """The manifest in a dataset's directory; raises DataError for one that is none."""
    path = directory / "manifest.json"
    try:
        return read_stored(Manifest, path.read_bytes(), str(path))
    except ValidationError as error:
        raise DataError(
            f"{path} is no manifest of a dataset ({error.errors()[0]['msg']}): restore it from a backup, or {SET_ASIDE}"
        ) from error
