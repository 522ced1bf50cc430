"""Leak suspicion: columns that know the answer, found by what each of them says about the target on its own.

A column that alone predicts nearly perfectly is either the target in another form or known only after it. Each column is cut
into bins (a null is one, for what is filled in later is null until then); what the bins of every second row say is judged on the
other rows. Two numbers that add up to the target are found too. A suspicion is no proof: it is shown, with the key to write, and
only a column that leaves next to nothing of the target open is left out.
"""

from collections.abc import Iterator, Mapping
from itertools import combinations_with_replacement
from typing import NamedTuple

import numpy as np
import polars as pl

from perennial.arrays import Floats
from perennial.labels import LabelCodec
from perennial.metrics import score
from tasks.proposal.target import Target

BINS = 256
NEARLY = {"binary": 0.99, "regression": 0.98, "multiclass": 0.99}  # AUC, share of the variance, share of right answers
SURE = 0.999  # of the same: a strong feature explains less, what is known only later explains more
CERTAIN = 0.95  # share of the largest class from which being right says nothing
MOST_SUMMED = 60  # numeric columns of which pairs are added
LEAST = 50  # labelled rows under which nothing is suspected


class Leak(NamedTuple):
    """What speaks against a column, and whether that leaves little doubt."""

    reason: str
    sure: bool = True


def find_leaks(frame: pl.DataFrame, target: Target, columns: list[str]) -> dict[str, Leak]:
    """The columns under suspicion, each with what speaks against it."""
    codec = LabelCodec(target.task, texts=_texts(frame[target.column], target))
    labels = codec.parse_column(frame[target.column])
    found = {name: Leak(why) for name, why in _known_later(frame, labels, columns)}
    rows = frame.filter(labels.is_not_null())
    if rows.height < LEAST:
        return found
    known = labels.drop_nulls()
    found |= {name: Leak(why) for name, why in _copies(rows, known, [name for name in columns if name not in found])}
    found |= {name: leak for name in columns if name not in found and (leak := _alone(rows[name], known, target)) is not None}
    if target.task == "regression":
        found |= {name: Leak(why) for name, why in _sums(rows, known, [name for name in columns if name not in found])}
    return found


def _texts(values: pl.Series, target: Target) -> tuple[str, ...]:
    if target.task != "binary" or target.positive is None:
        return ()
    names = LabelCodec("multiclass").parse_column(values).drop_nulls().unique().to_list()
    return next((name for name in names if name != target.positive), ""), target.positive


def _known_later(frame: pl.DataFrame, labels: pl.Series, columns: list[str]) -> Iterator[tuple[str, str]]:
    """Columns that are null just where the target is: they come with it."""
    unknown = labels.is_null()
    if not 0 < unknown.sum() < frame.height:
        return
    for name in columns:
        if (frame[name].is_null() == unknown).all():
            yield name, f"is null in just the {unknown.sum():,} rows whose target is not known yet: it becomes known with it"


def _copies(rows: pl.DataFrame, labels: pl.Series, columns: list[str]) -> Iterator[tuple[str, str]]:
    """Columns each value of which stands for one value of the target, and the other way round.

    Values that never come again do so by themselves; such columns are copies only where they rise or fall with the target.
    """
    for name in columns:
        values = rows[name]
        if values.dtype.is_nested() or values.null_count():
            continue
        pairs = pl.DataFrame({"value": values, "label": labels}).unique()
        one_to_one = 1 < pairs.height == pairs["value"].n_unique() == pairs["label"].n_unique()
        if one_to_one and (2 * pairs.height <= rows.height or _in_one_order(pairs)):
            same = values.dtype.is_numeric() and labels.dtype.is_numeric() and bool((values.cast(pl.Float64) == labels).all())
            yield name, "is a copy of the target" if same else "is the target in other words: each value stands for one of it"


def _in_one_order(pairs: pl.DataFrame) -> bool:
    labels = pairs.sort("value")["label"]
    return labels.is_sorted() or labels.is_sorted(descending=True)


def _alone(values: pl.Series, labels: pl.Series, target: Target) -> Leak | None:
    bins, rows = _bins(values), labels.len()
    if bins is None:
        return None
    learn, judge = np.arange(0, rows, 2), np.arange(1, rows, 2)
    if target.task == "multiclass":
        return _right(bins, labels.to_physical() if labels.dtype == pl.Categorical else labels, learn, judge)
    truth = labels.cast(pl.Float64).to_numpy()
    scores = _means(bins[learn], truth[learn])[bins[judge]]
    if target.task == "binary":
        if len(set(truth[judge])) < 2:
            return None
        auc = score("binary", truth[judge], np.clip(scores, 0, 1)).values["auc"]
        auc = max(auc, 1 - auc)
        why = f"alone tells true from false nearly always (AUC {auc:.3f})"
        return Leak(why, auc >= SURE) if auc >= NEARLY["binary"] else None
    rest = float(np.square(truth[judge] - scores).sum() / max(1e-300, np.square(truth[judge] - truth[judge].mean()).sum()))
    return Leak(f"alone explains {1 - rest:.1%} of the target", 1 - rest >= SURE) if 1 - rest >= NEARLY["regression"] else None


def _right(bins: np.ndarray, labels: pl.Series, learn: np.ndarray, judge: np.ndarray) -> Leak | None:
    table = pl.DataFrame({"bin": bins, "label": labels})
    common = table[learn].group_by("bin").agg(pl.col("label").mode().sort().first().alias("said"))
    judged = table[judge].join(common, on="bin", how="left")
    right = (judged["label"] == judged["said"]).sum() / judged.height
    largest = float(labels.value_counts(normalize=True)["proportion"].max())  # type: ignore[arg-type]
    why = f"alone names the right class in {right:.1%} of the rows"
    return Leak(why, right >= SURE) if right >= NEARLY["multiclass"] and largest < CERTAIN else None


def _bins(values: pl.Series) -> np.ndarray | None:
    """The bin of each row, null a bin of its own; None of a type that has no order and no equality."""
    if values.dtype.is_temporal():
        values = values.to_physical()
    if values.dtype.is_numeric() and values.n_unique() > BINS:
        numbers = _finite(values)
        edges = np.unique(np.quantile(numbers.drop_nulls().to_numpy(), np.linspace(0, 1, BINS + 1)[1:-1]))
        codes = np.digitize(numbers.fill_null(0).to_numpy(), edges)
        return np.where(numbers.is_null().to_numpy(), len(edges) + 1, codes)
    if values.dtype.is_nested() or values.dtype == pl.Binary:
        return None
    return values.rank("dense").fill_null(0).to_numpy().astype(np.int64)


def _finite(values: pl.Series) -> pl.Series:
    """The same as floats; null where they are not finite."""
    numbers = values.cast(pl.Float64)
    return numbers.set(~numbers.is_finite(), None)


def _means(bins: np.ndarray, truth: Floats) -> Floats:
    """The mean label of each bin; of one without rows that of all."""
    size = 1 + int(bins.max(initial=0)) + BINS * 8
    counts, sums = np.bincount(bins, minlength=size), np.bincount(bins, weights=truth, minlength=size)
    return np.asarray(np.where(counts > 0, sums / np.maximum(counts, 1), truth.mean()))


def _sums(rows: pl.DataFrame, labels: pl.Series, columns: list[str]) -> Iterator[tuple[str, str]]:
    """Two columns that make the target when they are added or one is taken from the other."""
    names = [name for name in columns if rows.schema[name].is_numeric() and rows[name].n_unique() > 2][:MOST_SUMMED]
    numbers: Mapping[str, Floats] = {name: _finite(rows[name]).fill_null(np.nan).to_numpy() for name in names}
    truth, head = labels.cast(pl.Float64).to_numpy(), slice(0, 500)
    for one, other in combinations_with_replacement(names, 2):
        a, b = numbers[one], numbers[other]
        for sign, sum_ in (("+", a + b), ("-", a - b), ("-", b - a)):
            if np.allclose(sum_[head], truth[head], rtol=1e-9) and np.allclose(sum_, truth, rtol=1e-9):
                first, second = (one, other) if sign == "+" or sum_[0] == a[0] - b[0] else (other, one)
                why = f"{first} {sign} {second} is the target"
                yield from ((one, why), (other, why))
