"""The target: which task its values are, and which of two values is true, as far as the values show it."""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from perennial.errors import DataError
from perennial.labels import LabelCodec, similar_class
from perennial.schema import refuse_missing
from perennial.spec import METRICS, Task
from tasks.proposal.questions import Ask, Question
from tasks.proposal.table import ODD, Table

FEW = 20  # different whole numbers up to which they may be classes as well as quantities
CLASSES = 100  # different texts up to which they are classes
_PAIRS = {"y": "n", "t": "f", "on": "off", "1": "-1", "positive": "negative", "pos": "neg", "+": "-"}  # the true one first
_LIKELY = ("target", "label", "class", "outcome", "y")


@dataclass(frozen=True)
class Target:
    """The target's column and task, each with its reason, and the value that means true where the values do not say it."""

    column: str
    task: Task
    why: str
    positive: str | None = None
    why_positive: str = ""


def find_target(table: Table, wanted: str | None, task: str | None, positive: str | None, ask: Ask) -> Target:
    """The target a person names, its task and true value; raises DataError or SpecError saying what to give."""
    column = wanted if wanted is not None else ask(_which(table))
    refuse_missing(table.frame.columns, [column])
    values = table.frame[column]
    found, why = (task, "as it was said") if task is not None else _task(values, ask)
    if found not in METRICS:
        raise DataError(f"--task {found!r} is none: choose from {', '.join(METRICS)}")
    if found != "binary":
        if positive is not None:
            raise DataError(f"--positive {positive!r} names the true one of two values, but {column!r} is {found}: {why}")
        return Target(column, found, why)
    true, reason = (_said(values, positive), "as it was said") if positive is not None else _positive(values, ask)
    return Target(column, "binary", why, true, reason)


def _which(table: Table) -> Question:
    names = table.frame.columns
    ordered = sorted(names, key=lambda name: (name.strip().lower() not in _LIKELY, -names.index(name)))
    described = tuple((name, _described(table.frame[name])) for name in ordered)
    return Question("target", "which column is to be predicted? The table does not say", described)


def _described(values: pl.Series) -> str:
    try:
        return f"{values.drop_nulls().n_unique():,} different values, such as {values.drop_nulls().head(1).to_list()!r:.40}"
    except pl.exceptions.PolarsError:
        return str(values.dtype)


def _task(values: pl.Series, ask: Ask) -> tuple[str, str]:
    names, known = _classes(values), values.drop_nulls()
    count = known.n_unique()
    if count < 2:
        raise DataError(f"target {values.name!r} is always {known.head(1).to_list()}: there is nothing to learn")
    if values.dtype == pl.Boolean or count == 2:
        return "binary", f"{values.name} has two values, {' and '.join(map(repr, names[:2]))}"
    if values.dtype == pl.String:
        if count > CLASSES:
            raise DataError(f"target {values.name!r} has {count:,} different texts, such as {names[:3]}: these are no classes")
        return "multiclass", f"{values.name} has {count} different texts{_alike(names)}"
    if not values.dtype.is_numeric():
        raise DataError(f"target {values.name!r} is {values.dtype}, which no task predicts: derive a number or a class of it")
    if count > FEW or not bool((known == known.cast(pl.Int64, strict=False)).all()):
        return "regression", f"{values.name} has {count:,} different numbers"
    choices = (("regression", "they are a quantity: 3 is between 2 and 4"), ("multiclass", "they are codes of classes"))
    shown = ", ".join(map(str, known.unique().sort().head(5).to_list()))
    return ask(
        Question("task", f"target {values.name!r} has {count} different whole numbers ({shown}...)", choices)
    ), "as it was said"


def _positive(values: pl.Series, ask: Ask) -> tuple[str | None, str]:
    """The value that means true; None where the values say it themselves."""
    if values.dtype == pl.Boolean or not LabelCodec("binary").is_refused(values).any():
        return None, ""
    names = _classes(values)
    folded = {name.strip().lower(): name for name in names}
    for true, false in _PAIRS.items():
        if {true, false} == set(folded):
            return folded[true], f"beside {folded[false]!r}"
    counts = LabelCodec("multiclass").parse_column(values)
    choices = tuple((name, f"{(counts == name).sum() / counts.len():.1%} of the rows") for name in names)
    return ask(Question("positive", f"which value of {values.name!r} is true?", choices)), "as it was said"


def _said(values: pl.Series, positive: str) -> str:
    """The true value that a person names, where it is one of two; a few rows with others are for the checks."""
    counts = LabelCodec("multiclass").parse_column(values).drop_nulls().value_counts(sort=True)
    names = counts[values.name].to_list()
    if positive not in names:
        raise DataError(f"--positive {positive!r} is no value of {values.name!r}, which has {', '.join(map(repr, names[:5]))}")
    others = counts.filter(pl.col(values.name) != positive)["count"]
    if others[1:].sum() > ODD * values.len():
        raise DataError(
            f"a binary target has two values, but {values.name!r} has {', '.join(map(repr, names[:5]))}{_alike(names)}"
        )
    return positive


def _alike(names: Sequence[str]) -> str:
    """The first name that is probably another one in a second spelling, in words; empty where there is none."""
    pairs = ((similar_class(name, names[:place]), name) for place, name in enumerate(names))
    same = next((pair for pair in pairs if pair[0] is not None), None)
    return f"; {same[0]!r} and {same[1]!r} are probably one in two spellings: correct the source then" if same else ""


def _classes(values: pl.Series) -> list[str]:
    return [str(name) for name in LabelCodec("multiclass").parse_column(values).drop_nulls().unique().sort().to_list()]
