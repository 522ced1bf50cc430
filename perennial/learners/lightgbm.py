"""Gradient-boosted trees by LightGBM, the default learner. The one module that imports LightGBM and calls its C API.

The bins of a table are made once, from batches of its rows; every fold and trial is a subset of them. Categories are LightGBM's
own categorical splits, nulls go the way that costs least. The file is LightGBM's text. Inside, columns are called f0, f1, ...:
LightGBM refuses some characters in a name, and columns are found by their place.
"""

import ctypes
import os
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from perennial.arrays import Floats, Indices
from perennial.errors import CorruptVersion, TrainingError
from perennial.learner import Estimator, LearningCurve, Matrix, Objective, RowScorer, TrainingTable
from perennial.learners.declarations import PASSIVE_OPENMP, Params

if TYPE_CHECKING:
    import lightgbm as lgb

FILE = "model.txt"

NORMAL, FLOAT64, ALL_TREES = 0, 1, -1  # C_API_PREDICT_NORMAL and C_API_DTYPE_FLOAT64 of LightGBM's c_api.h; all of its trees

SMALL_MATRIX = 128  # rows that one thread scores in less time than several take to meet, above all on a busy machine

METRICS = {  # our metrics in LightGBM's words
    "log_loss": "binary_logloss",
    "auc": "auc",
    "brier": "l2",  # of probabilities: LightGBM converts the raw score before it squares
    "rmse": "rmse",
    "mae": "l1",
}

BINNING = {"max_bin", "max_bins", "min_data_in_bin", "bin_construct_sample_cnt", "subsample_for_bin", "max_bin_by_feature"}
"""Parameters that change how a table is binned, so that its bins cannot be shared between their values."""

BATCH = 50_000  # rows that are encoded at once when a table is binned

COMPANIONS = ("pandas", "sklearn", "dask", "matplotlib", "graphviz", "pyarrow", "cffi")
"""What LightGBM imports along when it is installed, and uses for nothing that predicts: 130 MB and most of a second."""


@dataclass(frozen=True, eq=False)
class TreeEstimator:
    """A trained booster with all of its trees; explained by Shapley values of trees (Lundberg et al. 2018)."""

    booster: "lgb.Booster"

    @property
    def columns(self) -> int:
        return int(self.booster.num_feature())

    def predict(self, matrix: Floats) -> Floats:
        threads = 1 if len(matrix) <= SMALL_MATRIX else 0
        return np.asarray(self.booster.predict(matrix, num_iteration=-1, num_threads=threads))

    def explain(self, matrix: Floats) -> Floats:
        contributions = np.asarray(self.booster.predict(matrix, num_iteration=-1, pred_contrib=True))
        classes = self.booster.num_model_per_iteration()
        return contributions.reshape((len(matrix), classes, -1)) if classes > 1 else contributions

    def importance(self) -> tuple[float, ...]:
        """Total gain of each column's splits."""
        return tuple(float(gain) for gain in self.booster.feature_importance(importance_type="gain"))

    def row_scorer(self) -> RowScorer:
        """LightGBM's single-row call, for any thread: a quarter of what `predict` costs, bit for bit the same.

        The Python package has no way to keep a prediction set up between calls. A scorer has one buffer, which a lock keeps to
        one thread at a time: about 0.2 us a row of the 1.3 that a small model takes. The call keeps Python's lock: it takes
        microseconds, and waiting for a thread that took that lock meanwhile would take longer.
        """
        columns, classes, library = self.columns, self.booster.num_model_per_iteration(), _library()
        row: Any = (ctypes.c_double * columns)()
        scores, count = (ctypes.c_double * classes)(), ctypes.byref(ctypes.c_int64())
        handle, buffer, number, options = ctypes.c_void_p(), threading.Lock(), ctypes.c_int, ctypes.c_char_p(b"num_threads=1")
        setting = number(NORMAL), number(0), number(ALL_TREES), number(FLOAT64), number(columns), options
        if library.LGBM_BoosterPredictForMatSingleRowFastInit(self.booster._handle, *setting, ctypes.byref(handle)):
            raise _last_error()
        predict: Any = ctypes.PyDLL(None, handle=library._handle).LGBM_BoosterPredictForMatSingleRowFast

        def score(values: Sequence[float]) -> Any:
            with buffer:
                row[:] = values
                if predict(handle, row, count, scores):
                    raise _last_error()
                return list(scores) if classes > 1 else scores[0]

        # The handle points into the booster: it is freed first, and the booster lives as long as the function.
        weakref.finalize(score, lambda handle, _booster: library.LGBM_FastConfigFree(handle), handle, self.booster)
        return score

    def to_bytes(self) -> bytes:
        return str(self.booster.model_to_string(num_iteration=-1)).encode()


class TreeTrainer:
    """Trains boosters on rows of one table, binned once unless a parameter changes how values are binned."""

    def __init__(self, table: TrainingTable, objective: Objective) -> None:
        self._table, self._objective = table, objective
        self._bins: dict[str, Any] = {}

    def fit(self, params: Params, rounds: int, rows: Indices | None = None) -> Estimator:
        return TreeEstimator(self._train(params, rounds, rows))

    def validate(self, params: Params, rounds: int, patience: int, train: Indices, valid: Indices) -> LearningCurve:
        lgb = _lightgbm()
        record: dict[str, dict[str, list[float]]] = {}
        stop = lgb.early_stopping(patience, first_metric_only=True, verbose=False)
        booster = self._train(params, rounds, train, valid, callbacks=[lgb.record_evaluation(record), stop])
        values = tuple(next(iter(record["valid"].values())))
        return LearningCurve(booster.best_iteration or len(values), values)

    def _train(self, params: Params, rounds: int, rows: Indices | None, valid: Indices | None = None, **options: Any) -> Any:
        lgb, full = _lightgbm(), full_params(self._objective, params)
        try:
            bins = self._bin(full)
            sets = {} if valid is None else {"valid_sets": [_subset(bins, valid)], "valid_names": ["valid"]}
            train = bins if rows is None else _subset(bins, rows)
            return lgb.train(full, train, rounds, **sets, **options)
        except lgb.basic.LightGBMError as error:
            raise TrainingError(f"LightGBM cannot train with {full}: {error}") from error

    def _bin(self, params: Params) -> Any:
        key = repr({name: params[name] for name in sorted(BINNING & params.keys())})
        if key not in self._bins:
            self._bins = {key: _dataset(self._table, params).construct()}
        return self._bins[key]


def _subset(bins: Any, rows: Indices) -> Any:
    """Some rows, ascending, of a binned table."""
    part = bins.subset([])
    part.used_indices = rows.astype(np.int32)  # `subset` would make a list of as many Python numbers
    return part


def _in_batches(matrix: Matrix) -> Any:
    """A matrix from which LightGBM takes batches of rows, so that it is never whole in memory. The bins are the same."""

    class Batches(_lightgbm().Sequence):  # type: ignore[misc]
        batch_size = BATCH

        def __init__(self) -> None:
            self._first, self._batch = -1, np.empty((0, matrix.shape[1]))

        def __len__(self) -> int:
            return matrix.shape[0]

        def __getitem__(self, place: Any) -> Any:
            if isinstance(place, slice):
                return matrix[place]
            first = place // BATCH * BATCH  # single rows are those of the sample from which the bins come, ascending
            if first != self._first:
                self._first, self._batch = first, matrix[first : first + BATCH]
            return self._batch[place - first]

    return Batches()


def boost(table: TrainingTable, objective: Objective, start: Floats, params: Params, rounds: int) -> Callable[[Floats], Floats]:
    """Fit so many rounds on top of the raw scores `start` (n, outputs) of any learner's model.

    Returns what the rounds add to the raw scores of encoded rows, (n, outputs): 0 where no split helps. Raises TrainingError.
    """
    lgb, full = _lightgbm(), full_params(objective, params)
    try:
        booster = lgb.train(full, _dataset(table, full, init_score=start.ravel(order="F")), rounds)
    except lgb.basic.LightGBMError as error:
        raise TrainingError(f"LightGBM cannot train with {full}: {error}") from error
    return lambda matrix: np.asarray(booster.predict(matrix, raw_score=True, num_threads=1)).reshape(len(matrix), -1)


class LightGBM:
    file = FILE
    default_rounds = 100
    trainer = TreeTrainer

    def from_bytes(self, content: bytes) -> TreeEstimator:
        return TreeEstimator(read_booster(content, FILE))

    def import_for_serving(self) -> None:
        """Import LightGBM without its companions; they stay importable for a user function that wants one."""
        hidden = [name for name in COMPANIONS if name not in sys.modules]
        sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None is how Python marks a module as absent
        try:
            _lightgbm()
        finally:
            for name in hidden:
                sys.modules.pop(name, None)


LEARNER = LightGBM()


def read_booster(content: bytes, file: str) -> "lgb.Booster":
    """The booster in LightGBM's text; raises CorruptVersion naming the file it came from."""
    library = _lightgbm()
    if not content.startswith(b"tree\n") or b"\nend of trees\n" not in content:  # half a tree would end the process
        raise CorruptVersion(f"{file} is not a whole LightGBM model; publish it again")
    try:
        booster: lgb.Booster = library.Booster(model_str=content.decode())
    except (library.basic.LightGBMError, UnicodeDecodeError) as error:
        raise CorruptVersion(f"{file} is not a LightGBM model: {error}") from error
    return booster


def full_params(objective: Objective, chosen: Params) -> Params:
    """Chosen parameters and what makes them a model of this task that comes out the same each time."""
    loss = {"binary": "binary", "multiclass": "multiclass", "regression": "l1" if objective.metric == "mae" else "l2"}
    multiclass: Params = {"num_class": objective.classes, "metric": "multi_logloss"}
    shape = multiclass if objective.task == "multiclass" else {"metric": METRICS[objective.metric]}
    fixed: Params = {"verbosity": -1, "seed": objective.seed, "num_threads": objective.threads, "deterministic": True}
    # A sample of rows decides the bins. When they come in batches, LightGBM derives no seed for it from `seed`.
    sampled: Params = {"data_random_seed": objective.seed}
    # Without feature_pre_filter=False the bins would be tied to one min_child_samples.
    layout: Params = {"force_row_wise": True, "feature_pre_filter": False}
    return {"objective": loss[objective.task], **shape, **fixed, **sampled, **layout, **chosen}


def _dataset(table: TrainingTable, params: Params, init_score: Floats | None = None) -> Any:
    """LightGBM's data set of a table."""
    return _lightgbm().Dataset(
        table.matrix if isinstance(table.matrix, np.ndarray) else _in_batches(table.matrix),
        table.labels,
        weight=table.weights,
        init_score=init_score,
        feature_name=[f"f{column}" for column in range(len(table.categories))],
        categorical_feature=[column for column, size in enumerate(table.categories) if size is not None],
        params={key: value for key, value in params.items() if key not in ("objective", "metric", "num_class")},
    )


def _lightgbm() -> Any:
    """LightGBM, imported where it is used: it takes a second, and OpenMP reads how to wait when it is loaded."""
    os.environ.setdefault(*PASSIVE_OPENMP)
    import lightgbm

    return lightgbm


def _last_error() -> Exception:
    error: Exception = _lightgbm().basic.LightGBMError(_library().LGBM_GetLastError().decode())
    return error


def _library() -> Any:
    return _lightgbm().basic._LIB  # no public name
