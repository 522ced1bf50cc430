"""Retention of labels that no prediction has: they wait for their prediction for so long, and are then dropped, and counted.

A label may come before its prediction, so one of an unknown id is kept; without an end to it a client that sends labels of ids
that were never asked would fill the disk. Looked at once a day, by the day on which labels were received: it costs reading the
ids of the days that have come of age, and of the predictions.
"""

import logging
from datetime import date, datetime, timedelta
from pathlib import Path

from pydantic import ValidationError

from monitoring.archive import Archive
from monitoring.state import write_stored
from perennial.base import StoredModel, read_stored
from perennial.errors import NewerFormat

log = logging.getLogger(__name__)


class UnmatchedLabels(StoredModel):
    """How many labels without a prediction were dropped, and up to which day of receipt this was looked at."""

    until: date | None = None
    dropped: int = 0


def drop_unmatched(archive: Archive, keep: timedelta, now: datetime) -> int:
    """Drop what was received longer than `keep` ago and has no prediction; returns how many. Raises ArchiveError."""
    known, last = read_dropped(archive.home), (now - keep).date() - timedelta(days=1)
    if known.until is not None and last <= known.until:
        return 0
    dropped = archive.drop_unmatched_labels(known.until, last)
    # Last: after a crash the days are looked at again, and what is gone is not counted.
    write_stored(_path(archive.home), UnmatchedLabels(until=last, dropped=known.dropped + dropped))
    if dropped:
        log.warning("%d labels of ids that were not asked about in %s were dropped", dropped, keep)
    return dropped


def read_dropped(home: Path) -> UnmatchedLabels:
    """What was dropped until now; nothing where there is no file that can be read."""
    path = _path(home)
    try:
        return read_stored(UnmatchedLabels, path.read_bytes(), str(path))
    except FileNotFoundError:
        return UnmatchedLabels()
    except (OSError, ValidationError, NewerFormat) as error:
        log.warning("%s cannot be read, and counting begins anew: %s", path, error)
        return UnmatchedLabels()


def _path(home: Path) -> Path:
    return home / "monitor" / "unmatched_labels.json"
