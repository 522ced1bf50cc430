"""Stream entries of one source: encoded groups of prediction batches, each with the positions of its rows.

A position counts the rows that a process (a source) has answered since it started: a batch of 3 rows after position 7 has the
positions 8, 9 and 10; its `start` is 7 and its `end` is 10. Where one entry ends and the next begins may differ between two
tries: an entry that overlaps what the store has is cut at that row.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import chain
from typing import TypeVar

from perennial.errors import NewerFormat, RecordError
from perennial.record import PredictionBatch, decode_prediction_batch, encode_batch

MAX_ROWS = 512  # in a merged entry: more save next to nothing, and the monitor holds the rows of 500 entries in memory at once
MAX_BYTES = 1024 * 1024  # in a merged entry, as callers estimate them, and in a round trip: it takes the store milliseconds
SERVED_SPAN = timedelta(milliseconds=100)  # of the batches of a merged entry: its rows share the first one's `served_at`

Item = TypeVar("Item", "PendingBatch", "Entry")


@dataclass(frozen=True, slots=True)
class PendingBatch:
    """A batch that waits in memory: positions, the caller's estimate of its bytes, when it came by the monotonic clock.

    `payload` is the batch encoded, where the journal has it so.
    """

    start: int
    end: int
    size: int
    since: float
    batch: PredictionBatch
    payload: bytes | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """A payload for the stream and the rows it holds, as positions: those after `start`, up to and including `end`."""

    start: int
    end: int
    payload: bytes

    @property
    def size(self) -> int:
        return len(self.payload)

    def after(self, position: int) -> "Entry":
        """The rows after `position`. A payload that cannot be read stays whole: the monitor sets it aside with the reason."""
        if position <= self.start:
            return self
        try:
            batch = decode_prediction_batch(self.payload)
        except (RecordError, NewerFormat):
            return self
        first = position - self.start
        rest = replace(
            batch,
            ids=batch.ids[first:],
            event_times=batch.event_times[first:],
            columns={name: cells[first:] for name, cells in batch.columns.items()},
            scores=batch.scores[first:],
        )
        return Entry(position, self.end, encode_batch(rest))


def encode_entries(pending: Iterable[PendingBatch]) -> list[Entry]:
    """Entries for consecutive batches: those of one model version and time that fit into an entry are merged."""
    groups: list[list[PendingBatch]] = []
    rows = size = 0
    for one in pending:
        rows, size = rows + one.end - one.start, size + one.size
        if groups and rows <= MAX_ROWS and size <= MAX_BYTES and _is_mergeable(groups[-1][0].batch, one.batch):
            groups[-1].append(one)
        else:
            groups.append([one])
            rows, size = one.end - one.start, one.size
    return [Entry(group[0].start, group[-1].end, _encode(group)) for group in groups]


def first_bytes(items: Iterable[Item], limit: int) -> list[Item]:
    """Items until `limit` bytes are together; the first one always."""
    found: list[Item] = []
    size = 0
    for item in items:
        size += item.size
        if found and size > limit:
            break
        found.append(item)
    return found


def _is_mergeable(first: PredictionBatch, other: PredictionBatch) -> bool:
    alike = (other.version, other.model, list(other.columns)) == (first.version, first.model, list(first.columns))
    return alike and abs(other.served_at - first.served_at) <= SERVED_SPAN


def _encode(group: Sequence[PendingBatch]) -> bytes:
    if len(group) == 1 and (payload := group[0].payload) is not None:
        return payload
    return encode_batch(_merge(group))


def _merge(group: Sequence[PendingBatch]) -> PredictionBatch:
    batches = [one.batch for one in group]
    if len(batches) == 1:
        return batches[0]
    return replace(
        batches[0],
        ids=tuple(chain.from_iterable(batch.ids for batch in batches)),
        event_times=tuple(chain.from_iterable(batch.event_times for batch in batches)),
        columns={name: tuple(chain.from_iterable(batch.columns[name] for batch in batches)) for name in batches[0].columns},
        scores=tuple(chain.from_iterable(batch.scores for batch in batches)),
        traces=tuple(chain.from_iterable(batch.traces for batch in batches)),
    )
