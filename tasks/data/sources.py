"""Sources: read one table that a spec names, whatever its origin, into a polars frame.

Nothing is joined, derived or checked here: a reader returns the table as it stands, the cells of CSV files as text, or says
why it cannot.
"""

import zipfile
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from glob import glob
from io import BytesIO
from pathlib import Path
from typing import IO

import fsspec
import httpx
import polars as pl
from fsspec.compression import compr
from fsspec.core import get_compression

from perennial.errors import FunctionError, PerennialError, SourceError
from perennial.redaction import without_credentials
from perennial.spec_sources import SourceSpec
from perennial.user_functions import load_function
from tasks.data.column_types import RawTable
from tasks.data.csv_files import CsvFile

WEB_TIMEOUT = timedelta(seconds=60)  # how long a web server may stay silent
WIDE = 500  # columns from which a Parquet file is read at once: a column read alone reads what the file says of all

_CSV, _PARQUET = (".csv", ".tsv"), (".parquet", ".pq")
_COMPRESSED = (".zip", ".gz", ".bz2", ".xz")
_LOCAL, WEB = "file://", ("http://", "https://")


def read_source(
    name: str,
    source: SourceSpec,
    base: Path,
    environ: Mapping[str, str],
    rows: int | None = None,
    *,
    since: datetime | None = None,
) -> RawTable:
    """Read the table `name`, or its first `rows`; paths are relative to `base`, the database's URL is a variable of `environ`.

    `since` is what a query with `:since` asks for.

    Raises SourceError naming the source, where it was looked for and what to do; FunctionError for a loader's mistake.
    """
    try:
        if source.path is not None:
            return _read_files(name, source.path, source, base, rows)
        frame = (
            _read_query(name, source, environ, rows, since) if source.loader is None else _load(name, source.loader, base, rows)
        )
        return RawTable(frame)
    except PerennialError:
        raise
    except Exception as error:  # every driver and protocol has its own errors
        raise SourceError(f"source {name!r}: cannot read {source.where}: {type(error).__name__}: {error}") from error


def _read_files(name: str, path: str, source: SourceSpec, base: Path, rows: int | None) -> RawTable:
    """All files of a source, one above the other; a file of CSV stays text until all of them are known."""
    found = _files_of(name, path, base)
    return _stacked(name, [table for file in found for table in _read_file(name, file, source, rows)])


def _files_of(name: str, path: str, base: Path) -> list[str]:
    path = path.removeprefix(_LOCAL)
    found = [path] if "://" in path else sorted(glob(str(base / path)))  # noqa: PTH207 - Path.glob refuses an absolute pattern
    if not found:
        raise SourceError(f"source {name!r}: no file at {base / path}; correct `path` in the spec or put the file there")
    return found


def csv_head(name: str, path: str, base: Path, size: int) -> tuple[str, bytes] | None:
    """The name of the first CSV file of a source and its first bytes, unpacked; None of a source that has no CSV file."""
    file = _files_of(name, path, base)[0]
    named = _without_query(file)
    compression = get_compression(named, "infer")
    try:
        with _open(file) as stream:
            if compression == "zip":
                with zipfile.ZipFile(stream) as archive:
                    members = [one for one in sorted(archive.namelist()) if one.lower().endswith(_CSV)]
                    return (members[0], archive.read(members[0])[:size]) if members else None
            inner = named if compression is None else named.rpartition(".")[0]
            if not inner.lower().endswith(_CSV):
                return None
            head: bytes = (stream if compression is None else compr[compression](stream, mode="rb")).read(size)
            return Path(inner).name, head
    except Exception as error:  # every protocol has its own errors
        raise SourceError(f"source {name!r}: cannot read {without_credentials(file)}: {type(error).__name__}: {error}") from error


def _read_file(name: str, path: str, source: SourceSpec, rows: int | None) -> Iterator[tuple[str, pl.DataFrame]]:
    """The tables in a file: polars reads what is not compressed on disk, S3, GCS and Azure; the rest is unpacked in memory."""
    named = _without_query(path)
    compression = get_compression(named, "infer")
    if compression is None and not path.startswith(WEB):
        yield _parse(name, path, path, source, rows)
        return
    with _open(path) as stream:
        if compression == "zip":
            yield from _read_zip(name, stream, source, rows)
        else:
            file = named if compression is None else named.rpartition(".")[0]
            yield _parse(name, file, BytesIO(compr[compression](stream, mode="rb").read()), source, rows)


def _without_query(path: str) -> str:
    """What a file is called: of a web address what stands before its query, which may be a signature."""
    return path.partition("?")[0] if path.startswith(WEB) else path


def _open(path: str) -> IO[bytes]:
    """The bytes of a file; the web's by httpx, for fsspec would need aiohttp for them."""
    if path.startswith(WEB):
        return BytesIO(_download(path))
    stream: IO[bytes] = fsspec.open(path, "rb").open()
    return stream


def _download(url: str) -> bytes:
    answer = httpx.get(url, follow_redirects=True, timeout=WEB_TIMEOUT.total_seconds())
    try:
        return answer.raise_for_status().content
    except httpx.HTTPStatusError as error:  # its message quotes the address, and with the traceback it comes into logs
        message = without_credentials(str(error))
        raise httpx.HTTPStatusError(message, request=answer.request, response=answer) from None


def _read_zip(name: str, file: IO[bytes], source: SourceSpec, rows: int | None) -> Iterator[tuple[str, pl.DataFrame]]:
    """The tables of an archive; fsspec would read its first file alone, whatever that is."""
    with zipfile.ZipFile(file) as archive:
        members = [one for one in sorted(archive.namelist()) if one.lower().endswith((*_CSV, *_PARQUET))]
        if not members:
            raise SourceError(f"source {name!r}: the zip file holds no CSV or Parquet file, only {archive.namelist()[:5]}")
        for one in members:
            yield _parse(name, one, BytesIO(archive.read(one)), source, rows)


def _parse(name: str, file: str, content: str | BytesIO, source: SourceSpec, rows: int | None) -> tuple[str, pl.DataFrame]:
    """One table and the name of its file."""
    if file.lower().endswith(_PARQUET):
        return file, _read_parquet(content, rows)
    if file.lower().endswith(_CSV):
        return file, CsvFile(name, Path(file).name, content, source).read(rows)
    known = ", ".join((*_CSV, *_PARQUET, *_COMPRESSED))
    raise SourceError(f"source {name!r}: {Path(file).name} is of no known format; known endings: {known}")


def _read_parquet(content: str | BytesIO, rows: int | None) -> pl.DataFrame:
    """The table of a Parquet file; of one on disk column by column, each in one piece.

    Read at once the columns come in as many pieces as the file has row groups, and the first column that is added to them makes
    polars copy all of them: the table is in memory twice then. Columns are read by their place, for a name may be a pattern.
    """
    if not isinstance(content, str) or "://" in content or (width := len(pl.read_parquet_schema(content))) >= WIDE:
        return pl.read_parquet(content, n_rows=rows)
    return pl.DataFrame([pl.read_parquet(content, columns=[place], n_rows=rows).to_series().rechunk() for place in range(width)])


def _stacked(name: str, tables: list[tuple[str, pl.DataFrame]]) -> RawTable:
    """Columns are matched by name; text stays text, and of typed files numbers are widened where they differ."""
    frames = [frame for _, frame in tables]
    if len({tuple(frame.columns) for frame in frames}) > 1:
        odd = next(frame for frame in frames if frame.columns != frames[0].columns)
        difference = sorted(set(odd.columns) ^ set(frames[0].columns)) or "their order"
        raise SourceError(f"source {name!r}: its files do not have the same columns; they differ in {difference}")
    untyped = {file.lower().endswith(_CSV) for file, _ in tables}
    if len(untyped) > 1:
        raise SourceError(f"source {name!r}: its files are CSV and Parquet; make a source of each, or one format of both")
    frame = pl.concat(frames, how="vertical_relaxed") if len(frames) > 1 else frames[0]
    return RawTable(frame, untyped.pop(), tuple((Path(file).name, frame.height) for file, frame in tables))


def _read_query(
    name: str, source: SourceSpec, environ: Mapping[str, str], rows: int | None, since: datetime | None
) -> pl.DataFrame:
    import sqlalchemy

    address, query = environ.get(str(source.connection)), str(source.query)
    if not address:
        raise SourceError(f"source {name!r}: set {source.connection} to the SQLAlchemy URL of its database")
    engine = sqlalchemy.create_engine(address)
    # As text: every driver takes it, and compares it to times as well as to texts of times.
    given = {"parameters": {"since": f"{since:%Y-%m-%d %H:%M:%S.%f}"}} if since is not None else None
    try:
        with engine.connect() as connection:
            if rows is None:
                return pl.read_database(query, connection, infer_schema_length=None, execute_options=given)
            batches = pl.read_database(
                query, connection, infer_schema_length=None, iter_batches=True, batch_size=rows, execute_options=given
            )
            return next(iter(batches), pl.DataFrame())
    finally:
        engine.dispose()


def _load(name: str, reference: str, base: Path, rows: int | None) -> pl.DataFrame:
    table = load_function(reference, base)()
    frame = table.collect() if isinstance(table, pl.LazyFrame) else table
    if not isinstance(frame, pl.DataFrame):
        raise FunctionError(f"source {name!r}: {reference} must return a polars frame; it returned {type(table).__name__}")
    return frame if rows is None else frame.head(rows)
