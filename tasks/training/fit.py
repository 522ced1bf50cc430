"""Fit: one LightGBM model from the training rows, as many rounds as the newest of them bear.

The newest rows stop the boosting, then all rows are boosted for that many rounds: under drift they are the ones
a model can least do without.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from perennial.errors import TrainingError
from perennial.features import CompiledFeatures
from tasks.job import Job
from tasks.task_defaults import step
from tasks.training.boosting import Bins, Params, Table, full_params, has_contrast
from tasks.training.split import Indices
from tasks.training.training_data import Material

if TYPE_CHECKING:
    import lightgbm as lgb

NEWEST = 0.1
"""Share of the training rows, the newest, that decides the number of rounds."""

FEW = 50
"""With fewer rows than this on the deciding side, its verdict is noise: `UNGUIDED` rounds are taken."""

UNGUIDED = 100
"""Rounds where nothing can decide: LightGBM's own default."""


@dataclass(frozen=True)
class Fitted:
    """A booster with the features it reads; `curve` is its metric by round on the newest rows, before they were added."""

    booster: "lgb.Booster"
    compiled: CompiledFeatures
    classes: tuple[str, ...]
    params: Params
    rounds: int
    curve: tuple[float, ...]
    bins: Bins

    def predict(self, frame: pl.DataFrame) -> NDArray[np.float64]:
        """Scores of raw rows: (n,), or (n, classes)."""
        scores: NDArray[np.float64] = np.asarray(self.booster.predict(self.compiled.matrix(frame)))
        return scores


def fit_model(job: Job, material: Material, params: Params) -> Fitted:
    """Fit with the chosen parameters, the spec's fixed ones beneath them."""
    spec, table = job.spec, material.table
    if not has_contrast(table.labels):
        raise TrainingError(f"target {spec.target!r} is the same in all {len(table):,} training rows: there is nothing to learn")
    chosen = {**params, **spec.search.params}
    full = full_params(spec.task, spec.objective_metric, table.classes, chosen, spec.search.seed, job.threads)
    bins = Bins(table, full)
    older, newest = newest_apart(table)
    if newest.size < FEW or older.size < FEW or not has_contrast(table.labels[newest]):
        final = bins.boost(full, min(UNGUIDED, spec.search.max_rounds))
    else:
        stopped = bins.boost_until(full, spec.search.max_rounds, spec.search.patience, older, newest)
        final = replace(bins.boost(full, stopped.rounds), curve=stopped.curve)
    return Fitted(final.booster, material.compiled, material.classes, chosen, final.rounds, final.curve, bins)


def newest_apart(table: Table) -> tuple[Indices, Indices]:
    """The newest tenth of the rows apart from the rest; rows of one moment stay together."""
    moment = table.times[int(len(table) * (1 - NEWEST))]
    start = int(np.searchsorted(table.times, moment))
    return np.arange(start), np.arange(start, len(table))


fit = step("fit")(fit_model)
