"""Joins: one more source beside the rows so far, refused where the keys or the names of columns do not fit.

What a join does silently elsewhere is said here: how many rows found a partner, which columns both sides have, keys that repeat.
"""

from typing import Literal

import polars as pl

from perennial.base import FrozenModel
from perennial.errors import DataError
from perennial.spec_sources import JoinSpec

EXAMPLES = 3  # keys of each side that a message shows


class JoinMatch(FrozenModel):
    """How many rows found a partner in a joined source."""

    source: str
    on: tuple[str, ...]
    rows: int
    matched: int

    def __str__(self) -> str:
        share = self.matched / max(self.rows, 1)
        return f"{share:.1%} of {self.rows:,} rows have a partner in {self.source!r} ({', '.join(self.on)})"


def join_source(
    left: pl.DataFrame, right: pl.DataFrame, join: JoinSpec, base: str, min_match: float
) -> tuple[pl.DataFrame, JoinMatch]:
    """The rows with the source's columns beside them, and how many found a partner; `base` is what messages call the left side.

    Raises DataError naming keys or columns that do not fit, with the fix.
    """
    on = list(join.on)
    for side, frame in ((base, left), (join.source, right)):
        if absent := [column for column in on if column not in frame.columns]:
            raise DataError(f"cannot join {join.source!r} on {', '.join(absent)}: {side!r} has only {', '.join(frame.columns)}")
    taken = _without_clashes(left, _chosen(right, join), join, base)
    for key in on:
        left, taken = _one_type(left, taken, key, join, base)
    _refuse_repeated(taken, join)
    matched = left.select(on).join(taken.select(on).unique(), on=on, how="semi").height
    match = JoinMatch(source=join.source, on=join.on, rows=left.height, matched=matched)
    if matched < min_match * left.height:
        raise DataError(
            f"only {match}, fewer than checks.min_join_match = {min_match:.1%}: "
            f"{base!r} has {_keys(left, on)}, {join.source!r} has {_keys(taken, on)}; write both alike, or correct `on`"
        )
    how: Literal["left", "inner"] = "inner" if join.how.startswith("inner") else "left"
    return left.join(taken, on=on, how=how, maintain_order="left"), match


def _chosen(right: pl.DataFrame, join: JoinSpec) -> pl.DataFrame:
    if join.columns is None:
        return right
    if absent := [column for column in join.columns if column not in right.columns]:
        raise DataError(f"join of {join.source!r}: it has no column {', '.join(absent)}; it has {', '.join(right.columns)}")
    return right.select(list(dict.fromkeys((*join.on, *join.columns))))


def _without_clashes(left: pl.DataFrame, right: pl.DataFrame, join: JoinSpec, base: str) -> pl.DataFrame:
    """The right side with its suffix where both have a column; raises DataError where that leaves two of one name."""
    clash = [column for column in right.columns if column in left.columns and column not in join.on]
    renamed = right.rename({column: f"{column}{join.suffix}" for column in clash}) if join.suffix else right
    others = [column for column in renamed.columns if column not in join.on]
    if still := [column for column in others if column in left.columns or others.count(column) > 1]:
        new = [column for column in right.columns if column not in clash and column not in join.on]
        columns = f", or `columns = {new}` to leave them out".replace("'", '"') if new else ""
        raise DataError(
            f"both the rows so far ({base!r}) and {join.source!r} have {', '.join(still)}: "
            f'write `suffix = "_{join.source}"` in the join to keep both{columns}'
        )
    return renamed


def _one_type(left: pl.DataFrame, right: pl.DataFrame, key: str, join: JoinSpec, base: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Both sides with the key in one type, where that changes no value; raises DataError otherwise."""
    one, other = left.schema[key], right.schema[key]
    if one == other:
        return left, right
    cast = _exact_type(left[key]), _exact_type(right[key])
    if cast[0] is None or cast[0] != cast[1]:
        shown = " and ".join(
            f"{frame.schema[key]} in {side!r} (such as {frame[key].drop_nulls().head(1).to_list()})"
            for side, frame in ((base, left), (join.source, right))
        )
        raise DataError(f"cannot join {join.source!r} on {key}: it is {shown}; give both one type where the tables are made")
    return left.with_columns(pl.col(key).cast(cast[0])), right.with_columns(pl.col(key).cast(cast[0]))


def _exact_type(keys: pl.Series) -> type[pl.DataType] | None:
    """The type in which a key can be compared with another's: whole numbers as such, texts as such."""
    if keys.dtype.is_integer() or (keys.dtype.is_float() and bool((keys.drop_nulls() % 1 == 0).all())):
        return pl.Int128
    return pl.String if keys.dtype in (pl.String, pl.Categorical, pl.Enum) else None


def _refuse_repeated(right: pl.DataFrame, join: JoinSpec) -> None:
    keys = right.select(join.on).drop_nulls()
    repeated = keys.filter(keys.is_duplicated()).unique(maintain_order=True)
    if repeated.is_empty() or join.how.endswith("_many"):
        return
    raise DataError(
        f"{join.source!r} has several rows for one {', '.join(join.on)}, such as {_keys(repeated, list(join.on))}: make it "
        f'unique, or write `how = "{join.how}_many"` to repeat the rows that have several partners'
    )


def _keys(frame: pl.DataFrame, on: list[str]) -> str:
    """The first different keys, as Python writes them, so that blanks are seen."""
    rows = frame.select(on).drop_nulls().unique(maintain_order=True).head(EXAMPLES).rows()
    return ", ".join(repr(row[0] if len(row) == 1 else row) for row in rows) or "no keys"
