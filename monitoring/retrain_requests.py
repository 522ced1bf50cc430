"""Requests to retrain: what the monitor asks for, what it remembers of the last one, and when it sends that one again.

Arithmetic over values only, without clock or files, so a reminder is due at the same moment for every run that looks.
"""

from datetime import datetime, timedelta
from typing import Literal

from pydantic import AwareDatetime, Field

from perennial.base import FrozenModel

Cause = Literal["drift", "performance", "age", "data"]

FIRST_REMINDER = timedelta(seconds=60)
"""From an event to the acknowledgement: 8 s on quiet cores, nearly all of it two process starts; sent again sooner, an
event would be sent in vain whenever the machine is busy."""

LAST_REMINDER = timedelta(minutes=10)
"""Longest wait: a Prefect server that was away for hours hears of the request within this time of its return."""


class RetrainRequest(FrozenModel):
    """The payload of an event about a window: which champion it is about, why, and what was measured."""

    model: str
    version: int
    window_start: AwareDatetime
    window_end: AwareDatetime
    cause: Cause
    reason: str
    evidence: dict[str, float | str] = Field(default_factory=dict)
    report: str | None = None
    event_id: str


class RetrainRequestState(FrozenModel):
    """The last request to retrain as Prefect confirmed it, in wall time. When `closed`, it is not sent again."""

    request: RetrainRequest
    sent_at: AwareDatetime
    last_sent_at: AwareDatetime
    closed: bool = False

    def reminder_due(self, now: datetime) -> bool:
        """Whether to send it again now: after 60 s, then after waits that double, unless it is closed."""
        wait = min(max(self.last_sent_at - self.sent_at, FIRST_REMINDER), LAST_REMINDER)
        return not self.closed and now >= self.last_sent_at + wait


def next_state(previous: RetrainRequestState | None, sent: RetrainRequest | None, now: datetime) -> RetrainRequestState | None:
    """What is remembered after a window: the request that was sent on its account; an alert about data asks for nothing."""
    if sent is None or sent.cause == "data":
        return previous
    return RetrainRequestState(request=sent, sent_at=now, last_sent_at=now)
