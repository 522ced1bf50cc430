"""Request bodies in the form each server wants, and the scores in what it answers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from benchmarks.serve.load import Bodies
from benchmarks.serve.subject import Subject

JSON = "application/json"

DISTINCT = 20_000
"""Rows in all bodies of one size together, so that answers cannot come from a cache of a few rows."""

MOST = 256
"""Bodies of one size: more only fill wrk's memory."""


@dataclass(frozen=True)
class Form:
    """How rows are written and scores are read."""

    content_type: str
    write: Callable[[Subject, int, int], bytes]
    scores: Callable[[bytes], Sequence[float]]


def make_bodies(subject: Subject, form: str, rows: int, home: Path) -> Bodies:
    """Write the bodies of one form and size below `home`, once."""
    folder, count = home / "bodies" / f"{form}-{rows}", max(1, min(MOST, DISTINCT // rows))
    if not folder.exists():
        folder.mkdir(parents=True)
        for number in range(count):
            (folder / str(number)).write_bytes(FORMS[form].write(subject, number * rows, rows))
    return Bodies(folder, count, FORMS[form].content_type, rows)


def _instances(subject: Subject, start: int, rows: int) -> bytes:
    return orjson.dumps({"instances": subject.rows.slice(start, rows).to_dicts()})


def _inputs(subject: Subject, start: int, rows: int) -> bytes:
    return orjson.dumps({"inputs": subject.matrix[start : start + rows].tolist()})


def _tensor(subject: Subject, start: int, rows: int) -> bytes:
    """The Open Inference Protocol, version 2."""
    matrix = subject.matrix[start : start + rows]
    flat = matrix.ravel().tolist()
    return orjson.dumps({"inputs": [{"name": "rows", "shape": list(matrix.shape), "datatype": "FP64", "data": flat}]})


def _from_predictions(answer: bytes) -> Sequence[float]:
    predictions: list[float | Mapping[str, Any]] = orjson.loads(answer)["predictions"]
    return [float(one["score"]) if isinstance(one, Mapping) else float(one) for one in predictions]


def _from_tensor(answer: bytes) -> Sequence[float]:
    scores: list[float] = orjson.loads(answer)["outputs"][0]["data"]
    return scores


def same_scores(form: str, answer: bytes, subject: Subject, rows: int) -> bool:
    """Whether an answer to the first body of this size holds the model's own scores."""
    scores = FORMS[form].scores(answer)
    return len(scores) == rows and bool(np.allclose(scores, subject.scores[:rows], rtol=0, atol=1e-9))


FORMS = {
    "instances": Form(JSON, _instances, _from_predictions),
    "inputs": Form(JSON, _inputs, _from_predictions),
    "tensor": Form(JSON, _tensor, _from_tensor),
}
