"""Hindsight: the promotions that would have been best, had all losses been known; what no policy can do better than.

Dynamic programming over the next promotion (Bellman): the best life from a promotion on does not depend on what came before it,
but for the part of its first window that its predecessor still serves. Costs O(windows^2).
"""

import numpy as np

from perennial.arrays import Floats
from tasks.backtest.loss_matrix import LossMatrix
from tasks.backtest.simulate import Life, life_with


def hindsight(matrix: LossMatrix, cost: float) -> Life:
    """The life whose losses and promotions cost least, a promotion costing `cost` in the unit of the losses."""
    judged = np.zeros(len(matrix.windows), dtype=bool)
    judged[matrix.judged] = True
    losses, handovers = (np.where(judged, table, 0.0) for table in (matrix.losses, matrix.handovers))
    following = _next_promotions(losses, handovers, cost, matrix.first)
    chosen, at = [], following[matrix.first]
    while at < len(losses):
        chosen.append(at)
        at = following[at]
    return life_with(chosen)


def _next_promotions(losses: Floats, handovers: Floats, cost: float, first: int) -> dict[int, int]:
    """By champion: the boundary at which it is best replaced; the end where it is best kept."""
    end = len(losses)
    best, following = np.zeros(end), {}
    for champion in range(end - 1, first - 1, -1):
        later = slice(champion + 1, end)
        served = np.concatenate([[0.0], np.cumsum(losses[champion, later])])
        replaced = cost + handovers[champion, later] + best[later]
        options = served + np.append(replaced, 0.0)
        chosen = int(np.argmin(options))
        best[champion], following[champion] = options[chosen], champion + 1 + chosen
    return following
