"""Measurement: a model judged on some rows, in the same way on a window of the log and on a calibration block.

Rows and labels go in, drift, metrics and the value of every signal come out. The judged model's own scores of the rows are
what counts: rows that an older version answered must not be held against it. Costs one prediction of all rows.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl

from monitoring.drift import Drift, measure_drift
from perennial.arrays import Floats
from perennial.errors import DataError
from perennial.estimates import expected_loss, moved_to_base_rate
from perennial.labels import LabelCodec
from perennial.log_columns import LABEL, SCORE, VERSION
from perennial.metrics import Metrics, score
from perennial.model import Model
from perennial.model_card import ModelCard
from perennial.profile import Profile, bin_codes, count_profile
from perennial.signals import SignalInput, SignalValues, measure_signals
from perennial.spec import ModelSpec


@dataclass(frozen=True)
class Measurement:
    """What a model was found to be like on some rows. `metrics` is None without a label, `served` also without scores.

    `labels` (n,) and `scores` are those of all rows. `unknown_labels` counts the labels of each class that the model does not
    know; they are labels like others. `means` is the mean of labels and of scores where both are there and numbers.
    `expected_loss` is what the model's calibrated confidence expects of all rows, labelled or not; `moved_loss` is the loss of
    scores moved to the labels' base rate; `error_structure` says by feature how much the errors differ between its bins.
    """

    labels: Floats
    scores: Floats
    labelled: int
    unknown_labels: dict[str, int]
    drift: Drift
    metrics: Metrics | None
    served: Metrics | None
    values: SignalValues
    means: tuple[float, float] | None
    expected_loss: float | None
    moved_loss: float | None
    error_structure: dict[str, float]


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
    recalibration, loss = model.card.recalibration, loss_metric(model.card.spec)
    return Measurement(
        labels=codes,
        scores=scores,
        labelled=int(known.sum()),
        unknown_labels=model.label_codec.unknown(labels),
        drift=drift,
        metrics=metrics,
        served=_served(model.card, codes[known], served.filter(pl.Series(known))) if metrics and served is not None else None,
        values=measure_signals(model.card.task, rows),
        means=(float(codes[known].mean()), float(scores[known].mean())) if metrics and scores.ndim == 1 else None,
        expected_loss=expected_loss(loss, recalibration.apply(scores)) if recalibration else None,
        moved_loss=_moved_loss(model, codes[known], scores[known]) if metrics else None,
        error_structure=error_structure(table.filter(pl.Series(known)), model.profile, _errors(codes[known], scores[known])),
    )


def error_structure(table: pl.DataFrame, profile: Profile, errors: Floats) -> dict[str, float]:
    """By feature: the variance of the errors' mean between its bins over that of rows drawn at random (the F statistic).

    Near 1 where the errors do not depend on the feature; what a changed concept has changed stands out.
    """
    found = {}
    for name, feature in profile.features.items():
        _, bins = np.unique(bin_codes(table[name], feature), return_inverse=True)
        counts = np.bincount(bins) if errors.size else np.zeros(1)
        groups, rest = counts.size - 1, errors.size - counts.size
        if groups < 1 or rest < 1:
            continue
        means = np.bincount(bins, weights=errors) / counts
        between = float((counts * np.square(means - errors.mean())).sum()) / groups
        within = float(np.square(errors - means[bins]).sum()) / rest
        found[name] = between / within if within > 0 else 1.0
    return found


def _errors(codes: Floats, scores: Floats) -> Floats:
    """Label minus score; for more than two classes whether the likeliest was right, minus its probability."""
    if scores.ndim == 1:
        return codes - scores
    return np.asarray((scores.argmax(axis=1) == codes).astype(float) - scores.max(axis=1))


def _moved_loss(model: Model, codes: Floats, scores: Floats) -> float | None:
    """The loss of scores that are moved to the base rate of the labels; None where every label is of an unknown class."""
    known = codes < len(model.card.classes) if model.card.classes else np.full(codes.size, fill_value=True)
    if not known.any():
        return None
    moved = moved_to_base_rate(model.card.task, codes[known], scores[known])
    return score(model.card.task, codes[known], moved).values.get(loss_metric(model.card.spec))


def served_by_version(rows: pl.DataFrame, model: Model, card: Callable[[int], ModelCard | None]) -> dict[int, Metrics]:
    """By the version that answered: the metrics of what clients were told, on its own labelled rows; each by its own classes.

    `model` judges the rows, `card` finds that of another version; one without a card, or without a label, is left out.
    """
    found = {}
    labelled = rows.filter(pl.col(LABEL).is_not_null())
    for (version,), own in labelled.partition_by(VERSION, as_dict=True).items():
        answering = model.card if version == model.card.version else card(version)
        if answering is None:
            continue
        codes = LabelCodec(answering.task, answering.classes, texts=answering.label_texts).encode_column(own[LABEL])
        if (metrics := _served(answering, codes, own[SCORE])) is not None:
            found[version] = metrics
    return dict(sorted(found.items()))


def _served(card: ModelCard, codes: Floats, served: pl.Series) -> Metrics | None:
    """None where an older version answered with scores of other classes."""
    try:
        scores = np.array(served.to_list(), dtype=np.float64)
        alike = scores.ndim == 1 or scores.shape[1] == len(card.classes)
        return score(card.task, codes, scores) if alike else None
    except (ValueError, DataError):
        return None
