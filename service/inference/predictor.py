"""The predictor: decoded requests in, scores out, every prediction in the log before a client can see it.

A request keeps the version that was live when it came, whatever is promoted meanwhile. Requests that wait together are scored
together, and share an entry of the log for each version. Where a challenger answers a share of the rows, a request is divided
between two versions, row by row; should the challenger fail, the champion answers them all. `decode` and `predict` may be
called by two threads.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from perennial.error_reporting import report
from perennial.record import PredictionBatch
from service.decoding.row_contract import DecodedRows
from service.inference.model_watcher import AnsweringChallenger, CompiledModel
from service.metrics import ModelMetrics
from service.prediction_log.log import PredictionLog

EXPLAIN_ROWS = 1_000  # most rows of an explain request: a row costs a hundred predictions, and others wait for the worker

NEVER = datetime.min.replace(tzinfo=UTC)

Operation = Literal["predict", "explain"]

logger = logging.getLogger(__name__)


class InferenceRequest(msgspec.Struct, frozen=True, gc=False):
    """What is asked, as the client sent it, the version that was live then, and the predictor of its model.

    `trace` is the header of its trace, if it has one.
    """

    operation: Operation
    body: bytes
    model: CompiledModel
    predictor: "Predictor"
    trace: str = ""


class DecodedRequest(msgspec.Struct, frozen=True, gc=False):
    """Checked rows, and the version that answers them; `size` is the bytes of the body.

    `divided` is None where that version answers all rows.
    """

    operation: Operation
    model: CompiledModel
    predictor: "Predictor"
    rows: DecodedRows
    size: int
    trace: str = ""
    divided: "DividedRequest | None" = None


class DividedRequest(msgspec.Struct, frozen=True, gc=False):
    """A request of which the challenger answers the rows that are `chosen`; the champion has none where all are."""

    chosen: Sequence[bool]
    champion: DecodedRequest | None
    challenger: DecodedRequest


class Prediction(msgspec.Struct, frozen=True, gc=False):
    """Scores of a request's rows: a float, or a list of one for each class; contributions where they were asked for.

    Where the request was divided, `parts` has both, and `scores` is empty.
    """

    request: DecodedRequest
    scores: Sequence[Any]
    contributions: Any = None
    parts: "PredictionParts | None" = None


class PredictionParts(msgspec.Struct, frozen=True, gc=False):
    """The predictions of champion and challenger; rows that are `chosen` are the challenger's."""

    chosen: Sequence[bool]
    champion: Prediction | None
    challenger: Prediction


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
        decoded = DecodedRequest(request.operation, model, self, rows, len(request.body), request.trace)
        return decoded if model.challenger is None else self._divide(decoded, model.challenger)

    def predict(self, requests: Sequence[DecodedRequest], now: datetime) -> list[Prediction]:
        """Answers in order; raises ServiceError (503) when the log is full and the settings say that this fails requests."""
        model = requests[0].model
        if model.challenger is None and all([request.model is model for request in requests]):  # noqa: C419 - half a generator's time
            answers = _predictions(requests)
            self._record(model, answers, now)
            return answers
        if any(request.divided for request in requests):
            return self._predict_divided(requests, now)
        return self._log_answers(_answer(requests), now)

    def explain(self, request: DecodedRequest) -> Prediction:
        """Scores and contributions, by the versions that answer the rows; an explanation is not logged."""
        if request.divided is not None:
            return _joined(request, map(self.explain, _parts(request)))
        matrix, model = request.rows.encoded.to_matrix(), request.model.model
        return Prediction(request, model.predict_matrix(matrix).tolist(), model.explain_matrix(matrix))

    def _divide(self, whole: DecodedRequest, challenger: AnsweringChallenger) -> DecodedRequest:
        """The request with its rows divided by their ids; as it is where the challenger has none, or cannot encode them."""
        chosen = challenger.share.chosen(whole.rows.ids)
        if not any(chosen):
            return whole
        kept = [place for place, taken in enumerate(chosen) if not taken]
        taken = [place for place, taken in enumerate(chosen) if taken]
        try:
            champion = _part(whole, whole.model, kept) if kept else None
            return replace(whole, divided=DividedRequest(chosen, champion, _part(whole, challenger.model, taken)))
        except Exception as error:  # noqa: BLE001 - such as a function of the user's that only the challenger has
            self._challenger_failed(error, whole)
            return whole

    def _predict_divided(self, requests: Sequence[DecodedRequest], now: datetime) -> list[Prediction]:
        """`predict` where a challenger answers rows of some of them; nothing that it failed at is in the log."""
        try:
            answers = _answer([part for request in requests for part in _parts(request)])
        except Exception as error:  # noqa: BLE001 - whatever a challenger does wrong, its rows are answered
            self._challenger_failed(error, next(request for request in requests if request.divided))
            return self._log_answers(_answer([replace(request, divided=None) for request in requests]), now)
        logged = iter(self._log_answers(answers, now))
        return [_joined(request, logged) for request in requests]

    def _challenger_failed(self, error: Exception, request: DecodedRequest) -> None:
        assert request.model.challenger is not None
        card, version = request.model.card, request.model.challenger.model.version
        logger.error("version %d of %s failed as challenger, the champion answers: %s", version, card.name, type(error).__name__)
        report(error, group=("service", "challenger-failed", card.name), model=card.name, challenger=version)
        self._metrics.challenger_failed()

    def _log_answers(self, groups: Sequence[Mapping[int, Prediction]], now: datetime) -> list[Prediction]:
        """Log what `_answer` found; the answers in the order of their places."""
        for group in groups:
            predictions = [*group.values()]
            self._record(predictions[0].request.model, predictions, now)
        answers = groups[0] if len(groups) == 1 else {place: one for group in groups for place, one in group.items()}
        return [answers[place] for place in range(len(answers))]

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
            traces=tuple([prediction.request.trace for prediction in predictions if prediction.request.trace]),
        )
        self._log.append(batch, sum(prediction.request.size for prediction in predictions))
        odd = [some.odd for some in rows if some.odd]
        self._metrics.predicted(model.version, len(batch.ids), *map(_sum, zip(*odd, strict=True)))


def _parts(request: DecodedRequest) -> Iterable[DecodedRequest]:
    """What champion and challenger answer of a request; the request itself where it is not divided."""
    if (divided := request.divided) is None:
        return (request,)
    return (divided.champion, divided.challenger) if divided.champion else (divided.challenger,)


def _joined(request: DecodedRequest, answered: Iterator[Prediction]) -> Prediction:
    """The answer to a request; `answered` has those to its parts next."""
    if (divided := request.divided) is None:
        return next(answered)
    champion = next(answered) if divided.champion else None
    return Prediction(request, (), parts=PredictionParts(divided.chosen, champion, next(answered)))


def _part(whole: DecodedRequest, model: CompiledModel, places: Sequence[int]) -> DecodedRequest:
    """Some rows of a request for one version; the first part counts what the client's form had otherwise."""
    rows = whole.rows
    ids, times = [rows.ids[place] for place in places], [rows.event_times[place] for place in places]
    cells = [rows.cells[place] for place in places]
    by_form = rows.odd[2:] if rows.odd and (model is whole.model or len(places) == len(rows.ids)) else ()
    encoded = model.contract.encode(ids, times, cells, *by_form)
    size = whole.size * len(places) // len(rows.ids)
    return DecodedRequest(whole.operation, model, whole.predictor, encoded, size, whole.trace)


def _answer(requests: Sequence[DecodedRequest]) -> list[dict[int, Prediction]]:
    """Predictions by their place, those of a version together."""
    found = []
    for group in _by_model(requests):
        predictions = _predictions([request for _, request in group])
        found.append({place: one for (place, _), one in zip(group, predictions, strict=True)})
    return found


def _predictions(requests: Sequence[DecodedRequest]) -> list[Prediction]:
    """Predictions of requests that one version answers, scored together."""
    scores = iter(_scores(requests))
    return [Prediction(request, [next(scores) for _ in request.rows.ids]) for request in requests]


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
