"""Inference: one request's way through a model. One version answers it from the first byte to the last.

The model is pinned when a request is decoded; nothing after that looks at which version is live.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from perennial.record import PredictionBatch, Scalar
from service.answers import explanation_body, prediction_body
from service.champion import ChampionWatcher, Live
from service.log import PredictionLog
from service.metrics import WorkerMetrics
from service.refusal import unavailable
from service.requests import Instances, parse_instances

if TYPE_CHECKING:
    import polars as pl

    from perennial.model import Model

Operation = Literal["predict", "explain"]


@dataclass(frozen=True, slots=True)
class Work:
    """A checked request and the version that answers it; `frame` has the input columns and the event time."""

    operation: Operation
    live: Live
    instances: Instances
    frame: "pl.DataFrame"


class Inference:
    """Answers requests with the live model, logs every prediction and counts what it saw."""

    def __init__(self, name: str, max_rows: int, champion: ChampionWatcher, log: PredictionLog, metrics: WorkerMetrics) -> None:
        self._name = name
        self._max_rows = max_rows
        self._champion = champion
        self._log = log
        self._metrics = metrics

    def read(self, operation: Operation, body: bytes, now: datetime) -> Work:
        """Check a body against the live model; raises RequestError, or Refused without a model or for too many rows."""
        live = self.live()
        instances = parse_instances(body, self._max_rows, live.model.card.schema_, now)
        return Work(operation, live, instances, input_frame(instances, live.model))

    def answer(self, work: Work, now: datetime) -> bytes:
        """The response body; a prediction is in the log before anybody sees it."""
        return self._explain(work) if work.operation == "explain" else self._predict(work, now)

    def live(self) -> Live:
        """The live model; raises Refused (503) before the first promotion."""
        live = self._champion.live
        if live is None:
            raise unavailable("no_model", f"no version of {self._name!r} has been promoted yet: train one, it is served at once")
        return live

    def _predict(self, work: Work, now: datetime) -> bytes:
        scores = work.live.model.predict_frame(work.frame).tolist()
        self._log.append(_batch(work, tuple(map(_frozen, scores)), now))
        self._count(work)
        return prediction_body(work.live.model, work.instances.ids, scores)

    def _explain(self, work: Work) -> bytes:
        model = work.live.model
        return explanation_body(model, work.instances.ids, model.predict_frame(work.frame), model.explain_frame(work.frame))

    def _count(self, work: Work) -> None:
        compiled = work.live.model.compiled
        self._metrics.predicted(work.frame.height, compiled.unknown(work.frame), compiled.nulls(work.frame))


def input_frame(instances: Instances, model: "Model") -> "pl.DataFrame":
    """The rows as the model's table: input columns in the schema's types, and the event time."""
    import polars as pl

    from perennial.schema import cast_rows

    schema = model.card.schema_
    times = pl.Series(schema.event_time, instances.event_times, dtype=pl.Datetime("us", "UTC"))
    return cast_rows(instances.rows, schema).with_columns(times)


def _batch(work: Work, scores: tuple[float | tuple[float, ...], ...], now: datetime) -> PredictionBatch:
    card = work.live.model.card
    return PredictionBatch(
        model=card.name,
        version=card.version,
        served_at=now,
        ids=work.instances.ids,
        event_times=work.instances.event_times,
        columns=_columns(work),
        scores=scores,
    )


def _columns(work: Work) -> Mapping[str, tuple[Scalar, ...]]:
    return {name: tuple(map(_scalar, work.frame[name].to_list())) for name in work.live.model.card.schema_.names}


def _scalar(value: object) -> Scalar:
    return value.isoformat() if isinstance(value, datetime) else value  # type: ignore[return-value]  # the schema has no other types


def _frozen(score: float | list[float]) -> float | tuple[float, ...]:
    return tuple(score) if isinstance(score, list) else score
