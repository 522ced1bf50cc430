"""A table's columns may have any name: those that the code uses for helper columns, files, keys and parameters too.

The names are read from the code itself: whatever stands in it as a string or as a keyword could be a helper column's name.
"""

import ast
import warnings
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.archive import Archive, as_table
from monitoring.measurement import measure
from monitoring.report import distances, run_report
from monitoring.window import Window
from perennial.errors import SpecError
from perennial.input_contract import set_base
from perennial.log_columns import EVENT_TIME, ID, LABEL, PREFIX
from perennial.model import Model
from perennial.model_card import Cause
from perennial.record import LabelBatch, PredictionBatch, decode_prediction_batch, encode_batch
from perennial.spec import ModelSpec, parse_spec
from service.decoding.row_contract import RowContract
from tasks.data.ingest import ingest
from tasks.data.retraining_data import build_dataset, select_rows, validate_log
from tasks.data.validate import validate
from tasks.job import Job, load_job
from tasks.promotion.comparison import judged_version
from tasks.promotion.gate import gate
from tasks.promotion.publish import publish
from tasks.serving.batch_predict import score_table
from tasks.serving.replay import prepare, ticks
from tasks.training.assemble import assemble
from tasks.training.calibrate import calibrate_bounds
from tasks.training.evaluate import evaluate
from tasks.training.fit import Fitted, fit
from tasks.training.split import split_newest
from tasks.training.training_data import TrainingData, build_training_data
from tests.cases.inputs import copy_case
from tests.support.processes import ROOT

PACKAGES = ("perennial", "service", "monitoring", "tasks", "flows", "deployments")
LONGEST = 40
ROWS = 120
MOST_ROWS = 10_000
START = datetime(2025, 9, 1, tzinfo=UTC)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
PARTS = 5  # tables of a few hundred columns: some costs grow with the square of their number
EXAMPLES = 6
"""The fixed budget: a training each, some seconds."""


@cache
def names_in_the_code() -> tuple[str, ...]:
    """Every word among the code's strings, and every keyword; sentences name nothing, and the log keeps its prefix for itself."""
    found: set[str] = set()
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            nodes = list(ast.walk(ast.parse(file.read_text())))
            found |= {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
            found |= {node.arg for node in nodes if isinstance(node, ast.keyword) and node.arg}
    words = (name for name in found if len(name) <= LONGEST and name.split() == [name] and name.isprintable())
    patterns = ("*", "^")
    return tuple(sorted(name for name in words if not name.startswith((*patterns, PREFIX))))


def spec_of(features: Sequence[str], **roles: Any) -> ModelSpec:
    """A spec whose features are columns of these names, every second one a category."""
    kinds = {name: ("numeric", "categorical")[place % 2] for place, name in enumerate(features)}
    raw = {"name": "names", "task": "binary", "sources": {"rows": {"path": "rows.parquet"}}, "features": kinds}
    raw |= {"checks": {"min_rows": 50}, "split": {"test": "1d", "folds": 2}, "gate": {"holdout": "1d", "min_rows": 10}}
    raw |= {"window": {"length": "2d", "min_rows": 10}, "signals": {"blocks": 3}, "search": {"max_rounds": 10}}
    return parse_spec(raw | roles, "the test")


def rows_of(spec: ModelSpec) -> pl.DataFrame:
    """Rows an hour apart; the first number tells the label."""
    chance = np.random.default_rng(0)
    truth = chance.integers(0, 2, ROWS).astype(bool)
    numbers, texts = np.where(truth, 1.0, -1.0), np.where(truth, "a", "b")
    columns = {name: numbers if one.kind == "numeric" else texts for name, one in spec.features.items()}
    times = [START + timedelta(hours=row) for row in range(ROWS)]
    return pl.DataFrame({str(spec.id): [f"r{row}" for row in range(ROWS)], spec.event_time: times, spec.target: truth, **columns})


def job_of(directory: Path, spec: ModelSpec) -> Job:
    """The spec's job, its rows beside it."""
    rows_of(spec).write_parquet(directory / "rows.parquet")
    path = copy_case("zip-codes", directory)  # only to have a path that can be opened
    job = load_job(path, {"PERENNIAL_HOME": str(directory / "var")}, NOW)
    return replace(job, path=directory / "spec.toml", spec=spec)


def train(job: Job) -> tuple[Model, TrainingData, Fitted, pl.DataFrame]:
    """A published first version, by the steps of the flow."""
    dataset = ingest.fn(job, None)
    rows, checks = validate.fn(job, dataset)
    assert checks.bad_rows == 0
    split = split_newest.fn(rows, job.spec.event_time, job.spec.split.test)
    data = build_training_data.fn(job, split.train, dataset.manifest)
    fitted = fit.fn(job, data, {"min_child_samples": 5})
    evaluation = evaluate.fn(job, fitted, split.test)
    draft = assemble.fn(job, data, fitted, evaluation, Cause(kind="initial"), None)
    set_base(job.home, dataset.manifest.fingerprint, job.spec, data.compiled.features.kinds)
    return publish.fn(job, draft, calibrate_bounds(job, draft, data, fitted).bounds), data, fitted, split.test


def serve(job: Job, model: Model) -> Archive:
    """Every row of the table asked and told as a client does, and archived as the monitor does."""
    contract, archive, spec = RowContract(model), Archive(job.home, "binary", model.card.schema_), job.spec
    table = prepare(ingest.fn(job, None).frame, spec)
    for tick in ticks(table, START, None, timedelta(0), timedelta(days=7)):
        sent = [{str(spec.id): row[ID], spec.event_time: row[EVENT_TIME]} | inputs_of(row) for row in tick.rows]
        if sent:
            decoded = contract.decode(orjson.dumps({"instances": sent}), MOST_ROWS, NOW)
            scores = tuple(model.predict_matrix(decoded.encoded.to_matrix()).tolist())
            columns = contract.log_columns(decoded.cells)
            batch = PredictionBatch("names", 1, NOW, tuple(decoded.ids), tuple(decoded.event_times), columns, scores)
            read = decode_prediction_batch(encode_batch(batch))
            assert archive.store_predictions(archive.prediction_rows([read])) == len(sent)
        told = tuple(row[ID] for row in tick.labels), tuple(row[LABEL] for row in tick.labels)
        archive.store_labels(archive.label_rows([LabelBatch("names", NOW, *told, (tick.clock,) * len(told[0]))]))
    return archive


def inputs_of(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in (ID, EVENT_TIME)}


def assert_lives(directory: Path, spec: ModelSpec) -> tuple[Job, Model, pl.DataFrame]:
    """Train, serve, archive, measure, retrain and score by batch; what comes back is what was in the table."""
    job = job_of(directory, spec)
    model, _, _, test = train(job)
    archive, frame = serve(job, model), rows_of(spec)
    logged = archive.labelled().sort(EVENT_TIME).collect()
    table = as_table(logged, model.card.schema_, labels=True)
    assert table.select(*spec.features, spec.target).equals(frame.select(*spec.features, spec.target))
    found = measure(model, model.compiled.table(table), logged[LABEL], logged["_score"])
    assert found.metrics is not None
    assert found.metrics.values["auc"] == 1.0
    assert not found.drift.null_increases
    dataset = build_dataset.fn(job, model)
    rows, _ = validate_log.fn(job, dataset)
    assert select_rows.fn(job, rows).rows.height == ROWS
    assert gate.fn(job, model, judged_version(model), model, test).champion is not None
    scored = pl.read_parquet(score_table.fn(job, model, str(directory / "rows.parquet"), str(directory / "scored.parquet")).file)
    assert scored[str(spec.id)].to_list() == frame[str(spec.id)].to_list()
    assert scored.height == ROWS
    return job, model, table


@pytest.mark.parametrize("part", range(PARTS))
def test_columns_of_every_name_in_the_code_live_through_the_loop(tmp_path: Path, part: int) -> None:
    names = names_in_the_code()[part::PARTS]
    assert len(names) > 1_000 / PARTS
    assert_lives(tmp_path, spec_of(names, slices=names[:2], id="the id", event_time="the time", target="the truth"))


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.lists(st.sampled_from(names_in_the_code()), min_size=5, max_size=5, unique=True))
def test_a_name_of_the_code_may_have_any_part(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    name, time, target, *features = names
    assert_lives(tmp_path_factory.mktemp("names"), spec_of(features, id=name, event_time=time, target=target))


@pytest.mark.parametrize(
    ("name", "time", "target"),
    [("score", "label", "version"), ("id", "event_time", "label"), ("version", "score", "id"), ("n", "count", "literal")],
)
def test_the_names_of_answers_and_outputs_may_be_those_of_the_table(tmp_path: Path, name: str, time: str, target: str) -> None:
    assert_lives(tmp_path, spec_of(("len", "category", "date"), id=name, event_time=time, target=target))


def test_a_report_has_columns_of_the_names_that_it_uses_itself(tmp_path: Path) -> None:
    names = ("prediction", "target", "id", "index", "level_0", "timestamp", "column", "value", "price, [USD]", "a|b", "drift")
    spec = spec_of(names, id="name", event_time="when", target="truth")
    _, model, table = assert_lives(tmp_path, spec)
    window = Window(start=START, end=START + timedelta(days=7))
    with warnings.catch_warnings(action="ignore"):
        shown = distances(run_report(model, window, model.compiled.table(table), 0.1))
    assert set(names) <= set(shown)


def test_a_category_called_n_trains(tmp_path: Path) -> None:
    path = copy_case("category-called-n", tmp_path)
    job = load_job(path, {"PERENNIAL_HOME": str(tmp_path / "var")}, datetime(2027, 1, 1, tzinfo=UTC))
    model, _, _, _ = train(job)
    assert model.compiled.features.categories["n"] == ("east", "north", "south", "west")


@pytest.mark.parametrize("name", ["*", "^.*$"])
def test_a_name_that_is_a_pattern_to_polars_is_refused_where_it_is_used_only(tmp_path: Path, name: str) -> None:
    with pytest.raises(SpecError, match="as a pattern of names; have a query or loader rename it"):
        spec_of((name,), id="id", event_time="at", target="y")
    job = job_of(tmp_path, spec_of(("a", "b"), id="id", event_time="at", target="y"))
    pl.read_parquet(tmp_path / "rows.parquet").with_columns(pl.Series(name, range(ROWS))).write_parquet(tmp_path / "rows.parquet")
    model, _, _, _ = train(job)
    assert model.card.features.names == ("a", "b")


def test_a_name_that_cannot_be_decoded_as_it_is_and_the_name_that_stands_for_it_may_be_in_one_table(tmp_path: Path) -> None:
    names = ('a "quote"', "column 0", "column 1", "column 2")
    assert_lives(tmp_path, spec_of(names, id="id", event_time="at", target="y"))
