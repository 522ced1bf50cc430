"""Measurement: a model judged on some rows, in the same way on a window of the log and on a calibration block.

Rows and labels go in, drift, metrics and the value of every signal come out. The judged model's own scores of the rows are
what counts: rows that an older version answered must not be held against it. Costs one prediction of all rows.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from monitoring.drift import Drift, measure_drift
from perennial.arrays import Floats
from perennial.errors import DataError
from perennial.metrics import Metrics, score
from perennial.model import Model
from perennial.profile import count_profile
from perennial.signals import SignalInput, SignalValues, measure_signals
from perennial.spec import ModelSpec


@dataclass(frozen=True)
class Measurement:
    """What a model was found to be like on some rows. `metrics` is None without a label, `served` also without scores.

    `unknown_labels` counts the labels of each class that the model does not know; they are labels like others.
    """

    labelled: int
    unknown_labels: dict[str, int]
    drift: Drift
    metrics: Metrics | None
    served: Metrics | None
    values: SignalValues


def loss_metric(spec: ModelSpec) -> str:
    """The metric watched as the loss: the objective, or log loss where the objective is AUC, which has its own bound."""
    return "log_loss" if spec.objective_metric == "auc" else spec.objective_metric


def measure(model: Model, table: pl.DataFrame, labels: pl.Series, served: pl.Series | None = None) -> Measurement:
    """Measure on readable features (`CompiledFeatures.table`), labels (null where unknown) and, if given, served scores."""
    drift = measure_drift(model.profile, count_profile(table, model.profile))
    codes = model.label_codec.encode_column(labels)
    scores = model.predict_matrix(model.compiled.codes(table))
    known = ~np.isnan(codes)
    metrics = score(model.card.task, codes, scores) if known.any() else None
    rows = SignalInput(
        loss_metric=loss_metric(model.card.spec),
        drift=drift.total,
        distances={name: one.total for name, one in drift.distances.items()},
        metrics=metrics.values if metrics else {},
        labels=codes,
        scores=scores,
    )
    return Measurement(
        labelled=int(known.sum()),
        unknown_labels=model.label_codec.unknown(labels),
        drift=drift,
        metrics=metrics,
        served=_served(model, codes[known], served.filter(pl.Series(known))) if metrics and served is not None else None,
        values=measure_signals(model.card.task, rows),
    )


def _served(model: Model, codes: Floats, served: pl.Series) -> Metrics | None:
    """None where an older version answered with scores of other classes."""
    try:
        scores = np.array(served.to_list(), dtype=np.float64)
        alike = scores.ndim == 1 or scores.shape[1] == len(model.card.classes)
        return score(model.card.task, codes, scores) if alike else None
    except (ValueError, DataError):
        return None
