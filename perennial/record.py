"""Prediction and label records, and their one wire form.

A batch is what one stream entry carries: the predictions of one HTTP request or of several. It is
columnar, because a hundred rows repeat their column names a hundred times otherwise.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import NoneType
from typing import Any

import orjson

from perennial.base import FORMAT, refuse_newer_format
from perennial.errors import RecordError

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SCALARS = (bool, int, float, str, NoneType)
Scalar = bool | int | float | str | None
Label = bool | int | float | str
Score = float | tuple[float, ...]
"""Probability of the positive class, value, or one probability per class."""


@dataclass(frozen=True, slots=True)
class PredictionBatch:
    """Predictions answered by one model version; row i has ids[i], event_times[i], columns[c][i], scores[i].

    A plain dataclass: checking each of a million cells by a schema costs more than storing them.
    """

    model: str
    version: int
    served_at: datetime
    ids: tuple[str, ...]
    event_times: tuple[datetime, ...]
    columns: Mapping[str, tuple[Scalar, ...]]
    scores: tuple[Score, ...]


@dataclass(frozen=True, slots=True)
class LabelBatch:
    """Labels told by a client, each for a prediction id; event_times[i] is when the truth became known, if given."""

    model: str
    received_at: datetime
    ids: tuple[str, ...]
    labels: tuple[Label, ...]
    event_times: tuple[datetime | None, ...]


def encode_prediction_batch(batch: PredictionBatch) -> bytes:
    """The wire form of a prediction batch: compact JSON, times as microseconds since 1970 UTC."""
    return orjson.dumps(
        {
            "format": FORMAT,
            "model": batch.model,
            "version": batch.version,
            "at": _micros(batch.served_at),
            "ids": batch.ids,
            "times": _all_micros(batch.event_times),
            "columns": batch.columns,
            "scores": batch.scores,
        }
    )


def decode_prediction_batch(payload: bytes) -> PredictionBatch:
    """The inverse of `encode_prediction_batch`; raises RecordError saying what is wrong, without the values, or NewerFormat."""
    raw = _load(payload)
    rows = len(raw.list("ids", str))
    scores = map(_score, raw.list("scores", int, float, list, rows=rows))
    return PredictionBatch(
        model=raw.one("model", str),
        version=raw.one("version", int),
        served_at=_time(raw.one("at", int)),
        ids=tuple(raw.list("ids", str)),
        event_times=tuple(map(_time, raw.list("times", int, rows=rows))),
        columns=raw.columns("columns", rows),
        scores=tuple(scores),
    )


def encode_label_batch(batch: LabelBatch) -> bytes:
    """The wire form of a label batch."""
    return orjson.dumps(
        {
            "format": FORMAT,
            "model": batch.model,
            "at": _micros(batch.received_at),
            "ids": batch.ids,
            "labels": batch.labels,
            "times": [None if time is None else _micros(time) for time in batch.event_times],
        }
    )


def decode_label_batch(payload: bytes) -> LabelBatch:
    """The inverse of `encode_label_batch`; raises RecordError saying what is wrong, without the values, or NewerFormat."""
    raw = _load(payload)
    rows = len(raw.list("ids", str))
    times = raw.list("times", int, NoneType, rows=rows)
    return LabelBatch(
        model=raw.one("model", str),
        received_at=_time(raw.one("at", int)),
        ids=tuple(raw.list("ids", str)),
        labels=tuple(raw.list("labels", bool, int, float, str, rows=rows)),
        event_times=tuple(None if micros is None else _time(micros) for micros in times),
    )


def _score(score: Any) -> Score:
    number: Score = score if not isinstance(score, list) else tuple(_cells("scores[]", score, (int, float), None))
    return number


class _Raw:
    """A decoded record whose fields are checked as they are taken."""

    def __init__(self, fields: dict[str, Any]) -> None:
        self._fields = fields

    def one(self, name: str, kind: type) -> Any:
        value = self._fields.get(name)
        if type(value) is not kind:
            raise RecordError(f"{name} should be {kind.__name__}, not {type(value).__name__}")
        return value

    def list(self, name: str, *kinds: type, rows: int | None = None) -> list[Any]:
        return _cells(name, self._fields.get(name), kinds, rows)

    def columns(self, name: str, rows: int) -> dict[str, tuple[Scalar, ...]]:
        columns = self.one(name, dict)
        return {column: tuple(_cells(f"{name}.{column}", cells, SCALARS, rows)) for column, cells in columns.items()}


def _cells(name: str, cells: object, kinds: tuple[type, ...], rows: int | None) -> list[Any]:
    if not isinstance(cells, list):
        raise RecordError(f"{name} should be a list, not {type(cells).__name__}")
    # One pass in C: a Python loop over the cells would dominate the decoding.
    if wrong := set(map(type, cells)).difference(kinds):
        raise RecordError(f"{name} holds {', '.join(sorted(kind.__name__ for kind in wrong))}")
    if rows is not None and len(cells) != rows:
        raise RecordError(f"{name} has {len(cells)} values for {rows} ids")
    return cells


def _load(payload: bytes) -> _Raw:
    try:
        raw = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise RecordError(f"not JSON: {error.msg} at byte {error.pos}") from None
    if not isinstance(raw, dict):
        raise RecordError(f"a record should be an object, not {type(raw).__name__}")
    refuse_newer_format(raw.get("format"), "the record")
    if raw.get("format") != FORMAT:
        raise RecordError(f"format {raw.get('format')!r:.40} is unknown; this release reads format {FORMAT}")
    return _Raw(raw)


def _micros(time: datetime) -> int:
    # Integer arithmetic: a float timestamp loses microseconds.
    return (time - EPOCH) // timedelta(microseconds=1)


def _all_micros(times: Sequence[datetime]) -> list[int]:
    """Rows without a time of their own share one: it is computed once."""
    known = {time: _micros(time) for time in set(times)}
    return [known[time] for time in times]


def _time(micros: int) -> datetime:
    try:
        return EPOCH + timedelta(microseconds=micros)
    except OverflowError:
        raise RecordError("a time lies outside the years 1 to 9999") from None
