"""Profiles: the distribution of each feature as counts in bins that are frozen with the model.

Bins and categories come from the training table once (`fit_profile`); afterwards whole numbers are counted in them
(`count_profile`), so the same rows give the same profile wherever they are counted.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Literal, Protocol, Self

import numpy as np
import polars as pl
from pydantic import Field

from perennial.arrays import Floats, Indices
from perennial.base import FrozenModel, StoredModel
from perennial.features import top_categories
from perennial.spec import Kind

QUANTILES = 56  # bins inside the reference's range; with the tails at most 64 bins. Fewer distinct values get a bin each
TAILS = (1.0, 2.0, 4.0)  # edges beyond the range, in standard deviations: how far a shift outside of it can be measured


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
        return sum(self.counts) + self.nulls

    def count(self, values: pl.Series) -> Self:
        """These values in these bins."""
        known = _known(values)
        counts = np.bincount(np.searchsorted(self.edges, known, side="right"), minlength=len(self.counts))
        return self.model_copy(update={"counts": tuple(counts.tolist()), "nulls": len(values) - known.size})


class CategoricalProfile(FrozenModel):
    """A category's distribution; `other` counts categories that the reference does not list."""

    kind: Literal["categorical"] = "categorical"
    categories: tuple[str, ...]
    counts: tuple[int, ...]
    other: int
    nulls: int

    @property
    def rows(self) -> int:
        return sum(self.counts) + self.other + self.nulls

    def codes(self, values: pl.Series) -> pl.Series:
        """The place of each value among the categories; null for nulls and for categories that are not listed."""
        return values.cast(pl.Enum(self.categories), strict=False).to_physical()

    def count(self, values: pl.Series) -> Self:
        """These values by these categories."""
        nulls = values.null_count()
        codes = self.codes(values).drop_nulls()
        counts = tuple(np.bincount(codes.to_numpy(), minlength=len(self.categories)).tolist())
        return self.model_copy(update={"counts": counts, "other": len(values) - nulls - len(codes), "nulls": nulls})


FeatureProfile = Annotated[NumericProfile | CategoricalProfile, Field(discriminator="kind")]


class Profile(StoredModel):
    """The distributions of a model's features over some rows, and what each feature is worth to the model.

    `importance` is each feature's share of what the learner calls importance; it sums to 1.
    """

    rows: int
    features: dict[str, FeatureProfile]
    importance: dict[str, float]


class Columns(Protocol):
    """Readable values by column, a polars frame or one that computes each when it is asked for (`ReadableColumns`)."""

    @property
    def height(self) -> int:
        """Rows of each."""

    def __getitem__(self, name: str) -> pl.Series:
        """The values of a feature."""


def fit_profile(table: Columns, kinds: Mapping[str, Kind], importance: Mapping[str, float]) -> Profile:
    """The reference profile of readable values (`CompiledFeatures.table` of the training rows), each column read once.

    `importance` is any non-negative weight by feature; it is scaled to sum to 1, evenly where all are 0.
    """
    fit: dict[Kind, Callable[[pl.Series], FeatureProfile]] = {"categorical": _fit_categorical, "numeric": _fit_numeric}
    features = {name: fit[kind](table[name]) for name, kind in kinds.items()}
    total = sum(importance.get(name, 0.0) for name in kinds)
    shares = {name: importance.get(name, 0.0) / total if total > 0 else 1 / len(kinds) for name in kinds}
    return Profile(rows=table.height, features=features, importance=shares)


def count_profile(table: pl.DataFrame, like: Profile) -> Profile:
    """Readable values counted in the bins of `like`; values `like` never saw count in its tails and `other`."""
    features = {name: feature.count(table[name]) for name, feature in like.features.items()}
    return like.model_copy(update={"rows": table.height, "features": features})


def moments(known: Floats) -> tuple[float, float]:
    """Mean and standard deviation, computed near 1 so that no square leaves the range of floats."""
    _, exponent = np.frexp(np.abs(known).max())
    near = np.ldexp(known, -exponent)
    return float(np.ldexp(near.mean(), exponent)), float(np.ldexp(near.std(), exponent))


def _fit_numeric(values: pl.Series) -> NumericProfile:
    known = np.sort(_known(values))
    nulls = len(values) - known.size
    if known.size == 0:
        return NumericProfile(edges=(), counts=(0,), nulls=nulls, centers=(0.0,), mean=0.0, scale=0.0)
    mean, scale = moments(known)
    edges = _edges(known, scale)
    counts = np.diff(np.searchsorted(known, edges), prepend=0, append=known.size)
    centers, numbers = _centers(known, edges, counts), tuple(counts.tolist())
    return NumericProfile(edges=tuple(edges), counts=numbers, nulls=nulls, centers=tuple(centers), mean=mean, scale=scale)


def _edges(known: Floats, scale: float) -> Floats:
    """Ascending edges: a bin for each distinct value where they are few, else quantiles; then the tails."""
    distinct = known[np.append(True, known[1:] != known[:-1])]  # of sorted values
    if distinct.size > QUANTILES:
        distinct = known[np.arange(QUANTILES) * (known.size - 1) // QUANTILES]
    with np.errstate(over="ignore"):
        top, tails = np.nextafter(known[-1], np.inf), (scale or 1.0) * np.array(TAILS)
        edges = np.unique(np.concatenate([known[0] - tails, distinct, [top], top + tails]))
    return np.asarray(edges[np.isfinite(edges)])


def _centers(known: Floats, edges: Floats, counts: Indices) -> Floats:
    """Mean of the sorted reference within each bin, kept within the bin; where it has none, the middle (or the one edge)."""
    bins = np.repeat(np.arange(counts.size), counts)
    means = np.bincount(bins, weights=known, minlength=edges.size + 1) / np.maximum(counts, 1)
    low, high = np.concatenate([edges[:1], edges]), np.concatenate([edges, edges[-1:]])
    return np.asarray(np.clip(np.where(counts > 0, means, low / 2 + high / 2), low, high))


def _fit_categorical(values: pl.Series) -> CategoricalProfile:
    categories = top_categories(values)
    return CategoricalProfile(categories=categories, counts=(0,) * len(categories), other=0, nulls=0).count(values)


def merge_profiles(parts: Iterable[Profile]) -> Profile:
    """The profile of all rows from profiles of their parts, counted in the same bins: the same however rows are shared out."""
    counted = list(parts)
    features = {name: _merge_counts([part.features[name] for part in counted]) for name in counted[0].features}
    return counted[0].model_copy(update={"rows": sum(part.rows for part in counted), "features": features})


def _merge_counts(parts: Sequence[FeatureProfile]) -> FeatureProfile:
    sums: dict[str, object] = {"counts": tuple(map(sum, zip(*(part.counts for part in parts), strict=True)))}
    for name in ("nulls", "other"):
        if name in type(parts[0]).model_fields:
            sums[name] = sum(getattr(part, name) for part in parts)
    return parts[0].model_copy(update=sums)


def bin_codes(values: pl.Series, like: FeatureProfile) -> Indices:
    """The place of each value among the bins, or categories, of `like`; -1 for nulls and for categories that it does not list."""
    if isinstance(like, CategoricalProfile):
        return like.codes(values).cast(pl.Int64).fill_null(-1).to_numpy().astype(np.int64)
    numbers = values.cast(pl.Float64).to_numpy()
    return np.where(np.isnan(numbers), -1, np.searchsorted(like.edges, numbers, side="right"))


def _known(values: pl.Series) -> Floats:
    numbers = values.cast(pl.Float64).to_numpy()
    return np.asarray(numbers[~np.isnan(numbers)])
