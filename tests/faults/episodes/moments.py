"""When a fault comes: so many seconds into the week, or right after a step, told by the file that the step has written."""

import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from monitoring.ledger import LedgerEntry, read_entry
from monitoring.ledger import Stage as Step
from monitoring.state import load_result
from monitoring.window import window_at
from perennial.errors import RegistryError
from tests.faults.episodes.plan import AT_RANDOM, Fault
from tests.support.stack import Stage

LOOK = 0.003
"""Seconds between two looks: the steps of a flow are tens of milliseconds apart."""

TIMEOUT = 300.0
"""Seconds for a step to come; one that does not is left out, for what keeps it away may be another fault."""


class Moments:
    """Made before the week's traffic, so that what is new can be told from what was there."""

    def __init__(self, loop: Stage, start: datetime) -> None:
        self._loop, self._window = loop, window_at(start, loop.spec.window.length)
        self._known, self._versions = set(self._decisions()), set(self._manifests())
        self._champion, self._began = loop.champion, time.monotonic()

    def wait(self, fault: Fault) -> bool:
        """Wait for a fault's moment; false where it did not come."""
        come: Callable[[], bool] = {
            AT_RANDOM: lambda: time.monotonic() >= self._began + fault.delay,
            "decided": lambda: self._steps("decided"),
            "sent": lambda: self._steps("sent"),
            "started": lambda: self._steps("started"),
            # A week that rolls back publishes nothing, and a refused version is never promoted.
            "published": lambda: bool(set(self._manifests()) - self._versions) or self._steps(None),
            "promoted": lambda: self._promoted() or self._steps(None),
            "settled": lambda: self._steps(None),
            "closed": lambda: load_result(self._loop.loop.home, self._window) is not None,
        }[fault.moment]
        deadline, pause = time.monotonic() + TIMEOUT, threading.Event()
        while not come():
            if time.monotonic() > deadline:
                return False
            pause.wait(LOOK)
        return True

    def rolled_back(self) -> bool:
        """Whether the week's decision was to go back, for which no flow runs."""
        return any(entry.outcome == "rolled back" for entry in self._new_entries())

    def _promoted(self) -> bool:
        try:
            return self._loop.champion != self._champion
        except RegistryError:
            return False

    def _steps(self, stage: Step | None) -> bool:
        """Whether a new decision has come to this step, or past it; None is its outcome."""
        entries = self._new_entries()
        return any(entry.outcome is not None or (stage is not None and bool(entry.count(stage))) for entry in entries)

    def _new_entries(self) -> list[LedgerEntry]:
        found = (read_entry(self._loop.loop.home, path.name) for path in set(self._decisions()) - self._known)
        return [entry for entry in found if entry is not None]

    def _decisions(self) -> list[Path]:
        return list((self._loop.loop.home / "decisions").glob("*-*"))

    def _manifests(self) -> list[Path]:
        return list((self._loop.loop.home.parent / "registry/models" / self._loop.spec.name / "versions").glob("*/manifest.json"))
