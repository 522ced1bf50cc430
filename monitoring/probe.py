"""The probe: what the newest rows teach that the champion does not know, found without training a version.

A few small trees are fitted on top of the champion's own scores, on labelled rows that are newer than its training, and both
are scored on the next window. Twice what the trees gain there stands for what a new version would: they learn a part of it.

In go encoded rows with labels and the champion's scores, of whichever learner it is; out come both losses and the excess. Pure,
and the same rows give the same result. Costs 0.02 to 0.2 seconds of one core; LightGBM is imported when the first one is fitted.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from monitoring.avoidable_loss import ExcessLoss, block_sums, day_blocks, excess_loss, mean_loss
from monitoring.window import Window
from perennial.arrays import Floats, Indices
from perennial.features import FeatureSet
from perennial.learner import Objective, TrainingTable
from perennial.learners.declarations import Params
from perennial.links import link, raw_scores
from perennial.metrics import row_losses

PARAMS: Params = {"num_leaves": 8, "learning_rate": 0.1}
ROUNDS = 20

MOST_WINDOWS, MOST_ROWS = 8, 20_000
"""The newest windows before the judged one, and rows of them, that the trees learn from."""

FACTOR = 2.0
"""What a whole new version gains for what the trees gain."""


@dataclass(frozen=True)
class ProbeRows:
    """Labelled rows sorted in time: encoded (n, k), with coded labels (n,), times, and the champion's scores of them."""

    matrix: Floats
    labels: Floats
    times: NDArray[np.datetime64]
    scores: Floats

    def __len__(self) -> int:
        return int(self.labels.size)

    def take(self, rows: slice | Indices | NDArray[np.bool_]) -> "ProbeRows":
        """Some of the rows."""
        return ProbeRows(self.matrix[rows], self.labels[rows], self.times[rows], self.scores[rows])


@dataclass(frozen=True)
class ProbeResult:
    """The metric of champion and probe on so many rows; `difference` is what counts, the factor included."""

    rows: int
    champion_loss: float
    probe_loss: float
    difference: ExcessLoss


def windows_before(window: Window, since: datetime) -> Iterator[Window]:
    """The windows that a probe of this one may learn from, the newest first: those with rows after `since`."""
    length = window.end - window.start
    for _ in range(MOST_WINDOWS):
        window = Window(start=window.start - length, end=window.start)
        if window.end <= since:
            return
        yield window


def probe(
    objective: Objective, metric: str, features: FeatureSet, judged: ProbeRows, earlier: Iterable[ProbeRows]
) -> ProbeResult | None:
    """Probe the champion on one window, having learnt from earlier ones, the newest first; None if there is nothing to compare.

    `objective` is that of the champion's training; losses are those of `metric`. Only the newest MOST_ROWS rows are learnt, and
    as many of the earlier windows are asked for as have them.
    """
    learnt = _learnable(_newest(earlier), objective)
    if not len(learnt) or len(judged) < 2:
        return None
    ours, theirs = (
        row_losses(objective.task, judged.labels, scores, metric)
        for scores in (judged.scores, _probe_scores(objective, features, learnt, judged))
    )
    blocks = day_blocks(judged.times)
    difference = excess_loss(block_sums(ours, blocks), block_sums(theirs, blocks), metric)
    if difference is None:
        return None
    return ProbeResult(len(judged), mean_loss(ours, metric), mean_loss(theirs, metric), difference.times(FACTOR))


def _probe_scores(objective: Objective, features: FeatureSet, learnt: ProbeRows, judged: ProbeRows) -> Floats:
    """The champion's scores of the judged rows, corrected by what the learnt ones teach."""
    from perennial.learners.lightgbm import boost

    start, categories = raw_scores(objective.task, learnt.scores), features.categories
    sizes = tuple(len(categories[name]) if name in categories else None for name in features.names)
    table = TrainingTable(learnt.matrix, learnt.labels, learnt.times, None, sizes)
    correction = boost(table, objective, start, PARAMS, ROUNDS)
    return link(objective.task, raw_scores(objective.task, judged.scores) + correction(judged.matrix))


def _newest(windows: Iterable[ProbeRows]) -> ProbeRows:
    """The newest rows of windows that come newest first; no window is asked for beyond those that have enough."""
    found: list[ProbeRows] = []
    left = MOST_ROWS
    for rows in windows:
        if len(rows):
            found.insert(0, rows.take(slice(-left, None)))
            left -= len(found[0])
        if left <= 0:
            break
    return _joined(found)


def _joined(parts: list[ProbeRows]) -> ProbeRows:
    if not parts:
        return ProbeRows(np.empty((0, 0)), np.empty(0), np.empty(0, "datetime64[us]"), np.empty(0))
    columns = zip(*((one.matrix, one.labels, one.times, one.scores) for one in parts), strict=True)
    matrix, labels, times, scores = (np.concatenate(one) for one in columns)
    return ProbeRows(matrix, labels, times, scores)


def _learnable(rows: ProbeRows, objective: Objective) -> ProbeRows:
    """Without the rows of classes that the champion does not know: its scores have no place for them."""
    return rows.take(rows.labels < objective.classes) if objective.task == "multiclass" else rows
