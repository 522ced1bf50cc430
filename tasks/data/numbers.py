"""Numbers written as text, with the decimal sign and the thousands sign that a source has."""

import re

import polars as pl

from perennial.spec_sources import SourceSpec

NUMBERISH = r"^\s*[(+-]?\s*[$€£¥]?\s*[+-]?\d[\d.,'_\s]*[%€$£)]?\s*$"
"""Texts that a person takes for a number: with currency, per cent, blanks or signs between digits."""


def read_numbers(texts: pl.Series, source: SourceSpec) -> pl.Series:
    """Int64 (Int128 for long ones) where all numbers are whole, else Float64; null where a text is no finite number."""
    plain = texts.to_frame("text").select(_plain(source)).to_series().alias(texts.name)
    floats = plain.cast(pl.Float64, strict=False)
    floats = pl.select(pl.when(floats.is_finite()).then(floats)).to_series().alias(texts.name)
    if not plain.drop_nulls().head(1_000).str.contains(r"^[+-]?\d+$").any():
        return floats
    wholes = (plain.cast(dtype, strict=False) for dtype in (pl.Int64, pl.Int128))
    return next((whole for whole in wholes if whole.null_count() == floats.null_count()), floats)


def cleaning(column: str, texts: pl.Series) -> str | None:
    """A line under [derive] that makes numbers of texts with a currency, per cent or blanks; None for other texts."""
    first = next(iter(texts.filter(texts.str.contains(NUMBERISH)).head(1)), "")
    sign = next((sign for sign in "%$€£¥" if sign in first), None)
    if sign is None and first == first.strip():
        return None
    inner = f"REPLACE(\"{column}\", '{sign}', '')" if sign else f'"{column}"'
    share = " / 100" if sign == "%" else ""
    return f"\"{column}\" = '''CAST(TRIM({inner}) AS DOUBLE){share}'''"


def _plain(source: SourceSpec) -> pl.Expr:
    """The texts as a computer writes numbers; a sign that is out of place stays, so that the text is no number."""
    text = pl.col("text")
    if source.thousands is not None:
        thousands, decimal = re.escape(source.thousands), re.escape(source.decimal)
        grouped = text.str.contains(rf"^[+-]?\d{{1,3}}({thousands}\d{{3}})+({decimal}\d*)?$")
        text = pl.when(grouped).then(text.str.replace_all(source.thousands, "", literal=True)).otherwise(text)
    if source.decimal == ",":
        text = text.str.replace_all(".", "?", literal=True).str.replace_all(",", ".", literal=True)
    return text
