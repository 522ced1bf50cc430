"""Moves of a model's aliases by hand, by the same compare-and-set as a promotion: rollback, approval, close of the contract."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from perennial.errors import SpecError, VersionNotFound
from perennial.registry import CHAMPION, CONTRACT, Aliases, Registry
from perennial.settings import Settings
from perennial.spec import load_spec


@dataclass(frozen=True)
class RolledBack:
    """A champion that was replaced by hand."""

    model: str
    version: int
    previous: int
    at: datetime

    def announce(self) -> None:
        """Send the move to the configured Prefect API; raises PrefectUnreachable. The move itself stands either way."""
        from monitoring.events import MODEL_ROLLED_BACK

        _send(MODEL_ROLLED_BACK, self, previous=self.previous, cause="manual")


def roll_back(path: Path, to: int | None, settings: Settings, now: datetime) -> RolledBack:
    """Serve version `to`, or the champion before this one; raises VersionNotFound or AliasConflict."""
    name, registry = load_spec(path).name, Registry(settings.registry_url)
    current, versions = _champion(registry.aliases(name), name, path), registry.versions(name)
    listed = ", ".join(map(str, versions))
    if to is None:
        move = registry.last_move(name, CHAMPION)
        to = move.previous if move else None
    if to is None:
        raise VersionNotFound(f"{name} version {current} is the first champion: name another with --to, one of {listed}")
    if to not in versions:
        raise VersionNotFound(f"{name} has no version {to}; it has {listed}")
    registry.roll_back(name, to, expect=current, reason="rolled back by hand", now=now, by_person=True)
    return RolledBack(name, to, current, now)


@dataclass(frozen=True)
class Approved:
    """A version that a person let serve, after the gate had."""

    model: str
    version: int
    previous: int | None
    at: datetime
    reason: str

    def announce(self) -> None:
        """Send the promotion to the configured Prefect API; raises PrefectUnreachable. The promotion itself stands either way."""
        from monitoring.events import MODEL_PROMOTED

        _send(MODEL_PROMOTED, self, champion_version=self.previous, cause="approval", reason=self.reason)


def approve(path: Path, settings: Settings, now: datetime) -> Approved:
    """Make the version champion that waits for a person; raises VersionNotFound, or AliasConflict."""
    name, registry = load_spec(path).name, Registry(settings.registry_url)
    waiting = registry.awaiting_approval(name)
    if waiting is None or waiting.version is None:
        raise VersionNotFound(f"no version of {name} waits for approval since its champion came to serve")
    standing, reason = registry.aliases(name).champion, f"approved by hand; {waiting.reason}"
    version, evidence = waiting.version, waiting.evidence
    registry.promote(name, CHAMPION, version, expect=standing, reason=reason, now=now, by_person=True, evidence=evidence)
    return Approved(name, waiting.version, standing, now, reason)


def _send(event: str, move: RolledBack | Approved, **payload: object) -> None:
    from monitoring.events import ModelEvent, deterministic_id, send

    id_ = deterministic_id(event, move.model, move.version, move.at.isoformat())
    send(ModelEvent(name=event, model=move.model, id=id_, occurred=move.at, payload={"version": move.version, **payload}))


def waiting_approvals(specs: Iterable[Path], settings: Settings) -> Iterator[str]:
    """A line for each model of which a version waits for a person."""
    for path in specs:
        with suppress(SpecError):  # a spec that cannot be read is told of by itself
            name = load_spec(path).name
            if (waiting := Registry(settings.registry_url).awaiting_approval(name)) is not None:
                yield f"{name} version {waiting.version} waits: perennial approve {path}   ({waiting.reason})"


def close_contract(path: Path, settings: Settings, now: datetime) -> int:
    """Accept rows by the champion's contract alone, and by later ones; returns its version. Raises VersionNotFound."""
    name, registry = load_spec(path).name, Registry(settings.registry_url)
    aliases = registry.aliases(name)
    champion, standing = _champion(aliases, name, path), aliases.positions.get(CONTRACT)
    registry.promote(name, CONTRACT, champion, expect=standing, reason="contract closed by hand", now=now)
    return champion


def _champion(aliases: Aliases, name: str, path: Path) -> int:
    if aliases.champion is None:
        raise VersionNotFound(f"{name} has no champion yet: run `perennial train {path}`")
    return aliases.champion
