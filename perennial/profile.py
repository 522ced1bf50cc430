"""Profiles: the distribution of each feature as counts in bins that are frozen with the model.

Bins and categories come from the training table once (`fit_profile`); afterwards only whole numbers are
counted (`count_profile`) and added (`Profile.merge`), so parts counted anywhere add up exactly.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

import numpy as np
import polars as pl
from pydantic import Field

from perennial.arrays import Floats
from perennial.base import FrozenModel, StoredModel
from perennial.errors import DataError
from perennial.features import MAX_CATEGORIES
from perennial.spec import Kind

QUANTILES = 56
"""Bins inside the reference's range; with the tails at most 64 bins. Fewer distinct values get a bin each."""

TAILS = (1.0, 2.0, 4.0)
"""Edges beyond the range, in reference standard deviations: how far a shift outside of it can still be measured."""


class NumericProfile(FrozenModel):
    """A number's distribution. Bin i holds edges[i-1] <= value < edges[i]; the first and last are open.

    `centers` are the reference's means within the bins (the middle where it has no value), ascending;
    `mean` and `scale` are the reference's mean and standard deviation, the same in every window.
    """

    kind: Literal["numeric"] = "numeric"
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    nulls: int
    centers: tuple[float, ...]
    mean: float
    scale: float

    @property
    def rows(self) -> int:
        """Rows counted, nulls included."""
        return sum(self.counts) + self.nulls

    def merge(self, other: Self) -> Self:
        """Both parts counted together."""
        return self.model_copy(update={"counts": _add(self.counts, other.counts), "nulls": self.nulls + other.nulls})

    def empty(self) -> Self:
        """The same bins with nothing in them."""
        return self.model_copy(update={"counts": (0,) * len(self.counts), "nulls": 0})


class CategoricalProfile(FrozenModel):
    """A category's distribution; `other` counts categories that the reference does not list."""

    kind: Literal["categorical"] = "categorical"
    categories: tuple[str, ...]
    counts: tuple[int, ...]
    other: int
    nulls: int

    @property
    def rows(self) -> int:
        """Rows counted, nulls included."""
        return sum(self.counts) + self.other + self.nulls

    def merge(self, other: Self) -> Self:
        """Both parts counted together."""
        sums = {"counts": _add(self.counts, other.counts), "other": self.other + other.other, "nulls": self.nulls + other.nulls}
        return self.model_copy(update=sums)

    def empty(self) -> Self:
        """The same categories with nothing in them."""
        return self.model_copy(update={"counts": (0,) * len(self.counts), "other": 0, "nulls": 0})


FeatureProfile = Annotated[NumericProfile | CategoricalProfile, Field(discriminator="kind")]


class Profile(StoredModel):
    """The distributions of a model's features over some rows, and what each feature is worth to the model.

    `importance` is each feature's share of what the learner calls importance; it sums to 1.
    """

    rows: int
    features: dict[str, FeatureProfile]
    importance: dict[str, float]

    def merge(self, other: "Profile") -> "Profile":
        """Both parts counted together; raises DataError when they were not counted in the same bins."""
        if self.empty() != other.empty():
            raise DataError("profiles of different models cannot be merged; count both with the same reference profile")
        merged = {name: _merge(mine, other.features[name]) for name, mine in self.features.items()}
        return self.model_copy(update={"rows": self.rows + other.rows, "features": merged})

    def empty(self) -> "Profile":
        """The same bins with nothing in them: where a window begins."""
        features = {name: feature.empty() for name, feature in self.features.items()}
        return self.model_copy(update={"rows": 0, "features": features})


def fit_profile(table: pl.DataFrame, kinds: Mapping[str, Kind], importance: Mapping[str, float]) -> Profile:
    """The reference profile of readable values (`CompiledFeatures.table` of the training rows).

    `importance` is any non-negative weight by feature; it is scaled to sum to 1, evenly where all are 0.
    """
    features = {
        name: _fit_categorical(table[name]) if kind == "categorical" else _fit_numeric(table[name])
        for name, kind in kinds.items()
    }
    empty = Profile(rows=0, features=features, importance=_shares(kinds, importance))
    return count_profile(table, empty)


def count_profile(table: pl.DataFrame, like: Profile) -> Profile:
    """Readable values counted in the bins of `like`; values `like` never saw count in its tails and `other`."""
    features = {name: _count(table[name], feature) for name, feature in like.features.items()}
    return like.model_copy(update={"rows": table.height, "features": features})


def _shares(kinds: Mapping[str, Kind], importance: Mapping[str, float]) -> dict[str, float]:
    total = sum(importance.get(name, 0.0) for name in kinds)
    return {name: importance.get(name, 0.0) / total if total > 0 else 1 / len(kinds) for name in kinds}


def _fit_numeric(values: pl.Series) -> NumericProfile:
    known = np.sort(_known(values))
    if known.size == 0:
        return NumericProfile(edges=(), counts=(0,), nulls=0, centers=(0.0,), mean=0.0, scale=0.0)
    mean, scale = moments(known)
    edges = _edges(known, scale)
    centers = _centers(known, edges)
    counts = (0,) * (len(edges) + 1)
    return NumericProfile(edges=tuple(edges), counts=counts, nulls=0, centers=tuple(centers), mean=mean, scale=scale)


def moments(known: Floats) -> tuple[float, float]:
    """Mean and standard deviation, computed near 1 so that no square leaves the range of floats."""
    _, exponent = np.frexp(np.abs(known).max())
    near = np.ldexp(known, -exponent)
    return float(np.ldexp(near.mean(), exponent)), float(np.ldexp(near.std(), exponent))


def _edges(known: Floats, scale: float) -> list[float]:
    """Ascending edges: a bin for each distinct value where they are few, else quantiles; then the tails."""
    distinct = np.unique(known)
    if distinct.size > QUANTILES:
        places = np.arange(QUANTILES) * (known.size - 1) // QUANTILES
        distinct = np.unique(known[places])
    top, step = math.nextafter(float(known[-1]), math.inf), scale or 1.0
    below = [float(known[0]) - step * tail for tail in TAILS]
    above = [top + step * tail for tail in TAILS]
    edges = np.unique(np.array([*below, *distinct.tolist(), top, *above]))
    return [float(edge) for edge in edges[np.isfinite(edges)]]


def _centers(known: Floats, edges: list[float]) -> list[float]:
    """Mean of the reference within each bin, kept within the bin; where it has none, the middle (or the one edge)."""
    bins = np.searchsorted(edges, known, side="right")
    counts = np.bincount(bins, minlength=len(edges) + 1)
    means = np.bincount(bins, weights=known, minlength=len(edges) + 1) / np.maximum(counts, 1)
    low, high = np.array([edges[0], *edges]), np.array([*edges, edges[-1]])
    return [float(center) for center in np.clip(np.where(counts > 0, means, low / 2 + high / 2), low, high)]


def _fit_categorical(values: pl.Series) -> CategoricalProfile:
    counts = values.drop_nulls().value_counts(name="n").sort(["n", values.name], descending=[True, False])
    categories = tuple(sorted(counts[values.name].head(MAX_CATEGORIES).to_list()))
    return CategoricalProfile(categories=categories, counts=(0,) * len(categories), other=0, nulls=0)


def _count(values: pl.Series, like: NumericProfile | CategoricalProfile) -> NumericProfile | CategoricalProfile:
    return _count_numeric(values, like) if isinstance(like, NumericProfile) else _count_categorical(values, like)


def _count_numeric(values: pl.Series, like: NumericProfile) -> NumericProfile:
    known = _known(values)
    counts = np.bincount(np.searchsorted(like.edges, known, side="right"), minlength=len(like.counts))
    return like.model_copy(update={"counts": tuple(counts.tolist()), "nulls": len(values) - known.size})


def _count_categorical(values: pl.Series, like: CategoricalProfile) -> CategoricalProfile:
    nulls = values.null_count()
    codes = values.cast(pl.Enum(list(like.categories)), strict=False).to_physical().drop_nulls()
    counts = np.bincount(codes.to_numpy(), minlength=len(like.categories))
    other = len(values) - nulls - len(codes)
    return like.model_copy(update={"counts": tuple(counts.tolist()), "other": other, "nulls": nulls})


def _known(values: pl.Series) -> Floats:
    numbers = values.cast(pl.Float64).to_numpy()
    return np.asarray(numbers[~np.isnan(numbers)])


def _merge(one: NumericProfile | CategoricalProfile, other: Any) -> NumericProfile | CategoricalProfile:
    return one.merge(other)


def _add(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(a + b for a, b in zip(one, other, strict=True))
