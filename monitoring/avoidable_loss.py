"""Avoidable loss: what the champion cost beyond a newer model on the same rows, summed since its promotion.

A window's difficulty changes its loss far more than the age of a model does, so a level says little about whether a new
version pays. Champion and challenger on the same rows share that difficulty, and their difference does not have it.

    account = Account().add(excess_loss(champion_sums, challenger_sums, "log_loss"))
    account.promotion_due(cost=0.2, z=1.0)

Losses come as sums over blocks of neighbouring rows, because rows of one day err together: a standard error from single rows
would be several times too small. Pure; costs microseconds.
"""

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from perennial.arrays import Floats, Indices
from perennial.base import FrozenModel

MIN_BLOCKS = 7
"""Fewest blocks of a window: days where it has as many, else equal stretches of its rows."""

RECENT = 3
"""Windows whose mean excess is expected of the next one."""


class ExcessLoss(FrozenModel):
    """By how much the champion's loss on a window exceeded the other model's, as a share of the latter, and its error."""

    excess: float
    error: float

    def times(self, factor: float) -> "ExcessLoss":
        """So many times as much, and its error likewise."""
        return ExcessLoss(excess=factor * self.excess, error=factor * self.error)


class Account(FrozenModel):
    """The excess losses of the windows since the champion's promotion, oldest first."""

    entries: tuple[ExcessLoss, ...] = ()

    def add(self, entry: ExcessLoss) -> "Account":
        """The account with one more window."""
        return Account(entries=(*self.entries, entry))

    @property
    def avoidable(self) -> float:
        """What the newest challengers would have saved so far, in windows' losses."""
        return math.fsum(entry.excess for entry in self.entries)

    @property
    def error(self) -> float:
        """Standard error of `avoidable`; windows err independently of each other."""
        return math.sqrt(math.fsum(entry.error**2 for entry in self.entries))

    @property
    def expected(self) -> float:
        """What the next window would cost: the mean of the newest three, not below 0."""
        recent = [entry.excess for entry in self.entries[-RECENT:]]
        return max(0.0, math.fsum(recent) / len(recent)) if recent else 0.0

    @property
    def champion_better(self) -> float:
        """P(the champion loses less than the other model), by the normal approximation of the block sums' difference."""
        if not self.error:
            return 0.5 if not self.avoidable else float(self.avoidable < 0)
        return NormalDist().cdf(-self.avoidable / self.error)

    def promotion_due(self, cost: float, z: float) -> bool:
        """Whether what was avoidable, with the next window, has reached the cost and stands `z` errors from nothing."""
        return self.avoidable + self.expected >= cost and self.avoidable >= z * self.error


def day_blocks(times: NDArray[np.datetime64]) -> Indices:
    """The block of each row, rows being sorted in time: its day; equal stretches where there are fewer than seven days."""
    days = np.unique(times.astype("datetime64[D]"), return_inverse=True)[1]
    if times.size and days.max() + 1 >= MIN_BLOCKS:
        return days.astype(np.int64)
    return np.arange(times.size) * min(MIN_BLOCKS, times.size) // max(times.size, 1)


def block_sums(row_losses: Floats, blocks: Indices) -> Floats:
    """Sum of the rows' losses in each block."""
    return np.bincount(blocks, weights=row_losses).astype(np.float64)


def mean_loss(row_losses: Floats, metric: str) -> float:
    """The metric of rows with these losses."""
    mean = float(row_losses.mean())
    return math.sqrt(mean) if metric == "rmse" else mean


def excess_loss(champion: Floats, challenger: Floats, metric: str) -> ExcessLoss | None:
    """Compare two models by their sums over two or more blocks of the same rows; None where that cannot be done.

    Standard deviation of the sums' differences x sqrt(blocks) / the challenger's sum. For rmse the sums are of squared errors:
    excess is that of the roots, and the error follows by the delta method.
    """
    total = float(challenger.sum())
    if total <= 0 or challenger.size < 2:
        return None
    ratio = float(champion.sum()) / total
    error = float(np.std(champion - challenger, ddof=1)) * math.sqrt(champion.size) / total
    if metric == "rmse":
        return ExcessLoss(excess=math.sqrt(ratio) - 1, error=error / 2)
    return ExcessLoss(excess=ratio - 1, error=error)
