"""What a service would have written: batches of the small model's rows, and the streams that carry them."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import polars as pl
import redis

from monitoring.archive import Archive
from perennial.model import Model
from perennial.record import LabelBatch, PredictionBatch, encode_batch
from service.prediction_log.streams import append, labels_stream, predictions_stream

LABEL_DELAY = timedelta(hours=12)


def predicted(model: Model, frame: pl.DataFrame, served_at: datetime | None = None) -> PredictionBatch:
    """The batch of one request with the rows of `frame`."""
    scores: Sequence[Any] = model.predict_frame(frame).tolist()
    return PredictionBatch(
        model=model.card.name,
        version=model.card.version,
        served_at=served_at or frame["asked_at"].max(),  # type: ignore[arg-type]
        ids=tuple(frame["row_id"]),
        event_times=tuple(frame["asked_at"]),
        columns={name: tuple(frame[name]) for name in model.card.schema_.names},
        scores=tuple(tuple(score) if isinstance(score, list) else score for score in scores),
    )


def told(model: Model, frame: pl.DataFrame, received_at: datetime | None = None) -> LabelBatch:
    """The labels of the rows, as a client tells them."""
    times: list[datetime] = frame["asked_at"].to_list()
    return LabelBatch(
        model=model.card.name,
        received_at=received_at or max(times) + LABEL_DELAY,
        ids=tuple(frame["row_id"]),
        labels=tuple(frame["outcome"]),
        event_times=tuple(time + LABEL_DELAY for time in times),
    )


def serve(store: redis.Redis, model: Model, frame: pl.DataFrame, size: int = 24, labels: bool = True) -> None:
    """Write the rows to the streams in batches of `size`, as a service would."""
    batches = list(frame.iter_slices(size))
    for part in batches:
        append(store, predictions_stream(model.card.name), encode_batch(predicted(model, part)))
        if labels:
            append(store, labels_stream(model.card.name), encode_batch(told(model, part)))


def add_predictions(archive: Archive, batches: Sequence[PredictionBatch]) -> int:
    """Archive batches as the consumer does."""
    return archive.store_predictions(archive.prediction_rows(batches))


def add_labels(archive: Archive, batches: Sequence[LabelBatch]) -> int:
    """Archive batches as the consumer does."""
    return archive.store_labels(archive.label_rows(batches))
