"""The stream consumer: no entry is forgotten or lost, and what cannot be read is kept apart."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import cast

import pytest
import redis

from monitoring.archive import Archive
from monitoring.consumer import StreamConsumer
from perennial.error_reporting import init_error_reporting
from perennial.record import encode_batch
from perennial.settings import Settings
from service.prediction_log.streams import GROUP, append, dead_stream, labels_stream, predictions_stream
from tests.monitoring.streams import predicted, serve, told
from tests.support.models import small_frame, small_model
from tests.support.sentry_receiver import SentryReceiver

MODEL = small_model()
FRAME = small_frame(rows=240, seed=1)
PREDICTIONS, LABELS, DEAD = predictions_stream("small"), labels_stream("small"), dead_stream("small")


@pytest.fixture
def consumer(store: redis.Redis) -> StreamConsumer:
    consumer = StreamConsumer(store, "small")
    consumer.ensure_groups()
    return consumer


def pending(store: redis.Redis, stream: str = PREDICTIONS) -> int:
    return int(store.xpending(stream, GROUP)["pending"])


def test_a_group_created_late_starts_at_the_oldest_entry(store: redis.Redis) -> None:
    serve(store, MODEL, FRAME)
    consumer = StreamConsumer(store, "small")
    consumer.ensure_groups()
    consumer.ensure_groups()
    batch = consumer.read()
    assert (len(batch.predictions), len(batch.labels), batch.rows) == (10, 10, 480)
    assert not batch.more


def test_more_says_which_stream_has_more(store: redis.Redis, consumer: StreamConsumer) -> None:
    serve(store, MODEL, FRAME, labels=False)
    assert consumer.read(4).more == {PREDICTIONS}
    assert not consumer.read(100).more


def test_reading_waits_for_the_first_entry_and_no_longer(consumer: StreamConsumer) -> None:
    assert consumer.read(block=timedelta(milliseconds=20)).entries == 0


def test_acknowledged_entries_leave_the_stream_and_others_stay(store: redis.Redis, consumer: StreamConsumer) -> None:
    serve(store, MODEL, FRAME)
    first, second = consumer.read(4), consumer.read(100)
    consumer.acknowledge(second.predictions)
    assert store.xlen(PREDICTIONS) == 10
    consumer.acknowledge(first.predictions)
    assert store.xlen(PREDICTIONS) == 0
    assert store.xlen(LABELS) == 10
    assert (pending(store), pending(store, LABELS)) == (0, 10)


def test_undelivered_entries_are_never_trimmed(store: redis.Redis, consumer: StreamConsumer) -> None:
    serve(store, MODEL, FRAME)
    consumer.acknowledge(consumer.read(4).predictions)
    assert store.xlen(PREDICTIONS) == 6
    assert len(consumer.read().predictions) == 6


def test_what_was_delivered_and_not_acknowledged_comes_again(store: redis.Redis, consumer: StreamConsumer) -> None:
    serve(store, MODEL, FRAME)
    lost = consumer.read(7)
    successor = StreamConsumer(store, "small")
    found = successor.read_pending()
    assert [entry.id for entry in found.predictions] == [entry.id for entry in lost.predictions]
    successor.acknowledge([*found.predictions, *found.labels])
    assert successor.read_pending().entries == 0


@pytest.mark.parametrize(
    "fields",
    [
        {b"v": b"1", b"b": b"not json"},
        {b"v": b"9", b"b": b"{}"},
        {b"other": b"thing"},
        {b"v": b"1", b"b": encode_batch(predicted(small_model(), FRAME.head(1))).replace(b'"small"', b'"large"')},
    ],
)
def test_an_unreadable_entry_goes_to_the_dead_stream_with_the_reason(
    store: redis.Redis, consumer: StreamConsumer, fields: dict[bytes, bytes]
) -> None:
    id_ = store.xadd(PREDICTIONS, fields)  # type: ignore[arg-type]
    serve(store, MODEL, FRAME, labels=False)
    batch = consumer.read()
    assert (batch.entries, batch.unreadable, len(batch.predictions)) == (11, 1, 10)
    ((_, dead),) = cast("list[tuple[bytes, dict[bytes, bytes]]]", store.xrange(DEAD))
    assert (dead[b"stream"], dead[b"id"], dead[b"b"]) == (PREDICTIONS.encode(), id_, fields.get(b"b", b""))
    assert dead[b"reason"]
    assert (b"written by a newer release" in dead[b"reason"]) == (fields.get(b"v") == b"9")
    assert pending(store) == 10


def test_a_poisoned_record_is_reported_without_its_values(
    store: redis.Redis, consumer: StreamConsumer, sentry: SentryReceiver
) -> None:
    init_error_reporting(Settings(sentry_dsn=sentry.dsn), "monitor")
    append(store, PREDICTIONS, b'{"format": 1, "model": "secret"}')
    consumer.read()
    (event,) = sentry.wait_for(1)
    assert event["fingerprint"] == ["monitoring", "unreadable-entry", PREDICTIONS, "RecordError", "perennial.record._decode"]
    assert all("secret" not in body for body in sentry.bodies)


def test_a_record_that_does_not_fit_is_found_among_good_ones(
    store: redis.Redis, consumer: StreamConsumer, tmp_path: Path
) -> None:
    serve(store, MODEL, FRAME.head(48))
    batch = predicted(MODEL, FRAME.slice(48, 1))
    append(store, PREDICTIONS, encode_batch(replace(batch, columns={**batch.columns, "amount": ("text",)})))
    append(store, LABELS, encode_batch(replace(told(MODEL, FRAME.slice(48, 1)), labels=("perhaps",))))
    serve(store, MODEL, FRAME.slice(72))
    archive = Archive(tmp_path, "binary", MODEL.card.schema_)
    ingested = consumer.ingest(consumer.read(), archive)
    assert (ingested.unreadable, ingested.predictions, ingested.labels) == (2, 216, 216)
    assert store.xlen(DEAD) == 2
    assert store.xlen(PREDICTIONS) == 0


def test_a_stream_that_was_deleted_begins_anew(store: redis.Redis, consumer: StreamConsumer) -> None:
    store.delete(PREDICTIONS, LABELS)
    assert consumer.read().entries == 0
    serve(store, MODEL, FRAME)
    assert consumer.read().entries == 20
