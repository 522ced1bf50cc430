"""Export: a model as an ONNX file, held against the model itself before it is written.

The file takes encoded rows, `rows` (n, k) of doubles, and gives `scores`, as the model's own `predict_matrix` does. How a row
is encoded stands in the file's metadata (`perennial.contract`): features in order, codes of categories, NaN for null and
unknown. The graph is built by `onnx` alone, and run by `onnxruntime` on the reference rows; nothing else imports the two.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from fsspec.implementations.local import LocalFileSystem

from perennial import atomic_files as files
from perennial.arrays import Floats
from perennial.errors import ExportError
from perennial.learners.lightgbm import TreeEstimator
from perennial.learners.linear import LinearEstimator
from perennial.model import Model
from perennial.spec import Task
from perennial.version import __version__
from tasks.export.onnx_linear import linear_nodes
from tasks.export.onnx_trees import tree_nodes

if TYPE_CHECKING:
    import onnx

ROWS, RAW, SCORES = "rows", "raw", "scores"

CONTRACT = "perennial.contract"
"""Key of the file's metadata: the encoding of a row, as JSON."""

OPSETS = {"": 18, "ai.onnx.ml": 5}
IR_VERSION = 9

TOLERANCE = 1e-9
"""Largest difference of a score, relative to the largest score: sums are made in another order, and nothing else may differ."""


@dataclass(frozen=True)
class Exported:
    """What was written: where, and the largest difference of a score over so many rows."""

    file: Path
    rows: int
    difference: float


def export_onnx(model: Model, file: Path) -> Exported:
    """Write a model as ONNX; raises ExportError where it has no such form, a library is missing, or a score differs."""
    content = to_onnx(model).SerializeToString()
    rows = checked_rows(model)
    expected, found = model.predict_matrix(rows), run_onnx(content, rows)
    difference = float(np.abs(found - expected).max())
    if not difference <= TOLERANCE * max(1.0, float(np.abs(expected).max())):
        raise ExportError(
            f"{file} is not written: of {len(rows):,} rows a score of the ONNX model differs by {difference:.3g} from the model's"
        )
    file.parent.mkdir(parents=True, exist_ok=True)
    files.replace(LocalFileSystem(), str(file), content)
    return Exported(file, len(rows), difference)


def to_onnx(model: Model) -> "onnx.ModelProto":
    """The model as an ONNX graph with its contract."""
    helper, checker = _onnx().helper, _onnx().checker
    nodes, constants = _raw_nodes(model)
    task, shape = model.card.task, ["n", len(model.card.classes)] if model.card.classes else ["n"]
    double = _onnx().TensorProto.DOUBLE
    takes = helper.make_tensor_value_info(ROWS, double, ["n", len(model.card.features.names)])
    gives = helper.make_tensor_value_info(SCORES, double, shape)
    last = [_onnx().numpy_helper.from_array(np.array([1], dtype=np.int64), "outputs_axis")]
    graph = helper.make_graph([*nodes, *_link_nodes(task)], model.card.name, [takes], [gives], [*constants, *last])
    built: onnx.ModelProto = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid(domain, version) for domain, version in OPSETS.items()],
        ir_version=IR_VERSION,
        producer_name="perennial",
        producer_version=__version__,
        model_version=model.card.version,
    )
    helper.set_model_props(built, {CONTRACT: json.dumps(contract(model), ensure_ascii=False)})
    checker.check_model(built)
    return built


def contract(model: Model) -> dict[str, Any]:
    """How a row is encoded and a score is read, for a program that knows nothing of Perennial."""
    card, features = model.card, model.card.features
    kinds = [{"name": name, "kind": features.kinds[name]} for name in features.names]
    return {
        "model": card.name,
        "version": card.version,
        "task": card.task,
        "target": card.spec.target,
        "features": kinds,
        "categories": {name: list(known) for name, known in features.categories.items()},
        "encoding": "a number is itself; a category is its place in its feature's `categories`, from 0; null and unknown are NaN",
        "classes": list(card.classes),
        "label_threshold": card.spec.label_threshold if card.task == "binary" else None,
    }


def checked_rows(model: Model) -> Floats:
    """The reference rows, encoded, and of some of them copies in which each column in turn is null or an unknown category."""
    rows = model.compiled.matrix(model.reference)
    odd = rows[np.arange(2 * rows.shape[1]) % len(rows)].copy()
    for column in range(rows.shape[1]):
        odd[2 * column, column] = np.nan
        odd[2 * column + 1] = np.nan
        odd[2 * column + 1, column] = rows[0, column]
    return np.vstack([rows, odd])


def run_onnx(content: bytes, rows: Floats) -> Floats:
    """The scores of encoded rows by onnxruntime."""
    runtime = _import("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 3  # errors
    session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run([SCORES], {ROWS: rows})[0])


def _raw_nodes(model: Model) -> tuple[list["onnx.NodeProto"], list["onnx.TensorProto"]]:
    match model.estimator:
        case TreeEstimator() as trees:
            return tree_nodes(trees, ROWS, RAW), []
        case LinearEstimator() as linear:
            return linear_nodes(linear, ROWS, RAW)
    raise ExportError(f"learner {model.card.learner!r} has no ONNX form; those of lightgbm, hist_boosting and linear have")


def _link_nodes(task: Task) -> list["onnx.NodeProto"]:
    """From raw scores (n, outputs) to the task's: probabilities (n,) or (n, classes), or values (n,)."""
    node = _onnx().helper.make_node
    if task == "multiclass":
        return [node("Softmax", [RAW], [SCORES], axis=1)]
    if task == "regression":
        return [node("Squeeze", [RAW, "outputs_axis"], [SCORES])]
    return [node("Sigmoid", [RAW], ["probabilities"]), node("Squeeze", ["probabilities", "outputs_axis"], [SCORES])]


def _onnx() -> Any:
    return _import("onnx")


def _import(name: str) -> Any:
    """A library of the extra `onnx`, imported where it is used."""
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError:
        raise ExportError(f"{name} is not installed: {sys.executable} -m pip install onnx onnxruntime") from None
