"""Replay: what is sent when, and what is counted; the service's side is a real HTTP server that writes down what it got."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from perennial.errors import DataError, RequestError
from perennial.log_columns import EVENT_TIME, ID
from perennial.spec import ModelSpec
from tasks.job import Job, load_job
from tasks.serving.replay import Client, Sent, Tick, prepare, replay_table, ticks
from tests.support.http_server import QuietHandler, http_server

DAY = timedelta(days=1)
NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)

SPEC = ModelSpec.model_validate(
    {
        "name": "toy",
        "task": "binary",
        "target": "late",
        "event_time": "at",
        "id": "key",
        "sources": {"rows": {"path": "rows.csv"}},
        "features": {"x": "numeric", "colour": "categorical"},
    }
)


def a_table() -> pl.DataFrame:
    """Five rows out of order, 20 minutes to 26 hours after noon; row d was cancelled and has no label."""
    minutes = {"b": 40, "a": 20, "c": 65, "e": 26 * 60, "d": 70}
    return pl.DataFrame(
        {
            "key": list(minutes),
            "at": [NOON + timedelta(minutes=after) for after in minutes.values()],
            "x": [1.0, 2.0, 3.0, None, 5.0],
            "colour": ["red", "red", None, "blue", "red"],
            "late": [1, 0, 1, 0, None],
            "unused": [0] * 5,
        },
        schema_overrides={"at": pl.Datetime("us", "UTC")},
    )


class Received:
    """What reached the server, in order; it answers /predict and /feedback as the service does, or with `status`."""

    def __init__(self, status: int = 200) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.status = status

    def answer(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        self.calls.append((path, body))
        return {"predictions": [{"id": row["id"]} for row in body.get("instances", ())], "detail": "not today"}


@contextmanager
def service(received: Received) -> Iterator[str]:
    class Handler(QuietHandler):
        def do_POST(self) -> None:  # noqa: N802 - the base class's name
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            reply = json.dumps(received.answer(self.path, body)).encode()
            self.send_response(received.status)
            self.send_header("content-length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

    with http_server(Handler) as url:
        yield url


def test_rows_are_asked_in_the_order_of_their_time_and_labels_are_told_a_day_later() -> None:
    story = [
        (tick.clock, [row[ID] for row in tick.rows], [row[ID] for row in tick.labels])
        for tick in ticks(prepare(a_table(), SPEC), NOON, None, DAY)
    ]
    hour = timedelta(hours=1)
    assert story == [
        (NOON, ["a", "b"], []),
        (NOON + hour, ["c", "d"], []),
        (NOON + DAY + hour, [], ["a", "b"]),
        (NOON + DAY + 2 * hour, ["e"], ["c"]),
        (NOON + 2 * DAY + 2 * hour, [], ["e"]),
    ]


def test_no_label_is_told_before_its_time() -> None:
    rows = prepare(a_table(), SPEC)
    times = dict(rows.select(ID, EVENT_TIME).iter_rows())
    for tick in ticks(rows, NOON, None, DAY, timedelta(minutes=45)):
        assert all(times[row[ID]] + DAY <= tick.clock for row in tick.labels)


def test_rows_outside_the_stretch_are_neither_asked_nor_answered_for() -> None:
    story = list(ticks(prepare(a_table(), SPEC), NOON + timedelta(minutes=30), NOON + timedelta(hours=2), DAY))
    assert [row[ID] for tick in story for row in tick.rows] == ["b", "c", "d"]
    assert [row[ID] for tick in story for row in tick.labels] == ["b", "c"]


def test_a_replay_ticks_in_utc_wherever_it_runs() -> None:
    assert all(tick.clock.utcoffset() == timedelta(0) for tick in ticks(prepare(a_table(), SPEC), NOON, None, DAY))


def test_rows_without_an_id_are_numbered_the_same_way_each_time() -> None:
    nameless = SPEC.model_copy(update={"id": None})
    assert prepare(a_table(), nameless)[ID].to_list() == [f"toy-{row}" for row in range(5)]
    assert prepare(a_table(), nameless).equals(prepare(a_table().sample(fraction=1, shuffle=True, seed=1), nameless))


def test_rows_without_a_time_are_not_asked_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    at = pl.when(pl.col("key") == "b").then(None).otherwise(pl.col(SPEC.event_time)).alias(SPEC.event_time)
    assert "b" not in prepare(a_table().with_columns(at), SPEC)[ID]
    assert f"1 rows are not asked: {SPEC.event_time} holds no time there" in caplog.text


def test_a_table_without_an_input_is_refused_by_name() -> None:
    with pytest.raises(DataError, match="no column 'colour'; the table has key, at"):
        prepare(a_table().drop("colour"), SPEC)


def test_an_instance_carries_the_inputs_its_id_and_its_time_and_nothing_of_the_label() -> None:
    received = Received()
    with service(received) as url, Client(url) as client:
        client.send(next(iter(ticks(prepare(a_table(), SPEC), NOON, None, DAY))))
    path, body = received.calls[0]
    assert path == "/predict"
    assert body["instances"][0] == {"x": 2.0, "colour": "red", "id": "a", "event_time": "2024-05-01T12:20:00+00:00"}


def test_labels_are_told_before_the_next_rows_are_asked() -> None:
    received = Received()
    with service(received) as url, Client(url) as client:
        for tick in ticks(prepare(a_table(), SPEC), NOON, None, DAY):
            client.send(tick)
    assert [path for path, _ in received.calls] == ["/predict", "/predict", "/feedback", "/feedback", "/predict", "/feedback"]
    assert received.calls[3][1] == {"labels": [{"id": "c", "label": 1, "event_time": "2024-05-02T14:00:00+00:00"}]}


def test_only_what_a_reply_confirms_is_counted() -> None:
    received = Received()
    with service(received) as url, Client(url) as client:
        for tick in ticks(prepare(a_table(), SPEC), NOON, None, DAY):
            client.send(tick)
        assert client.total == Sent(requests=6, failed=0, predictions=5, labels=4)


def test_a_refused_request_is_counted_as_failed_with_its_reason_and_not_sent_again() -> None:
    received = Received(status=503)
    with service(received) as url, Client(url) as client:
        client.send(Tick(NOON, [{ID: "a", EVENT_TIME: NOON, "x": 1.0}], []))
    assert client.total.requests == client.total.failed == len(received.calls) == 1
    assert client.total.predictions == 0
    assert client.total.failures == ('POST /predict: 503 {"predictions": [{"id": "a"}], "detail": "not today"}',)


def test_a_service_that_is_gone_is_a_failed_request() -> None:
    with service(Received()) as url:
        pass
    with Client(url) as client:
        sent = client.send(Tick(NOON, [{ID: "a", EVENT_TIME: NOON, "x": 1.0}], []))
    assert (sent.requests, sent.failed) == (1, 1)
    assert sent.failures[0].startswith("POST /predict: ConnectError")


TOML = """
name = "toy"
task = "binary"
target = "late"
event_time = "at"
id = "key"
[sources.rows]
path = "rows.parquet"
[features]
x = "numeric"
colour = "categorical"
"""


def a_job(directory: Path) -> Job:
    """The same table, as a spec finds it."""
    a_table().write_parquet(directory / "rows.parquet")
    (directory / "toy.toml").write_text(TOML)
    return load_job(directory / "toy.toml", {}, NOON)


def test_a_stretch_of_a_specs_own_table_is_lived_through(tmp_path: Path) -> None:
    received = Received()
    with service(received) as url:
        sent = replay_table.fn(a_job(tmp_path), "2024-05-01", "2024-05-02", url, "12h")
    assert sent == Sent(requests=4, predictions=4, labels=3)
    assert [path for path, _ in received.calls] == ["/predict", "/predict", "/feedback", "/feedback"]


def test_a_replay_that_was_refused_fails_with_the_first_reason(tmp_path: Path) -> None:
    with service(Received(503)) as url, pytest.raises(RequestError, match="4 of 4 requests failed; first: POST /predict: 503"):
        replay_table.fn(a_job(tmp_path), "2024-05-01", "2024-05-02", url, "12h")
