"""CSV files as tables of text: every cell as it is written, null where it is one of the source's null texts.

What a column holds is decided later and for all files of a source at once (`tasks.data.column_types`).
"""

import math
from collections import Counter
from functools import partial
from io import BytesIO
from pathlib import Path

import fsspec
import polars as pl

from perennial.errors import SourceError
from perennial.spec_sources import SourceSpec
from tasks.data.csv_dialect import bad_byte, encoding_of, first_long_line, paste, propose, same_encoding

HEAD = 2**18
"""Bytes looked at when a file is not written as the source says."""


def read_csv(name: str, file: str, content: str | BytesIO, source: SourceSpec, rows: int | None) -> pl.DataFrame:
    """A CSV file, or its first `rows`, as text; `content` is its path, URL or bytes, `file` what messages call it.

    Raises SourceError naming what is wrong with it and, where its bytes show another dialect, the lines to paste.
    """
    separator = source.separator or ("\t" if file.lower().endswith(".tsv") else ",")
    explained = partial(_explained, name, file, content, source, separator)
    text = content
    if not same_encoding(source.encoding, "utf-8"):
        whole = _bytes(content)
        if bad_byte(whole, source.encoding):
            raise explained("it is not text")
        text = BytesIO(whole.decode(source.encoding).removeprefix("\ufeff").encode())
    options = {
        "separator": separator,
        "quote_char": source.quote or None,
        "comment_prefix": source.comment,
        "skip_lines": source.skip_rows,
        "eol_char": _line_end(text),
        "infer_schema": False,
    }
    try:
        head = _scan(text, has_header=False, n_rows=1, **options)
        frame = _scan(text, has_header=source.header is None, n_rows=rows, null_values=list(source.nulls), **options)
    except pl.exceptions.PolarsError as error:
        raise explained(str(error).partition("\n")[0]) from error
    header = ["" if cell is None else str(cell) for cell in source.header or head.row(0)]
    if any("\ufffd" in cell or "\0" in cell for cell in header):
        raise explained("its header is not text")
    if len(header) == 1 and propose(_bytes(content)[:HEAD], source, separator).get("separator"):
        raise explained(f"it has one column, {header[0]!r:.80}")
    if repeated := [cell for cell, count in Counter(header).items() if count > 1]:
        shown, names = ", ".join(map(repr, repeated)), {"header": [f"column_{number + 1}" for number in range(len(header))]}
        hint = f", or, if that is no header{paste(name, names)}" if any(map(_is_number, header)) else ""
        raise SourceError(f"source {name!r}: the header of {file} has {shown} more than once; give each a name of its own{hint}")
    if len(header) != frame.width:
        raise SourceError(f"source {name!r}: `header` has {len(header)} names, but {file} has {frame.width} columns")
    return _without_second_header(name, file, frame.rename(dict(zip(frame.columns, header, strict=True))))


def _line_end(content: str | BytesIO) -> str:
    """What ends a line: a line feed, or the carriage return alone of old machines."""
    if isinstance(content, BytesIO):
        head = content.getvalue()[:HEAD]
    elif "://" not in content:
        with Path(content).open("rb") as file:
            head = file.read(HEAD)
    else:
        return "\n"
    return "\r" if b"\r" in head and b"\n" not in head else "\n"


def _scan(content: str | BytesIO, **options: object) -> pl.DataFrame:
    if isinstance(content, BytesIO):
        content.seek(0)
    if isinstance(content, str) and "://" in content:
        return pl.scan_csv(content, **options).collect()  # type: ignore[arg-type]
    return pl.read_csv(content, **options)  # type: ignore[arg-type]


def _without_second_header(name: str, file: str, frame: pl.DataFrame) -> pl.DataFrame:
    """The frame; raises SourceError where files were put one behind the other with their headers."""
    first = frame.columns[0]
    alike = (frame[first] == first).arg_true()
    if again := [row for row in alike if frame.row(row) == tuple(frame.columns)]:
        raise SourceError(f"source {name!r}: row {again[0] + 1} of {file} is its header again; take that line out")
    return frame


def _explained(name: str, file: str, content: str | BytesIO, source: SourceSpec, separator: str, what: str) -> SourceError:
    """The error of a file that is not written as the source says, and how it seems to be written."""
    whole = _bytes(content)
    keys = propose(whole[:HEAD], source, separator)
    if "could not parse" in what and source.quote:
        what, keys = f"a cell begins with {source.quote} and does not end", {"quote": ""}
    elif "more fields" in what:
        text = whole[:HEAD].decode(source.encoding, errors="replace")
        what = first_long_line(text, separator, source.quote) or what
    if (place := bad_byte(whole, source.encoding)) is not None:
        seems = encoding_of(whole, source.encoding)
        what, keys = f"it is not {source.encoding}, for {place}; it seems to be {seems}", {"encoding": seems, **keys}
    return SourceError(f"source {name!r}: cannot read {file}: {what}{paste(name, keys)}")


def _is_number(cell: str) -> bool:
    try:
        return math.isfinite(float(cell))
    except ValueError:
        return False


def _bytes(content: str | BytesIO) -> bytes:
    if isinstance(content, BytesIO):
        return content.getvalue()
    if "://" not in content:
        return Path(content).read_bytes()
    with fsspec.open(content, "rb") as stream:
        whole: bytes = stream.read()
    return whole
