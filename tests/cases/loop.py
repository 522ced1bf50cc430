"""A case lived through without servers but Prefect's: trained, asked and answered, judged and retrained by the real flows."""

import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from flows.train import train
from monitoring.archive import Archive
from perennial.model import Model
from perennial.model_loading import load_champion
from perennial.record import LabelBatch, PredictionBatch
from tasks.job import Job, load_job
from tests.cases.inputs import read_rows
from tests.monitoring.streams import add_labels, add_predictions

LABEL_DELAY = timedelta(hours=2)


def trained(spec: Path, until: str) -> tuple[Job, Model]:
    """The job of a case and the champion that its rows before `until` gave."""
    train(str(spec), until)
    job = load_job(spec, dict(os.environ), datetime.now(UTC))
    model = load_champion(job.registry, job.spec.name, job.base)
    assert model is not None
    return job, model


def rows_since(spec: Path, since: datetime) -> pl.DataFrame:
    """The case's rows with typed time and numbers, from `since` on."""
    rows = read_rows(spec).with_columns(pl.col("x").cast(pl.Float64))
    times = (
        rows["ts"].str.to_datetime(time_zone="UTC") if rows["ts"].dtype == pl.String else rows["ts"].dt.replace_time_zone("UTC")
    )
    rows = rows.with_columns(times)
    return rows.filter(pl.col("ts") >= since)


def ask(job: Job, model: Model, rows: pl.DataFrame) -> Archive:
    """Archive rows as if the champion had answered them, one after another."""
    archive = Archive(job.home, job.spec.task, model.card.schema_)
    scores = [tuple(one) if isinstance(one, list) else one for one in model.predict_frame(rows).tolist()]
    columns = {name: tuple(rows[name]) for name in model.card.schema_.names}
    times = tuple(rows["ts"])
    batch = PredictionBatch(job.spec.name, model.card.version, max(times), tuple(rows["rid"]), times, columns, tuple(scores))
    add_predictions(archive, [batch])
    return archive


def tell(archive: Archive, model: Model, rows: pl.DataFrame, labels: Sequence[object]) -> None:
    """Archive labels of the rows, each known some time after its row."""
    times = tuple(time + LABEL_DELAY for time in rows["ts"])
    stored = tuple(model.label_codec.parse(label) for label in labels)
    add_labels(archive, [LabelBatch(model.card.name, max(times), tuple(rows["rid"]), stored, times)])
