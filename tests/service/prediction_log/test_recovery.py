"""Kills: what a dead process had answered is brought in or counted, by the process and files that a kill leaves."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from perennial.error_reporting import flush, init_error_reporting
from perennial.settings import load_settings
from service.prediction_log.log import PredictionLog
from service.prediction_log.progress_file import open_ledger, take_dead
from tests.service.prediction_log.test_log import arrived, batch, names, writing
from tests.support.processes import free_port, python, running
from tests.support.sentry_receiver import SentryReceiver
from tests.support.store import valkey
from tests.support.waiting import wait_until

ANSWERING = """
import sys, threading
from pathlib import Path
import service.prediction_log.log
from tests.service.prediction_log.test_log import batch
service.prediction_log.log.LINGER = service.prediction_log.log.GRACE = float(sys.argv[4] or service.prediction_log.log.LINGER)
log = service.prediction_log.log.PredictionLog(sys.argv[1], "small", Path(sys.argv[2]))
log.start()
for number in range(int(sys.argv[3])):
    log.append(batch(number))
print("answered", flush=True)
threading.Event().wait()
"""


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
    with killed(url, spool, 500, tmp_path / "out"), writing(url, spool) as witness:
        wait_until(lambda: list(spool.glob("*.spool")), 10, "a spool")
        wait_until(lambda: sum(path.stat().st_size for path in spool.glob("*.spool")) > 500 * 90, 10, "all rows in it")
        assert witness.state().spool_waiting == 0, "the owner lives"
    with writing(url, spool) as heir, valkey(tmp_path, port):
        wait_until(lambda: heir.state().replayed == 500, 20, "the spool to be brought in")
        wait_until(lambda: list(spool.glob("*.ledger")) != [] and not list(spool.glob("*.spool")), 10, "its files to go")
        assert arrived(url) == names(500)
        assert heir.state().lost == 0


def test_what_a_kill_takes_with_it_is_counted_and_reported(
    store: redis.Redis, store_url: str, tmp_path: Path, sentry: SentryReceiver
) -> None:
    init_error_reporting(load_settings({"SENTRY_DSN": sentry.dsn}), "service", model="small")
    spool = tmp_path / "spool"
    with killed(store_url, spool, 7, tmp_path / "out", linger="60"):
        pass  # the writer still waits for company: a kill in a row's first milliseconds
    with writing(store_url, spool) as heir:
        wait_until(lambda: heir.state().lost, 10, "the loss to be counted")
        assert heir.state().lost == 7
        assert len(list(spool.glob("*.ledger"))) == 1, "it is counted once"
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
    (dead,) = take_dead(spool)
    dead.kept = 0  # as if the store's answer had never been read
    dead.close()
    with writing(store_url, spool) as heir:
        wait_until(lambda: len(list(spool.glob("*.ledger"))) == 1, 10, "the dead process's ledger to be settled")
        assert heir.state().lost == 0


def test_a_ledger_is_one_process_only(tmp_path: Path) -> None:
    mine = open_ledger(tmp_path)
    mine.answered, mine.kept = 12, 5
    assert list(take_dead(tmp_path)) == []
    mine.close()
    (taken,) = take_dead(tmp_path)
    assert (taken.answered, taken.kept) == (12, 5)
    assert list(take_dead(tmp_path)) == []
    taken.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_ledger_does_not_hinder(tmp_path: Path) -> None:
    open_ledger(tmp_path).close()
    (path,) = tmp_path.iterdir()
    path.write_bytes(b"half a pa")
    (taken,) = take_dead(tmp_path)
    assert (taken.answered, taken.kept) == (0, 0)


def test_without_room_for_a_ledger_the_log_works_with_the_store_alone(store: redis.Redis, store_url: str, tmp_path: Path) -> None:
    (tmp_path / "spool").write_bytes(b"")
    log = PredictionLog(store_url, "small", tmp_path / "spool")
    log.start()
    log.append(batch(0))
    wait_until(lambda: log.state().written == 1, 10, "the row to be written")
    assert log.close(3) == 0
