"""The prediction log's writer: everything handed over arrives, in order, whatever the store does meanwhile."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import redis

from perennial.record import PredictionBatch, decode_predictions
from service.log import LogState, PredictionLog
from service.refusal import Refused, status_of
from service.stream import from_entry, predictions_stream
from tests.support.processes import free_port, running, wait_ready
from tests.support.store import answers, valkey, valkey_binary
from tests.support.waiting import wait_until

NOW = datetime(2024, 3, 1, tzinfo=UTC)


def batch(number: int) -> PredictionBatch:
    return PredictionBatch("small", 1, NOW, (f"id-{number}",), (NOW,), {"amount": (1.5,)}, (0.25,))


def arrived(url: str) -> list[str]:
    with redis.Redis.from_url(url) as store:
        entries: Any = store.xrange(predictions_stream("small"))
        return [decode_predictions(from_entry(fields)).ids[0] for _, fields in entries]


def names(count: int) -> list[str]:
    return [f"id-{number}" for number in range(count)]


@contextmanager
def writing(url: str, **options: Any) -> Iterator[PredictionLog]:
    log = PredictionLog(url, "small", **options)
    log.start()
    yield log
    log.close(3)


def test_every_batch_arrives_in_order(store: redis.Redis, store_url: str) -> None:
    with writing(store_url) as log:
        for number in range(500):
            log.append(batch(number))
        assert log.close(10) == 0
    assert arrived(store_url) == names(500)
    assert log.state() == LogState(waiting=0, waiting_bytes=0, written=500, reached=True)


def test_batches_wait_for_a_store_that_is_not_there_yet(tmp_path: Path) -> None:
    port = free_port()
    with writing(f"redis://127.0.0.1:{port}/0") as log:
        for number in range(100):
            log.append(batch(number))
        wait_until(lambda: not log.state().reached, 10, "the log to miss its store")
        assert log.state().waiting == 100
        with valkey(tmp_path, port) as url:
            wait_until(lambda: log.state().waiting == 0, 20, "the log to be written")
            assert arrived(url) == names(100)


def test_a_frozen_store_loses_nothing(tmp_path: Path) -> None:
    port = free_port()
    command = [valkey_binary(), "--bind", "127.0.0.1", "--port", str(port), "--dir", str(tmp_path), "--save", ""]
    with running(command, tmp_path / "log") as process:
        url = f"redis://127.0.0.1:{port}/0"
        wait_ready(process, lambda: answers(url), tmp_path / "log", 20, "valkey")
        with writing(url) as log:
            log.append(batch(0))
            wait_until(lambda: log.state().written == 1, 10, "the first batch to be written")
            os.kill(process.pid, signal.SIGSTOP)
            try:
                for number in range(1, 50):
                    log.append(batch(number))
                wait_until(lambda: not log.state().reached, 20, "the log to give up on one try")
            finally:
                os.kill(process.pid, signal.SIGCONT)
            wait_until(lambda: log.state().waiting == 0, 20, "the log to be written")
            # A try that timed out may have been carried out all the same: at least once, in order.
            assert list(dict.fromkeys(arrived(url))) == names(50)


def test_a_store_without_memory_takes_nothing_and_later_everything(tmp_path: Path) -> None:
    with valkey(tmp_path) as url, redis.Redis.from_url(url) as store, writing(url) as log:
        store.config_set("maxmemory", "1")
        log.append(batch(0))
        log.append(batch(1))
        wait_until(lambda: not log.state().reached, 10, "the log to be refused")
        store.config_set("maxmemory", "0")
        wait_until(lambda: log.state().waiting == 0, 20, "the log to be written")
        assert arrived(url) == names(2)


def test_a_full_log_refuses_before_it_forgets() -> None:
    with writing(f"redis://127.0.0.1:{free_port()}/0", capacity=300) as log:
        log.append(batch(0))
        log.append(batch(1))
        with pytest.raises(Refused, match="store has been away") as caught:
            log.append(batch(2))
        assert status_of(caught.value) == 503
        assert log.close(0.2) == 2


def test_the_state_is_observed_after_every_try(store_url: str, store: redis.Redis) -> None:
    seen: list[LogState] = []
    with writing(store_url, observe=seen.append) as log:
        log.append(batch(0))
        wait_until(lambda: seen, 10, "an observation")
    assert seen[-1].written == 1
