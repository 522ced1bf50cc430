"""The decision ledger: what was decided about a model, and how far each decision has come, in steps that are written once.

    {home}/decisions/{event_id}/0001.json    decided: the request, before its event is sent
    {home}/decisions/{event_id}/0002.json    sent, started, died, or an outcome; and so on

A decision's id follows from model, champion version, cause and window (`monitoring.events.window_event_id`), so whoever decides
the same again finds its folder. The number in a step's name is its compare-and-set: of two writers one is first, and the other
reads again and writes only what may follow (`FOLLOWS`). So a decision has one outcome, however often its event is delivered. The
monitor writes what it decides and sends, a flow that it has started, and its outcome (tests/monitoring/test_ledger.py). A
training by the clock has an entry too, by the moment that it was planned for: its flow writes the first step.
"""

import logging
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal, get_args
from uuid import UUID

from pydantic import AwareDatetime, Field, ValidationError

from monitoring.policy import PROMOTIONS, Flow, RetrainRequest
from monitoring.state import write_stored
from monitoring.window import Window
from perennial.atomic_files import create_exclusively
from perennial.base import FrozenModel, StoredModel, read_stored
from perennial.errors import NewerFormat

Progress = Literal["decided", "sent", "started", "died"]
Outcome = Literal["challenger", "promoted", "held", "rejected", "rolled back", "declined", "failed"]
Stage = Literal[Progress, Outcome]

OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)

FOLLOWS: Mapping[Stage | None, tuple[Stage, ...]] = {
    None: ("decided", "sent", "started", *OUTCOMES),  # without a decision for an event that somebody sent by hand
    "decided": ("sent", "started", *OUTCOMES),
    "sent": ("sent", "started", *OUTCOMES),
    "started": ("started", "died", *OUTCOMES),
    "died": ("sent", "started", *OUTCOMES),
    "failed": ("started", *(outcome for outcome in OUTCOMES if outcome != "failed")),  # it may be made good
}
"""What may be written after a stage; nothing after an outcome that is not here."""

log = logging.getLogger(__name__)


class LedgerStep(StoredModel):
    """One step of a decision, in wall time; `flow_run` is the Prefect run that it is about."""

    stage: Stage
    at: AwareDatetime
    flow_run: str | None = None
    reason: str = ""
    request: RetrainRequest | None = None
    planned: AwareDatetime | None = Field(None, description="of a training by the clock: the moment that it was planned for")


class LedgerEntry(FrozenModel):
    """A decision with its steps, oldest first; there is at least one."""

    event_id: str
    steps: tuple[LedgerStep, ...]

    @property
    def stage(self) -> Stage:
        """How far it has come."""
        return self.steps[-1].stage

    @property
    def outcome(self) -> Outcome | None:
        """What became of it; None while it is open."""
        return next((one for one in OUTCOMES if one == self.stage), None)

    @property
    def request(self) -> RetrainRequest | None:
        """What was decided; None where an event was answered that no monitor has decided."""
        return next((step.request for step in self.steps if step.request is not None), None)

    @property
    def planned(self) -> datetime | None:
        """The moment that a training by the clock was planned for; None for what a window led to."""
        return next((step.planned for step in self.steps if step.planned is not None), None)

    @property
    def flow(self) -> Flow | None:
        """The flow that carries it out; None for a rollback, and where the request is not known."""
        if self.request is None or self.request.cause == "rollback":
            return None
        return "promote" if self.request.cause in PROMOTIONS else "retrain"

    @property
    def flow_run(self) -> str | None:
        """The newest Prefect run about it."""
        return next((step.flow_run for step in reversed(self.steps) if step.flow_run), None)

    @property
    def sent_at(self) -> datetime:
        """When its event was confirmed for the first time; when it was decided, as long as it was not."""
        return next((step.at for step in self.steps if step.stage == "sent"), self.steps[0].at)

    @property
    def died(self) -> tuple[str | None, ...]:
        """The runs about it that count as dead."""
        return tuple(step.flow_run for step in self.steps if step.stage == "died")

    def count(self, stage: Stage) -> int:
        """How often it was sent, has started or has died."""
        return sum(step.stage == stage for step in self.steps)


class Ledger:
    """A model's ledger as one process reads it: an entry after which nothing may come is read once."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._over: dict[str, LedgerEntry] = {}

    def entries(self) -> tuple[LedgerEntry, ...]:
        """Every decision, oldest first."""
        return tuple(sorted(self._read(), key=lambda entry: (entry.steps[0].at, entry.event_id)))

    def open_entries(self) -> tuple[LedgerEntry, ...]:
        """The decisions without an outcome, oldest first."""
        return tuple(entry for entry in self.entries() if entry.outcome is None)

    def last_request(self) -> LedgerEntry | None:
        """The newest decision that a flow carries out."""
        return next((entry for entry in reversed(self.entries()) if entry.flow is not None), None)

    def about(self, window: Window) -> LedgerEntry | None:
        """What was decided about a window last."""
        found = (entry for entry in reversed(self.entries()) if entry.request is not None and entry.request.window == window)
        return next(found, None)

    def _read(self) -> Iterator[LedgerEntry]:
        for event_id in _event_ids(self.home):
            entry = self._over.get(event_id) or read_entry(self.home, event_id)
            if entry is not None:
                yield entry
                if entry.stage not in FOLLOWS:  # a later run may make a failure good
                    self._over[event_id] = entry


def write_decision(home: Path, request: RetrainRequest, now: datetime) -> bool:
    """Write down what is going to be asked for, before it is."""
    return advance(home, request.event_id, LedgerStep(stage="decided", at=now, request=request))


def start(home: Path, event_id: str, now: datetime, flow_run: str | None = None, planned: datetime | None = None) -> bool:
    """Write that a flow run works on it, as the clock had planned it or as it was asked for; false when it has its outcome."""
    return advance(home, event_id, LedgerStep(stage="started", at=now, flow_run=flow_run, planned=planned))


def record_outcome(
    home: Path, event_id: str, outcome: Outcome, now: datetime, flow_run: str | None = None, reason: str = ""
) -> bool:
    """Write what became of it; false when another outcome stands, or another run works on it by now."""
    return advance(home, event_id, LedgerStep(stage=outcome, at=now, flow_run=flow_run, reason=reason))


def adopt(home: Path, request: RetrainRequest, sent_at: datetime) -> None:
    """Take in a request that a monitor of 0.1.0 kept in its state, with its receipt."""
    first = (LedgerStep(stage="decided", at=sent_at, request=request), LedgerStep(stage="sent", at=sent_at))
    if not _last_number(home, request.event_id):
        for number, step in enumerate((*first, *_receipt_steps(home, request.event_id)), start=1):
            write_stored(_folder(home, request.event_id) / f"{number:04d}.json", step, create_exclusively)


def advance(home: Path, event_id: str, step: LedgerStep) -> bool:
    """Write a step if it may follow what stands; whether it was written. Raises ArchiveError, ValueError (no UUID)."""
    while may_follow(read_entry(home, event_id), step):
        path = _folder(home, event_id) / f"{_last_number(home, event_id) + 1:04d}.json"
        if write_stored(path, step, create_exclusively):
            return True
    return False


def may_follow(entry: LedgerEntry | None, step: LedgerStep) -> bool:
    """Whether a step may be written after an entry; of runs by the one that started last, and by none that counts as dead."""
    if step.stage not in FOLLOWS.get(entry.stage if entry else None, ()):
        return False
    if entry is None or step.flow_run is None:
        return True
    at_work = entry.steps[-1].flow_run if entry.stage == "started" and step.stage != "started" else None
    return at_work in (None, step.flow_run) and step.flow_run not in entry.died


def without_outcome(last: LedgerEntry | None, now: datetime) -> timedelta:
    """How long a decision has been without an outcome, in wall time; zero when it has one or there is none."""
    return timedelta() if last is None or last.outcome is not None else now - last.sent_at


def read_entry(home: Path, event_id: str) -> LedgerEntry | None:
    """One decision; None where there is none. A step that cannot be read is left out: none may hold the monitor up."""
    paths = sorted(_folder(home, event_id).glob("[0-9]*.json"))
    steps = tuple(step for path in paths if (step := _read_step(path)) is not None) or _receipt_steps(home, event_id)
    return LedgerEntry(event_id=event_id, steps=steps) if steps else None


def _read_step(path: Path) -> LedgerStep | None:
    try:
        return read_stored(LedgerStep, path.read_bytes(), str(path))
    except (OSError, ValidationError, NewerFormat) as error:
        log.warning("%s cannot be read and is left out: %s", path, error)
        return None


def _last_number(home: Path, event_id: str) -> int:
    return max((int(path.stem) for path in _folder(home, event_id).glob("[0-9]*.json")), default=0)


def _folder(home: Path, event_id: str) -> Path:
    """Where a decision is; an id that is no UUID, and so perhaps a path, is a ValueError."""
    return home / "decisions" / str(UUID(event_id))


def _event_ids(home: Path) -> list[str]:
    receipts = (path.stem for path in (home / "requests").glob("*.json"))
    folders = (path.name for path in (home / "decisions").glob("*-*"))
    return sorted({*receipts, *folders})


class Receipt(StoredModel):
    """What 0.1.0 wrote of a request before there was a ledger, in `requests/{event_id}.json`."""

    event_id: str
    state: Literal["acknowledged", "settled"]
    at: AwareDatetime
    flow_run: str | None = None
    outcome: Outcome | None = None
    reason: str = ""


def _receipt_steps(home: Path, event_id: str) -> tuple[LedgerStep, ...]:
    path = home / "requests" / f"{UUID(event_id)}.json"
    try:
        receipt = read_stored(Receipt, path.read_bytes(), str(path))
    except FileNotFoundError:
        return ()
    except (OSError, ValidationError, NewerFormat) as error:
        log.warning("%s cannot be read and is left out: %s", path, error)
        return ()
    return (LedgerStep(stage=receipt.outcome or "started", at=receipt.at, flow_run=receipt.flow_run, reason=receipt.reason),)
