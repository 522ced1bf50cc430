"""Drift: how far a window's features are from the champion's training rows, weighted by what they are worth to it.

Counts in, distances out: both sides are profiles with the same frozen bins, so a window may be
counted anywhere in parts. The report people read uses the same methods on samples of rows.
"""

import numpy as np

from perennial.arrays import Floats
from perennial.base import FrozenModel
from perennial.profile import CategoricalProfile, FeatureProfile, NumericProfile, Profile


class Distance(FrozenModel):
    """One feature's distance. `values` leaves nulls out; the others are the rise (or fall) of a share.

    `nulls`: of nulls. `unseen`: of categories that the reference does not list. `outside`: of numbers beyond the outermost bin's
    edge, which is four standard deviations beyond the reference's range: seconds sent as milliseconds, not a warm week.
    `error`: the most that bins can put `values` off from the distance of the rows themselves, inside the outermost edges.
    """

    values: float
    nulls: float
    unseen: float = 0.0
    outside: float = 0.0
    error: float = 0.0

    @property
    def total(self) -> float:
        """What counts: a feature that goes null has moved, though Wasserstein, KS and Evidently drop nulls."""
        return self.values + abs(self.nulls)


class Drift(FrozenModel):
    """The drift of a window: `total` is the sum of importance times distance, None without rows."""

    rows: int
    total: float | None
    distances: dict[str, Distance]
    unknown: dict[str, int]

    @property
    def null_increases(self) -> dict[str, float]:
        """By feature: how much the share of nulls rose; only those that rose."""
        return {name: one.nulls for name, one in self.distances.items() if one.nulls > 0}

    @property
    def unseen_increases(self) -> dict[str, float]:
        """By feature: how much the share of unknown categories rose; only those that rose."""
        return {name: one.unseen for name, one in self.distances.items() if one.unseen > 0}

    @property
    def outside_increases(self) -> dict[str, float]:
        """By feature: how much the share of numbers far outside of the reference's range rose; only those that rose."""
        return {name: one.outside for name, one in self.distances.items() if one.outside > 0}


def measure_drift(reference: Profile, window: Profile) -> Drift:
    """Compare a window with the reference, counted in the same bins (`count_profile(table, like=reference)`)."""
    unknown = {name: one.other for name, one in window.features.items() if isinstance(one, CategoricalProfile) and one.other}
    if window.rows == 0:
        return Drift(rows=0, total=None, distances={}, unknown=unknown)
    distances = {name: distance(one, window.features[name]) for name, one in reference.features.items()}
    total = sum(reference.importance[name] * found.total for name, found in distances.items())
    return Drift(rows=window.rows, total=total, distances=distances, unknown=unknown)


def distance(reference: FeatureProfile, window: FeatureProfile) -> Distance:
    """One feature's distance; `values` is 0 where either side has nothing but nulls."""
    nulls = _null_share(window) - _null_share(reference)
    before, now = _shares(reference), _shares(window)
    if before is None or now is None:
        return Distance(values=0.0, nulls=nulls)
    if isinstance(reference, NumericProfile):
        outside = float(now[[0, -1]].sum() - before[[0, -1]].sum())
        error = _bin_error(before, reference) + _bin_error(now, reference)
        return Distance(values=_wasserstein(before, now, reference), nulls=nulls, outside=outside, error=error)
    return Distance(values=_jensen_shannon(before, now), nulls=nulls, unseen=float(now[-1] - before[-1]))


def _wasserstein(before: Floats, now: Floats, reference: NumericProfile) -> float:
    """Area between the cumulative distributions over the reference's standard deviation, values at their bin's center.

    Wasserstein-1 in one dimension: Vallender 1974.
    """
    gaps = np.diff(np.asarray(reference.centers))
    return float(np.abs(np.cumsum(before - now))[:-1] @ gaps) / (reference.scale or 1.0)


def _bin_error(shares: Floats, reference: NumericProfile) -> float:
    """The most that rows can be away from their bins' centers, on average: Wasserstein distances obey the triangle inequality."""
    edges, centers = np.asarray(reference.edges), np.asarray(reference.centers)[1:-1]
    widest = np.maximum(centers - edges[:-1], edges[1:] - centers)
    return float(shares[1:-1] @ widest) / (reference.scale or 1.0)


def _jensen_shannon(before: Floats, now: Floats) -> float:
    """Square root of the Jensen-Shannon divergence in nats, 0 to 0.833: Endres & Schindelin 2003."""
    middle = (before + now) / 2
    divergence = (_entropy(middle) - (_entropy(before) + _entropy(now)) / 2).item()
    return float(np.sqrt(max(divergence, 0.0)))


def _entropy(shares: Floats) -> Floats:
    present = shares[shares > 0]
    return np.asarray(-(present * np.log(present)).sum())


def _shares(profile: FeatureProfile) -> Floats | None:
    """Shares of the bins, or of the categories and of what is none of them; None when all is null."""
    other = (profile.other,) if isinstance(profile, CategoricalProfile) else ()
    counts = np.asarray((*profile.counts, *other), dtype=np.float64)
    return counts / counts.sum() if counts.sum() > 0 else None


def _null_share(profile: FeatureProfile) -> float:
    return profile.nulls / profile.rows if profile.rows else 0.0
