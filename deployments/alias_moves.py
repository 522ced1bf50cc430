"""Moves of a model's aliases by hand, by the same compare-and-set as a promotion: a rollback, and the close of its contract."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from perennial.errors import VersionNotFound
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
        from monitoring.events import MODEL_ROLLED_BACK, ModelEvent, deterministic_id, send

        id_ = deterministic_id(MODEL_ROLLED_BACK, self.model, self.version, self.at.isoformat())
        payload = {"version": self.version, "previous": self.previous, "cause": "manual"}
        send(ModelEvent(name=MODEL_ROLLED_BACK, model=self.model, id=id_, occurred=self.at, payload=payload))


def roll_back(path: Path, to: int | None, settings: Settings, now: datetime) -> RolledBack:
    """Serve version `to`, or the champion before this one; raises VersionNotFound or AliasConflict."""
    name, registry = load_spec(path).name, Registry(settings.registry_url)
    current, versions = _champion(registry.aliases(name), name, path), registry.versions(name)
    listed = ", ".join(map(str, versions))
    if to is None:
        moves = [move for move in registry.history(name) if move.alias == CHAMPION and move.version == current]
        to = moves[-1].previous if moves else None
    if to is None:
        raise VersionNotFound(f"{name} version {current} is the first champion: name another with --to, one of {listed}")
    if to not in versions:
        raise VersionNotFound(f"{name} has no version {to}; it has {listed}")
    registry.promote(name, CHAMPION, to, expect=current, reason="rolled back by hand", now=now)
    return RolledBack(name, to, current, now)


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
