"""Loss matrices without trainings: every cell from a formula, or at random."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import numpy as np

from monitoring.window import Window
from tasks.backtest.loss_matrix import Cell, LossMatrix, MatrixRow

START, WEEK = datetime(2024, 1, 1, tzinfo=UTC), timedelta(days=7)
ROWS, BLOCKS = 700, 7

Loss = Callable[[int, int], Sequence[float]]
"""The block means of the model of a boundary on a window."""


def windows(count: int) -> tuple[Window, ...]:
    return tuple(Window(start=START + number * WEEK, end=START + (number + 1) * WEEK) for number in range(count))


def matrix_of(
    count: int,
    loss: Loss,
    first: int = 1,
    lateness: timedelta = timedelta(),
    ahead: timedelta = timedelta(),
    metric: str = "log_loss",
    counts: tuple[int, ...] | None = None,
) -> LossMatrix:
    """A matrix of `count` windows of 7 blocks of 100 rows."""
    rows = {
        boundary: MatrixRow(
            boundary=boundary,
            rounds=1,
            cells=tuple(_cell(loss(boundary, window)) for window in range(boundary, count)),
        )
        for boundary in range(count)
    }
    return LossMatrix(windows(count), rows, counts or (ROWS,) * count, metric, first, lateness, ahead)


def _cell(means: Sequence[float]) -> Cell:
    sums = tuple(ROWS / BLOCKS * mean for mean in means)
    mean = float(np.mean(means))
    return Cell(sums=sums, signals={"loss": mean, "drift": mean / 10}, distances={"amount": mean})


def ageing(per_window: float, noise: float = 0.001, seed: int = 0) -> Loss:
    """Models lose so much more with each window of age."""

    def loss(boundary: int, window: int) -> Sequence[float]:
        chance = np.random.default_rng((seed, boundary, window))
        return list(1 + per_window * (window - boundary) + noise * chance.standard_normal(BLOCKS))

    return loss


def random_losses(seed: int) -> Loss:
    """Losses that follow nothing."""
    return lambda boundary, window: list(np.random.default_rng((seed, boundary, window)).uniform(0.5, 1.5, BLOCKS))
