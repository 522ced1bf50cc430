"""Features: a training table as every later step shares it.

The rows are kept once, as they were read. Encoded rows and readable values are computed from them in batches of rows, or column
by column, where a step needs them: each would take as much memory as the rows.
"""

from dataclasses import dataclass
from datetime import datetime

import polars as pl

from perennial.arrays import Floats
from perennial.features import CompiledFeatures, EncodedRows, ReadableColumns, compile_features, fit_features
from perennial.labels import LabelCodec, fit_classes
from perennial.learner import Estimator, TrainingTable
from perennial.profile import Profile, fit_profile
from perennial.schema import Schema, cast_frame, infer_schema
from perennial.spec import ModelSpec
from tasks.data.datasets import Manifest
from tasks.job import Job
from tasks.task_defaults import local_task


@dataclass(frozen=True)
class TrainingData:
    """Training rows sorted in time, as raw inputs, and the learner's table, which encodes them when it is asked."""

    frame: pl.DataFrame
    schema: Schema
    compiled: CompiledFeatures
    table: TrainingTable
    classes: tuple[str, ...]
    label_texts: tuple[str, ...]
    fingerprint: str

    @property
    def since(self) -> datetime:
        """Event time of the oldest row."""
        oldest: datetime = self.frame[self.schema.event_time][0]
        return oldest

    @property
    def until(self) -> datetime:
        """Event time of the newest row."""
        newest: datetime = self.frame[self.schema.event_time][-1]
        return newest


def reference_profile(data: TrainingData, estimator: Estimator, rows: int | None = None) -> Profile:
    """The profile of the training rows, or of so many of the oldest, weighed by what the features are worth to the estimator."""
    features = data.compiled.features
    importance = dict(zip(features.names, estimator.importance(), strict=True))
    frame = data.frame if rows is None else data.frame.head(rows)
    return fit_profile(ReadableColumns(data.compiled, frame), features.kinds, importance)


@local_task("features")
def build_training_data(
    job: Job, frame: pl.DataFrame, manifest: Manifest, weights: Floats | None = None, label_texts: tuple[str, ...] = ()
) -> TrainingData:
    """Infer the schema, freeze the categories and encode the labels of training rows."""
    spec = job.spec
    schema = infer_schema(spec, frame)
    rows = cast_frame(frame, schema)
    compiled = compile_features(fit_features(spec, rows, job.base), job.base)
    classes = fit_classes(spec.task, rows[spec.target])
    table = training_table(spec, rows, compiled, classes, weights)
    return TrainingData(rows, schema, compiled, table, classes, label_texts, manifest.fingerprint)


def training_table(
    spec: ModelSpec, rows: pl.DataFrame, compiled: CompiledFeatures, classes: tuple[str, ...], weights: Floats | None
) -> TrainingTable:
    """Rows as a learner takes them."""
    kinds, categories = compiled.features.kinds, compiled.features.categories
    return TrainingTable(
        matrix=EncodedRows(compiled, rows.select(compiled.features.reads)),
        labels=LabelCodec(spec.task, classes).encode_column(rows[spec.target]),
        times=rows[spec.event_time].dt.replace_time_zone(None).to_numpy(),
        weights=weights,
        categories=tuple(len(categories[name]) if kinds[name] == "categorical" else None for name in kinds),
    )
