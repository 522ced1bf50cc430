"""Answers: the response bodies of predict and explain, and what the documentation says about them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import orjson
from pydantic import Field

from perennial.base import FrozenModel

if TYPE_CHECKING:
    import numpy as np

    from perennial.model import Model

Label = bool | str


class Prediction(FrozenModel):
    """The answer for one row."""

    id: str = Field(description="as sent, otherwise given here; feedback names it")
    score: float = Field(description="probability of true (binary) or of the label (multiclass), or the value (regression)")
    label: Label | None = Field(None, description="what the score means; absent for regression")
    scores: dict[str, float] | None = Field(None, description="probability of each class; multiclass only")


class PredictResponse(FrozenModel):
    """The answer to a predict request; one version answered all rows, in the order they were sent."""

    model: str
    version: int
    predictions: tuple[Prediction, ...]


class Explanation(FrozenModel):
    """Why one row got its score: `base` and the contributions sum to the model's raw output.

    The raw output is the log-odds (binary), the value (regression), or the label's raw score (multiclass). The
    contributions are exact: Shapley values of trees (TreeSHAP), or the terms of a linear model.
    """

    id: str
    score: float
    label: Label | None = None
    base: float
    contributions: dict[str, float]


class ExplainResponse(FrozenModel):
    """The answer to an explain request."""

    model: str
    version: int
    explanations: tuple[Explanation, ...]


def prediction_body(model: "Model", ids: Sequence[str], scores: Sequence[Any]) -> bytes:
    """The body of a PredictResponse; `scores` holds a float per row, or a list of class probabilities per row."""
    pairs = zip(ids, scores, strict=True)
    if model.card.task == "binary":  # the most common task: a row costs no call
        threshold = model.card.spec.label_threshold
        return _body(model, "predictions", [{"id": name, "score": score, "label": score >= threshold} for name, score in pairs])
    return _body(model, "predictions", [{"id": name, **_outcome(model, score, with_all=True)} for name, score in pairs])


def explanation_body(model: "Model", ids: Sequence[str], scores: Sequence[Any], contributions: "np.ndarray") -> bytes:
    """The body of an ExplainResponse; `contributions` is (n, features + 1), or (n, classes, features + 1)."""
    names = model.card.features.names
    explanations = []
    for name, score, row in zip(ids, scores, contributions, strict=True):
        # A multiclass row has one set of contributions per class: those of the class it was given explain it.
        own = row[score.index(max(score))] if isinstance(score, list) else row
        parts = dict(zip(names, own[:-1].tolist(), strict=True))
        outcome = _outcome(model, score, with_all=False)
        explanations.append({"id": name, **outcome, "base": float(own[-1]), "contributions": parts})
    return _body(model, "explanations", explanations)


def _outcome(model: "Model", score: Any, *, with_all: bool) -> dict[str, Any]:
    if model.card.task == "regression":
        return {"score": score}
    classes = model.card.classes
    outcome = {"score": max(score) if classes else score, "label": model.label_of(score)}
    return {**outcome, "scores": dict(zip(classes, score, strict=True))} if classes and with_all else outcome


def _body(model: "Model", key: str, rows: list[dict[str, Any]]) -> bytes:
    return orjson.dumps({"model": model.card.name, "version": model.card.version, key: rows})
