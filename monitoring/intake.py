"""Intake: from what was read to what is safe, and only then acknowledged.

An entry that decodes but does not fit the model's schema is found by trying entries one by one; it
goes to the dead stream, the others are archived.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

import polars as pl

from monitoring.archive import Archive
from monitoring.reader import Batch, Entry, Reader
from perennial.base import FrozenModel
from perennial.errors import DataError
from perennial.record import LabelBatch, PredictionBatch

Record = TypeVar("Record", PredictionBatch, LabelBatch)


class Taken(FrozenModel):
    """What became of some entries; `predictions` and `labels` are rows that were new."""

    entries: int = 0
    unreadable: int = 0
    predictions: int = 0
    labels: int = 0

    def __add__(self, other: "Taken") -> "Taken":
        return Taken(
            entries=self.entries + other.entries,
            unreadable=self.unreadable + other.unreadable,
            predictions=self.predictions + other.predictions,
            labels=self.labels + other.labels,
        )


def take(batch: Batch, reader: Reader, archive: Archive) -> Taken:
    """Archive a batch, then acknowledge it; raises ArchiveError, with nothing acknowledged that is not archived."""
    predictions, readable, foreign = _fit(batch.predictions, archive.prediction_rows, reader)
    labels, told, malformed = _fit(batch.labels, archive.label_rows, reader)
    taken = Taken(
        entries=batch.entries,
        unreadable=batch.unreadable + foreign + malformed,
        predictions=archive.store_predictions(predictions),
        labels=archive.store_labels(labels),
    )
    reader.settle([*readable, *told])
    return taken


def _fit(
    entries: Sequence[Entry[Record]], to_rows: Callable[[Sequence[Record]], pl.DataFrame], reader: Reader
) -> tuple[pl.DataFrame, list[Entry[Record]], int]:
    """The rows of the entries that fit, those entries, and how many were buried."""
    try:
        return to_rows([entry.record for entry in entries]), list(entries), 0
    except DataError:
        good = [entry for entry in entries if _fits(entry, to_rows, reader)]
        return to_rows([entry.record for entry in good]), good, len(entries) - len(good)


def _fits(entry: Entry[Record], to_rows: Callable[[Sequence[Record]], pl.DataFrame], reader: Reader) -> bool:
    try:
        to_rows([entry.record])
    except DataError as error:
        reader.bury(entry.stream, entry.id, entry.payload, error)
        return False
    return True
