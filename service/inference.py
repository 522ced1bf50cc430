"""Inference: one request's way through a model. One version answers it from the first byte to the last.

The model is pinned when a request is decoded; nothing after that looks at which version is live.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from perennial.record import PredictionBatch, Score
from service.answers import explanation_body, prediction_body
from service.champion import ChampionWatcher, Live
from service.desk import Ask, Operation
from service.encoding import Encoded, encode_instances
from service.log import PredictionLog
from service.metrics import WorkerMetrics
from service.refusal import unavailable
from service.requests import Instances, parse_instances

EXPLAIN_ROWS = 1_000
"""Most rows of one explain request: a row costs a hundred times its prediction, and others wait for the worker."""


@dataclass(frozen=True, slots=True)
class Work:
    """A checked request and the version that answers it."""

    operation: Operation
    live: Live
    instances: Instances
    encoded: Encoded


class Inference:
    """Answers requests with the live model, logs every prediction and counts what it saw."""

    def __init__(self, name: str, max_rows: int, champion: ChampionWatcher, log: PredictionLog, metrics: WorkerMetrics) -> None:
        self._name = name
        self._max_rows = max_rows
        self._champion = champion
        self._log = log
        self._metrics = metrics

    def read(self, ask: Ask, now: datetime) -> Work:
        """Check a body against the live model; raises RequestError, or Refused without a model or for too many rows."""
        live = self.live()
        most = min(self._max_rows, EXPLAIN_ROWS) if ask.operation == "explain" else self._max_rows
        instances = parse_instances(ask.body, most, live.model.card.schema_, now)
        return Work(ask.operation, live, instances, encode_instances(instances, live.model))

    def answer(self, works: Sequence[Work], now: datetime) -> list[bytes]:
        """The response bodies; a prediction is in the log before anybody sees it."""
        return [self._explain(work) if work.operation == "explain" else self._predict(work, now) for work in works]

    def live(self) -> Live:
        """The live model; raises Refused (503) before the first promotion."""
        live = self._champion.live
        if live is None:
            raise unavailable("no_model", f"no version of {self._name!r} has been promoted yet: train one, it is served at once")
        return live

    def _predict(self, work: Work, now: datetime) -> bytes:
        scores = work.live.model.predict_matrix(work.encoded.matrix).tolist()
        self._log.append(_batch(work, tuple(map(_frozen, scores)), now))
        self._metrics.predicted(len(scores), work.encoded.unknown, work.encoded.nulls)
        return prediction_body(work.live.model, work.instances.ids, scores)

    def _explain(self, work: Work) -> bytes:
        model, matrix = work.live.model, work.encoded.matrix
        return explanation_body(model, work.instances.ids, model.predict_matrix(matrix), model.explain_matrix(matrix))


def _batch(work: Work, scores: tuple[Score, ...], now: datetime) -> PredictionBatch:
    card = work.live.model.card
    return PredictionBatch(
        model=card.name,
        version=card.version,
        served_at=now,
        ids=work.instances.ids,
        event_times=work.instances.event_times,
        columns=work.encoded.cells,
        scores=scores,
    )


def _frozen(score: float | list[float]) -> Score:
    return tuple(score) if isinstance(score, list) else score
