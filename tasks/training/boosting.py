"""Boosting: the few calls of LightGBM that tuning, fitting and calibration share.

The bins of a table are made once; every fold and trial is a subset of them.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from perennial.errors import TrainingError
from perennial.metrics import higher_is_better
from tasks.job import CALM
from tasks.training.split import Indices

if TYPE_CHECKING:
    import lightgbm as lgb

Params = dict[str, float | int | str | bool]

METRICS = {
    "log_loss": "binary_logloss",
    "auc": "auc",
    "brier": "l2",  # of probabilities: LightGBM converts the raw score before it squares
    "rmse": "rmse",
    "mae": "l1",
}
"""Our metrics in LightGBM's words."""

BINNING = frozenset(
    {"max_bin", "max_bins", "min_data_in_bin", "bin_construct_sample_cnt", "subsample_for_bin", "max_bin_by_feature"}
)
"""Parameters that change how a table is binned, so that its bins cannot be shared between their values."""


@dataclass(frozen=True)
class Table:
    """Rows sorted in time as LightGBM takes them: matrix (n, k) float64, labels (n,) coded, weights (n,) or None."""

    matrix: NDArray[np.float64]
    labels: NDArray[np.float64]
    times: NDArray[np.datetime64]
    weights: NDArray[np.float64] | None
    names: tuple[str, ...]
    categorical: tuple[int, ...]
    classes: int

    def __len__(self) -> int:
        return int(self.labels.size)


@dataclass(frozen=True)
class Boosted:
    """A booster, its number of rounds, and its metric after each round on the rows it was stopped by, if any."""

    booster: "lgb.Booster"
    rounds: int
    curve: tuple[float, ...] = ()

    @property
    def best(self) -> float:
        """The metric after the best round."""
        return self.curve[self.rounds - 1]


class Bins:
    """The binned form of a table; `boost` trains on subsets of its rows."""

    def __init__(self, table: Table, params: Mapping[str, Any]) -> None:
        self.table = table
        dataset = load_lightgbm().Dataset(
            table.matrix,
            table.labels,
            weight=table.weights,
            feature_name=list(table.names),
            categorical_feature=list(table.categorical),
            params={key: value for key, value in params.items() if key not in ("objective", "metric", "num_class")},
        )
        with _explained(params):
            self._set = dataset.construct()

    def boost(self, params: Mapping[str, Any], rounds: int, train: Indices | None = None) -> Boosted:
        """Train a fixed number of rounds on `train`, or on all rows."""
        return Boosted(_train(params, self._subset(train), rounds, None, {}), rounds)

    def boost_until(self, params: Mapping[str, Any], rounds: int, patience: int, train: Indices, valid: Indices) -> Boosted:
        """Train on `train` until `valid` has not improved for `patience` rounds, at most `rounds`."""
        record: dict[str, dict[str, list[float]]] = {}
        stop = load_lightgbm().early_stopping(patience, first_metric_only=True, verbose=False)
        booster = _train(params, self._subset(train), rounds, self._subset(valid), record, stop)
        curve = tuple(next(iter(record["valid"].values())))
        return Boosted(booster, booster.best_iteration or len(curve), curve)

    def _subset(self, rows: Indices | None) -> Any:
        return self._set if rows is None else self._set.subset(rows.tolist())


def _train(params: Mapping[str, Any], train: Any, rounds: int, valid: Any, record: dict[str, Any], *callbacks: Any) -> Any:
    lgb = load_lightgbm()
    sets = [valid] if valid is not None else []
    watching = [lgb.record_evaluation(record), *callbacks] if sets else []
    with _explained(params):
        return lgb.train(dict(params), train, rounds, valid_sets=sets, valid_names=["valid"] * len(sets), callbacks=watching)


@contextmanager
def _explained(params: Mapping[str, Any]) -> Iterator[None]:
    try:
        yield
    except load_lightgbm().basic.LightGBMError as error:
        raise TrainingError(f"LightGBM cannot train with {dict(params)}: {error}") from error


def load_lightgbm() -> Any:
    """LightGBM, loaded where it is used: it takes a second, and calm threads must have been asked for before."""
    os.environ.setdefault(*CALM)
    import lightgbm

    return lightgbm


def full_params(task: str, metric: str, classes: int, chosen: Mapping[str, Any], seed: int, threads: int) -> dict[str, Any]:
    """Chosen parameters and what makes them a model of this task that comes out the same each time."""
    objective = {"binary": "binary", "multiclass": "multiclass", "regression": "l1" if metric == "mae" else "l2"}[task]
    shape = {"num_class": classes, "metric": "multi_logloss"} if task == "multiclass" else {"metric": METRICS[metric]}
    fixed = {"verbosity": -1, "seed": seed, "num_threads": threads, "deterministic": True, "force_row_wise": True}
    # Without this the bins would be tied to one min_child_samples.
    return {"objective": objective, **shape, **fixed, "feature_pre_filter": False, **chosen}


def has_contrast(labels: NDArray[np.float64]) -> bool:
    """Whether more than one value occurs, without which neither a fit nor a classifier's metric says anything."""
    known = labels[~np.isnan(labels)]
    return known.size > 0 and bool((known != known[0]).any())


def as_loss(metric: str, value: float) -> float:
    """A metric as something to make small."""
    return -value if higher_is_better(metric) else value
