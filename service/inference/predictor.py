"""The predictor: decoded requests in, scores out, every prediction in the log before a client can see it.

A request keeps the version that was live when it came, whatever is promoted meanwhile. Requests that wait together are scored
together, and share an entry of the log for each version. `decode` and `predict` may be called by two threads.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from perennial.record import PredictionBatch
from service.decoding.row_contract import DecodedRows
from service.inference.model_watcher import CompiledModel
from service.metrics import ModelMetrics
from service.prediction_log.log import PredictionLog

EXPLAIN_ROWS = 1_000  # most rows of an explain request: a row costs a hundred predictions, and others wait for the worker

NEVER = datetime.min.replace(tzinfo=UTC)

Operation = Literal["predict", "explain"]


class InferenceRequest(msgspec.Struct, frozen=True, gc=False):
    """What is asked, as the client sent it, the version that was live then, and the predictor of its model."""

    operation: Operation
    body: bytes
    model: CompiledModel
    predictor: "Predictor"


class DecodedRequest(msgspec.Struct, frozen=True, gc=False):
    """Checked rows, and the version that answers them; `size` is the bytes of the body."""

    operation: Operation
    model: CompiledModel
    predictor: "Predictor"
    rows: DecodedRows
    size: int


class Prediction(msgspec.Struct, frozen=True, gc=False):
    """Scores of a request's rows: a float, or a list of one for each class; contributions where they were asked for."""

    request: DecodedRequest
    scores: Sequence[Any]
    contributions: Any = None


class Predictor:
    """Answers for one model, logs every prediction and counts what it saw."""

    def __init__(self, max_rows: int, log: PredictionLog, metrics: ModelMetrics) -> None:
        self._max_rows, self._log, self._metrics = max_rows, log, metrics
        self.used_at = NEVER  # when it was last asked

    @property
    def may_wait(self) -> bool:
        """Whether logging a prediction might have to wait now: then it is no matter for the event loop."""
        return not self._log.has_room

    def decode(self, request: InferenceRequest, now: datetime) -> DecodedRequest:
        """Check a body against the contract of its version; raises RequestError, or ServiceError for too many rows."""
        model, self.used_at = request.model, now
        most = min(self._max_rows, EXPLAIN_ROWS) if request.operation == "explain" else self._max_rows
        rows = model.contract.decode(request.body, most, now)
        return DecodedRequest(request.operation, model, self, rows, len(request.body))

    def predict(self, requests: Sequence[DecodedRequest], now: datetime) -> list[Prediction]:
        """Answers in order; raises ServiceError (503) when the log is full and the settings say that this fails requests."""
        answers: dict[int, Prediction] = {}
        for group in _by_model(requests):
            model, scores = group[0][1].model, iter(_scores([request for _, request in group]))
            for place, request in group:
                answers[place] = Prediction(request, [next(scores) for _ in request.rows.ids])
            self._record(model, [answers[place] for place, _ in group], now)
        return [answers[place] for place in range(len(requests))]

    def explain(self, request: DecodedRequest) -> Prediction:
        """Scores and contributions; an explanation is not logged."""
        matrix, model = request.rows.encoded.to_matrix(), request.model.model
        return Prediction(request, model.predict_matrix(matrix).tolist(), model.explain_matrix(matrix))

    def _record(self, model: CompiledModel, predictions: Sequence[Prediction], now: datetime) -> None:
        """One entry of the log and one count for the predictions of one version."""
        rows = [prediction.request.rows for prediction in predictions]
        batch = PredictionBatch(
            model=model.card.name,
            version=model.version,
            served_at=now,
            ids=tuple([name for some in rows for name in some.ids]),
            event_times=tuple([time for some in rows for time in some.event_times]),
            columns=model.contract.log_columns([cells for some in rows for cells in some.cells]),
            scores=tuple([tuple(one) if type(one) is list else one for answer in predictions for one in answer.scores]),
        )
        self._log.append(batch, sum(prediction.request.size for prediction in predictions))
        odd = [some.odd for some in rows if some.odd]
        self._metrics.predicted(len(batch.ids), *map(_sum, zip(*odd, strict=True)))


def _by_model(requests: Sequence[DecodedRequest]) -> Iterable[list[tuple[int, DecodedRequest]]]:
    """Requests with their places, by the version that answers them: one group but for the moment of a swap."""
    groups: dict[int, list[tuple[int, DecodedRequest]]] = {}
    for place, request in enumerate(requests):
        groups.setdefault(id(request.model), []).append((place, request))
    return groups.values()


def _scores(requests: Sequence[DecodedRequest]) -> Sequence[Any]:
    model, encoded = requests[0].model, [request.rows.encoded for request in requests]
    if all(one.matrix is None for one in encoded):
        return model.score_vectors([vector for one in encoded for vector in one.vectors])
    return [score for one in encoded for score in model.score_matrix(one.to_matrix())]


def _sum(counts: Iterable[Mapping[str, int]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for some in counts:
        total.update(some)
    return total
