"""Any name of a feature: LightGBM sees f0, f1, ..., and everything that people read has the spec's own names."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from perennial.model import Model, from_files, to_files
from perennial.model_card import Cause
from perennial.spec_sources import SourceSpec
from tasks.data.ingest import ingest
from tasks.job import Job, load_job
from tasks.training.assemble import assemble
from tasks.training.evaluate import evaluate
from tasks.training.fit import fit
from tasks.training.split import split_newest
from tasks.training.training_data import build_training_data
from tests.cases.inputs import copy_case

LATER = datetime(2027, 1, 1, tzinfo=UTC)

NAMES = (
    "price, [USD]",
    'quote " in it',
    "tab\tand\nline",
    "{json: 1}",
    "Ünïcode ☃",
    "unit price",
    "f0",
    "Column_0",
    " blanks ",
    "a.b",
    "x" * 300,
)


def job_of(tmp_path: Path, names: tuple[str, ...] = ()) -> Job:
    """The case; with names, its numeric feature under each of them, from Parquet, which keeps a header as it is."""
    path = copy_case("names-lightgbm-refuses", tmp_path)
    job = load_job(path, {"PERENNIAL_HOME": str(tmp_path / "var")}, LATER)
    if not names:
        return job
    rows = pl.read_csv(path.parent / "rows.csv")
    rows.select(pl.exclude("price, [USD]"), *(pl.col("price, [USD]").alias(name) for name in names)).write_parquet(
        path.parent / "rows.parquet"
    )
    features = {**dict.fromkeys(names, job.spec.features["price, [USD]"]), "c": job.spec.features["c"]}
    return replace(
        job, spec=job.spec.model_copy(update={"features": features, "sources": {"rows": SourceSpec(path="rows.parquet")}})
    )


def train(job: Job) -> tuple[Model, pl.DataFrame]:
    dataset = ingest.fn(job, None)
    split = split_newest.fn(dataset.frame, job.spec.event_time, job.spec.split.test)
    data = build_training_data.fn(job, split.train, dataset.manifest)
    fitted = fit.fn(job, data, {})
    draft = assemble.fn(job, data, fitted, evaluate.fn(job, fitted, split.test), Cause(kind="initial"), None)
    return from_files(to_files(draft), job.base), split.test


def test_a_name_with_json_characters_trains_explains_and_is_shown(tmp_path: Path) -> None:
    model, rows = train(job_of(tmp_path))
    assert set(model.profile.importance) == {"price, [USD]", "c"}
    assert model.profile.importance["price, [USD]"] > 0
    contributions = model.explain_matrix(model.compiled.matrix(rows))
    assert contributions.shape == (rows.height, 3)
    assert model.estimator.booster.feature_name() == ["f0", "f1"]


@pytest.mark.parametrize("name", NAMES)
def test_any_name_gives_the_same_scores(tmp_path: Path, name: str) -> None:
    plain, rows = train(job_of(tmp_path / "plain"))
    other, _ = train(job_of(tmp_path / "other", (name,)))
    np.testing.assert_array_equal(other.predict_frame(rows.rename({"price, [USD]": name})), plain.predict_frame(rows))
    assert tuple(other.profile.importance) == (name, "c")


def test_names_that_lightgbm_takes_for_one_are_two(tmp_path: Path) -> None:
    model, _ = train(job_of(tmp_path, ("unit price", "unit_price")))
    assert set(model.profile.importance) == {"unit price", "unit_price", "c"}
