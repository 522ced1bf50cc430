"""FastAPI tuned by hand: bytes in and out, orjson, and LightGBM's single-row-fast call of the C API."""

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import lightgbm as lgb
import numpy as np
import orjson
from coding import load_booster, load_coding
from coding import predict as score
from fastapi import FastAPI, Request, Response
from lightgbm.basic import _LIB

NORMAL, FLOAT64 = 0, 1
"""C_API_PREDICT_NORMAL and C_API_DTYPE_FLOAT64."""


def create_app() -> FastAPI:
    """The app of one process."""
    booster, coding, app = load_booster(), load_coding(), FastAPI()
    single = single_row(booster)

    @app.post("/predict")
    async def predict(request: Request) -> Response:
        rows = orjson.loads(await request.body())["instances"]
        scores = [single(coding.row(rows[0]))] if len(rows) == 1 else score(booster, coding.matrix(rows))
        return Response(orjson.dumps({"predictions": scores}), media_type="application/json")

    return app


def single_row(booster: lgb.Booster) -> Callable[[Sequence[float]], float]:
    """A function that scores one row with everything prepared beforehand; for one thread at a time."""
    width = booster.num_feature()
    row, score, length, fast = np.empty(width), ctypes.c_double(), ctypes.c_int64(), ctypes.c_void_p()
    prepare, call = _LIB.LGBM_BoosterPredictForMatSingleRowFastInit, _LIB.LGBM_BoosterPredictForMatSingleRowFast
    rounds, threads = booster.num_trees(), b"num_threads=1"
    _check(prepare(booster._handle, NORMAL, 0, rounds, FLOAT64, ctypes.c_int32(width), threads, ctypes.byref(fast)))
    given: tuple[Any, ...] = (fast, ctypes.c_void_p(row.ctypes.data), ctypes.byref(length), ctypes.byref(score))

    def predict(values: Sequence[float]) -> float:
        row[:] = values
        _check(call(*given))
        return score.value

    return predict


def _check(code: int) -> None:
    if code:
        raise RuntimeError(_LIB.LGBM_GetLastError().decode())
