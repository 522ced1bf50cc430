"""Small data and small trained models: one numeric and one categorical feature, a row an hour, each of the three tasks.

Everything follows from (task, rows, seed), so that two tests that ask for the same model get the same model.
"""

import tomllib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from perennial.features import compile_features, fit_features
from perennial.labels import fit_classes
from perennial.learner import Objective, TrainingTable, load_learner
from perennial.learners.declarations import Params
from perennial.metrics import score
from perennial.model import Model, build_model, sample_reference, to_files
from perennial.model_card import Cause, DataRef, ModelCard
from perennial.profile import fit_profile
from perennial.registry import CHAMPION, Registry
from perennial.schema import infer_schema
from perennial.spec import ModelSpec, Task, parse_spec
from tasks.training.training_data import training_table

START = datetime(2024, 1, 1, tzinfo=UTC)
"""Event time of the first row: a Monday."""
ROWS = 1_000
SHOPS = ("north", "east", "south")
TASKS: tuple[Task, ...] = ("binary", "regression", "multiclass")

SPEC = """\
name = "small"
task = "{task}"
target = "outcome"
event_time = "asked_at"
id = "row_id"
slices = ["shop"]
sources.rows.path = "rows.parquet"
features = {{ amount = "numeric", shop = "categorical" }}
checks.min_rows = 50
split = {{ test = "7d", folds = 2 }}
search = {{ trials = 2, max_rounds = 40, patience = 5 }}
gate = {{ holdout = "2d", min_rows = 20 }}
window = {{ length = "7d", lateness = "1d", min_rows = 20 }}
signals.blocks = 3
policy.train_on = ["drift", "performance", "age"]
"""
"""The small model's spec. No challenger comes by the calendar, so that a window's decision is about what is in the window."""
PARAMS: dict[str, Params] = {"lightgbm": {"num_leaves": 7}}
"""Parameters of the small model by learner; none where its defaults will do."""


def small_frame(
    task: Task = "binary", rows: int = ROWS, seed: int = 0, start: datetime = START, shift: float = 0.0
) -> pl.DataFrame:
    """Rows `row_id, asked_at, amount, shop, outcome`, an hour apart; `shift` moves `amount` by standard deviations."""
    chance = np.random.default_rng(seed)
    amount, shop = chance.normal(shift, 1, rows), chance.integers(0, len(SHOPS), rows)
    signal = amount + (shop - 1.0) + chance.normal(0, 0.5, rows)
    since = int((start - START).total_seconds() // 3600)
    return pl.DataFrame(
        {
            "row_id": [f"row-{since + number}" for number in range(rows)],
            "asked_at": pl.datetime_range(start, start + timedelta(hours=rows - 1), "1h", time_unit="us", eager=True),
            "amount": amount.round(6),
            "shop": [SHOPS[code] for code in shop],
            "outcome": _outcome(task, signal),
        }
    )


def instances(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """The rows as a client sends them to /predict, with id and event time."""
    asked = frame.with_columns(pl.col("asked_at").dt.to_string("iso:strict")).rename({"row_id": "id", "asked_at": "event_time"})
    return asked.drop("outcome").to_dicts()


def write_small(directory: Path, task: Task = "binary", frame: pl.DataFrame | None = None, learner: str = "lightgbm") -> Path:
    """Write `small.toml` and its table into `directory`; returns the spec's path."""
    (small_frame(task) if frame is None else frame).write_parquet(directory / "rows.parquet")
    path = directory / "small.toml"
    path.write_text(f'learner = "{learner}"\n{SPEC.format(task=task)}', encoding="utf-8")
    return path


def write_named(directory: Path, name: str) -> Path:
    """Write `{name}.toml`, the small spec under another name, and its table into `directory`; returns the spec's path."""
    small_frame().write_parquet(directory / "rows.parquet")
    path = directory / f"{name}.toml"
    path.write_text(SPEC.format(task="binary").replace('name = "small"', f'name = "{name}"'), encoding="utf-8")
    return path


def named_model(name: str, seed: int = 0, model: Model | None = None) -> Model:
    """The small model, or another of its kind, under another name."""
    model = model or small_model(seed=seed)
    spec = model.card.spec.model_copy(update={"name": name})
    return replace(model, card=model.card.model_copy(update={"name": name, "spec": spec}))


@cache
def small_spec(task: Task = "binary", learner: str = "lightgbm") -> ModelSpec:
    """The spec that `write_small` writes, with another learner where one is named."""
    return parse_spec(tomllib.loads(SPEC.format(task=task)) | {"learner": learner}, "the small spec")


@cache
def small_model(task: Task = "binary", version: int = 1, rows: int = ROWS, seed: int = 0, learner: str = "lightgbm") -> Model:
    """A model trained on `small_frame(task, rows, seed)` in a fraction of a second; takes user functions from nowhere."""
    return train_small(small_frame(task, rows, seed), task, version, seed, learner=learner)


def train_small(
    frame: pl.DataFrame,
    task: Task = "binary",
    version: int = 1,
    seed: int = 0,
    rounds: int = 20,
    learner: str = "lightgbm",
    spec: ModelSpec | None = None,
) -> Model:
    """Fit a model on any frame of the shape of `small_frame`, or by a spec of its own on any frame of that."""
    spec, base = spec or small_spec(task, learner), Path()
    schema, features = infer_schema(spec, frame), fit_features(spec, frame)
    compiled, classes = compile_features(features, base), fit_classes(task, frame["outcome"])
    table, params = small_table(spec, frame), PARAMS.get(learner, {})
    objective = Objective(task, spec.objective_metric, len(classes), seed, threads=1)
    estimator = load_learner(learner).trainer(table, objective).fit(params, rounds)
    predictions = estimator.predict(table.matrix[:])
    importance = dict(zip(features.names, estimator.importance(), strict=True))
    profile = fit_profile(compiled.table(frame), features.kinds, importance)
    card = ModelCard(
        name=spec.name,
        version=version,
        task=task,
        spec=spec,
        schema=schema,
        features=features,
        classes=classes,
        params=params,
        rounds=rounds,
        metrics=score(task, table.labels, predictions),
        bounds={"drift": 0.1},
        data=_data(frame),
        trained_at=frame["asked_at"].max() + timedelta(hours=1),
        cause=Cause(kind="initial"),
    )
    return build_model(card, estimator, profile, sample_reference(frame, predictions, schema, seed), base)


def small_table(spec: ModelSpec, frame: pl.DataFrame) -> TrainingTable:
    """The frame as learners take it."""
    compiled = compile_features(fit_features(spec, frame), Path())
    return training_table(spec, frame, compiled, fit_classes(spec.task, frame["outcome"]), None)


def publish_small(registry: Registry, model: Model, promote: bool = True) -> int:
    """Publish a model as the next version of its name and, unless told otherwise, make it the champion."""
    name = model.card.name
    version = registry.publish(name, lambda number: to_files(model.with_version(number)))
    if promote:
        standing = registry.aliases(name).champion
        registry.promote(name, CHAMPION, version, expect=standing, reason="test", now=model.card.trained_at)
    return version


def _data(frame: pl.DataFrame) -> DataRef:
    times = frame["asked_at"]
    return DataRef(fingerprint="f" * 64, rows=frame.height, since=times.min(), until=times.max())


def _outcome(task: Task, signal: np.ndarray[Any, Any]) -> list[Any]:
    if task == "regression":
        return [round(float(value), 6) for value in 10 + 3 * signal]
    if task == "binary":
        return [int(value > 0) for value in signal]
    return [("low", "middle", "high")[code] for code in np.digitize(signal, [-0.7, 0.7])]
