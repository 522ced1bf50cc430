"""The disk queue: what was committed is read back in order, whatever a kill, a full disk or a bad disk left of it."""

import resource
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from perennial.errors import NewerFormat
from service.prediction_log.disk_queue import DiskQueue
from service.prediction_log.entries import Entry
from tests.support.processes import python, running
from tests.support.waiting import wait_until

HUGE = 1 << 30


def entries(start: int, end: int, size: int = 10) -> list[Entry]:
    return [Entry(number, number + 1, str(number).encode().ljust(size)) for number in range(start, end)]


def drain(queue: DiskQueue, limit: int = HUGE) -> list[int]:
    """Read and remove everything; returns the ends in the order they came."""
    ends: list[int] = []
    while found := queue.oldest(limit):
        ends += [entry.end for entry in found]
        queue.remove_until(found[-1].end)
    return ends


def test_entries_come_back_in_order_by_as_many_bytes_as_asked_for(tmp_path: Path) -> None:
    queue = DiskQueue(tmp_path, "one")
    queue.write(entries(0, 10))
    assert queue.counts.waiting == queue.counts.written == 10
    assert queue.oldest(35) == entries(0, 3)
    assert queue.oldest(35) == entries(0, 3), "looking removes nothing"
    assert (queue.remove_until(3), queue.counts.waiting, queue.counts.removed) == (3, 7, 3)
    assert queue.oldest(1) == entries(3, 4), "one entry is always given"
    assert drain(queue) == list(range(4, 11))
    assert (queue.counts.waiting, list(tmp_path.iterdir())) == (0, [])


def test_what_the_store_has_already_is_neither_written_nor_given(tmp_path: Path) -> None:
    queue = DiskQueue(tmp_path, "one")
    queue.write(entries(0, 5))
    queue.remove_until(8)
    queue.write(entries(5, 10))
    assert queue.counts.written == 7
    assert drain(queue) == [9, 10]


def test_space_is_given_back_while_later_entries_wait(tmp_path: Path) -> None:
    queue = DiskQueue(tmp_path, "one")
    for number in range(100):
        queue.write(entries(number, number + 1, size=100_000))
    queue.remove_until(90)
    queue.close()
    (path,) = tmp_path.iterdir()
    assert path.stat().st_size < 2_000_000
    assert drain(DiskQueue(tmp_path, "one")) == list(range(91, 101))


def test_the_next_process_reads_what_is_there(tmp_path: Path) -> None:
    first, other = DiskQueue(tmp_path, "one"), DiskQueue(tmp_path, "other")
    first.write(entries(0, 20))
    other.write(entries(0, 5))
    first.close()
    other.close()
    second = DiskQueue(tmp_path, "one")
    assert second.counts.waiting == 20
    assert (second.remove_until(4), second.counts.waiting) == (4, 16)
    assert drain(second) == list(range(5, 21))
    assert [path.name for path in tmp_path.iterdir()] == ["other.db"]


WRITING = """
import sys
from pathlib import Path
from service.prediction_log.disk_queue import DiskQueue
from service.prediction_log.entries import Entry
queue = DiskQueue(Path(sys.argv[1]), "one")
for number in range(1_000_000):
    queue.write([Entry(number, number + 1, b"x" * 1_000)])
    print(number + 1, flush=True)
"""


def test_what_was_committed_before_a_kill_is_read_after_it(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with running(python("-c", WRITING, str(tmp_path)), log) as process:
        wait_until(lambda: log.read_text().count("\n") > 300 or process.poll(), 20, "some commits")
        process.kill()
        process.wait(10)
    committed = log.read_text().count("\n")
    assert drain(DiskQueue(tmp_path, "one"))[:committed] == list(range(1, committed + 1))


@pytest.mark.parametrize("start", [0, 40_960], ids=["from the first page", "in the middle"])
def test_a_damaged_file_is_set_aside_and_the_queue_goes_on(tmp_path: Path, start: int) -> None:
    queue = DiskQueue(tmp_path, "one")
    queue.write(entries(0, 300, size=1_000))
    queue.close()
    path = tmp_path / "one.db"
    content = path.read_bytes()
    path.write_bytes(content[:start] + b"?" * (len(content) - start))
    damaged = DiskQueue(tmp_path, "one")
    found = drain(damaged)
    assert found == list(range(1, len(found) + 1)), "what stands before the damage is read"
    assert len(found) < 300
    assert (damaged.counts.waiting, [file.name for file in tmp_path.iterdir()]) == (0, ["one.damaged"])
    damaged.write(entries(300, 303))
    assert drain(damaged) == [301, 302, 303]


def test_a_write_to_a_damaged_file_is_not_taken_for_done(tmp_path: Path) -> None:
    queue = DiskQueue(tmp_path, "one")
    queue.write(entries(0, 3))
    queue.close()
    late = DiskQueue(tmp_path, "two")
    (tmp_path / "two.db").write_bytes(b"?" * 10_000)
    with pytest.raises(OSError, match="set aside"):
        late.write(entries(0, 3))
    late.write(entries(0, 3))
    assert drain(late) == [1, 2, 3]


def test_a_file_of_a_newer_release_is_left_alone(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "one.db")) as database:
        database.execute("PRAGMA user_version=2")
    with pytest.raises(NewerFormat, match=r"one\.db was written by a newer release"):
        DiskQueue(tmp_path, "one")


@contextmanager
def disk_of(size: int) -> Iterator[None]:
    """The system lets no file of this process grow beyond `size` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_write_that_finds_no_room_leaves_nothing_of_itself(tmp_path: Path) -> None:
    queue = DiskQueue(tmp_path, "one")
    queue.write(entries(0, 3))
    with disk_of(100_000), pytest.raises(OSError, match=r"one\.db: (database or disk is full|disk I/O error)"):
        queue.write(entries(3, 20, size=100_000))
    assert queue.counts.waiting == 3
    queue.write(entries(3, 5))
    assert drain(queue) == [1, 2, 3, 4, 5]


def test_a_full_disk_does_not_keep_the_queue_from_being_emptied(tmp_path: Path) -> None:
    queue = DiskQueue(tmp_path, "one")
    queue.write(entries(0, 10, size=10_000))
    with disk_of(1):
        assert drain(queue, limit=10_000) == list(range(1, 11))
    assert (queue.counts.waiting, queue.counts.removed, list(tmp_path.iterdir())) == (0, 10, [])
