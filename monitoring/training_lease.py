"""The lease on the training of a model: one run at a time trains, publishes and promotes, and none that was taken for dead.

A run gives a sign of life every few seconds, in a file of the model's home (`runs/{run}.json`), and claims the model in the
registry, which gives it a token. Another run waits while the one that claimed last is alive; when that has ended, or has given
no sign for the lease's time, it claims the next token. With a newer claim there, the registry refuses what the older run
writes, and the ledger refuses its outcome: a run that was paused or cut off may go on, and changes nothing. Clocks decide who
waits, never who writes (tests/flows/test_fencing.py).
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import AwareDatetime, ValidationError

from monitoring.policy import LONGEST_TRAINING
from monitoring.state import write_stored
from perennial.base import StoredModel, read_stored
from perennial.errors import AliasConflict, ArchiveError, NewerFormat, TrainingError
from perennial.registry import RUN, TRAINING, Registry

SIGNS = 5
"""Signs of life in the time of a lease: four may fail."""

POLL = timedelta(milliseconds=200)
"""Between two looks at whether the run that one waits for has ended."""

KEPT = timedelta(days=7)
"""For which the last sign of life of a run is kept."""

log = logging.getLogger(__name__)


class Heartbeat(StoredModel):
    """The newest sign of life of a run."""

    run: str
    at: AwareDatetime
    ended: bool = False


def last_heartbeat(home: Path, run: str) -> Heartbeat | None:
    """The newest sign of life of a run; None where there is none that can be read."""
    path = _path(home, run)
    try:
        return read_stored(Heartbeat, path.read_bytes(), str(path))
    except (OSError, ValidationError, NewerFormat):
        return None


def is_alive(home: Path, run: str, now: datetime, lease: timedelta) -> bool:
    """Whether a run is at work: it has not ended, and gave a sign in the time of the lease."""
    found = last_heartbeat(home, run)
    return found is not None and not found.ended and now - found.at < lease


@contextmanager
def training_lease(registry: Registry, home: Path, name: str, run: str, lease: timedelta) -> Iterator[int]:
    """Claim the training of a model for a run while the block lasts; gives the token. Waits for a run that is at work.

    Raises TrainingError when that one takes longer than any training.
    """
    with _signs_of_life(home, run, lease):
        yield _claim(registry, home, name, run, lease)


def revoke(registry: Registry, name: str, run: str, reason: str, now: datetime) -> None:
    """Make the token of a run stale, if the run holds the newest; raises RegistryError."""
    claim = registry.last_move(name, TRAINING)
    if claim is not None and claim.evidence.get(RUN) == run:
        with suppress(AliasConflict):  # then another claim has made it stale
            registry.claim(name, "", expect=claim.token, reason=reason, now=now)


def _claim(registry: Registry, home: Path, name: str, run: str, lease: timedelta) -> int:
    give_up, told, pause = datetime.now(UTC) + LONGEST_TRAINING, False, threading.Event()
    while (now := datetime.now(UTC)) < give_up:
        token = registry.aliases(name).token
        claim = registry.last_move(name, TRAINING) if token else None
        holder = str(claim.evidence.get(RUN)) if claim else ""
        if holder in ("", run) or not is_alive(home, holder, now, lease):
            try:
                return registry.claim(name, run, expect=token, reason=f"run {run} trains or promotes", now=now)
            except AliasConflict:
                continue  # another run was first: look who
        if not told:
            log.warning("run %s is at work on %s: this one waits for it", holder, name)
            told = True
        pause.wait(POLL.total_seconds())
    raise TrainingError(f"run {holder} is at work on {name!r} for longer than {LONGEST_TRAINING}: end it, and start this again")


@contextmanager
def _signs_of_life(home: Path, run: str, lease: timedelta) -> Iterator[None]:
    over = threading.Event()
    _forget(home, datetime.now(UTC) - KEPT)
    _sign(home, run)
    thread = threading.Thread(target=_keep_signing, args=(home, run, over, lease / SIGNS), name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        _sign(home, run, ended=True)


def _keep_signing(home: Path, run: str, over: threading.Event, pause: timedelta) -> None:
    while not over.wait(pause.total_seconds()):
        _sign(home, run)


def _sign(home: Path, run: str, *, ended: bool = False) -> None:
    try:
        write_stored(_path(home, run), Heartbeat(run=run, at=datetime.now(UTC), ended=ended))
    except ArchiveError as error:
        # The run goes on: should another one take it for dead, its token tells.
        log.warning("run %s cannot say that it is at work: %s", run, error)


def _forget(home: Path, before: datetime) -> None:
    """Delete the signs of runs that have ended long ago."""
    for path in (home / "runs").glob("*.json"):
        if path.stat().st_mtime < before.timestamp():
            path.unlink(missing_ok=True)


def _path(home: Path, run: str) -> Path:
    return home / "runs" / f"{run}.json"
