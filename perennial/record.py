"""Prediction and label records, and their one wire form: JSON, an object with the fields of the batch and its `format`.

A batch is what one stream entry carries: the predictions of one HTTP request or of several. It is columnar, because a hundred
rows repeat their column names a hundred times otherwise. msgspec writes it, and checks every cell in C as it reads it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from perennial.base import FORMAT, refuse_newer_format
from perennial.errors import RecordError

Scalar = bool | int | float | str | None
Label = bool | int | float | str
Score = float | tuple[float, ...]  # probability of the positive class, value, or one probability per class

Time = Annotated[datetime, msgspec.Meta(tz=True)]


@dataclass(frozen=True, slots=True)
class PredictionBatch:
    """Predictions answered by one model version; row i has ids[i], event_times[i], columns[c][i], scores[i].

    `traces` are the headers of those requests that are traced (`perennial.tracing`).
    """

    model: str
    version: int
    served_at: Time
    ids: tuple[str, ...]
    event_times: tuple[Time, ...]
    columns: Mapping[str, tuple[Scalar, ...]]
    scores: tuple[Score, ...]
    traces: tuple[str, ...] = ()
    format: Literal[1] = FORMAT


@dataclass(frozen=True, slots=True)
class LabelBatch:
    """Labels sent by a client, each for a prediction id; event_times[i] is when the truth became known, if given."""

    model: str
    received_at: Time
    ids: tuple[str, ...]
    labels: tuple[Label, ...]
    event_times: tuple[Time | None, ...]
    format: Literal[1] = FORMAT


Batch = TypeVar("Batch", PredictionBatch, LabelBatch)


class _Header(msgspec.Struct):
    format: Any = None


_ANY_COLUMN = "$.columns[...]"  # how msgspec names a column

_encoder = msgspec.json.Encoder()
_read_header = msgspec.json.Decoder(_Header).decode
_read_predictions = msgspec.json.Decoder(PredictionBatch)
_read_labels = msgspec.json.Decoder(LabelBatch)


def encode_batch(batch: PredictionBatch | LabelBatch) -> bytes:
    return _encoder.encode(batch)


def decode_prediction_batch(payload: bytes) -> PredictionBatch:
    """The inverse of `encode_batch`; raises RecordError saying what is wrong, without the values, or NewerFormat."""
    batch = _decode(_read_predictions, payload)
    columns = ((f"columns.{name}", cells) for name, cells in batch.columns.items())
    _refuse_lengths(len(batch.ids), [("event_times", batch.event_times), ("scores", batch.scores), *columns])
    return batch


def decode_label_batch(payload: bytes) -> LabelBatch:
    """The inverse of `encode_batch`; raises RecordError saying what is wrong, without the values, or NewerFormat."""
    batch = _decode(_read_labels, payload)
    _refuse_lengths(len(batch.ids), [("labels", batch.labels), ("event_times", batch.event_times)])
    return batch


def _decode(decoder: msgspec.json.Decoder[Batch], payload: bytes) -> Batch:
    try:
        found = _read_header(payload).format
        refuse_newer_format(found, "the record")
        if found != FORMAT:
            raise RecordError(f"format {found!r:.40} is unknown; this release reads format {FORMAT}")
        return decoder.decode(payload)
    except msgspec.DecodeError as error:  # names the place and the types, not the value
        raise RecordError(f"not a record: {_name_column(str(error), payload)}") from None


def _name_column(message: str, payload: bytes) -> str:
    """The message with the name of a wrong column, which msgspec does not say."""
    if _ANY_COLUMN not in message:
        return message
    for name, cells in msgspec.json.decode(payload)["columns"].items():
        try:
            msgspec.convert(cells, type=tuple[Scalar, ...])
        except msgspec.ValidationError:
            return message.replace(_ANY_COLUMN, f"$.columns.{name}")
    return message


def _refuse_lengths(rows: int, fields: Iterable[tuple[str, tuple[Any, ...]]]) -> None:
    for name, values in fields:
        if len(values) != rows:
            raise RecordError(f"{name} has {len(values)} values for {rows} ids")
