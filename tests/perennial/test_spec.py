"""The model spec: what it says, what it defaults to, and how it refuses."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from perennial.errors import SpecError
from perennial.spec import FeatureSpec, ModelSpec, feature_columns, load_spec, parse_spec
from perennial.spec_policy import PolicySpec, RetrainSpec
from tests.support.processes import ROOT


def raw(**changes: Any) -> dict[str, Any]:
    """The shortest useful spec, with changes."""
    least = {
        "name": "small",
        "task": "binary",
        "target": "late",
        "event_time": "asked_at",
        "sources": {"rows": {"path": "rows.parquet"}},
        "features": {"amount": "numeric", "shop": "categorical"},
    }
    return {**least, **changes}


def spec(**changes: Any) -> ModelSpec:
    return parse_spec(raw(**changes), "small.toml")


def refusal(**changes: Any) -> str:
    with pytest.raises(SpecError) as refused:
        spec(**changes)
    return str(refused.value)


def test_the_shortest_spec_says_the_rest_by_defaults():
    small = spec()
    assert small.inputs == ("amount", "shop")
    assert small.features["shop"] == FeatureSpec(kind="categorical")
    assert (small.window.length, small.window.lateness, small.cooldown) == (
        timedelta(days=7),
        timedelta(days=1),
        timedelta(days=7),
    )
    assert small.retrain.data == "all"


@pytest.mark.parametrize("name", ["flights", "bike_sharing"])
def test_the_examples_are_specs(name: str):
    example = load_spec(ROOT / "examples" / f"{name}.toml")
    assert example.name == name.replace("_", "-")
    assert example.features


def test_a_spec_survives_the_way_through_json():
    example = load_spec(ROOT / "examples" / "flights.toml")
    assert ModelSpec.model_validate_json(example.model_dump_json()) == example


def test_a_spec_is_frozen():
    with pytest.raises(ValidationError):
        spec().name = "other"


@pytest.mark.parametrize(
    ("task", "metric", "objective"),
    [("binary", None, "log_loss"), ("multiclass", None, "log_loss"), ("regression", None, "rmse"), ("regression", "mae", "mae")],
)
def test_the_metric_follows_the_task(task: str, metric: str | None, objective: str):
    assert spec(task=task, metric=metric).objective_metric == objective


def test_a_cooldown_can_be_named():
    assert spec(signals={"cooldown": "3d"}).cooldown == timedelta(days=3)


@pytest.mark.parametrize(
    ("feature", "columns", "operation"),
    [
        ({}, ("fare",), "column"),
        ({"of": "price"}, ("price",), "column"),
        ({"date_part": "weekday"}, ("asked_at",), "date_part"),
        ({"date_part": "hour", "of": "due_at"}, ("due_at",), "date_part"),
        ({"difference": ["a", "b"]}, ("a", "b"), "difference"),
        ({"ratio": ["a", "b"]}, ("a", "b"), "ratio"),
        ({"bins": [0, 10, 20], "of": "age"}, ("age",), "bins"),
        ({"log": "income"}, ("income",), "log"),
        ({"cross": ["shop", "day", "kind"]}, ("shop", "day", "kind"), "cross"),
        ({"function": "own.py:rush", "of": ["a", "b"]}, ("a", "b"), "function"),
    ],
)
def test_a_feature_says_which_columns_it_reads(feature: dict[str, Any], columns: tuple[str, ...], operation: str):
    declared = spec(features={"fare": feature}).features["fare"]
    assert declared.operation == operation
    assert feature_columns("fare", declared, "asked_at") == columns


def test_inputs_are_what_a_client_sends_without_repeats_and_without_the_event_time():
    features = {"day": {"date_part": "weekday"}, "gap": {"difference": ["b", "a"]}, "a": "numeric"}
    assert spec(features=features).inputs == ("b", "a")


@pytest.mark.parametrize(
    ("changes", "where", "near"),
    [
        ({"tagret": "x"}, "tagret", "target"),
        ({"window": {"lenght": "7d"}}, "window.lenght", "length"),
        ({"features": {"amount": {"dateprat": "hour"}}}, "features.amount.dateprat", "date_part"),
        ({"sources": {"rows": {"path": "r.csv", "null": [""]}}}, "sources.rows.null", "nulls"),
        ({"joins": [{"source": "rows", "one": ["k"], "on": ["k"]}]}, "joins.0.one", "on"),
        ({"search": {"space": {"num_leaves": {"low": 2, "high": 9, "loga": True}}}}, "search.space.num_leaves.loga", "log"),
        ({"checks": {"columns": {"amount": {"mim": 0}}}}, "checks.columns.amount.mim", "min"),
    ],
)
def test_an_unknown_key_is_an_error_that_suggests_the_nearest(changes: dict[str, Any], where: str, near: str):
    message = refusal(**changes)
    assert f"{where}: unknown key; did you mean {near!r}?" in message
    assert message.startswith("small.toml is not a model spec:")


def test_a_key_like_no_other_is_refused_without_a_guess():
    assert "xyzzyxyzzy: unknown key\n" in refusal(xyzzyxyzzy=1) + "\n"


def test_several_mistakes_are_told_at_once():
    message = refusal(task="ranking", window={"length": "soon"}, nmae="x")
    assert all(part in message for part in ("task:", "window.length: 'soon' is not a duration", "nmae: unknown key"))


def test_a_key_left_out_is_named():
    incomplete = raw()
    del incomplete["target"]
    with pytest.raises(SpecError, match="target: required, but left out"):
        parse_spec(incomplete, "small.toml")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "Small Model"}, "name:"),
        ({"features": {}}, "features:"),
        ({"sources": {}}, "sources:"),
        ({"features": {"late": "numeric"}}, "it would leak the answer"),
        ({"features": {"fare": {"log": "late"}}}, "it would leak the answer"),
        ({"features": {"_score": "numeric"}}, "rename it"),
        ({"event_time": "_at"}, "rename it"),
        ({"joins": [{"source": "weather", "on": ["k"]}]}, "join names source 'weather', but the sources are rows"),
        ({"metric": "rmse"}, "does not suit a binary model; choose from log_loss, auc, brier"),
        ({"task": "regression", "metric": "auc"}, "choose from rmse, mae"),
        ({"features": {"x": {"log": "a", "ratio": ["a", "b"]}}}, "at most one operation; got ratio, log"),
        ({"features": {"x": {"bins": [3, 1], "of": "a"}}}, "bins must ascend without repeats; got [3.0, 1.0]"),
        ({"features": {"x": {"bins": [1, 2]}}}, "bins needs `of`"),
        ({"features": {"x": {"function": "own.py:f"}}}, "function needs `of`"),
        ({"sources": {"rows": {}}}, "exactly one of path, query or loader; got none"),
        ({"sources": {"rows": {"path": "a", "loader": "b"}}}, "exactly one of path, query or loader"),
        ({"sources": {"rows": {"query": "select 1"}}}, "a query needs `connection`"),
        (
            {"search": {"space": {"reg_lambda": {"low": 0, "high": 1, "log": True}}}},
            "needs low < high, and low > 0 on a log scale",
        ),
        ({"search": {"space": {"reg_lambda": {"low": 2, "high": 1}}}}, "needs low < high"),
        ({"label_threshold": 1.5}, "label_threshold:"),
        ({"window": {"length": 7}}, "write a number and a unit"),
    ],
)
def test_nonsense_is_refused_with_the_fix(changes: dict[str, Any], words: str):
    assert words in refusal(**changes)


def test_a_file_is_read(tmp_path: Path):
    file = tmp_path / "small.toml"
    file.write_text(
        'name = "small"\ntask = "binary"\ntarget = "late"\nevent_time = "asked_at"\n'
        'sources.rows.path = "rows.parquet"\n[features]\namount = "numeric"\nshop = "categorical"\n'
    )
    assert load_spec(file) == spec()


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(SpecError, match=r"no spec at .*nowhere\.toml: give the path"):
        load_spec(tmp_path / "nowhere.toml")


@pytest.mark.parametrize("content", [b"name = ", b"\xff\xfe", b'name = "a"\nname = "b"'])
def test_a_file_that_is_not_toml_is_named(tmp_path: Path, content: bytes):
    file = tmp_path / "broken.toml"
    file.write_bytes(content)
    with pytest.raises(SpecError, match=r"broken\.toml cannot be read as TOML"):
        load_spec(file)


def test_a_directory_is_no_spec(tmp_path: Path):
    with pytest.raises(SpecError, match="cannot be read as TOML"):
        load_spec(tmp_path)


@pytest.mark.parametrize("name", ["stack", "registry", "wandb", "demo"])
def test_a_name_the_home_directory_keeps_for_itself_is_refused(name: str):
    assert f"cannot be called '{name}'" in refusal(name=name)


@pytest.mark.parametrize(
    ("schedule", "interval"), [("4w", timedelta(weeks=4)), ("1d12h", timedelta(hours=36)), (" 0 4  * * MON ", None)]
)
def test_a_schedule_is_an_interval_or_cron(schedule: str, interval: timedelta | None) -> None:
    policy = PolicySpec(schedule=schedule)
    assert (policy.schedule, policy.interval) == (" ".join(schedule.split()), interval)


@pytest.mark.parametrize("schedule", ["weekly", "5s", "0 25 * * 1", "0 4 * *", "0 0 31 2 *", ""])
def test_another_schedule_is_refused_by_its_value(schedule: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(repr(schedule))):
        PolicySpec(schedule=schedule)


def test_when_a_label_is_known_is_a_matter_of_sources_alone() -> None:
    assert RetrainSpec(rows="sources", known_at="settled_at").known_at == "settled_at"
    with pytest.raises(ValidationError, match="rows is 'log'"):
        RetrainSpec(label_delay=timedelta(days=1))
    with pytest.raises(ValidationError, match="keep one of them"):
        RetrainSpec(rows="sources", label_delay=timedelta(days=1), known_at="settled_at")
