"""CSV dialects: how a file is written, found by looking at its first bytes, as keys of a source that a person can paste.

Used where reading failed or gave one column; nothing here decides how a file is read, only what the message proposes.
"""

import codecs
import csv
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

from perennial.spec_sources import SourceSpec

LABELS = "labels"  # the source that a spec describes in a section of its own

LINES = 200  # lines looked at
AGREEING = 0.9  # share of the lines that must have as many cells as the header for a separator to be believed

_SEPARATORS = (",", ";", "\t", "|", ":")
_THOUSANDS = (",", ".", " ", "'", "\u00a0", "\u202f")
_QUOTES = ('"', "'")
_COMMENTS = ("#", "//", "%")
_BOMS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


def propose(head: bytes, source: SourceSpec, separator: str) -> dict[str, Any]:
    """Keys that say how the bytes seem to be written, where that differs from the source and the separator in use."""
    encoding = encoding_of(head, source.encoding)
    lines = head.decode(encoding, errors="replace").splitlines()[:LINES]
    comment = next((sign for sign in _COMMENTS if lines and lines[0].startswith(sign)), None)
    kept = [line for line in lines if comment is None or not line.startswith(comment)]
    found: dict[str, Any] = {"comment": comment} if comment and comment != source.comment else {}
    layouts = [layout for quote in _QUOTES for sign in _SEPARATORS if (layout := _layout(kept, sign, quote)) is not None]
    if layouts:
        _, skipped, width, sign, quote = max(layouts, key=lambda one: (one[0], -one[1], one[2]))
        found |= {"separator": sign} if sign != separator else {}
        found |= {"quote": quote} if quote != source.quote and any(quote in line for line in kept) else {}
        found |= {"skip_rows": skipped} if skipped and skipped != source.skip_rows else {}
        cells = [cell for row, _ in list(read_rows(kept[skipped:], sign, quote))[1:] for cell in row]
        found |= number_signs(cells, source) if width > 1 else {}
    return ({"encoding": encoding} if not same_encoding(encoding, source.encoding) else {}) | found


def number_signs(cells: list[str], source: SourceSpec) -> dict[str, str]:
    """`decimal` and `thousands` that make numbers of most cells, where they differ from the source's; the nearest ones first."""
    decimals: list[str] = sorted(".,", key=lambda sign: sign != source.decimal)
    pairs: list[tuple[str, str | None]] = [(source.decimal, source.thousands)]
    pairs += [(decimal, thousands) for decimal in decimals for thousands in (None, *_THOUSANDS) if thousands != decimal]
    texts = [cell.strip() for cell in cells if any(sign in cell for sign in (*_THOUSANDS, source.decimal))]
    counts = {pair: sum(bool(_number_pattern(*pair).fullmatch(text)) for text in texts) for pair in pairs}
    decimal, thousands = max(counts, key=lambda pair: counts[pair])
    found = {"decimal": decimal} if decimal != source.decimal else {}
    return found | ({"thousands": thousands} if thousands is not None and thousands != source.thousands else {})


def _number_pattern(decimal: str, thousands: str | None) -> re.Pattern[str]:
    grouped = rf"|[1-9]\d{{0,2}}({re.escape(thousands)}\d{{3}})+" if thousands else ""
    return re.compile(rf"[+-]?(\d+{grouped})({re.escape(decimal)}\d+)?")


def paste(name: str, keys: dict[str, Any]) -> str:
    """The keys as lines of a spec."""
    lines = "".join(f"\n  {key} = {json.dumps(value, ensure_ascii=False)}" for key, value in keys.items())
    return f"; write in [{section(name)}]:{lines}" if keys else ""


def section(name: str) -> str:
    """The section of a spec that describes a source."""
    return LABELS if name == LABELS else f"sources.{name}"


def encoding_of(head: bytes, expected: str) -> str:
    """The expected encoding if the bytes are written in it, else what they seem to be written in."""
    marked = next((encoding for mark, encoding in _BOMS.items() if head.startswith(mark)), None)
    if marked is not None:
        return marked
    zeros = head[1:2_000:2].count(0), head[:2_000:2].count(0)
    if sum(zeros) > len(head[:2_000]) // 4:
        return "utf-16-le" if zeros[0] > zeros[1] else "utf-16-be"
    return next((one for one in (expected, "utf-8", "cp1252") if _decodes(head, one)), "latin-1")


def first_long_line(text: str, separator: str, quote: str) -> str | None:
    """Which line has more cells than the header, in words; None where none has."""
    rows = read_rows(text.splitlines(), separator, quote)
    header, _ = next(rows, ([], 0))
    long = next(((len(row), end) for row, end in rows if len(row) > len(header)), None)
    return None if long is None else f"line {long[1]} has {long[0]} cells, the header {len(header)}"


def read_rows(lines: Iterable[str], separator: str, quote: str) -> Iterator[tuple[list[str], int]]:
    """Rows as cells, each with the lines up to its end: a quoted cell may have several, in a spreadsheet's header above all.

    They end where a cell is larger than Python reads one: what begins it is no quote, or never ends.
    """
    reader = csv.reader(
        lines, delimiter=separator, quotechar=quote or None, quoting=csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE
    )
    with suppress(csv.Error):
        yield from ((row, reader.line_num) for row in reader)


def same_encoding(one: str, other: str) -> bool:
    """Whether two names mean one encoding; a mark at the beginning of UTF-8 makes no difference."""
    return codecs.lookup(one).name.removesuffix("-sig") == codecs.lookup(other).name.removesuffix("-sig")


def bad_byte(content: bytes, encoding: str) -> str | None:
    """Where the bytes cannot be read in an encoding, in words; None where they can."""
    try:
        content.decode(encoding)
    except UnicodeDecodeError as error:
        *_, beside = content[: error.start].rpartition(b"\n")
        line, column = content.count(b"\n", 0, error.start) + 1, len(beside.decode(encoding, errors="replace")) + 1
        return f"line {line}, column {column} holds the byte 0x{content[error.start]:02x}"
    return None


def _decodes(head: bytes, encoding: str) -> bool:
    """Whether the beginning of a file is written in an encoding; its last character may be cut."""
    try:
        codecs.getincrementaldecoder(encoding)().decode(head)
    except UnicodeDecodeError:
        return False
    return True


def _layout(lines: list[str], separator: str, quote: str) -> tuple[float, int, int, str, str] | None:
    """Share of the lines that agree with the header, lines before it, its cells; None where the sign separates nothing."""
    read = list(read_rows(lines, separator, quote))
    widths, ends = [len(row) for row, _ in read], [0, *(end for _, end in read)]
    counted = Counter(width for width in widths if width > 1).most_common(1)
    if not counted:
        return None
    width = counted[0][0]
    skipped = widths.index(width)
    share = widths[skipped:].count(width) / len([one for one in widths[skipped:] if one])
    title = all(one <= width / 2 for one in widths[:skipped])  # else it is the header that has fewer cells than the rows
    return (share, ends[skipped], width, separator, quote) if share >= AGREEING and title else None
