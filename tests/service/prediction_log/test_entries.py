"""Entries: consecutive batches are merged as far as they fit together, and an entry is cut at any row."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from perennial.record import PredictionBatch, decode_prediction_batch
from service.prediction_log.entries import MAX_BYTES, MAX_ROWS, Entry, PendingBatch, encode_entries

NOW = datetime(2024, 3, 1, tzinfo=UTC)


def batch(first: int, rows: int = 1, **changes: object) -> PredictionBatch:
    numbers = range(first, first + rows)
    ids, times = tuple(f"id-{number}" for number in numbers), tuple(NOW + timedelta(seconds=number) for number in numbers)
    columns = {"amount": tuple(map(float, numbers)), "kind": tuple(map(str, numbers))}
    made = PredictionBatch("small", 1, NOW, ids, times, columns, tuple(number / 100 for number in numbers))
    return replace(made, **changes)


def pending(batches: Sequence[PredictionBatch], size: int = 100) -> list[PendingBatch]:
    found: list[PendingBatch] = []
    for one in batches:
        start = found[-1].end if found else 0
        found.append(PendingBatch(start, start + len(one.ids), size, 0.0, one))
    return found


def spans(entries: Sequence[Entry]) -> list[tuple[int, int]]:
    return [(entry.start, entry.end) for entry in entries]


def test_batches_of_one_version_become_one_entry_with_every_row_in_order() -> None:
    (entry,) = encode_entries(pending([batch(0), batch(1, rows=3), batch(4)]))
    assert (entry.start, entry.end) == (0, 5)
    assert decode_prediction_batch(entry.payload) == batch(0, rows=5)


def test_what_does_not_belong_together_stays_apart() -> None:
    apart = [
        batch(0),
        batch(1, version=2),
        batch(2, version=2, served_at=NOW + timedelta(seconds=1)),
        batch(3, version=2, served_at=NOW + timedelta(seconds=1), columns={"amount": (3.0,)}),
        batch(4),
    ]
    entries = encode_entries(pending(apart))
    assert spans(entries) == [(number, number + 1) for number in range(5)]
    assert [decode_prediction_batch(entry.payload) for entry in entries] == apart


def test_an_entry_is_bounded_by_rows_and_bytes() -> None:
    assert spans(encode_entries(pending([batch(0, rows=MAX_ROWS - 1), batch(1), batch(2), batch(3)]))) == [
        (0, MAX_ROWS),
        (MAX_ROWS, MAX_ROWS + 2),
    ]
    assert spans(encode_entries(pending([batch(0), batch(1), batch(2)], size=MAX_BYTES // 2))) == [(0, 2), (2, 3)]
    assert spans(encode_entries(pending([batch(0, rows=2 * MAX_ROWS)]))) == [(0, 2 * MAX_ROWS)]


def test_an_entry_is_cut_at_any_row() -> None:
    (entry,) = encode_entries(pending([batch(0, rows=2), batch(2, rows=3)]))
    assert entry.after(0) == entry
    cut = entry.after(3)
    assert (cut.start, cut.end, decode_prediction_batch(cut.payload)) == (3, 5, batch(3, rows=2))
    unreadable = Entry(0, 5, b"?")
    assert unreadable.after(3) == unreadable, "the monitor sets it aside"
