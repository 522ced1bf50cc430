"""The journal: what is in memory is found by another process, as far as it went, and a disk without room only loses that."""

import logging
import os
from pathlib import Path

import pytest

from perennial.base import FORMAT
from perennial.errors import NewerFormat
from service.prediction_log.entries import Entry
from service.prediction_log.journal import PAGE, SUFFIX, Journal, create_journal, read_journal
from service.prediction_log.recovery import first_run

SIZE = PAGE


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return create_journal(tmp_path, "source", SIZE)


def found(directory: Path) -> list[Entry]:
    return read_journal(directory / f"source{SUFFIX}")


def test_what_was_appended_is_found_without_the_process_having_closed_anything(journal: Journal, tmp_path: Path):
    assert journal.append(0, 2, b"two rows")
    assert journal.append(2, 3, b"one")
    assert found(tmp_path) == [Entry(0, 2, b"two rows"), Entry(2, 3, b"one")]


def test_what_is_safe_elsewhere_is_found_no_more(journal: Journal, tmp_path: Path):
    for number in range(4):
        journal.append(number, number + 1, b"row")
    journal.drop(3)
    assert found(tmp_path) == [Entry(3, 4, b"row")]
    journal.drop(4)
    assert found(tmp_path) == []


def test_the_ring_begins_again_as_often_as_it_is_full_and_keeps_what_is_not_safe_yet(journal: Journal, tmp_path: Path):
    for number in range(1_000):
        payload = b"%d" % number * (number % 90 + 1)
        while not journal.append(number, number + 1, payload):
            journal.drop(found(tmp_path)[0].end)
        last = found(tmp_path)[-1]
        assert (last.end, last.payload) == (number + 1, payload)
    kept = found(tmp_path)
    assert [entry.start for entry in kept] == list(range(kept[0].start, 1_000))
    assert len(kept) > 1


def test_what_does_not_fit_is_in_memory_alone(journal: Journal, tmp_path: Path):
    taken = [journal.append(number, number + 1, bytes(journal.limit)) for number in range(5)]
    assert taken == [True, True, True, False, False]
    assert len(found(tmp_path)) == 3


def test_a_journal_that_is_removed_or_never_was_has_nothing(journal: Journal, tmp_path: Path):
    journal.append(0, 1, b"row")
    journal.remove()
    assert list(tmp_path.iterdir()) == found(tmp_path) == []
    assert not journal.append(1, 2, b"row")


def test_a_disk_without_room_costs_the_journal_only(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING):
        journal = create_journal(tmp_path / "nowhere", "source", SIZE)
    assert "no journal in" in caplog.text
    assert (journal.append(0, 1, b"row"), journal.limit) == (False, 0)
    journal.drop(1)
    journal.remove()


@pytest.mark.parametrize("damage", [b"", b"garbage" * 1_000, b"journal\0"])
def test_a_damaged_journal_gives_nothing(tmp_path: Path, damage: bytes):
    (tmp_path / f"source{SUFFIX}").write_bytes(damage)
    assert found(tmp_path) == []


def test_a_record_that_is_damaged_costs_it_and_what_follows(journal: Journal, tmp_path: Path):
    journal.append(0, 1, b"whole")
    journal.append(1, 2, b"damaged")
    with (tmp_path / f"source{SUFFIX}").open("r+b") as file:
        os.pwrite(file.fileno(), b"\xff" * 8, PAGE + 32)
    assert found(tmp_path) == [Entry(0, 1, b"whole")]


def test_a_newer_format_is_refused_by_name(journal: Journal, tmp_path: Path):
    path = tmp_path / f"source{SUFFIX}"
    with path.open("r+b") as file:
        os.pwrite(file.fileno(), (FORMAT + 1).to_bytes(8, "little"), 8)
    with pytest.raises(NewerFormat, match=str(path)):
        read_journal(path)


def test_only_what_follows_without_a_gap_is_published_at_once():
    entries = [Entry(0, 2, b"a"), Entry(2, 3, b"b"), Entry(7, 9, b"c")]
    assert first_run(entries, 0) == entries[:2]
    assert first_run(entries, 2) == entries[1:2]
    assert first_run(entries, 3) == entries[2:]
    assert first_run(entries, 9) == []
