"""Replay: a client that sends the rows of a table in event time to /predict, and their labels to /feedback when they are due.

Nothing is sent before its time, and what is counted is what a reply confirmed.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import orjson
import polars as pl

from perennial.durations import parse_duration
from perennial.errors import RequestError
from perennial.labels import codec_of, fit_texts
from perennial.log_columns import EVENT_TIME, ID, LABEL
from perennial.schema import cast_frame, infer_schema, refuse_missing
from perennial.settings import LOOPBACK, authorization
from perennial.spec import ModelSpec
from perennial.value_types import OLDEST
from tasks.data.ingest import assemble, parse_until
from tasks.job import Job
from tasks.task_defaults import local_task

STEP = timedelta(hours=1)  # event time per tick: the finest grain at which a table such as the flights is worth a request
MAX_ROWS = 5_000  # per request; half of what the service takes by default
TIMEOUT = timedelta(seconds=30)  # how long a reply may take

logger = logging.getLogger(__name__)

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Tick:
    """What happens at one moment of event time: rows asked in [clock, clock + step), labels due by `clock`."""

    clock: datetime
    rows: Rows
    labels: Rows


@dataclass(frozen=True)
class Sent:
    """What the client saw: every request, and only what a reply confirmed; times as the client's clock has them."""

    requests: int = 0
    failed: int = 0
    predictions: int = 0
    labels: int = 0
    failures: tuple[str, ...] = ()

    def __add__(self, other: "Sent") -> "Sent":
        counts = {name: getattr(self, name) + getattr(other, name) for name in ("requests", "failed", "predictions", "labels")}
        return Sent(**counts, failures=(*self.failures, *other.failures)[:20])


def prepare(table: pl.DataFrame, spec: ModelSpec) -> pl.DataFrame:
    """An assembled table as a replay needs it: `_id`, `_event_time`, `_label` and the raw inputs, in event-time order.

    Rows that the spec gives no id are numbered in that order, so that a second replay sends the same ids. Where an input is
    called `id` or `event_time`, the spec's own column of that meaning is there too.
    Raises DataError naming the columns the table does not have.
    """
    refuse_missing(table.columns, (*([spec.id] if spec.id else []), spec.event_time, spec.target, *spec.inputs))
    identity = pl.col(spec.id).cast(pl.String) if spec.id else pl.format("{}-{}", pl.lit(spec.name), pl.int_range(pl.len()))
    codec = codec_of(spec, fit_texts(spec, table[spec.target]))
    labels, refused = codec.parse_column(table[spec.target]), codec.is_refused(table[spec.target])
    if refused.any():
        examples = ", ".join(map(repr, table[spec.target].filter(refused).unique(maintain_order=True).head(3).to_list()))
        logger.warning("%d rows are asked without a label: %s is not %s", refused.sum(), examples, codec.expected)
    if untimed := table[spec.event_time].null_count():
        logger.warning("%d rows are not asked: %s holds no time there", untimed, spec.event_time)
    table = cast_frame(table, infer_schema(spec, table))  # JSON has no Decimal, and no whole number of 128 bits
    ordered = table.with_columns(labels).drop_nulls(spec.event_time).sort(spec.event_time, maintain_order=True)
    own = [identity.alias(ID), pl.col(spec.event_time).alias(EVENT_TIME), pl.col(spec.target).alias(LABEL)]
    if "id" in spec.inputs and spec.id and spec.id not in spec.inputs:
        own.append(pl.col(spec.id).cast(pl.String))
    if "event_time" in spec.inputs:
        own.append(pl.col(spec.event_time))
    return ordered.select(*own, *spec.inputs)


def ticks(
    rows: pl.DataFrame, start: datetime, until: datetime | None, label_delay: timedelta, step: timedelta = STEP
) -> Iterator[Tick]:
    """The moments of [start, until), then those at which the labels still open fall due.

    `rows` is what `prepare` returns; a row without a label is asked and never answered for.
    """
    time, due = pl.col(EVENT_TIME), pl.col(EVENT_TIME) + label_delay
    asked = rows.filter(time >= start).filter(time < until if until else pl.lit(value=True))
    known, floor = asked.select(ID, EVENT_TIME, LABEL).drop_nulls(LABEL), due.dt.truncate(step)
    questions = _by_moment(asked.drop(LABEL), time.dt.truncate(step))
    answers = _by_moment(known, pl.when(floor == due).then(floor).otherwise(floor + step))
    for clock in sorted(questions.keys() | answers.keys()):
        yield Tick(clock, questions.get(clock, []), answers.get(clock, []))


class Client(ExitStack):
    """Sends ticks to one service over one kept-alive connection; never tries again, so that nothing hides a failure."""

    def __init__(self, url: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self.total, self._given = Sent(), dict[str, str]()
        local, sent = httpx.URL(url).host in LOOPBACK, {**(headers or {}), "content-type": "application/json"}
        seconds = TIMEOUT.total_seconds()
        self._http = self.enter_context(httpx.Client(base_url=url, timeout=seconds, headers=sent, trust_env=not local))

    def send(self, tick: Tick) -> Sent:
        """Send the labels that are due, then the rows to predict; returns what was confirmed."""
        labels = [self._send_labels(part, tick.clock) for part in _parts(tick.labels)]
        rows = [self._predict(part) for part in _parts(tick.rows)]
        sent = sum((*labels, *rows), Sent())
        self.total += sent
        return sent

    def _predict(self, rows: Rows) -> Sent:
        sent, reply = self._post("/predict", {"instances": [_instance(row) for row in rows]})
        if reply is None:
            return sent
        for row, prediction in zip(rows, reply["predictions"], strict=True):
            if prediction["id"] != row[ID]:  # there is no key for it: an input is called `id`, and the spec names no other
                self._given[row[ID]] = prediction["id"]
        return sent + Sent(predictions=len(rows))

    def _send_labels(self, rows: Rows, known_at: datetime) -> Sent:
        labels = [{"id": self._given.get(row[ID], row[ID]), "label": row[LABEL], "event_time": known_at} for row in rows]
        sent, reply = self._post("/feedback", {"labels": labels})
        return sent + Sent(labels=len(rows)) if reply else sent

    def _post(self, path: str, body: dict[str, Any]) -> tuple[Sent, Any]:
        """The request counted, and the decoded reply; None where there is no good one."""
        try:
            reply = self._http.post(path, content=orjson.dumps(body))
            if reply.is_success:
                return Sent(requests=1), orjson.loads(reply.content)
            failure = f"{reply.status_code} {reply.text[:300]}"
        except httpx.HTTPError as error:
            failure = f"{type(error).__name__}: {error}"
        return Sent(requests=1, failed=1, failures=(f"POST {path}: {failure}",)), None


@local_task("replay")
def replay_table(job: Job, start: str, until: str | None, url: str, label_delay: str) -> Sent:
    """Send the job's own table from `start` to `until` at full speed; raises RequestError when a request failed."""
    rows = prepare(assemble(job.spec, job.base, job.environ).frame, job.spec)
    since = parse_until(start) or OLDEST
    with Client(url, headers=authorization(job.settings, job.spec.name)) as client:
        for tick in ticks(rows, since, parse_until(until), parse_duration(label_delay)):
            client.send(tick)
    if client.total.failed:
        raise RequestError(f"{client.total.failed} of {client.total.requests} requests failed; first: {client.total.failures[0]}")
    return client.total


def _by_moment(rows: pl.DataFrame, moment: pl.Expr) -> dict[datetime, Rows]:
    keyed = rows.with_columns(moment.alias("_moment"))
    parts: dict[Any, pl.DataFrame] = keyed.partition_by("_moment", as_dict=True, maintain_order=True, include_key=False)
    return {clock.astimezone(UTC): part.to_dicts() for (clock,), part in parts.items()}


def _parts(rows: Rows) -> Iterator[Rows]:
    return (rows[start : start + MAX_ROWS] for start in range(0, len(rows), MAX_ROWS))


def _instance(row: dict[str, Any]) -> dict[str, Any]:
    """An instance as the HTTP contract has it: `id` and `event_time`, unless an input bears that name, and the inputs."""
    inputs = {name: value for name, value in row.items() if name not in (ID, EVENT_TIME)}
    return {"id": row[ID], "event_time": row[EVENT_TIME], **inputs}
