"""CSV files as tables of text: every cell as it is written, null where it is one of the source's null texts.

What a column holds is decided later and for all files of a source at once (`tasks.data.column_types`).
"""

import re
from collections import Counter
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import fsspec
import polars as pl

from perennial.errors import SourceError
from perennial.spec_sources import SourceSpec
from tasks.data.csv_dialect import bad_byte, encoding_of, first_long_line, paste, propose, same_encoding
from tasks.data.numbers import NUMBERISH

HEAD = 2**18  # bytes looked at: for the end of a line, and for the dialect of a file that is not written as the source says


@dataclass(frozen=True)
class CsvFile:
    """A CSV file of a source; `content` is its path, URL or bytes, `file` what messages call it.

    Its methods raise SourceError naming what is wrong and, where the bytes show another dialect, the lines to paste.
    """

    name: str
    file: str
    content: str | BytesIO
    source: SourceSpec

    @property
    def separator(self) -> str:
        """What stands between two cells."""
        return self.source.separator or ("\t" if self.file.lower().endswith(".tsv") else ",")

    def read(self, rows: int | None) -> pl.DataFrame:
        """The file, or its first `rows`, as text."""
        text, source = self._text(), self.source
        remote = isinstance(text, str) and "://" in text
        head = b"" if remote else _bytes(text, HEAD)
        options = {
            "separator": self.separator,
            "quote_char": source.quote or None,
            "comment_prefix": source.comment,
            "skip_lines": source.skip_rows,
            "eol_char": "\r" if b"\r" in head and b"\n" not in head else "\n",  # the former of old machines
            "infer_schema": False,
        }
        try:
            first = _scan(text, has_header=False, n_rows=1, **options)
            frame = _scan(text, has_header=source.header is None, n_rows=rows, null_values=list(source.nulls), **options)
        except pl.exceptions.PolarsError as error:
            raise self._refusal(str(error).partition("\n")[0]) from error
        header = source.header or self._header(first)
        if len(header) != frame.width:
            raise self._error(f"`header` has {len(header)} names, but {self.file} has {frame.width} columns")
        named = frame.rename(dict(zip(frame.columns, header, strict=True)))
        for row in (named[header[0]] == header[0]).arg_true():
            if named.row(row) == header:
                raise self._error(f"row {row + 1} of {self.file} is its header again; take that line out")
        return named

    def _text(self) -> str | BytesIO:
        """The content in UTF-8."""
        if same_encoding(self.source.encoding, "utf-8"):
            return self.content
        whole = _bytes(self.content)
        if bad_byte(whole, self.source.encoding):
            raise self._refusal("it is not text")
        return BytesIO(whole.decode(self.source.encoding).removeprefix("\ufeff").encode())

    def _header(self, first: pl.DataFrame) -> tuple[str, ...]:
        """The names in the first line."""
        header = tuple("" if cell is None else str(cell) for cell in first.row(0))
        if any("\ufffd" in cell or "\0" in cell for cell in header):
            raise self._refusal("its header is not text")
        if len(header) == 1 and propose(_bytes(self.content, HEAD), self.source, self.separator).get("separator"):
            raise self._refusal(f"it has one column, {header[0]!r:.80}")
        if repeated := [cell for cell, count in Counter(header).items() if count > 1]:
            names = {"header": [f"column_{number + 1}" for number in range(len(header))]}
            numbers = any(re.search(NUMBERISH, cell) for cell in header)
            hint = f", or, if that is no header{paste(self.name, names)}" if numbers else ""
            shown = ", ".join(map(repr, repeated))
            raise self._error(f"the header of {self.file} has {shown} more than once; give each a name of its own{hint}")
        return header

    def _refusal(self, what: str) -> SourceError:
        """The error of a file that is not written as the source says, with how it seems to be written."""
        whole, source = _bytes(self.content), self.source
        keys = propose(whole[:HEAD], source, self.separator)
        if "could not parse" in what and source.quote:
            what, keys = f"a cell begins with {source.quote} and does not end", {"quote": ""}
        elif "more fields" in what:
            text = whole[:HEAD].decode(source.encoding, errors="replace")
            what = first_long_line(text, self.separator, source.quote) or what
        if (place := bad_byte(whole, source.encoding)) is not None:
            seems = encoding_of(whole, source.encoding)
            what, keys = f"it is not {source.encoding}, for {place}; it seems to be {seems}", {"encoding": seems, **keys}
        return self._error(f"cannot read {self.file}: {what}{paste(self.name, keys)}")

    def _error(self, what: str) -> SourceError:
        return SourceError(f"source {self.name!r}: {what}")


def _scan(content: str | BytesIO, **options: object) -> pl.DataFrame:
    if isinstance(content, BytesIO):
        content.seek(0)
    if isinstance(content, str) and "://" in content:
        return pl.scan_csv(content, **options).collect()  # type: ignore[arg-type]
    return pl.read_csv(content, **options)  # type: ignore[arg-type]


def _bytes(content: str | BytesIO, size: int = -1) -> bytes:
    """The first bytes of a file, or all of them."""
    if isinstance(content, BytesIO):
        content.seek(0)
        return content.read(size)
    with fsspec.open(content, "rb") if "://" in content else Path(content).open("rb") as stream:
        found: bytes = stream.read(size)
    return found
