"""The subject: synthetic rows, a model of them, and both as the registry and the peers read them. The same every time."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import polars as pl

from perennial.features import CompiledFeatures, compile_features, fit_features
from perennial.learners.lightgbm import TreeEstimator
from perennial.metrics import score
from perennial.model import Model, build_model, sample_reference, to_files
from perennial.model_card import Cause, DataRef, ModelCard
from perennial.profile import fit_profile
from perennial.registry import CHAMPION, Registry
from perennial.schema import infer_schema
from perennial.spec import ModelSpec, load_spec

NAME = "bench"
ROWS = 20_000
TREES, LEAVES = 250, 63
NUMBERS = tuple(f"number_{index:02d}" for index in range(14))
CATEGORIES = {"plan": 4, "channel": 8, "device": 16, "region": 32, "product": 64, "shop": 128}
"""Categorical features and how many values each has."""

START = datetime(2024, 1, 1, tzinfo=UTC)

SPEC = """\
name = "{name}"
task = "binary"
target = "outcome"
event_time = "asked_at"
sources.rows.path = "rows.parquet"
[features]
{features}
"""


@dataclass(frozen=True)
class Subject:
    """What is served: `spec` for ours, `folder` (model.txt, features.json) for peers; `rows` are asked, `scores` expected."""

    home: Path
    spec: Path
    folder: Path
    rows: pl.DataFrame
    matrix: np.ndarray[Any, np.dtype[np.float64]]
    scores: np.ndarray[Any, np.dtype[np.float64]]


def make_subject(home: Path) -> Subject:
    """Train, publish as champion below `home`, and write the files of the peers; some ten seconds of one core."""
    spec, table = _write_spec(home), make_rows()
    model = train(load_spec(spec), table)
    registry = Registry(str(home / "registry"))
    version = registry.publish(NAME, lambda number: to_files(model.with_version(number)))
    registry.promote(NAME, CHAMPION, version, expect=None, reason="benchmark", now=model.card.trained_at)
    asked = table.select(*NUMBERS, *CATEGORIES)
    matrix = model.compiled.matrix(table)
    return Subject(home, spec, _write_peers(home, model), asked, matrix, model.predict_matrix(matrix))


def make_rows(rows: int = ROWS, seed: int = 0) -> pl.DataFrame:
    """Rows `asked_at, number_00.., plan.., outcome`; the outcome depends on products of features, so that trees are deep."""
    chance = np.random.default_rng(seed)
    numbers = chance.normal(size=(rows, len(NUMBERS))).round(4)
    codes = {name: chance.integers(0, size, rows) for name, size in CATEGORIES.items()}
    effects = sum(chance.normal(0, 0.5, CATEGORIES[name])[code] for name, code in codes.items())
    signal = effects + numbers[:, 0] * numbers[:, 1] + np.sin(2 * numbers[:, 2]) + 0.3 * numbers[:, 3:].sum(axis=1)
    return pl.DataFrame(
        {
            "asked_at": pl.datetime_range(START, START + timedelta(minutes=rows - 1), "1m", time_unit="us", eager=True),
            **{name: numbers[:, index] for index, name in enumerate(NUMBERS)},
            **{name: [f"{name}_{value}" for value in code] for name, code in codes.items()},
            "outcome": (signal + chance.logistic(size=rows) > 0).astype(int),
        }
    )


def train(spec: ModelSpec, table: pl.DataFrame, trees: int = TREES) -> Model:
    """A model of `trees` trees with 63 leaves each."""
    features = fit_features(spec, table)
    compiled = compile_features(features, Path())
    matrix, labels = compiled.matrix(table), table["outcome"].to_numpy().astype(float)
    params = _params()
    categorical = [place for place, name in enumerate(features.names) if features.kinds[name] == "categorical"]
    data = lgb.Dataset(matrix, labels, feature_name=list(features.names), categorical_feature=categorical)
    estimator = TreeEstimator(lgb.train(params, data, trees))
    predictions = estimator.predict(matrix)
    card = _card(spec, table, compiled, params, trees, labels, predictions)
    profile = fit_profile(compiled.table(table), features.kinds, dict(zip(features.names, estimator.importance(), strict=True)))
    return build_model(card, estimator, profile, sample_reference(table, predictions, card.schema_, 0), Path())


def _params() -> dict[str, float | int | str | bool]:
    fixed: dict[str, float | int | str | bool] = {"objective": "binary", "verbosity": -1, "seed": 0, "deterministic": True}
    shape = {"num_leaves": LEAVES, "min_child_samples": 10, "learning_rate": 0.05}
    # One thread: several get in each other's way on a busy machine and are no faster on a small table.
    return {**fixed, **shape, "force_row_wise": True, "num_threads": 1}


def _card(
    spec: ModelSpec,
    table: pl.DataFrame,
    compiled: CompiledFeatures,
    params: dict[str, float | int | str | bool],
    trees: int,
    labels: np.ndarray[Any, np.dtype[np.float64]],
    predictions: np.ndarray[Any, np.dtype[np.float64]],
) -> ModelCard:
    until = START + timedelta(minutes=table.height - 1)
    return ModelCard(
        name=spec.name,
        version=1,
        task=spec.task,
        spec=spec,
        schema=infer_schema(spec, table),
        features=compiled.features,
        params=params,
        rounds=trees,
        metrics=score(spec.task, labels, predictions),
        data=DataRef(fingerprint="0" * 64, rows=table.height, since=START, until=until),
        trained_at=until,
        cause=Cause(kind="initial"),
    )


def _write_spec(home: Path) -> Path:
    kinds = {**dict.fromkeys(NUMBERS, "numeric"), **dict.fromkeys(CATEGORIES, "categorical")}
    lines = "\n".join(f'{name} = "{kind}"' for name, kind in kinds.items())
    path = home / f"{NAME}.toml"
    path.write_text(SPEC.format(name=NAME, features=lines), encoding="utf-8")
    return path


def _write_peers(home: Path, model: Model) -> Path:
    folder = home / "peers"
    folder.mkdir()
    (folder / "model.txt").write_bytes(to_files(model)["model.txt"])
    features = {"names": model.card.features.names, "categories": model.card.features.categories}
    (folder / "features.json").write_text(json.dumps(features), encoding="utf-8")
    return folder
