"""The spool: what was written is read back in order, whatever a kill, a full disk or a bad disk left of it."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from service.prediction_log.buffer import Entry
from service.prediction_log.disk_queue import Spool

HUGE = 1 << 30


def entries(start: int, end: int, size: int = 10) -> list[Entry]:
    return [Entry(number, number + 1, str(number).encode().ljust(size)) for number in range(start, end)]


def read(spool: Spool, limit: int = HUGE) -> list[int]:
    """Read and forget everything; returns the ends in the order they came."""
    ends: list[int] = []
    while found := spool.oldest(limit):
        ends += [entry.end for entry in found]
        spool.forget(found[-1].end)
    return ends


def test_entries_come_back_in_order_by_as_many_bytes_as_asked_for(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "one")
    assert spool.write(entries(0, 10)) == 10
    assert spool.oldest(35) == entries(0, 3)
    assert spool.oldest(35) == entries(0, 3), "looking forgets nothing"
    assert (spool.forget(3), spool.waiting) == (3, 7)
    assert spool.oldest(1) == entries(3, 4), "one entry is always given"
    assert read(spool) == list(range(4, 11))
    assert (spool.waiting, list(tmp_path.iterdir())) == (0, [])


def test_what_the_store_has_already_is_neither_written_nor_given(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "one")
    spool.write(entries(0, 5))
    spool.forget(8)
    assert spool.write(entries(5, 10)) == 2
    assert read(spool) == [9, 10]


def test_used_segments_are_given_back_while_later_ones_wait(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "one", segment=100)
    for number in range(20):
        spool.write(entries(number, number + 1, size=50))
    segments = len(list(tmp_path.iterdir()))
    spool.forget(10)
    assert spool.oldest(1) == entries(10, 11, size=50)
    assert len(list(tmp_path.iterdir())) == segments / 2
    assert read(spool) == list(range(11, 21))


def test_the_next_process_reads_what_is_there(tmp_path: Path) -> None:
    first = Spool(tmp_path, "one", segment=100)
    first.write(entries(0, 20))
    Spool(tmp_path, "other").write(entries(0, 5))
    first.close()
    second = Spool(tmp_path, "one")
    assert second.waiting == 20
    second.forget(4)
    assert (second.waiting, read(second)) == (16, list(range(5, 21)))
    second.remove()
    assert [path.name for path in tmp_path.iterdir()] == ["other.000000.spool"]


@pytest.mark.parametrize("cut", [1, 15, 29, 38])
def test_a_frame_that_a_kill_cut_short_is_the_end(tmp_path: Path, cut: int) -> None:
    Spool(tmp_path, "one").write(entries(0, 3))
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-cut])
    spool = Spool(tmp_path, "one")
    assert spool.waiting == 2
    assert read(spool) == [1, 2]


def test_a_damaged_segment_is_set_aside_and_the_next_one_is_read(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "one", segment=1)
    for number in range(3):
        spool.write(entries(number, number + 1))
    spool.close()
    second = sorted(tmp_path.iterdir())[1]
    second.write_bytes(second.read_bytes()[:-1] + b"?")
    assert read(Spool(tmp_path, "one")) == [1, 3]
    assert [path.name for path in tmp_path.glob("*.broken")] == ["one.000001.broken"]


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
    spool = Spool(tmp_path, "one")
    spool.write(entries(0, 3))
    with disk_of(200), pytest.raises(OSError, match="too large"):
        spool.write(entries(3, 20))
    assert spool.waiting == 3
    spool.write(entries(3, 5))
    assert read(spool) == [1, 2, 3, 4, 5]
