"""Answers: the response bodies of predict and explain, and what the documentation says about them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

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
    version: int | None = Field(None, description="the version that answered this row, where that is not the response's")


class PredictResponse(FrozenModel):
    """The answer to a predict request, in the order in which the rows were sent.

    `version` answered every row that names no other; rows that the challenger answered beside the champion name theirs.
    """

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
    version: int | None = Field(None, description="the version that is explained, where that is not the response's")


class ExplainResponse(FrozenModel):
    """The answer to an explain request."""

    model: str
    version: int
    explanations: tuple[Explanation, ...]


ResponseKey = Literal["predictions", "explanations"]
Rows = list[dict[str, Any]]


def prediction_rows(model: "Model", ids: Sequence[str], scores: Sequence[Any]) -> Rows:
    """The predictions of a PredictResponse; `scores` holds a float per row, or a list of class probabilities per row."""
    pairs = zip(ids, scores, strict=True)
    if model.card.task == "binary":  # the most common task: a row costs no call
        threshold = model.card.spec.label_threshold
        return [{"id": name, "score": score, "label": score >= threshold} for name, score in pairs]
    return [{"id": name, **_outcome(model, score, with_all=True)} for name, score in pairs]


def explanation_rows(model: "Model", ids: Sequence[str], scores: Sequence[Any], contributions: "np.ndarray") -> Rows:
    """The explanations of an ExplainResponse; `contributions` is (n, features + 1), or (n, classes, features + 1)."""
    names = model.card.features.names
    explanations = []
    for name, score, row in zip(ids, scores, contributions, strict=True):
        # A multiclass row has one set of contributions per class: those of the class it was given explain it.
        own = row[score.index(max(score))] if isinstance(score, list) else row
        parts = dict(zip(names, own[:-1].tolist(), strict=True))
        outcome = _outcome(model, score, with_all=False)
        explanations.append({"id": name, **outcome, "base": float(own[-1]), "contributions": parts})
    return explanations


def response_body(model: "Model", key: ResponseKey, rows: Rows) -> bytes:
    """A response whose rows this version answered, but for those that name another."""
    return orjson.dumps({"model": model.card.name, "version": model.card.version, key: rows})


def merge_rows(chosen: Sequence[bool], champion: Rows, challenger: Rows, version: int) -> Rows:
    """The rows of both in the order of the request; those that the challenger answered are `chosen`, and name its version."""
    first, second = iter(champion), iter(challenger)
    return [{**next(second), "version": version} if taken else next(first) for taken in chosen]


def _outcome(model: "Model", score: Any, *, with_all: bool) -> dict[str, Any]:
    if model.card.task == "regression":
        return {"score": score}
    classes = model.card.classes
    outcome = {"score": max(score) if classes else score, "label": model.label_of(score)}
    return {**outcome, "scores": dict(zip(classes, score, strict=True))} if classes and with_all else outcome
