"""What a spec may change after the first training: a test for each row of docs/spec-changes.md, and the column added later."""

import re
import tomllib
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

from deployments.check import describe_spec
from deployments.stack.stack import spec_changes
from monitoring.archive import Archive
from monitoring.closing import Judge, close_window
from monitoring.session import MonitorSession
from monitoring.window import window_at
from perennial.errors import SpecError, TrainingError
from perennial.input_contract import InputContract, changes_of, contract_changes, read_base
from perennial.model_loading import load_model
from perennial.record import PredictionBatch
from perennial.schema import Schema
from perennial.settings import Settings
from perennial.spec import ModelSpec, parse_spec
from tasks.data.retraining_data import build_dataset, validate_log
from tasks.job import Job, load_job
from tasks.promotion.publish import read_champion, require_champion
from tasks.promotion.retrain_request import inputs_changed
from tests.cases.inputs import copy_case, edit_spec, read_rows, write_rows
from tests.cases.test_column_names import serve, train
from tests.support.processes import ROOT

LATER = datetime(2027, 1, 1, tzinfo=UTC)
KINDS = {"x": "numeric", "c": "categorical"}
DOCS = (ROOT / "docs" / "spec-changes.md").read_text(encoding="utf-8")

CONTRACT: dict[str, tuple[dict[str, Any], str]] = {
    "feature added": ({"features": {"x": {}, "c": {}, "z": {}}}, "feature 'z' added"),
    "feature removed": ({"features": {"x": {}}}, "feature 'c' removed"),
    "feature renamed": ({"features": {"x": {}, "category": {"of": "c"}}}, "feature 'c' removed; feature 'category' added"),
    "feature of another kind": ({"features": {"x": "categorical", "c": {}}}, "feature 'x' is categorical and was numeric"),
    "feature computed in another way": ({"features": {"x": {"log": "x"}, "c": {}}}, "feature 'x' is computed in another way"),
    "target renamed": ({"target": "truth"}, "target is 'truth' and was 'y'"),
    "positive changed": ({"positive": "yes"}, "positive added"),
    "event time renamed": ({"event_time": "when"}, "event_time is 'when' and was 'ts'"),
    "id added or removed": ({"id": None}, "id removed"),
}
FREE: dict[str, dict[str, Any]] = {
    "sources moved": {"sources": {"other": {"path": "elsewhere.parquet"}}},
    "checks changed": {"checks": {"max_bad_rows": 0.5}},
    "window changed": {"window": {"length": "3d"}},
    "signals changed": {"signals": {"drift": False}},
    "gate changed": {"gate": {"min_rows": 500}},
    "search changed": {"search": {"trials": 3}},
    "split or retrain changed": {"split": {"test": "4d"}, "retrain": {"data": "trailing"}},
    "learner changed": {"learner": "linear"},
    "slices changed": {"slices": ["c"]},
    "label threshold changed": {"label_threshold": 0.4},
}
ELSEWHERE = {"task changed", "name changed"}
"""Rows whose tests are below."""


def raw_spec() -> dict[str, Any]:
    return tomllib.loads((ROOT / "tests" / "cases" / "column-added-later" / "spec.toml").read_text())


def spec_with(changes: dict[str, Any]) -> ModelSpec:
    return parse_spec(raw_spec() | changes, "the test")


def test_every_row_of_the_page_has_its_test() -> None:
    rows = re.findall(r"^\| ((?!change |---)[^|]+) \|", DOCS, re.MULTILINE)
    assert set(rows) == {*CONTRACT, *FREE, *ELSEWHERE}


@pytest.mark.parametrize("row", CONTRACT)
def test_a_change_of_the_contract_is_named(row: str) -> None:
    changes, said = CONTRACT[row]
    contract = InputContract.of(spec_with({}), KINDS)  # type: ignore[arg-type]
    assert "; ".join(contract.changes(spec_with(changes))) == said


@pytest.mark.parametrize("row", FREE)
def test_another_change_needs_no_training(row: str) -> None:
    contract = InputContract.of(spec_with({}), KINDS)  # type: ignore[arg-type]
    assert contract.changes(spec_with(FREE[row])) == ()


def test_a_kind_that_was_found_and_is_now_named_is_no_change() -> None:
    contract = InputContract.of(spec_with({}), KINDS)  # type: ignore[arg-type]
    assert contract.changes(spec_with({"features": {"x": "numeric", "c": "categorical"}})) == ()


@pytest.fixture
def trained(tmp_path: Path) -> Job:
    """The case of the added column: trained, promoted, served and labelled under its first spec."""
    path = copy_case("column-added-later", tmp_path)
    job = load_job(path, {"PERENNIAL_HOME": str(tmp_path / "var")}, LATER)
    model, _, _, _ = train(job)
    job.registry.promote(job.spec.name, "champion", 1, expect=None, reason="first", now=LATER)
    serve(job, model)
    return job


def changed(job: Job, **lines: str) -> Job:
    """The job with lines of its spec replaced."""
    edit_spec(job.path, **lines)
    return load_job(job.path, {"PERENNIAL_HOME": str(job.settings.home)}, LATER)


def with_z(job: Job) -> Job:
    """The job after column and feature `z` were added."""
    rows = read_rows(job.path)
    write_rows(job.path, rows.with_columns(z=pl.Series([str(row % 5) for row in range(rows.height)])))
    return changed(job, c="c = {}\nz = {}")


def test_a_column_added_later_is_learnt_by_a_training_and_null_in_the_log_of_before(trained: Job) -> None:
    job = with_z(trained)
    with pytest.raises(
        TrainingError, match=r"feature 'z' added\): run `perennial train .*spec.toml`, which reads the sources anew"
    ):
        inputs_changed(job, None)
    assert read_champion.fn(job) is not None
    model, _, _, _ = train(job)
    assert inputs_changed(job, None) is None
    logged = pl.read_parquet(f"{job.home}/predictions/**/*.parquet", missing_columns="insert")
    dataset = build_dataset.fn(job, require_champion(job))
    rows, _ = validate_log.fn(job, dataset)
    assert "z" in model.card.schema_.names
    assert rows["z"].null_count() == 0, "the base has every row of the log, which gives way to it"
    assert rows.height <= read_rows(job.path).height
    assert "z" not in logged.columns


def test_rows_that_only_the_log_has_are_null_in_a_new_column(trained: Job) -> None:
    job = with_z(trained)
    early = replace(job, spec=job.spec.model_copy(update={"checks": job.spec.checks.model_copy(update={"min_rows": 10})}))
    whole = read_rows(job.path)
    write_rows(job.path, whole.head(whole.height // 2))
    train(early)
    rows = build_dataset.fn(early, require_champion(early)).frame.sort("ts")
    assert rows.height == whole.height
    known = rows["z"].is_not_null()
    assert (known.sum(), known[: whole.height // 2].all()) == (whole.height // 2, True)


def test_a_failed_training_changes_nothing_that_retrainings_start_from(trained: Job) -> None:
    before = read_base(trained.home)
    job = changed(trained, c="c = {}\nnowhere = {}")
    with pytest.raises(Exception, match="nowhere"):
        train(job)
    assert read_base(job.home) == before
    assert job.registry.versions(job.spec.name) == (1,)


def test_a_second_training_under_the_same_contract_keeps_the_base(trained: Job) -> None:
    before = read_base(trained.home)
    rows = read_rows(trained.path)
    write_rows(trained.path, rows.head(rows.height - 24))
    train(trained)
    assert read_base(trained.home) == before


def test_a_task_changed_needs_another_name(trained: Job) -> None:
    job = changed(trained, task='task = "regression"')
    settings, said = (
        Settings(home=job.settings.home),
        r"is a binary model since .*: a model of another task needs a name of its own",
    )
    with pytest.raises(SpecError, match=said):
        changes_of(job.path, settings)
    with pytest.raises(SpecError, match=said):
        contract_changes(job.home, job.spec, job.path)
    with pytest.raises(SpecError, match=said):
        read_champion.fn(job)


def test_a_name_changed_is_another_model(trained: Job) -> None:
    job = changed(trained, name='name = "another"', task='task = "regression"')
    assert changes_of(job.path, Settings(home=job.settings.home)) is None
    assert describe_spec(job.path).startswith("model       another (regression)")
    assert (read_base(job.home), read_champion.fn(job)) == (None, None)


def test_no_advice_to_delete_data_because_a_spec_changed() -> None:
    """The archive of another task is not reached; what is left of such advice is about files that no reader can open."""
    assert "delete" not in DOCS.replace("repeated or deleted", "")


def test_values_of_another_kind_are_converted_where_nothing_is_lost(trained: Job) -> None:
    schema = require_champion(trained).card.schema_
    texts = Archive(trained.home, "binary", with_dtype(schema, "x", "string")).scan().collect()
    assert set(texts["x"]) == {str(float(cell)).removesuffix(".0") for cell in read_rows(trained.path)["x"]}
    numbers = Archive(trained.home, "binary", with_dtype(schema, "c", "float")).scan().collect()
    assert numbers["c"].null_count() == numbers.height == texts.height, "a text that is no number is null"


def with_dtype(schema: Schema, name: str, dtype: Any) -> Schema:
    columns = tuple(one.model_copy(update={"dtype": dtype}) if one.name == name else one for one in schema.columns)
    return schema.model_copy(update={"columns": columns})


def test_rows_of_before_stay_in_their_files_as_they_were(trained: Job) -> None:
    job = changed(trained, c="")
    files = {path: path.read_bytes() for path in (job.home / "predictions").rglob("*.parquet")}
    model, _, _, _ = train(job)
    archive = Archive(job.home, "binary", model.card.schema_)
    first = archive.scan().collect().head(1)
    again = first.with_columns(_id=pl.lit("another"), _version=pl.lit(2, pl.Int64))
    assert archive.store_predictions(again) == 1
    assert archive.scan().collect().height == read_rows(job.path).height + 1
    assert {path: path.read_bytes() for path in files} == files
    assert all("c" in pl.read_parquet_schema(path) for path in files)


def session_after(job: Job, version: int) -> MonitorSession:
    """What the monitor works with once this version is champion."""
    job.registry.promote(job.spec.name, "champion", version, expect=1, reason="promoted", now=LATER)
    return MonitorSession(job.spec, job.home, require_champion(job), LATER, job.registry, job.base)


def test_a_window_that_another_contract_answered_is_judged_by_it(trained: Job) -> None:
    job = with_z(trained)
    train(job)
    session = session_after(job, 2)
    window = window_at(datetime(2026, 9, 12, tzinfo=UTC), job.spec.window.length)
    judge = session.judge(window)
    assert (judge.model.card.version, judge.versions) == (1, {1})
    result, request, *_ = close_window(window, judge, job.spec, session.state, 0.0, LATER)
    assert (result.version, request, set(result.distances)) == (1, None, {"x", "c"})
    assert not result.findings.null_increases
    assert result.rows_by_version == {1: result.findings.rows}
    champion = Judge(session.model, session.archive)
    assert "z" in close_window(window, champion, job.spec, session.state, 0.0, LATER)[0].findings.null_increases


def test_rows_of_another_contract_are_left_out_of_a_window_of_the_champion(trained: Job) -> None:
    job = with_z(trained)
    train(job)
    session = session_after(job, 2)
    window = window_at(datetime(2026, 9, 12, tzinfo=UTC), job.spec.window.length)
    rows = session.archive.scan(window.start, window.end).collect()
    new = [
        rows.with_columns(pl.lit(2, pl.Int64).alias("_version"), z=pl.lit(1.0), _id=pl.col("_id") + f"-{copy}") for copy in "ab"
    ]
    session.archive.store_predictions(pl.concat(new))
    judge = session.judge(window)
    assert (judge.model.card.version, judge.versions) == (2, {2})
    found, *_ = close_window(window, judge, job.spec, session.state, 0.0, LATER)
    assert (found.findings.rows, found.rows_by_version) == (2 * rows.height, {1: rows.height, 2: 2 * rows.height})
    assert not found.findings.null_increases


def test_what_an_older_version_answered_keeps_its_columns_though_the_log_is_read_by_another(trained: Job) -> None:
    job = changed(trained, c="", x='x = "categorical"')
    train(job)
    session = session_after(job, 2)
    late = PredictionBatch(job.spec.name, 1, LATER, ("late",), (LATER,), {"x": (1.5,), "c": ("west",)}, (0.5,))
    assert session.archive.store_predictions(session.archive.prediction_rows([late])) == 1
    assert session.archive.scan(LATER).collect().columns[-1] == "x"
    before = MonitorSession(
        job.spec, job.home, load_model(job.registry, job.spec.name, 1, job.base), LATER, job.registry, job.base
    )
    assert before.archive.scan(LATER).collect().select("x", "c").rows() == [(1.5, "west")]


def test_status_says_which_specs_wait_for_a_training_and_which_cannot_be_read(trained: Job) -> None:
    gone = trained.path.with_name("gone.toml")
    stack: Any = SimpleNamespace(
        models=[SimpleNamespace(name="spec", spec=trained.path), SimpleNamespace(name="gone", spec=gone)]
    )
    settings = Settings(home=trained.settings.home)
    (unreadable,) = spec_changes(stack, settings)
    assert unreadable.startswith(f"gone: no spec at {gone}")
    with_z(trained)
    waiting, _ = spec_changes(stack, settings)
    assert waiting.startswith("spec: the spec's inputs have changed since the last `perennial train` (feature 'z' added): run")
