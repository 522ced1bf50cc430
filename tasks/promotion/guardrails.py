"""Guardrails: what a challenger must keep, however good it is on average. Each says what is wrong, or nothing.

Schema, the scores of the reference sample, the time to score a row and robustness need the model alone. Calibration and slices
are measured on the judged rows, beside the champion's on the same rows, and left out where there are too few. Robustness is the
adversarial check: numbers shaken by a hundredth of their deviation and each input left out must give scores that can be served.
The whole costs about as much as scoring the reference sample once more for each feature.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

import numpy as np

from perennial import metrics
from perennial.arrays import Floats
from perennial.base import FrozenModel
from perennial.input_contract import InputContract
from perennial.log_columns import SCORE
from perennial.model import Model
from perennial.model_loading import SCORE_TOLERANCE
from perennial.spec import ModelSpec
from tasks.promotion.comparison import Comparison, Scored

NOISE = 0.01
"""Of a number's standard deviation: less than any measurement of it is worth."""

TIMED_ROWS = 200
"""Rows scored one by one, whose median time counts: a busy machine delays some of them, not half."""

SLICE_LEVEL = 0.05
"""Probability that any slice is refused without being worse, shared among the slices (Bonferroni)."""


class Guardrail(FrozenModel):
    """One guardrail: what is wrong, or None where it holds."""

    name: str
    broken: str | None = None


@dataclass(frozen=True)
class Inspected:
    """The model that is to serve, and its judge's comparison with the champion where there are rows enough."""

    spec: ModelSpec
    model: Model
    champion: Model | None = None
    comparison: Comparison | None = None


def check_guardrails(inspected: Inspected) -> tuple[Guardrail, ...]:
    """Every guardrail, in order."""
    return tuple(Guardrail(name=name, broken=check(inspected)) for name, check in GUARDRAILS.items())


def check_schema(one: Inspected) -> str | None:
    """The model takes the columns that the spec names, and computes its features as the spec says."""
    card = one.model.card
    return "; ".join(InputContract.of(card.spec, card.features.kinds).changes(one.spec)) or None


def check_reference(one: Inspected) -> str | None:
    """The scores of the reference sample are those stored with it, can be served, and differ if the champion's do."""
    sample = one.model.reference
    scores, stored = np.asarray(one.model.predict_frame(sample)), np.array(sample[SCORE].to_list())
    if (wrong := _unfit(one.spec, scores)) is not None:
        return f"of the reference sample {wrong}"
    if not np.allclose(scores, stored, rtol=SCORE_TOLERANCE, atol=SCORE_TOLERANCE):
        return "the scores of the reference sample are not those stored with it"
    alike = one.champion is not None and _all_alike(one.model) and not _all_alike(one.champion)
    return "the scores of the reference sample are all the same" if alike else None


def check_calibration(one: Inspected) -> str | None:
    """The calibration error on the judged rows is not much above the champion's."""
    if one.comparison is None:
        return None
    new, old = (calibration_error(one.spec, scored) for scored in (one.comparison.challenger, one.comparison.champion))
    if new - old <= one.spec.gate.max_calibration_loss:
        return None
    return f"calibration error {new:.3g}, the champion's {old:.3g}: over gate.max_calibration_loss"


def check_slices(one: Inspected) -> str | None:
    """In no value of the spec's slice columns is the loss proven to be much above the champion's."""
    if one.comparison is None:
        return None
    slices, found = list(one.comparison.slices()), []
    for name, mask in slices:
        new, old = one.comparison.losses(mask)
        worse = new > old * (1 + one.spec.gate.max_slice_loss)
        if worse and one.comparison.probability_better(mask) < SLICE_LEVEL / len(slices):
            found.append(f"{name}: {one.comparison.metric} {new:.4g}, the champion's {old:.4g}")
    return "; ".join(found) or None


def check_latency(one: Inspected) -> str | None:
    """A row is scored in time."""
    score_row, took = one.model.estimator.row_scorer(), []
    for row in one.model.compiled.matrix(one.model.reference.head(TIMED_ROWS)).tolist():
        began = time.perf_counter()
        score_row(row)
        took.append(time.perf_counter() - began)
    middle, most = 1_000 * median(took), one.spec.gate.max_latency_ms
    return f"{middle:.3g} ms to score a row: over gate.max_latency_ms = {most:g}" if middle > most else None


def check_robustness(one: Inspected) -> str | None:
    """Small noise changes the scores little, and a row that lacks an input is still scored."""
    model, kinds = one.model, one.model.card.features.kinds
    matrix = model.compiled.matrix(model.reference)
    for place, name in enumerate(kinds):
        without = matrix.copy()
        without[:, place] = np.nan
        if (wrong := _unfit(one.spec, model.predict_matrix(without))) is not None:
            return f"without {name} {wrong}"
    numeric = [place for place, kind in enumerate(kinds.values()) if kind == "numeric"]
    plain, shaken = (model.predict_matrix(rows) for rows in (matrix, _shaken(matrix, numeric, one.spec.search.seed)))
    change = float(np.abs(shaken - plain).mean() / (plain.std() or 1.0))
    most = one.spec.gate.max_noise_change
    what = f"noise of {NOISE:.0%} of each number's deviation changes the scores by {change:.3g} of theirs"
    return f"{what}: over gate.max_noise_change = {most:g}" if change > most else None


GUARDRAILS: Mapping[str, Callable[[Inspected], str | None]] = {
    "schema": check_schema,
    "reference": check_reference,
    "calibration": check_calibration,
    "slices": check_slices,
    "latency": check_latency,
    "robustness": check_robustness,
}


def calibration_error(spec: ModelSpec, scored: Scored) -> float:
    """Expected calibration error: mean distance of prediction and truth in bins of equal count; in deviations for regression."""
    error = metrics.calibration_error(scored.labels, scored.scores)
    return error / (float(scored.labels.std()) or 1.0) if spec.task == "regression" else error


def _unfit(spec: ModelSpec, scores: Floats) -> str | None:
    """Why scores cannot be served."""
    if not np.isfinite(scores).all():
        return "some scores are no finite numbers"
    if spec.task != "regression" and (scores.min() < 0 or scores.max() > 1):
        return "some scores are no probabilities"
    sums = scores.sum(axis=1) if spec.task == "multiclass" else np.ones(1)
    return None if np.allclose(sums, 1) else "the probabilities of some rows do not sum to 1"


def _all_alike(model: Model) -> bool:
    return bool(np.ptp(np.array(model.reference[SCORE].to_list()), axis=0).max() == 0)


def _shaken(matrix: Floats, columns: list[int], seed: int) -> Floats:
    shaken, chance = matrix.copy(), np.random.default_rng(seed)
    for column in columns:
        known = matrix[~np.isnan(matrix[:, column]), column]
        shaken[:, column] += chance.normal(0, NOISE * float(known.std()) if known.size else 0.0, len(matrix))
    return shaken
