"""Performance: how good a model is on rows whose truth has come, scored anew by it and as they were served.

Findings are about the champion, so its own scores of the rows are what is judged: rows that an
older version answered must not be held against it. The served scores are what clients got.
"""

import numpy as np
import polars as pl

from perennial.arrays import Floats
from perennial.base import FrozenModel
from perennial.errors import DataError
from perennial.metrics import Metrics, score
from perennial.model import Model
from perennial.spec import ModelSpec


class Performance(FrozenModel):
    """Metrics over the labelled rows of a window. `loss` and `auc` are the champion's; None where not computable."""

    labelled: int
    metrics: Metrics | None = None
    served: Metrics | None = None
    loss: float | None = None
    auc: float | None = None


def loss_metric(spec: ModelSpec) -> str:
    """The metric watched as the loss: the objective, or log loss where the objective is AUC, which has its own bound."""
    return "log_loss" if spec.objective_metric == "auc" else spec.objective_metric


def measure_performance(model: Model, table: pl.DataFrame, labels: pl.Series, served: pl.Series | None = None) -> Performance:
    """Measure on readable features (`CompiledFeatures.table`), labels (null where unknown) and, if given, served scores."""
    codes = model.encode_labels(labels)
    known = ~np.isnan(codes)
    if not known.any():
        return Performance(labelled=0)
    task, rows = model.card.task, table.filter(pl.Series(known))
    metrics = score(task, codes[known], model.predict_matrix(model.compiled.codes(rows)))
    return Performance(
        labelled=int(known.sum()),
        metrics=metrics,
        served=_served(model, codes[known], served.filter(pl.Series(known))) if served is not None else None,
        loss=metrics.values.get(loss_metric(model.card.spec)),
        auc=metrics.values.get("auc"),
    )


def _served(model: Model, codes: Floats, served: pl.Series) -> Metrics | None:
    """None where an older version answered with scores of other classes."""
    try:
        return score(model.card.task, codes, np.array(served.to_list(), dtype=np.float64))
    except (ValueError, IndexError, DataError):
        return None
