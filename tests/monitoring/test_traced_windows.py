"""A traced request: its answer, its archiving and its window are steps of one trace, with nothing of its rows in them."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import redis

from monitoring.traced_windows import FILE
from perennial.error_reporting import flush, init_error_reporting
from perennial.record import encode_batch
from perennial.registry import Registry
from perennial.settings import Settings, load_settings
from perennial.tracing import begin_trace, continue_trace
from service.prediction_log.streams import append, predictions_stream
from tests.monitoring.running import LATER, MODEL, NOWHERE, WEEK, home, run, weeks
from tests.monitoring.streams import predicted, serve
from tests.service.serving import serving
from tests.support.models import instances, publish_small
from tests.support.prefect_server import pointed_at
from tests.support.sentry_receiver import SentryReceiver
from tests.support.waiting import wait_until

SECRET = "henrietta-quill"


def steps(sentry: SentryReceiver) -> list[dict[str, Any]]:
    return [payload for kind, payload in sentry.items if kind == "transaction"]


def traced(store_url: str, directory: Path, sentry: SentryReceiver) -> Settings:
    environ = {"SENTRY_DSN": sentry.dsn, "REDIS_URL": store_url, "PERENNIAL_HOME": str(directory)}
    settings = load_settings(environ)
    init_error_reporting(settings, "monitoring")
    return settings


def request_rows() -> list[dict[str, Any]]:
    """Two days of rows that a client asks about by a person's name."""
    frame = weeks(1).filter(pl.col("asked_at") < LATER + timedelta(days=2))
    return [{**row, "id": f"{SECRET}-{number}"} for number, row in enumerate(instances(frame))]


def test_a_request_is_one_trace_from_the_answer_to_its_window(
    tmp_path: Path, store: redis.Redis, store_url: str, sentry: SentryReceiver
) -> None:
    publish_small(Registry(str(tmp_path / "registry")), MODEL)
    with serving(tmp_path, store_url, sentry_dsn=sentry.dsn, perennial_traces_sample_rate="1") as service:
        assert service.predict(request_rows()).status_code == 200
        (record,) = wait_until(service.logged, 20, "the record")
        wait_until(lambda: steps(sentry), 20, "the request's step")
    settings = traced(store_url, tmp_path, sentry)
    with pointed_at(NOWHERE):
        assert run(settings).windows == 0  # this run archives, another one closes
        serve(store, MODEL, weeks(1).filter(pl.col("asked_at") >= LATER + timedelta(days=2)))
        assert run(settings).windows == 1
    flush()
    answered, archived, closed = wait_until(lambda: steps(sentry) if len(steps(sentry)) > 2 else None, 20, "three steps")
    assert [one["transaction"] for one in (answered, archived, closed)] == ["/predict", "archive predictions", "close window"]
    ids = [one["contexts"]["trace"] for one in (answered, archived, closed)]
    assert {one["trace_id"] for one in ids} == {record.traces[0].partition("-")[0]}
    assert [one.get("parent_span_id") for one in ids] == [None, ids[0]["span_id"], ids[1]["span_id"]]
    assert (ids[0]["status"], closed["tags"]["model"], closed["tags"]["component"]) == ("ok", "small", "monitoring")
    assert closed["timestamp"] >= closed["start_timestamp"] >= archived["timestamp"]
    assert not any(word in body for body in sentry.bodies for word in (SECRET, "127.0.0.1:8", "instances"))


def test_a_window_is_traced_once_and_a_damaged_file_holds_nothing_up(
    tmp_path: Path, store: redis.Redis, store_url: str, sentry: SentryReceiver
) -> None:
    publish_small(Registry(str(tmp_path / "registry")), MODEL)
    settings = traced(store_url, tmp_path, sentry)
    with begin_trace("/predict", 1.0, lambda: 0.5) as step:
        header = step.header
    for batch in weeks(2).iter_slices(WEEK):
        record = predicted(MODEL, batch)
        traces = (header, "no header", f"{header[:-1]}0")  # the others are no trace that is sent
        append(store, predictions_stream("small"), encode_batch(replace(record, traces=traces)))
    path = home(settings) / FILE
    path.parent.mkdir(parents=True)
    path.write_text("{")
    with pointed_at(NOWHERE):
        assert run(settings).windows == 2
    flush()
    names = [one["transaction"] for one in steps(sentry)]
    assert sorted(names) == ["/predict", *["archive predictions"] * 3, *["close window"] * 2]
    assert "20" in path.read_text(), "the trace of the window that is open"


@pytest.mark.parametrize(
    ("rate", "drawn", "sent"), [(0.0, 0.0, False), (0.25, 0.25, False), (0.25, 0.2, True), (1.0, 0.99, True)]
)
def test_the_rate_says_which_requests_are_traced(sentry: SentryReceiver, rate: float, drawn: float, sent: bool) -> None:
    init_error_reporting(load_settings({"SENTRY_DSN": sentry.dsn}), "service")
    with begin_trace("/predict", rate, lambda: drawn) as step:
        step.answered(422)
    flush()
    assert (bool(step.header), len(steps(sentry))) == (sent, int(sent))
    if sent:
        assert steps(sentry)[0]["contexts"]["trace"]["status"] == "invalid_argument"


def test_without_sentry_nothing_is_handed_on_that_anyone_sends(sentry: SentryReceiver) -> None:
    with continue_trace("", "close window", "task") as step:
        assert step.header == ""
    assert not sentry.items
