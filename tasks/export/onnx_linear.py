"""A linear model as plain operators of ONNX: what `LinearEstimator.predict` does, step by step, in doubles.

A number is standardised, cut and null as the mean; a category is a level, the last one for null and unknown. Each column then
picks its coefficients from one table, times its value, and the sum over the columns is the raw score.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from perennial.learners.linear import FARTHEST, LinearEstimator

if TYPE_CHECKING:
    import onnx


def linear_nodes(estimator: LinearEstimator, rows: str, raw: str) -> tuple[list["onnx.NodeProto"], list["onnx.TensorProto"]]:
    """The nodes from the rows to the raw scores, (n, outputs), and the constants that they read."""
    from onnx import numpy_helper

    design = estimator.design
    sizes = np.array([size or 0 for size in design.categories], dtype=np.float64)
    constants = {
        "means": np.array(design.means),
        "scales": np.array(design.scales),
        "sizes": sizes,
        "is_number": np.array([size is None for size in design.categories]),
        "starts": design.starts[:-1].astype(np.int64),
        "table": np.array(estimator.coefficients, dtype=np.float64),
        "intercepts": np.array(estimator.intercepts),
        "zero": np.array(0.0),
        "one": np.array(1.0),
        "nearest": np.array(-FARTHEST),
        "farthest": np.array(FARTHEST),
        "columns": np.array([1], dtype=np.int64),
        "last": np.array([-1], dtype=np.int64),
    }
    nodes = [_node(*one) for one in _steps(rows, raw)]
    return nodes, [numpy_helper.from_array(value, name) for name, value in constants.items()]


def _steps(rows: str, raw: str) -> list[tuple[str, list[str], str]]:
    """(operator, inputs, output) of each step."""
    return [
        ("IsNaN", [rows], "null"),
        ("Where", ["null", "means", rows], "imputed"),
        ("Sub", ["imputed", "means"], "centred"),
        ("Div", ["centred", "scales"], "scaled"),
        ("Clip", ["scaled", "nearest", "farthest"], "distance"),
        ("Where", ["is_number", "distance", "one"], "values"),
        ("GreaterOrEqual", [rows, "zero"], "not_below"),
        ("Less", [rows, "sizes"], "known_code"),
        ("And", ["not_below", "known_code"], "known"),
        ("Where", ["known", rows, "sizes"], "level"),
        ("Cast", ["level"], "level_number"),
        ("Add", ["level_number", "starts"], "places"),
        ("Gather", ["table", "places"], "coefficients"),
        ("Unsqueeze", ["values", "last"], "values_alone"),
        ("Mul", ["coefficients", "values_alone"], "terms"),
        ("ReduceSum", ["terms", "columns"], "sum"),
        ("Add", ["sum", "intercepts"], raw),
    ]


def _node(operator: str, inputs: list[str], output: str) -> "onnx.NodeProto":
    from onnx import TensorProto, helper

    extra: dict[str, dict[str, Any]] = {"Cast": {"to": TensorProto.INT64}, "ReduceSum": {"keepdims": 0}}
    return helper.make_node(operator, inputs, [output], **extra.get(operator, {}))
