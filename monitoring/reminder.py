"""Reminder: when a request to retrain is told again because no retraining has written a receipt for it.

Only arithmetic over what the state remembers, so that a reminder is due at the same moment whichever run looks.
"""

from datetime import datetime, timedelta
from pathlib import Path

from monitoring.receipts import is_settled
from monitoring.state import Told

FIRST_REMINDER = timedelta(seconds=60)
"""From an event to the receipt: 8 s on quiet cores, nearly all of it two process starts; told again sooner, an event
would be told in vain whenever the machine is busy."""

LAST_REMINDER = timedelta(minutes=10)
"""Longest wait: a Prefect server that was away for hours is told within this time of its return."""


def due(told: Told, now: datetime) -> bool:
    """Whether to tell it again now, if it is still unanswered: after 60 s, then after waits that double."""
    wait = min(max(told.last - told.at, FIRST_REMINDER), LAST_REMINDER)
    return not told.over and now >= told.last + wait


def unsettled(home: Path, told: Told | None, now: datetime) -> timedelta:
    """How long the last request has been without an outcome, in wall time; zero when it has one or there was none."""
    return timedelta() if told is None or is_settled(home, told.request.event_id) else now - told.at
