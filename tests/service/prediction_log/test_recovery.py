"""Kills: what a dead process had answered is brought in or counted, by the process and files that a kill leaves."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
import redis

from perennial.error_reporting import flush, init_error_reporting
from perennial.errors import NewerFormat
from perennial.settings import load_settings
from service.prediction_log.progress_file import ProgressFile, create_progress, take_over
from tests.service.prediction_log.test_log import SIZE, OneLog, arrived, batch, names, writing
from tests.support.processes import free_port, python, running
from tests.support.sentry_receiver import SentryReceiver
from tests.support.store import valkey
from tests.support.waiting import wait_until

ANSWERING = """
import sys, threading
from datetime import timedelta
from pathlib import Path
from service.prediction_log import log, spooler, threads
from tests.service.prediction_log.test_log import SIZE, batch
if sys.argv[4]:
    threads.LINGER = threads.LONGEST_LINGER = threads.GRACE = spooler.GRACE = timedelta(seconds=float(sys.argv[4]))
logs = log.PredictionLogs(sys.argv[1])
log = logs.add("small", Path(sys.argv[2]))
logs.start()
for number in range(int(sys.argv[3])):
    log.append(batch(number), SIZE)
print("answered", flush=True)
while not threading.Event().wait(0.05):
    print(log.state().spooled, "spooled", flush=True)
"""


def dead_ones(directory: Path) -> list[ProgressFile]:
    """The progress files of dead processes, taken over."""
    return [found for path in sorted(directory.glob("*.progress")) if (found := take_over(path)) is not None]


@contextmanager
def killed(url: str, spool: Path, count: int, log: Path, linger: str = "") -> Iterator[None]:
    """A process that hands `count` rows to its log and is killed in the block's place."""
    with running(python("-c", ANSWERING, url, str(spool), str(count), linger), log) as process:
        wait_until(lambda: "answered" in log.read_text() or process.poll(), 20, "the rows to be answered")
        yield
        process.kill()
        assert process.wait(10) == -signal.SIGKILL


def test_the_spool_of_a_killed_process_is_brought_in_by_the_next(tmp_path: Path) -> None:
    port, spool = free_port(), tmp_path / "spool"
    url = f"redis://127.0.0.1:{port}/0"
    log = tmp_path / "out"
    with killed(url, spool, 500, log), writing(url, spool) as witness:
        wait_until(lambda: log.read_text().endswith("\n500 spooled\n"), 10, "all rows in its disk queue")
        assert witness.state().spool_waiting == 0, "the owner lives"
    with writing(url, spool) as successor, valkey(tmp_path, port):
        wait_until(lambda: successor.state().replayed == 500, 20, "the spool to be brought in")
        wait_until(lambda: list(spool.glob("*.progress")) != [] and not list(spool.glob("*.db")), 10, "its files to go")
        assert arrived(url) == names(500)
        assert successor.state().lost == 0


def test_a_kill_in_a_rows_first_milliseconds_takes_nothing_along(store: redis.Redis, store_url: str, tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    with killed(store_url, spool, 300, tmp_path / "out", linger="60"):
        assert arrived(store_url) == []  # the writer still waits for company
    with writing(store_url, spool) as successor:
        wait_until(lambda: len(list(spool.glob("*.progress"))) == 1, 10, "the dead process's progress file to be settled")
        assert (successor.state().replayed, successor.state().lost) == (300, 0)
        assert len(list(spool.glob("*.journal"))) == 1
    assert arrived(store_url) == names(300)
    assert list(spool.iterdir()) == []


def test_what_a_kill_takes_with_it_is_counted_and_reported(
    store: redis.Redis, store_url: str, tmp_path: Path, sentry: SentryReceiver
) -> None:
    init_error_reporting(load_settings({"SENTRY_DSN": sentry.dsn}), "service", model="small")
    spool = tmp_path / "spool"
    with killed(store_url, spool, 7, tmp_path / "out", linger="60"):
        pass  # the writer still waits for company: a kill in a row's first milliseconds
    (journal,) = spool.glob("*.journal")
    journal.unlink()  # as where the disk had no room for it
    with writing(store_url, spool) as successor:
        wait_until(lambda: successor.state().lost, 10, "the loss to be counted")
        assert successor.state().lost == 7
        assert len(list(spool.glob("*.progress"))) == 1, "it is counted once"
    assert arrived(store_url) == []
    flush()
    (event,) = sentry.wait_for(1)
    (exception,) = event["exception"]["values"]
    assert exception["type"] == "PredictionsLost"
    assert "up to 7 answered predictions of small are in no log" in exception["value"]


def test_a_kill_before_the_stores_answer_is_noted_counts_nothing(store: redis.Redis, store_url: str, tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    with killed(store_url, spool, 300, tmp_path / "out"):
        wait_until(lambda: len(arrived(store_url)) == 300, 10, "all rows in the stream")
    (dead,) = dead_ones(spool)
    dead.stored = 0  # as if the store's answer had never been read
    dead.close()
    with writing(store_url, spool) as successor:
        wait_until(lambda: len(list(spool.glob("*.progress"))) == 1, 10, "the dead process's progress file to be settled")
        assert successor.state().lost == 0


def test_a_progress_file_is_one_process_only(tmp_path: Path) -> None:
    mine = create_progress(tmp_path)
    mine.answered, mine.stored = 12, 5
    assert dead_ones(tmp_path) == []
    mine.close()
    (taken,) = dead_ones(tmp_path)
    assert (taken.answered, taken.stored) == (12, 5)
    assert dead_ones(tmp_path) == []
    taken.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_progress_file_does_not_hinder(tmp_path: Path) -> None:
    create_progress(tmp_path).close()
    (path,) = tmp_path.iterdir()
    path.write_bytes(b"half a pa")
    (taken,) = dead_ones(tmp_path)
    assert (taken.answered, taken.stored) == (0, 0)


def test_what_a_damaged_disk_queue_held_is_counted_as_lost(tmp_path: Path) -> None:
    port, spool = free_port(), tmp_path / "spool"
    with writing(f"redis://127.0.0.1:{port}/0", spool) as log:
        log.append(batch(0, rows=30), SIZE)
        wait_until(lambda: log.state().spool_waiting == 30, 10, "the rows to be on disk")
    (queue,) = spool.glob("*.db")
    queue.write_bytes(b"?" * 10_000)
    with valkey(tmp_path, port) as url, writing(url, spool) as successor:
        wait_until(lambda: successor.state().lost, 10, "the loss to be counted")
        assert (successor.state().lost, successor.state().replayed, arrived(url)) == (30, 0, [])
    assert [path.suffix for path in spool.iterdir()] == [".damaged"]


def test_a_progress_file_of_a_newer_release_is_left_to_it(store: redis.Redis, store_url: str, tmp_path: Path) -> None:
    create_progress(tmp_path).close()
    (path,) = tmp_path.iterdir()
    content = bytearray(path.read_bytes())
    content[8] = 2
    path.write_bytes(content)
    with pytest.raises(NewerFormat, match="written by a newer release"):
        take_over(path)
    with writing(store_url, tmp_path) as log:
        log.append(batch(0), SIZE)
        wait_until(lambda: log.state().written == 1, 10, "the log to work beside it")
    assert path.read_bytes() == bytes(content)


def test_without_room_for_a_progress_file_the_log_works_with_the_store_alone(
    store: redis.Redis, store_url: str, tmp_path: Path
) -> None:
    (tmp_path / "spool").write_bytes(b"")
    log = OneLog(store_url, tmp_path / "spool")
    log.start()
    log.append(batch(0), SIZE)
    wait_until(lambda: log.state().written == 1, 10, "the row to be written")
    assert log.close(timedelta(seconds=3)) == 0
