"""An exported model scores as the model itself, for every learner and task, and its file says how to encode a row."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import polars as pl
import pytest

from perennial.arrays import Floats
from perennial.errors import ExportError
from perennial.learner import Objective, load_learner
from perennial.learners.declarations import LEARNERS, Params
from perennial.model import Model
from perennial.spec import Task
from tasks.export import onnx_export
from tasks.export.onnx_export import CONTRACT, TOLERANCE, export_onnx, run_onnx, to_onnx
from tests.perennial.learners.test_hist_boosting import CLASSES, odd, table
from tests.support.models import TASKS, small_frame, small_model


def with_estimator(task: Task, learner: str, params: Params) -> tuple[Model, Floats]:
    """The small model with an estimator of another table: more columns and categories; and rows that are hard for it."""
    data = table(task, shops=300)
    estimator = load_learner(learner).trainer(data, Objective(task, "log_loss", CLASSES[task], 0, 1)).fit(params, 15)
    return replace(small_model(task), estimator=estimator), odd(data.matrix)


@pytest.mark.parametrize("learner", LEARNERS)
@pytest.mark.parametrize("task", TASKS)
def test_scores_are_the_models_own_for_rows_of_every_kind(task: Task, learner: str) -> None:
    model, rows = with_estimator(task, learner, {})
    model = replace(model, card=model.card.model_copy(update={"features": four_columns(model)}))
    found, expected = run_onnx(to_onnx(model).SerializeToString(), rows), model.estimator.predict(rows)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("learner", LEARNERS)
def test_a_file_is_written_that_another_program_can_use(tmp_path: Path, learner: str) -> None:
    model, file = small_model("multiclass", learner=learner), tmp_path / "new" / "small.onnx"
    done = export_onnx(model, file)
    assert (done.file, done.rows) == (file, model.reference.height + 4)
    assert done.difference <= TOLERANCE
    loaded = onnx.load(file)
    said = json.loads({one.key: one.value for one in loaded.metadata_props}[CONTRACT])
    assert [one["name"] for one in said["features"]] == ["amount", "shop"]
    assert said["categories"] == {"shop": ["east", "north", "south"]}
    frame = small_frame("multiclass", 20, seed=3).with_columns(shop=pl.Series(["north", None, "nowhere", "south"] * 5))
    rows = np.array([encoded(said, one) for one in frame.to_dicts()])
    np.testing.assert_allclose(run_onnx(file.read_bytes(), rows), model.predict_frame(frame), rtol=1e-9)


def encoded(said: dict[str, Any], row: dict[str, Any]) -> list[float]:
    """A row as the contract says, by a program that knows nothing else."""
    values = []
    for feature in said["features"]:
        value, known = row[feature["name"]], said["categories"].get(feature["name"])
        code = known.index(value) if known and value in known else None
        values.append(float("nan") if (code if known else value) is None else float(code if known else value))
    return values


def four_columns(model: Model) -> Any:
    return model.card.features.model_copy(update={"names": ("a", "b", "c", "d"), "kinds": dict.fromkeys("abcd", "numeric")})


def test_nothing_is_written_where_a_score_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, file = small_model(), tmp_path / "small.onnx"
    monkeypatch.setattr(onnx_export, "run_onnx", lambda content, rows: model.predict_matrix(rows) + 1e-6)
    with pytest.raises(ExportError, match="is not written: of 1,004 rows a score of the ONNX model differs by 1e-06"):
        export_onnx(model, file)
    assert not file.exists()


@pytest.mark.parametrize("params", [{"zero_as_missing": True}, {"linear_tree": True}])
def test_trees_that_onnx_does_not_know_are_refused_by_name(params: Params) -> None:
    model, _ = with_estimator("regression", "lightgbm", params)
    with pytest.raises(ExportError, match=next(iter(params))):
        to_onnx(model)


def test_without_the_libraries_the_command_that_installs_them_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str, *_: Any) -> Any:
        raise ImportError(name)

    monkeypatch.setattr("importlib.import_module", absent)
    with pytest.raises(ExportError, match=r"onnx is not installed: .*python.* -m pip install onnx onnxruntime"):
        export_onnx(small_model(), tmp_path / "small.onnx")
