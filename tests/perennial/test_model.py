"""A model answers the same whole or from its files, for one row or many, and its files are the same bytes each time."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from perennial.errors import CorruptVersion, DataError
from perennial.learner import Objective, load_learner
from perennial.log_columns import EVENT_TIME, SCORE
from perennial.metrics import score
from perennial.model import REFERENCE_ROWS, Model, build_model, from_files, sample_reference, to_files
from perennial.spec import Task
from tests.support.models import TASKS, small_frame, small_model, small_table

EVERY_TASK = pytest.mark.parametrize("task", TASKS)


@EVERY_TASK
def test_a_model_from_its_files_gives_bit_identical_predictions(task: Task) -> None:
    model, frame = small_model(task), small_frame(task, seed=7)
    again = from_files(to_files(model), Path())
    np.testing.assert_array_equal(again.predict_frame(frame), model.predict_frame(frame))
    matrix = model.compiled.matrix(frame[:9])
    np.testing.assert_array_equal(again.explain_matrix(matrix), model.explain_matrix(matrix))


@EVERY_TASK
def test_the_files_are_the_same_bytes_each_time(task: Task) -> None:
    model = small_model(task)
    files = to_files(model)
    assert set(files) == {"model.txt", "model.json", "profile.json", "reference.parquet"}
    assert to_files(model) == files
    assert to_files(from_files(files, Path())) == files


@EVERY_TASK
def test_one_row_scores_as_among_ten_thousand(task: Task) -> None:
    model, frame = small_model(task), small_frame(task, rows=10_000, seed=3)
    scores = model.predict_frame(frame)
    for row in range(0, frame.height, 997):
        np.testing.assert_array_equal(model.predict_frame(frame[row : row + 1])[0], scores[row])
    np.testing.assert_array_equal(model.predict_frame(frame[:300]), scores[:300])


@EVERY_TASK
def test_the_encoder_and_the_table_lead_to_the_same_score(task: Task) -> None:
    model, frame = small_model(task), small_frame(task, rows=20, seed=5)
    rows = [[step(row) for step in model.encoder.values()] for row in frame.to_dicts()]
    np.testing.assert_array_equal(model.predict_matrix(np.array(rows)), model.predict_frame(frame))


@EVERY_TASK
def test_no_rows_have_no_scores(task: Task) -> None:
    model, none = small_model(task), small_frame(task).head(0)
    assert model.predict_frame(none).shape == model.predict_frame(small_frame(task, rows=1))[:0].shape
    one = model.compiled.matrix(small_frame(task, rows=1))
    assert model.explain_matrix(model.compiled.matrix(none)).shape == model.explain_matrix(one)[:0].shape


@EVERY_TASK
def test_the_model_learned_something(task: Task) -> None:
    model, frame = small_model(task), small_frame(task, seed=11)
    values = score(task, model.label_codec.encode_column(frame["outcome"]), model.predict_frame(frame)).values
    better = {"binary": values.get("auc", 0) > 0.8, "multiclass": values.get("accuracy", 0) > 0.6}
    assert better.get(task, values.get("rmse", 9) < 2.5)


def test_scores_stand_for_answers() -> None:
    frame = small_frame(rows=30)
    for task, kind in {"binary": bool, "multiclass": str, "regression": float}.items():
        model = small_model(task)  # type: ignore[arg-type]
        assert {type(model.label_of(one)) for one in model.predict_frame(frame)} == {kind}


def test_a_version_is_given_when_it_is_published() -> None:
    assert small_model(version=1).with_version(7).card.version == 7
    assert b'"version": 7' in to_files(small_model().with_version(7))["model.json"]


def test_the_reference_can_be_scored_again() -> None:
    for task in TASKS:
        reference = small_model(task).reference
        again = small_model(task).predict_frame(reference)
        np.testing.assert_array_equal(np.array(reference[SCORE].to_list()), again)


def test_the_reference_is_a_sample_in_order_of_time() -> None:
    frame = small_frame(rows=REFERENCE_ROWS + 500)
    model = small_model()
    scores = model.predict_frame(frame)
    sample = sample_reference(frame, scores, model.card.schema_, seed=1)
    assert sample.columns == ["amount", "shop", EVENT_TIME, SCORE]
    assert sample.height == REFERENCE_ROWS
    assert sample[EVENT_TIME].is_sorted()
    assert sample.equals(sample_reference(frame, scores, model.card.schema_, seed=1))
    assert not sample.equals(sample_reference(frame, scores, model.card.schema_, seed=2))


def test_a_table_that_lacks_an_input_is_refused() -> None:
    with pytest.raises(DataError, match="no column 'shop'"):
        small_model().predict_frame(small_frame().drop("shop"))


@pytest.mark.parametrize("name", ["model.txt", "model.json", "profile.json", "reference.parquet"])
@pytest.mark.parametrize("damage", ["gone", "empty", "foreign", "half"])
def test_a_damaged_file_is_named(name: str, damage: str) -> None:
    files = to_files(small_model())
    bad = {"empty": b"", "foreign": b"\xff\xfe nonsense", "half": files[name][: len(files[name]) // 2]}
    files = {key: data for key, data in files.items() if key != name} | ({} if damage == "gone" else {name: bad[damage]})
    with pytest.raises(CorruptVersion, match=name):
        from_files(files, Path())


def test_a_booster_of_another_card_is_refused() -> None:
    files = to_files(small_model())
    card = files["model.json"].replace(b'"names": [\n   "amount",', b'"names": [')
    with pytest.raises(CorruptVersion, match=r"takes 2 features, but model\.json describes 1"):
        from_files(files | {"model.json": card}, Path())


def test_user_functions_are_found_from_the_base(tmp_path: Path) -> None:
    from perennial.features import fit_features
    from perennial.spec import parse_spec

    (tmp_path / "own.py").write_text("def squared(x):\n    return x * x\n", encoding="utf-8")
    plain = small_model()
    spec_fields = plain.card.spec.model_dump() | {
        "learner": "linear",
        "features": {"sq": {"function": "own.py:squared", "of": "amount"}},
    }
    spec, frame = parse_spec(spec_fields, "the test"), small_frame()
    features = fit_features(spec, frame, tmp_path)
    table = replace(small_table(plain.card.spec, frame), matrix=frame.select(pl.col("amount") ** 2).to_numpy())
    table = replace(table, categories=(None,))
    estimator = load_learner("linear").trainer(table, Objective("binary", "log_loss", 0, seed=0, threads=1)).fit({}, 1)
    card = plain.card.model_copy(update={"features": features, "spec": spec, "rounds": 1})
    model = build_model(card, estimator, plain.profile, plain.reference, tmp_path)
    again: Model = from_files(to_files(model), tmp_path)
    np.testing.assert_array_equal(again.predict_frame(frame), model.predict_frame(frame))


@pytest.mark.parametrize(
    ("modules", "heavy"),
    [
        ("perennial.spec, perennial.settings, perennial.errors, perennial.value_types", "polars, lightgbm, numpy"),
        ("perennial.record, perennial.registry", "polars, lightgbm"),
        ("perennial.model", "lightgbm, sklearn, pandas"),
    ],
)
def test_heavy_libraries_are_loaded_only_where_they_are_used(modules: str, heavy: str) -> None:
    code = f"import sys, {modules}\nprint([name for name in '{heavy}'.split(', ') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
