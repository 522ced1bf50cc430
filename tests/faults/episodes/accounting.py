"""The accounting: what clients saw against what the parts hold. Values in, counts out.

A prediction is lost that was answered and is not in the archive, a label that was accepted and has not found its row. A cause is
a decision of the ledger: a training is double where one cause has two versions, two verdicts or two runs that did the work, and
missing where a window has no cause, or a cause no version. A request counts as failed unless the service's own process was harmed
in its time, or, for labels, which the service takes only while the store does, the store.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields

DONE = ("challenger", "promoted", "held", "rejected", "rolled back")
"""Outcomes with which a cause has come through."""


@dataclass(frozen=True)
class Answer:
    """What a client was told about one id; `again` if it had to ask more than once."""

    version: int
    score: float
    again: bool = False


@dataclass(frozen=True)
class Archived:
    """What the archive has of an id."""

    rows: int
    version: int
    score: float
    labelled: bool


@dataclass(frozen=True)
class Cause:
    """A decision, its outcome, and what came of it: versions trained for it, verdicts that name it, runs that did the work."""

    event_id: str
    window: str
    outcome: str | None
    versions: int = 0
    verdicts: int = 0
    completed: int = 0


@dataclass(frozen=True)
class Failure:
    """A request without a good answer, by the monotonic clock."""

    since: float
    until: float
    path: str
    reason: str = ""


@dataclass(frozen=True)
class Harm:
    """When a part was harmed: until it was whole again. `part` is `service` or `store`."""

    part: str
    since: float
    until: float


@dataclass(frozen=True)
class Tally:
    """What went wrong: all zeros where the loop has kept its promises."""

    predictions_lost: int = 0
    labels_lost: int = 0
    predictions_altered: int = 0
    double_retrainings: int = 0
    missing_retrainings: int = 0
    requests_failed_service_alive: int = 0

    @property
    def clean(self) -> bool:
        """Whether nothing went wrong; what has come after all since an earlier tally counts below zero there."""
        return max(asdict(self).values()) <= 0

    def since(self, before: "Tally") -> "Tally":
        """What came since an earlier tally of the same run."""
        return Tally(*(getattr(self, one.name) - getattr(before, one.name) for one in fields(self)))

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(self)))

    def __str__(self) -> str:
        wrong = {name.replace("_", " "): count for name, count in asdict(self).items() if count}
        return ", ".join(f"{count} {name}" for name, count in wrong.items()) or "nothing lost"


def lost_predictions(answered: Collection[str], archive: Mapping[str, Archived]) -> list[str]:
    """Ids that were answered and are not archived."""
    return [one for one in answered if one not in archive]


def lost_labels(accepted: Collection[str], archive: Mapping[str, Archived]) -> list[str]:
    """Ids whose label was accepted and is joined to no row."""
    return [one for one in accepted if not (one in archive and archive[one].labelled)]


def altered(answered: Mapping[str, Answer], archive: Mapping[str, Archived]) -> list[str]:
    """Ids that are archived twice, or with another score than the client got; who asked again may have got the second one."""
    found = []
    for one in answered.keys() & archive.keys():
        told, row = answered[one], archive[one]
        same = (told.version, told.score) == (row.version, row.score)
        if row.rows > 1 or not (same or told.again):
            found.append(one)
    return found


def doubles(causes: Sequence[Cause]) -> list[Cause]:
    """Causes that were trained or judged for twice."""
    return [one for one in causes if max(one.versions, one.verdicts, one.completed) > 1]


def missing(causes: Sequence[Cause], windows: Collection[str]) -> list[str]:
    """Causes that did not come through, and windows of which none came."""
    without = set(windows) - {one.window for one in causes}
    return [*(one.window for one in causes if one.outcome not in DONE), *without]


def unexcused(failures: Sequence[Failure], harms: Sequence[Harm]) -> list[Failure]:
    """Requests that failed though nothing they need was harmed."""
    return [failure for failure in failures if not any(_excuses(harm, failure) for harm in harms)]


def _excuses(harm: Harm, failure: Failure) -> bool:
    concerns = harm.part == "service" or (harm.part == "store" and failure.path == "/feedback")
    return concerns and harm.since <= failure.until and failure.since <= harm.until
