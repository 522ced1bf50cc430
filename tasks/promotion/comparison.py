"""Comparison: what a challenger's judge and the champion lose on the same labelled rows that neither has learnt.

The judge stands for the challenger, which has learnt all rows: an older challenger, or the challenger's recipe fitted without
the judged rows. Rows that either has seen are left out here, whatever the caller passes. How probable it is that the judge is
the better one comes from a paired block bootstrap, for rows of one day err together.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray

from monitoring.avoidable_loss import block_sums, day_blocks
from monitoring.measurement import loss_metric
from perennial.arrays import Floats, Indices
from perennial.labels import LabelCodec
from perennial.metrics import probability_lower, row_losses, score
from perennial.model import Model
from perennial.spec import ModelSpec
from tasks.training.fit import Fitted

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Judged:
    """A model as it is compared: what people call it, its newest training row, its labels and its scores of raw rows."""

    name: str
    until: datetime
    codec: LabelCodec
    predict: Callable[[pl.DataFrame], Floats]


def judged_version(model: Model) -> Judged:
    """A published version."""
    return Judged(f"version {model.card.version}", model.card.until, model.label_codec, model.predict_frame)


def judged_recipe(spec: ModelSpec, fitted: Fitted, until: datetime, texts: tuple[str, ...]) -> Judged:
    """A recipe fitted to rows up to `until`."""
    codec = LabelCodec(spec.task, fitted.classes, texts=texts)
    return Judged("its recipe without these rows", until, codec, fitted.predict)


@dataclass(frozen=True)
class Scored:
    """One model on the judged rows: coded labels (n,), scores (n,) or (n, classes), and the loss of each row."""

    labels: Floats
    scores: Floats
    losses: Floats


@dataclass(frozen=True)
class Comparison:
    """Judge and champion on the same rows, which are sorted in time."""

    spec: ModelSpec
    judge: Judged
    since: datetime
    rows: pl.DataFrame
    challenger: Scored
    champion: Scored
    blocks: Indices

    @property
    def metric(self) -> str:
        return loss_metric(self.spec)

    def probability_better(self, inside: Mask | None = None) -> float:
        """Probability that the judge loses less than the champion, on all rows or on those of a mask."""
        weight = np.ones(len(self.blocks)) if inside is None else inside.astype(float)
        new, old = (block_sums(one.losses * weight, self.blocks) for one in (self.challenger, self.champion))
        return probability_lower(new, old, self.spec.search.seed)

    def losses(self, inside: Mask | slice = slice(None)) -> tuple[float, float]:
        """The metric of the judge and of the champion, on all rows or on those of a mask."""
        both = (self.challenger, self.champion)
        new, old = (score(self.spec.task, one.labels[inside], one.scores[inside]).values[self.metric] for one in both)
        return new, old

    def slices(self) -> Iterator[tuple[str, Mask]]:
        """Each value of the spec's slice columns that has enough rows, named, with the mask of its rows."""
        for column in (column for column in self.spec.slices if column in self.rows.columns):
            texts = self.rows[column].cast(pl.String).fill_null("null")
            for value in texts.unique().sort():
                mask = (texts == value).to_numpy()
                if mask.sum() >= self.spec.gate.min_rows:
                    yield f"{column} = {value}", mask


def compare(spec: ModelSpec, judge: Judged, champion: Model, rows: pl.DataFrame) -> Comparison:
    """Score the labelled rows that are newer than both trainings by both models; raises DataError for a foreign column."""
    other = judged_version(champion)
    since = max(judge.until, other.until)
    newer = rows.filter(pl.col(spec.event_time) > since).sort(spec.event_time, maintain_order=True)
    newer = newer.filter(LabelCodec(spec.task).parse_column(newer[spec.target]).is_not_null())
    times = newer[spec.event_time].dt.replace_time_zone(None).to_numpy()
    blocks = day_blocks(times)
    return Comparison(spec, judge, since, newer, _score(spec, judge, newer), _score(spec, other, newer), blocks)


def _score(spec: ModelSpec, model: Judged, rows: pl.DataFrame) -> Scored:
    if rows.height == 0:
        return Scored(*[np.empty(0)] * 3)
    labels, scores = model.codec.encode_column(rows[spec.target]), np.asarray(model.predict(rows))
    return Scored(labels, scores, row_losses(spec.task, labels, scores, loss_metric(spec)))
