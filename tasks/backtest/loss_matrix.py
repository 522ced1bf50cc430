"""The loss matrix: the model of each boundary on each later window, as sums of row losses and as signals.

Boundary b is the start of window b. The matrix holds all that a decision about training or promoting needs, so that a policy
is simulated in milliseconds and without a training. It keeps the monitor's time: a window is closed `lateness` after its end,
so what is decided then serves the rest of the window that has begun meanwhile, and its predecessor the part before.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from monitoring.avoidable_loss import ExcessLoss, excess_loss
from monitoring.window import Window
from perennial.arrays import Floats, Indices
from perennial.base import FrozenModel, StoredModel
from perennial.signals import SignalValues

Probed = Callable[[int, int], ExcessLoss | None]
"""By boundary and window: how much more the boundary's model lost than a probe on top of it."""


class Cell(FrozenModel):
    """One model on one window: block sums of its row losses, its signals, and each feature's distance from its training."""

    sums: tuple[float, ...]
    signals: SignalValues
    distances: dict[str, float]


class MatrixRow(StoredModel):
    """One boundary's model: `cells[i]` is for window boundary + i, None where too few labelled rows can judge it."""

    boundary: int
    rounds: int
    cells: tuple[Cell | None, ...]


@dataclass(frozen=True)
class LossMatrix:
    """The rows of all boundaries from `first` on, at which the simulated life begins; earlier ones serve as its past.

    `counts` are the labelled rows of each window. `ahead` is how far the newest label lies beyond a boundary when the window
    before it is closed; negative where labels come later than windows close, and then `lag` is by how many windows. `probes`
    makes a probe when it is asked for; None where the rows are not at hand.
    """

    windows: tuple[Window, ...]
    rows: dict[int, MatrixRow]
    counts: tuple[int, ...]
    metric: str
    first: int
    lateness: timedelta = timedelta()
    ahead: timedelta = timedelta()
    probes: Probed | None = field(default=None, repr=False, compare=False)
    _excess: dict[tuple[int, int, int], ExcessLoss | None] = field(default_factory=dict, repr=False, compare=False)

    @property
    def length(self) -> timedelta:
        return self.windows[0].end - self.windows[0].start

    @property
    def lag(self) -> int:
        """At boundary b, window b - 1 - lag is the newest with labels."""
        return max(0, -(self.ahead // self.length))

    def cell(self, boundary: int, window: int) -> Cell | None:
        """The model of `boundary` on `window`; None also where it was trained on it, or there is none."""
        row, offset = self.rows.get(boundary), window - boundary
        return row.cells[offset] if row is not None and 0 <= offset < len(row.cells) else None

    @cached_property
    def judged(self) -> Indices:
        """The windows of the simulated life that have enough labelled rows."""
        life = range(self.first, len(self.windows))
        return np.array([window for window in life if self.cell(self.first, window) is not None], dtype=np.int64)

    @cached_property
    def losses(self) -> Floats:
        """The metric of each boundary's model on each window, (boundaries, windows); NaN where there is no cell."""
        return self._table(lambda boundary, _: boundary)

    @cached_property
    def handovers(self) -> Floats:
        """The metric of each window in which its own boundary's model takes over from an earlier one, (earlier, windows)."""
        return self._table(lambda _, window: window)

    def _table(self, successor: Callable[[int, int], int]) -> Floats:
        size = len(self.windows)
        found = np.full((size, size), np.nan)
        for boundary in self.rows:
            for window in range(boundary, size):
                before, after = self.cell(boundary, window), self.cell(successor(boundary, window), window)
                if before is not None and after is not None:
                    late = self._late_blocks(len(before.sums))
                    mean = (math.fsum(before.sums[:late]) + math.fsum(after.sums[late:])) / self.counts[window]
                    found[boundary, window] = math.sqrt(mean) if self.metric == "rmse" else mean
        return found

    def _late_blocks(self, blocks: int) -> int:
        """Blocks of a window that pass until the window before it is closed."""
        return min(blocks, math.ceil(self.lateness / self.length * blocks))

    @property
    def boundaries(self) -> Sequence[int]:
        """Where a new version can begin to serve."""
        return range(self.first + 1, len(self.windows))

    def losses_of(self, promotions: Sequence[int] | Indices) -> Floats:
        """The metric of each judged window in a life with these promotions."""
        promoted = np.zeros(len(self.windows), dtype=bool)
        promoted[np.asarray(promotions, dtype=np.intp)] = True
        return self.losses_when(promoted)

    def losses_when(self, promoted: NDArray[np.bool_]) -> Floats:
        """The same for many lives at once: where each promotes (..., windows) gives its losses (..., judged windows)."""
        windows = np.arange(len(self.windows))
        champion = np.maximum.accumulate(np.where(promoted, windows, self.first), axis=-1)
        before = np.roll(champion, 1, axis=-1)
        found: Floats = np.where(promoted, self.handovers[before, windows], self.losses[champion, windows])
        return found[..., self.judged]

    def may_judge(self, boundary: int, window: int) -> bool:
        """Whether the model that is trained when the window before `boundary` is closed knows no row of the second half."""
        return self.windows[boundary].start + max(self.ahead, timedelta()) <= self.windows[window].start + self.length / 2

    def excess(self, champion: int, challenger: int, window: int) -> ExcessLoss | None:
        """Champion against challenger on a window that neither was trained on."""
        key = champion, challenger, window
        if key not in self._excess:
            ours, theirs = self.cell(champion, window), self.cell(challenger, window)
            both = (np.array(ours.sums), np.array(theirs.sums)) if ours and theirs else None
            self._excess[key] = excess_loss(*both, self.metric) if both else None
        return self._excess[key]
