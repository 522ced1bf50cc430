"""Inference: the way of requests through a model. One version answers a request from the first byte to the last.

The model is pinned when a request is read; nothing after that looks at which version is live. Requests that are answered
together share what they can: one entry in the log for each version, one count.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from perennial.model import Model
from perennial.record import PredictionBatch, Score
from service.answers import explanation_body, prediction_body
from service.arrow import answer_arrow, read_arrow
from service.champion import ChampionWatcher
from service.desk import Ask
from service.encoding import encode_instances
from service.layout import Layout
from service.metrics import WorkerMetrics
from service.prediction_log.log import PredictionLog
from service.refusal import unavailable
from service.requests import parse_instances
from service.rows import Row, read_rows
from service.shape import read_json
from service.table import Table, read_table

EXPLAIN_ROWS = 1_000
"""Most rows of one explain request: a row costs a hundred times its prediction, and others wait for the worker."""

FEW = 64
"""Up to this many rows are read one by one: past it, whole columns cost less."""

ONE_BY_ONE = 8
"""Up to this many rows are scored one by one: past it, one call for all of them costs less."""


class Served:
    """A model with what serving compiles from it."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.layout = Layout(model)
        self.score = model.estimator.row_scorer()

    def score_rows(self, rows: Sequence[Row]) -> list[Any]:
        """A score for each row: a float, or a list of one for each class."""
        if len(rows) <= ONE_BY_ONE:
            return [self.score(row.values) for row in rows]
        scores: list[Any] = self.model.predict_matrix(np.array([row.values for row in rows], dtype=np.float64)).tolist()
        return scores


@dataclass(frozen=True, slots=True)
class Work:
    """A checked request and the model that answers it."""

    ask: Ask
    served: Served
    rows: Sequence[Row] | Table


class Inference:
    """Answers requests with the live model, logs every prediction and counts what it saw. For one thread."""

    def __init__(self, name: str, max_rows: int, champion: ChampionWatcher, log: PredictionLog, metrics: WorkerMetrics) -> None:
        self._name = name
        self._max_rows = max_rows
        self._champion = champion
        self._log = log
        self._metrics = metrics
        self._served: Served | None = None

    def read(self, ask: Ask, now: datetime) -> Work:
        """Check a body against the live model; raises RequestError, or Refused without a model or for too many rows."""
        served = self._live()
        if ask.operation == "explain":
            return Work(ask, served, _judged(ask.body, min(self._max_rows, EXPLAIN_ROWS), served.model, now))
        if ask.arrow:
            return Work(ask, served, read_arrow(ask.body, self._max_rows, served.model, now))
        rows = self._ordinary(ask.body, served.layout, now)
        return Work(ask, served, _judged(ask.body, self._max_rows, served.model, now) if rows is None else rows)

    def predict(self, works: Sequence[Work], now: datetime) -> list[bytes]:
        """The response bodies of predict requests; a prediction is in the log before anybody sees it."""
        scores = [_scores(work) for work in works]
        few: dict[Served, tuple[list[Row], list[Any]]] = {}
        for work, own in zip(works, scores, strict=True):
            if isinstance(work.rows, Table):
                self._log.append(_batch_of_table(work.served.model, work.rows, own, now))
                continue
            rows, scored = few.setdefault(work.served, ([], []))
            rows += work.rows
            scored += own
        for served, (rows, scored) in few.items():
            self._log.append(_batch_of_rows(served, rows, scored, now))
        self._count(works)
        return [_body(work, own) for work, own in zip(works, scores, strict=True)]

    def explain(self, work: Work) -> bytes:
        """The response body of an explain request."""
        assert isinstance(work.rows, Table), "explain requests are read as tables"
        model, matrix = work.served.model, work.rows.encoded.matrix
        return explanation_body(model, work.rows.ids, model.predict_matrix(matrix), model.explain_matrix(matrix))

    def _live(self) -> Served:
        """The live model; raises Refused (503) before the first promotion."""
        live = self._champion.live
        if live is None:
            raise unavailable("no_model", f"no version of {self._name!r} has been promoted yet: train one, it is served at once")
        if self._served is None or self._served.model is not live.model:
            self._served = Served(live.model)
        return self._served

    def _ordinary(self, body: bytes, layout: Layout, now: datetime) -> Sequence[Row] | Table | None:
        """The rows of a body in which nothing is out of order; None for any other."""
        envelope = read_json(body, self._max_rows)
        rows = envelope.get("instances") if type(envelope) is dict and len(envelope) == 1 else None
        if type(rows) is not list or not 0 < len(rows) <= self._max_rows or set(map(type, rows)) != {dict}:
            return None
        return read_rows(rows, layout, now) if len(rows) <= FEW else read_table(rows, layout, now)

    def _count(self, works: Sequence[Work]) -> None:
        unknown: Counter[str] = Counter()
        nulls: Counter[str] = Counter()
        count = 0
        for work in works:
            if isinstance(work.rows, Table):
                count += len(work.rows.ids)
                unknown.update(work.rows.encoded.unknown)
                nulls.update(work.rows.encoded.nulls)
                continue
            count += len(work.rows)
            for row in work.rows:
                if row.unknown or row.nulls:
                    unknown.update(row.unknown)
                    nulls.update(row.nulls)
        self._metrics.predicted(count, unknown, nulls)


def _judged(body: bytes, max_rows: int, model: Model, now: datetime) -> Table:
    """Rows that are looked at one by one; raises RequestError or Refused naming what is wrong."""
    instances = parse_instances(body, max_rows, model.card.schema_, now)
    return Table(instances.ids, instances.event_times, encode_instances(instances, model))


def _scores(work: Work) -> list[Any]:
    if isinstance(work.rows, Table):
        scores: list[Any] = work.served.model.predict_matrix(work.rows.encoded.matrix).tolist()
        return scores
    return work.served.score_rows(work.rows)


def _body(work: Work, scores: Sequence[Any]) -> bytes:
    ids = work.rows.ids if isinstance(work.rows, Table) else [row.name for row in work.rows]
    answer = answer_arrow if work.ask.arrow_answer else prediction_body
    return answer(work.served.model, ids, scores)


def _batch_of_rows(served: Served, rows: Sequence[Row], scores: Sequence[Any], now: datetime) -> PredictionBatch:
    """One batch of all few rows that one version answered in a turn."""
    columns = dict(zip(served.layout.columns, zip(*(row.cells for row in rows), strict=True), strict=False))
    card = served.model.card
    ids, times = tuple([row.name for row in rows]), tuple([row.time for row in rows])
    return PredictionBatch(card.name, card.version, now, ids, times, columns, tuple(map(_frozen, scores)))


def _batch_of_table(model: Model, table: Table, scores: Sequence[Any], now: datetime) -> PredictionBatch:
    frozen = tuple(map(_frozen, scores))
    return PredictionBatch(model.card.name, model.card.version, now, table.ids, table.times, table.encoded.cells, frozen)


def _frozen(score: float | list[float]) -> Score:
    return tuple(score) if isinstance(score, list) else score
