"""Receipts: acknowledged, then settled by the first outcome; nothing about them may hold the monitor up."""

from datetime import timedelta
from pathlib import Path

import pytest

from monitoring import receipts
from monitoring.receipts import Outcome, is_acknowledged, is_settled, read_receipt, receipt_path
from perennial.errors import ArchiveError
from tests.monitoring.room import no_room
from tests.support.models import START

ID = "6ba7b810-9dad-51d1-80b4-00c04fd430c8"
LATER = START + timedelta(hours=1)


def test_a_request_is_acknowledged_and_then_settled(tmp_path: Path) -> None:
    assert not is_acknowledged(tmp_path, ID)
    receipts.acknowledge(tmp_path, ID, START, "run-1")
    assert is_acknowledged(tmp_path, ID)
    assert not is_settled(tmp_path, ID)
    receipts.record_outcome(tmp_path, ID, "promoted", LATER, "run-1")
    assert is_settled(tmp_path, ID)
    receipt = read_receipt(tmp_path, ID)
    assert receipt is not None
    assert receipt.model_dump(mode="json") == {
        "format": 1,
        "event_id": ID,
        "state": "settled",
        "at": "2024-01-01T01:00:00Z",
        "flow_run": "run-1",
        "outcome": "promoted",
        "reason": "",
    }


@pytest.mark.parametrize(
    ("first", "second", "stands"),
    [("held", "declined", "held"), ("promoted", "failed", "promoted"), ("failed", "promoted", "promoted")],
)
def test_the_first_outcome_stands_but_a_failure_may_be_made_good(
    tmp_path: Path, first: Outcome, second: Outcome, stands: str
) -> None:
    for outcome in (first, second):
        receipts.acknowledge(tmp_path, ID, START)
        receipts.record_outcome(tmp_path, ID, outcome, START)
    receipt = read_receipt(tmp_path, ID)
    assert receipt is not None
    assert receipt.outcome == stands


def test_a_receipt_that_cannot_be_read_is_one_of_a_request_that_is_not_settled(tmp_path: Path) -> None:
    receipts.record_outcome(tmp_path, ID, "held", START)
    receipt_path(tmp_path, ID).write_text("{")
    assert is_acknowledged(tmp_path, ID)
    assert not is_settled(tmp_path, ID)


def test_a_receipt_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "requests").write_text("a file where a folder should be")
    with pytest.raises(ArchiveError, match=rf"{ID}\.json cannot be written"):
        receipts.acknowledge(tmp_path, ID, START)
    with pytest.raises(ArchiveError, match=rf"{ID}\.json cannot be written"):
        receipts.record_outcome(tmp_path, ID, "held", START)


def test_on_a_full_disk_the_old_receipt_stays(tmp_path: Path) -> None:
    receipts.acknowledge(tmp_path, ID, START)
    with no_room(), pytest.raises(ArchiveError, match="free space"):
        receipts.record_outcome(tmp_path, ID, "failed", START, "r" * 2_000)
    assert is_acknowledged(tmp_path, ID)
    assert not is_settled(tmp_path, ID)


def test_an_id_is_no_path(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="UUID"):
        receipt_path(tmp_path, "../../state")
