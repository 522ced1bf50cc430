"""What every peer shares: the model, the dictionaries of its categories, and rows as numbers.

Runs in each peer's own environment, so it knows only the standard library, numpy and LightGBM.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np

Row = dict[str, Any]
Matrix = np.ndarray[Any, np.dtype[np.float64]]

FEW = 128
"""Rows that one thread scores faster than several, as in `perennial.model`."""

MODEL = "BENCH_MODEL"
"""Variable with the directory of model.txt and features.json."""


class Coding:
    """Rows as a client sends them to the matrix that the model was trained on; NaN for null and unknown."""

    def __init__(self, names: Sequence[str], categories: dict[str, Sequence[str]]) -> None:
        self.names = names
        self._codes = {name: {value: float(code) for code, value in enumerate(values)} for name, values in categories.items()}

    def row(self, row: Row) -> list[float]:
        """One row, in the order of the model's features."""
        codes = self._codes
        return [codes[name].get(row[name], np.nan) if name in codes else row[name] for name in self.names]

    def matrix(self, rows: Sequence[Row]) -> Matrix:
        """Rows as (n, k)."""
        return np.array([self.row(row) for row in rows], dtype=np.float64)


def predict(booster: lgb.Booster, matrix: Matrix) -> list[float]:
    """Scores; few rows by one thread, because LightGBM's threads take a millisecond to meet on a machine that is busy.

    Whoever does not know that gets a tenth of the requests; that is not what is measured here.
    """
    scores: list[float] = booster.predict(matrix, num_threads=1 if len(matrix) <= FEW else 0).tolist()
    return scores


def load_booster() -> lgb.Booster:
    """The model under test."""
    return lgb.Booster(model_file=str(_folder() / "model.txt"))


def load_coding() -> Coding:
    """How its rows become numbers."""
    features = json.loads((_folder() / "features.json").read_text())
    return Coding(features["names"], features["categories"])


def _folder() -> Path:
    return Path(os.environ[MODEL])
