"""The fleet: which models a run of the monitor follows, and what became of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

from pydantic import Field

from monitoring.archive import Archive
from monitoring.consumer import IngestResult
from perennial.base import FrozenModel
from perennial.spec import ModelSpec


class LabelSource(Protocol):
    """Labels that do not come through the stream; `tasks.data.label_source` reads those that a spec names."""

    def poll(self, archive: Archive, texts: tuple[str, ...], now: datetime, *, at_once: bool = False) -> int:
        """Archive what is new, if it is time to look or `at_once`; returns how many labels. Raises ArchiveError alone."""


@dataclass(frozen=True)
class FollowedModel:
    """A model's spec, the directory that paths in it are relative to, and where flows find it: its events carry that path.

    `open_labels` opens the source of its labels beside the stream, if it has one, when the model's lease is held.
    """

    spec: ModelSpec
    base: Path
    path: str | None = None
    open_labels: Callable[[], LabelSource | None] | None = None


@dataclass(frozen=True)
class Fleet:
    """The models to follow; `broken` says of each spec that is not followed why."""

    models: tuple[FollowedModel, ...]
    broken: Mapping[str, str] = field(default_factory=dict)


ReadFleet = Callable[[], Fleet]
"""Called every few seconds: a model that is added is followed at once, one that is gone no longer."""


class MonitorSummary(FrozenModel):
    """What one run did, of all its models. `active` is false when other monitors held every lease all the time.

    `failing` says of each model whose last turn failed, and of each spec that cannot be followed, why.
    """

    active: bool = False
    ingested: IngestResult = IngestResult()
    windows: int = 0
    requests: int = 0
    reminders: int = 0
    waiting: bool = False
    failing: dict[str, str] = Field(default_factory=dict)

    def __add__(self, other: "MonitorSummary") -> "MonitorSummary":
        return MonitorSummary(
            active=self.active or other.active,
            ingested=self.ingested + other.ingested,
            windows=self.windows + other.windows,
            requests=self.requests + other.requests,
            reminders=self.reminders + other.reminders,
            waiting=self.waiting or other.waiting,
            failing=self.failing | other.failing,
        )
