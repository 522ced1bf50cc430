"""The Python API reads a model that has lived: what it scores, what it tells, and what it says where there is nothing."""

import ast
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

import perennial
from deployments.python_api import OpenModel
from perennial.errors import DataError, PredictionNotFound, RegistryError, SpecError, VersionNotFound
from tests.support.lived import FIRST, UNLABELLED, WEEK, live
from tests.support.models import TASKS, publish_small, small_frame, small_model, write_small
from tests.support.processes import ROOT, python


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return live(tmp_path_factory.mktemp("lived")).home


@pytest.fixture(scope="module")
def model(home: Path) -> OpenModel:
    return perennial.open("small", home=home, environ={})


def printed(*lines: str) -> str:
    """What a fresh interpreter prints last."""
    done = subprocess.run(python("-c", "\n".join(lines)), cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1]


LOADED = "print(sorted({name.split('.')[0] for name in sys.modules}))"


def test_importing_the_package_loads_nothing_but_itself() -> None:
    loaded = printed("import sys, perennial", "perennial.open", LOADED)
    assert not {"polars", "numpy", "pydantic", "deployments", "monitoring", "tasks"} & set(ast.literal_eval(loaded))


def test_reading_a_model_loads_neither_prefect_nor_litserve(home: Path) -> None:
    opened = f"model = perennial.open('small', home={str(home)!r})"
    asked = "model.versions(), model.predictions().collect(), model.history(), model.champion"
    loaded = printed("import sys, perennial", opened, asked, LOADED)
    assert not {"prefect", "litserve", "wandb", "evidently", "redis"} & set(ast.literal_eval(loaded))


def test_the_champion_scores_a_frame_as_it_scores_everywhere(model: OpenModel) -> None:
    frame = small_frame(rows=20, seed=3)
    scored = model.champion.predict(frame.drop("outcome"))
    assert scored.columns == ["row_id", "asked_at", "score", "label", "version"]
    assert scored["score"].to_list() == model.champion.model.predict_frame(frame).tolist()
    assert scored["label"].to_list() == (scored["score"] >= 0.5).to_list()
    assert scored["version"].unique().to_list() == [3]
    assert model.champion.predict(frame.with_columns(pl.col("asked_at").cast(pl.String))).equals(scored)
    assert model.champion.predict(frame.head(0)).height == 0


@pytest.mark.parametrize("task", TASKS)
def test_each_task_has_its_kind_of_score(tmp_path: Path, task: str) -> None:
    registry = perennial.open(write_small(tmp_path, task), home=tmp_path, environ={}).reference.registry
    publish_small(registry, small_model(task))
    scored = perennial.open("small", home=tmp_path, environ={}).champion.predict(small_frame(task, rows=5))
    kinds = {
        "binary": (pl.Float64, pl.Boolean),
        "regression": (pl.Float64, pl.Float64),
        "multiclass": (pl.List(pl.Float64), pl.String),
    }
    assert (scored.schema["score"], scored.schema["label"]) == kinds[task]


def test_a_frame_that_does_not_fit_names_column_and_value(model: OpenModel) -> None:
    frame = small_frame(rows=20)
    with pytest.raises(DataError, match=r"no column 'amount'"):
        model.champion.predict(frame.drop("amount"))
    with pytest.raises(DataError, match=r"no column 'asked_at'"):
        model.champion.predict(frame.drop("asked_at"))
    with pytest.raises(DataError, match=r"column 'amount'.*'much'"):
        model.champion.predict(frame.with_columns(amount=pl.lit("much")))


def test_a_text_that_is_read_as_null_is_a_warning(model: OpenModel) -> None:
    texts = small_frame(rows=300, seed=2).with_columns(pl.col("amount").cast(pl.String))
    odd = texts.with_columns(amount=pl.when(pl.int_range(pl.len()) == 4).then(pl.lit("oops")).otherwise("amount"))
    with pytest.warns(UserWarning, match=r"amount: is read as null.* in 1 rows, such as row 5: 'oops'"):
        assert model.champion.predict(odd).height == 300


def test_predictions_have_their_labels(model: OpenModel) -> None:
    rows = model.predictions().collect()
    assert rows.height == 3 * 168
    expected = [
        "id",
        "event_time",
        "served_at",
        "version",
        "score",
        "label",
        "label_received_at",
        "label_contradicted",
        "amount",
        "shop",
    ]
    assert rows.columns == expected
    assert rows["version"].to_list() == [1] * 336 + [3] * 168
    truth = pl.concat([small_frame(rows=168, seed=11 + week, start=FIRST + week * WEEK) for week in range(3)])["outcome"]
    assert rows["label"].cast(pl.Int64).to_list() == [*truth.to_list()[:-1], None]
    assert model.predictions().filter(pl.col("id") == UNLABELLED).collect()["label_received_at"].to_list() == [None]


def test_windows_have_findings_and_decisions(model: OpenModel) -> None:
    windows = model.windows().collect()
    assert windows["decision"].to_list() == ["drift", "promotion", "none"]
    assert windows["window_start"].to_list() == [FIRST, FIRST + WEEK, FIRST + 2 * WEEK]
    assert windows["labelled"].to_list() == [168, 168, 167]
    assert windows["signal_drift"].null_count() == windows["log_loss"].null_count() == 0
    assert windows["bound_drift"].unique().to_list() == [0.1]
    assert windows["turned_out"].to_list() == [None, None, -0.05]


def test_versions_say_what_they_promised_and_what_came_true(model: OpenModel) -> None:
    versions = model.versions()
    shown = versions.select("version", "aliases", "cause", "promised", "turned_out").rows()
    assert shown == [
        (1, [], "initial", None, None),
        (2, ["rejected"], "drift", None, None),
        (3, ["challenger", "champion"], "promotion", -0.1, -0.05),
    ]
    assert versions["log_loss"].null_count() == 0
    assert versions["trained_until"].is_sorted()


def test_history_and_trace_are_those_of_the_monitor(model: OpenModel) -> None:
    history = model.history()
    assert history["kind"].to_list().count("training") == 3
    assert history["at"].is_sorted()
    assert history.filter(pl.col("kind") == "window")["window_start"].null_count() == 0
    assert model.trace(UNLABELLED).version == 3


def test_the_challenger_is_the_version_trained_last_unless_it_serves(tmp_path: Path) -> None:
    model = perennial.open("small", home=live(tmp_path).home, environ={})
    assert model.challenger is None
    model.reference.registry.promote("small", "challenger", 2, expect=3, reason="test", now=datetime.now(UTC))
    challenger = model.challenger
    assert challenger is not None
    assert challenger.version == 2


def test_what_is_not_there_is_said_with_the_fix(tmp_path: Path, model: OpenModel) -> None:
    with pytest.raises(RegistryError, match=r"no model 'smal' .*did you mean 'small'.*PERENNIAL_HOME"):
        perennial.open("smal", home=model.home.parent, environ={})
    with pytest.raises(SpecError, match=r"no spec at .*nowhere\.toml"):
        perennial.open("nowhere.toml", home=tmp_path, environ={})
    with pytest.raises(VersionNotFound, match=r"'small' has no version 9 .*it has \[1, 2, 3\]"):
        model.version(9)
    with pytest.raises(PredictionNotFound, match="no prediction of small has the id 'nobody'"):
        model.trace("nobody")
    untrained = perennial.open(write_small(tmp_path), home=tmp_path, environ={})
    for ask in (lambda: untrained.champion, untrained.versions, untrained.windows, untrained.predictions):
        with pytest.raises(VersionNotFound, match=r"small has no .* yet: run `perennial train .*small\.toml`"):
            ask()
    assert untrained.challenger is None
    assert untrained.history().is_empty()
