"""The prediction log: everything handed over arrives once and in order, whatever the store, the disk and kills do meanwhile."""

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis

from perennial.record import PredictionBatch, decode_prediction_batch
from service.errors import ServiceError
from service.prediction_log.buffer import Buffer, Signals
from service.prediction_log.disk_queue import DiskQueue
from service.prediction_log.entries import Entry, encode_entries
from service.prediction_log.journal import Journal
from service.prediction_log.log import PredictionLog, PredictionLogs
from service.prediction_log.log_publisher import LogPublisher
from service.prediction_log.parts import LogParts
from service.prediction_log.progress_file import create_progress
from service.prediction_log.redis_client import connect
from service.prediction_log.streams import from_entry, predictions_stream
from service.prediction_log.threads import PublisherThread
from tests.support.processes import free_port
from tests.support.store import valkey
from tests.support.waiting import wait_until

NOW = datetime(2024, 3, 1, tzinfo=UTC)
SIZE = 120
"""Bytes of a batch, as a caller would estimate them."""


def batch(number: int, rows: int = 1) -> PredictionBatch:
    names = tuple(f"id-{number + row}" for row in range(rows))
    return PredictionBatch("small", 1, NOW, names, (NOW,) * rows, {"amount": (1.5,) * rows}, (0.25,) * rows)


def arrived(url: str, model: str = "small") -> list[str]:
    with redis.Redis.from_url(url) as store:
        entries: Any = store.xrange(predictions_stream(model))
        return [name for _, fields in entries for name in decode_prediction_batch(from_entry(fields)).ids]


def names(count: int, start: int = 0) -> list[str]:
    return [f"id-{number}" for number in range(start, count)]


class OneLog(PredictionLogs):
    """The logs of a process with one model; what is not theirs is that log's."""

    def __init__(self, url: str, spool: Path, **options: Any) -> None:
        super().__init__(url)
        self.log = self.add("small", spool, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.log, name)


@contextmanager
def writing(url: str, spool: Path, **options: Any) -> Iterator[OneLog]:
    log = OneLog(url, spool, **options)
    log.start()
    yield log
    log.close(timedelta(seconds=3))


@contextmanager
def frozen(port: int) -> Iterator[None]:
    """The store that listens on `port` does not answer, but takes connections and commands."""
    (server,) = (child for child in psutil.Process().children() if str(port) in " ".join(child.cmdline()))
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


def test_every_row_arrives_in_order_and_nothing_is_left_behind(store: redis.Redis, store_url: str, tmp_path: Path) -> None:
    with writing(store_url, tmp_path) as log:
        for number in range(0, 1_500, 3):
            log.append(batch(number, rows=3), SIZE)
        assert log.close(timedelta(seconds=10)) == 0
        state = log.state()
    assert arrived(store_url) == names(1_500)
    assert (state.waiting, state.waiting_bytes, state.written, state.keeper) == (0, 0, 1_500, "store")
    assert list(tmp_path.iterdir()) == []
    assert store.keys() == [predictions_stream("small").encode()]


def test_rows_go_to_the_spool_until_there_is_a_store(tmp_path: Path) -> None:
    port = free_port()
    with writing(f"redis://127.0.0.1:{port}/0", tmp_path / "spool") as log:
        for number in range(100):
            log.append(batch(number), SIZE)
        wait_until(lambda: log.state().waiting == 0, 10, "the rows to be on the disk")
        wait_until(lambda: not log.state().reached, 20, "the writer to give up on one try")
        state = log.state()
        assert (state.spooled, state.spool_waiting, state.keeper) == (100, 100, "spool")
        with valkey(tmp_path, port) as url:
            wait_until(lambda: log.state().keeper == "store", 20, "the spool to be brought in")
            assert arrived(url) == names(100)
            assert log.state().replayed == 100
            log.append(batch(100), SIZE)
            wait_until(lambda: log.state().written == 101, 10, "a row to go straight to the store")
            assert log.state().spooled == 100


def test_a_frozen_store_is_not_waited_for_and_gets_every_row_once(tmp_path: Path) -> None:
    port = free_port()
    with valkey(tmp_path, port) as url, writing(url, tmp_path / "spool") as log:
        log.append(batch(0), SIZE)
        wait_until(lambda: log.state().written == 1, 10, "the first row to be written")
        with frozen(port):
            for number in range(1, 2_000):
                log.append(batch(number), SIZE)
            wait_until(lambda: log.state().waiting == 0, 10, "the rows to be on the disk")
            wait_until(lambda: not log.state().reached, 20, "the writer to give up on one try")
            for number in range(2_000, 2_100):
                log.append(batch(number), SIZE)
            wait_until(lambda: log.state().waiting == 0, 10, "the later rows too")
        wait_until(lambda: log.state().keeper == "store", 20, "the spool to be brought in")
        # The tries that timed out were carried out when the store thawed: none of them wrote a second time.
        assert arrived(url) == names(2_100)


@pytest.mark.parametrize("away", [{"maxmemory": "1"}, {"min-replicas-to-write": "1"}], ids=["no memory", "read only"])
def test_a_store_that_takes_no_writes_gets_everything_later(tmp_path: Path, away: dict[str, str]) -> None:
    with valkey(tmp_path) as url, redis.Redis.from_url(url) as store, writing(url, tmp_path / "spool") as log:
        for name, value in away.items():
            store.config_set(name, value)
        log.append(batch(0), SIZE)
        log.append(batch(1), SIZE)
        wait_until(lambda: log.state().keeper == "spool", 10, "the log to be refused")
        for name in away:
            store.config_set(name, "0")
        wait_until(lambda: log.state().keeper == "store", 20, "the rows to be written")
        assert arrived(url) == names(2)


def test_at_the_end_the_spool_keeps_what_the_store_does_not_take_and_the_next_process_brings_it(tmp_path: Path) -> None:
    port, spool = free_port(), tmp_path / "spool"
    url = f"redis://127.0.0.1:{port}/0"
    with writing(url, spool) as log:
        for number in range(50):
            log.append(batch(number), SIZE)
        assert log.close(timedelta(seconds=3)) == 0
    with writing(url, spool) as second:
        second.append(batch(50), SIZE)
        wait_until(lambda: second.state().spool_waiting == 51, 10, "the dead process's spool to be taken over")
        with valkey(tmp_path, port):
            wait_until(lambda: second.state().keeper == "store", 20, "both spools to be brought in")
            assert sorted(arrived(url)) == sorted(names(51))
            assert (second.state().replayed, second.state().lost) == (51, 0)
            second.close(timedelta(seconds=3))
            assert list(spool.iterdir()) == []


def test_a_full_memory_goes_to_the_spool_and_nothing_is_dropped(tmp_path: Path) -> None:
    with writing(f"redis://127.0.0.1:{free_port()}/0", tmp_path, capacity=1_000) as log:
        for number in range(200):
            log.append(batch(number), SIZE)
        wait_until(lambda: log.state().spool_waiting == 200, 10, "all rows to be in the spool")
        assert log.state().dropped == 0


def test_a_store_that_comes_back_with_an_older_state_is_noticed(store: redis.Redis, store_url: str, tmp_path: Path) -> None:
    with writing(store_url, tmp_path) as log:
        log.append(batch(0, rows=10), SIZE)
        wait_until(lambda: log.state().written == 10, 10, "the rows to be written")
        (mark,) = store.scan_iter("perennial:small:written:*")
        store.set(mark, 4)  # what a server says that was restored from a copy of its past
        log.append(batch(10), SIZE)
        wait_until(lambda: log.state().written == 11, 10, "the next row to be written")
        assert log.state().lost == 6
        store.flushdb()  # emptied on purpose: nothing was lost that somebody wanted
        log.append(batch(11), SIZE)
        wait_until(lambda: log.state().written == 12, 10, "one more row to be written")
        assert (log.state().lost, arrived(store_url)) == (6, ["id-11"])


@contextmanager
def no_disk(spool: Path) -> Iterator[None]:
    """The spool's directory is gone and a file is in its place: the system refuses every write there."""
    spool.rename(spool.with_name("aside"))
    spool.write_bytes(b"")
    yield
    spool.unlink()
    spool.with_name("aside").rename(spool)


def test_without_store_and_disk_the_policy_decides(tmp_path: Path) -> None:
    url = f"redis://127.0.0.1:{free_port()}/0"
    for policy in ("count", "fail"):
        spool = tmp_path / policy
        with writing(url, spool, capacity=300, full=policy) as log:
            with no_disk(spool):
                log.append(batch(0), SIZE)
                wait_until(lambda log=log: log.state().keeper == "memory", 10, "the disk to be missed")
                log.append(batch(1), SIZE)
                if policy == "fail":
                    with pytest.raises(ServiceError, match="store and disk take nothing") as caught:
                        log.append(batch(2), SIZE)
                    assert caught.value.status == 503
                else:
                    log.append(batch(2), SIZE)
                assert log.state().dropped == (1 if policy == "count" else 0)
            wait_until(lambda log=log: log.state().spool_waiting == 2, 10, "the disk to take what waited in memory")


def test_the_state_is_observed(store_url: str, store: redis.Redis, tmp_path: Path) -> None:
    seen: list[int] = []
    with writing(store_url, tmp_path, observe=lambda state: seen.append(state.written)) as log:
        log.append(batch(0), SIZE)
        wait_until(lambda: seen and seen[-1] == 1, 10, "an observation")


def test_a_closed_log_takes_nothing(store_url: str, store: redis.Redis, tmp_path: Path) -> None:
    with writing(store_url, tmp_path) as log:
        log.close(timedelta(seconds=3))
        with pytest.raises(ServiceError, match="ending"):
            log.append(batch(0), SIZE)


def test_has_room_until_nine_tenths_of_the_capacity_wait(tmp_path: Path) -> None:
    log = OneLog(f"redis://127.0.0.1:{free_port()}/0", tmp_path, capacity=1_000)
    assert log.has_room
    log.append(batch(0), 900)
    assert log.has_room
    log.append(batch(1), 10)
    assert not log.has_room
    log.close(timedelta())


def test_several_threads_append_at_once(store: redis.Redis, store_url: str, tmp_path: Path) -> None:
    with writing(store_url, tmp_path) as log, ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: log.append(batch(number), SIZE), range(1_000)))
        # On a busy machine the disk takes what the publisher has not brought to the store in time; it is brought there later.
        wait_until(lambda: not (log.state().waiting or log.state().spool_waiting), 30, "everything to be in the store")
        assert log.close(timedelta(seconds=10)) == 0
    assert sorted(arrived(store_url)) == sorted(names(1_000))


def test_rows_that_go_to_disk_while_the_publisher_looks_are_not_skipped(
    store: redis.Redis, store_url: str, tmp_path: Path
) -> None:
    progress = create_progress(tmp_path)
    signals = Signals()
    buffer = Buffer(1_000, lambda _: None, signals, Journal(None, None, 0))

    class MovedMeanwhile(DiskQueue):
        """The disk thread moves the first row right after the publisher has found the queue empty."""

        def oldest(self, limit: int) -> list[Entry]:
            found = super().oldest(limit)
            if buffer.end == 1:
                self.write(encode_entries(buffer.oldest(1)))
                buffer.append(batch(1), SIZE, 0)
                buffer.drop(1)
            return found

    queue = MovedMeanwhile(tmp_path, progress.source)
    buffer.append(batch(0), SIZE, 0)
    parts = LogParts(buffer, queue, progress, on_change=lambda: None)
    publisher = LogPublisher(connect(store_url), store_url, "small", tmp_path, parts)
    thread = PublisherThread(connect(store_url), store_url, [publisher], signals)
    thread.start()
    wait_until(lambda: publisher.state.written == 2, 10, "both rows to be written")
    signals.stopped.set()
    signals.close()
    thread.join(10)
    assert (arrived(store_url), publisher.state.lost) == (names(2), 0)
    queue.close()
    progress.remove()


def two_logs(url: str, folder: Path) -> tuple[PredictionLogs, PredictionLog, PredictionLog]:
    logs = PredictionLogs(url)
    first, second = (logs.add(name, folder / name) for name in ("small", "other"))
    logs.start()
    return logs, first, second


def test_one_pair_of_threads_serves_every_log(store: redis.Redis, store_url: str, tmp_path: Path) -> None:
    before = threading.active_count()
    logs, first, second = two_logs(store_url, tmp_path)
    assert threading.active_count() == before + 2
    for number in range(300):
        (first, second)[number % 2].append(batch(number), SIZE)
    assert logs.close(timedelta(seconds=10)) == 0
    assert arrived(store_url) == [f"id-{number}" for number in range(0, 300, 2)]
    assert arrived(store_url, "other") == [f"id-{number}" for number in range(1, 300, 2)]
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_stream_that_refuses_one_model_s_rows_delays_no_other_s(store: redis.Redis, store_url: str, tmp_path: Path) -> None:
    store.set(predictions_stream("small"), "not a stream")
    logs, first, second = two_logs(store_url, tmp_path)
    for number in range(20):
        first.append(batch(number), SIZE)
        second.append(batch(number), SIZE)
        wait_until(lambda number=number: second.state().written == number + 1, 10, "the other's row to be in the stream")
    wait_until(lambda: first.state().keeper == "spool", 10, "the rows that are refused to be on the disk")
    store.delete(predictions_stream("small"))
    wait_until(lambda: first.state().keeper == "store", 20, "them to be brought in")
    assert (arrived(store_url), arrived(store_url, "other")) == (names(20), names(20))
    assert second.state().lost == first.state().lost == 0
    logs.close(timedelta(seconds=3))


def test_a_directory_that_refuses_one_model_s_rows_stops_no_other_s(tmp_path: Path) -> None:
    logs, first, second = two_logs(f"redis://127.0.0.1:{free_port()}/0", tmp_path)
    with no_disk(tmp_path / "small"):
        first.append(batch(0), SIZE)
        second.append(batch(0), SIZE)
        wait_until(lambda: first.state().keeper == "memory", 10, "the disk to be missed")
        wait_until(lambda: second.state().spool_waiting == 1, 10, "the other's row to be on the disk")
    wait_until(lambda: first.state().spool_waiting == 1, 10, "the disk to be found again")
    logs.close(timedelta(seconds=3))
