"""A compiled model: one version with what serving makes of it once, in the thread that loads it."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from perennial.model import Model
from perennial.model_card import ModelCard
from service.decoding.row_contract import RowContract

ONE_BY_ONE = 8
"""Up to this many rows are scored one by one: past it, the estimator's call for many rows costs less."""


class CompiledModel:
    """A model, its row contract and its scorer of single rows; shared by the threads that answer."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.contract = RowContract(model)
        self._score = model.estimator.row_scorer()

    @property
    def card(self) -> ModelCard:
        """What the version is."""
        return self.model.card

    def score_vectors(self, vectors: Sequence[Sequence[float]]) -> list[Any]:
        """A score for each row: a float, or a list of one for each class."""
        if len(vectors) <= ONE_BY_ONE:
            return [self._score(vector) for vector in vectors]
        return self.score_matrix(np.array(vectors, dtype=np.float64))

    def score_matrix(self, matrix: "np.ndarray[Any, np.dtype[np.float64]]") -> list[Any]:
        """`score_vectors` of an (n, k) matrix."""
        scores: list[Any] = self.model.predict_matrix(matrix).tolist()
        return scores
