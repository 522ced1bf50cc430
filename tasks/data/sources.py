"""Sources: read one table that a spec names, whatever its origin, into a polars frame.

Nothing is joined, derived or checked here: a reader answers with the table as it stands, or says why it cannot.
"""

import zipfile
from collections.abc import Callable, Mapping
from datetime import timedelta
from glob import glob
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import polars as pl

from perennial.errors import FunctionError, PerennialError, SourceError
from perennial.spec_sources import SourceSpec
from perennial.user_functions import load_function

WEB_TIMEOUT = timedelta(seconds=60)
"""How long a web server may stay silent."""

_CSV, _PARQUET = (".csv", ".tsv"), (".parquet", ".pq")
_COMPRESSED = (".zip", ".gz", ".bz2", ".xz")
_LOCAL, _WEB = "file://", ("http://", "https://")


def read_source(name: str, source: SourceSpec, base: Path, environ: Mapping[str, str]) -> pl.DataFrame:
    """Read the table `name`; paths are relative to `base`, the database's URL is a variable of `environ`.

    Raises SourceError naming the source, where it was looked for and what to do; FunctionError for a loader's mistake.
    """
    if source.path is not None:
        return _guarded(name, source.path, lambda: _read_files(name, source, base))
    if source.query is not None:
        return _guarded(name, f"the database in {source.connection}", lambda: _read_query(name, source, environ))
    return _load(name, str(source.loader), base)


def _guarded(name: str, where: str, read: Callable[[], pl.DataFrame]) -> pl.DataFrame:
    try:
        return read()
    except PerennialError:
        raise
    except Exception as error:  # every driver and protocol has its own errors
        raise SourceError(f"source {name!r}: cannot read {where}: {type(error).__name__}: {error}") from error


def _read_files(name: str, source: SourceSpec, base: Path) -> pl.DataFrame:
    path = str(source.path).removeprefix(_LOCAL)
    if "://" in path:
        return _read_file(name, path, source.nulls)
    found = sorted(glob(str(base / path)))  # noqa: PTH207 - a pattern may be absolute, which Path.glob refuses
    if not found:
        raise SourceError(f"source {name!r}: no file at {base / path}; correct `path` in the spec or put the file there")
    return _stacked(name, [_read_file(name, file, source.nulls) for file in found])


def _read_file(name: str, path: str, nulls: tuple[str, ...]) -> pl.DataFrame:
    """One file by path or URL: polars reads what is not compressed on disk, S3, GCS and Azure; the rest is unpacked in memory."""
    from fsspec.compression import compr
    from fsspec.core import get_compression

    compression = get_compression(path, "infer")
    if compression is None and not path.startswith(_WEB):
        return _parse(name, path, path, nulls)
    with _open(path) as stream:
        if compression == "zip":
            return _read_zip(name, stream, nulls)
        file = path if compression is None else path.rpartition(".")[0]
        return _parse(name, file, BytesIO(compr[compression](stream, mode="rb").read()), nulls)


def _open(path: str) -> IO[bytes]:
    """The bytes of a file; the web's by httpx, for fsspec would need aiohttp for them."""
    if path.startswith(_WEB):
        import httpx

        answer = httpx.get(path, follow_redirects=True, timeout=WEB_TIMEOUT.total_seconds())
        return BytesIO(answer.raise_for_status().content)
    import fsspec

    stream: IO[bytes] = fsspec.open(path, "rb").open()
    return stream


def _read_zip(name: str, source: IO[bytes], nulls: tuple[str, ...]) -> pl.DataFrame:
    """The tables of an archive, one above the other; fsspec would read its first file alone, whatever that is."""
    with zipfile.ZipFile(source) as archive:
        members = [one for one in sorted(archive.namelist()) if one.lower().endswith((*_CSV, *_PARQUET))]
        if not members:
            raise SourceError(f"source {name!r}: the zip file holds no CSV or Parquet file, only {archive.namelist()[:5]}")
        return _stacked(name, [_parse(name, one, BytesIO(archive.read(one)), nulls) for one in members])


def _parse(name: str, file: str, source: str | IO[bytes], nulls: tuple[str, ...]) -> pl.DataFrame:
    lowered = file.lower()
    if lowered.endswith(_PARQUET):
        return pl.read_parquet(source)
    if lowered.endswith(_CSV):
        options = _csv_options(nulls, lowered)
        remote = isinstance(source, str) and "://" in source
        return pl.scan_csv(source, **options).collect() if remote else pl.read_csv(source, **options)
    known = ", ".join((*_CSV, *_PARQUET, *_COMPRESSED))
    raise SourceError(f"source {name!r}: {Path(file).name} is of no known format; known endings: {known}")


def _csv_options(nulls: tuple[str, ...], file: str) -> dict[str, Any]:
    # Types are inferred from the whole file: a text in row 20,000 must not end an hour's training.
    separator = "\t" if file.endswith(".tsv") else ","
    return {"null_values": list(nulls), "try_parse_dates": True, "infer_schema_length": None, "separator": separator}


def _stacked(name: str, frames: list[pl.DataFrame]) -> pl.DataFrame:
    """Files of one source, one above the other; columns are matched by name and numbers widened where files differ."""
    if len({tuple(frame.columns) for frame in frames}) > 1:
        odd = next(frame for frame in frames if frame.columns != frames[0].columns)
        difference = sorted(set(odd.columns) ^ set(frames[0].columns)) or "their order"
        raise SourceError(f"source {name!r}: its files do not have the same columns; they differ in {difference}")
    return pl.concat(frames, how="vertical_relaxed") if len(frames) > 1 else frames[0]


def _read_query(name: str, source: SourceSpec, environ: Mapping[str, str]) -> pl.DataFrame:
    import sqlalchemy

    address = environ.get(str(source.connection))
    if not address:
        raise SourceError(f"source {name!r}: set {source.connection} to the SQLAlchemy URL of its database")
    engine = sqlalchemy.create_engine(address)
    try:
        with engine.connect() as connection:
            return pl.read_database(str(source.query), connection, infer_schema_length=None)
    finally:
        engine.dispose()


def _load(name: str, reference: str, base: Path) -> pl.DataFrame:
    table = load_function(reference, base)()
    frame = table.collect() if isinstance(table, pl.LazyFrame) else table
    if not isinstance(frame, pl.DataFrame):
        raise FunctionError(f"source {name!r}: {reference} must return a polars frame; it returned {type(table).__name__}")
    return frame
