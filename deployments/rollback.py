"""Taking a promotion back: the champion alias moves to an earlier version, by the same compare-and-set as a promotion."""

from datetime import datetime
from pathlib import Path

from pydantic import AwareDatetime

from perennial.base import FrozenModel
from perennial.errors import VersionNotFound
from perennial.registry import CHAMPION, Registry
from perennial.settings import Settings
from perennial.spec import load_spec


class RolledBack(FrozenModel):
    """A champion that was replaced by hand."""

    model: str
    version: int
    previous: int
    at: AwareDatetime


def announce(move: RolledBack) -> None:
    """Send the move to the configured Prefect API; raises PrefectUnreachable. The move itself stands either way."""
    from monitoring.events import MODEL_ROLLED_BACK, ModelEvent, deterministic_id, send

    id_ = deterministic_id(MODEL_ROLLED_BACK, move.model, move.version, move.at.isoformat())
    payload = {"version": move.version, "previous": move.previous, "cause": "manual"}
    send(ModelEvent(name=MODEL_ROLLED_BACK, model=move.model, id=id_, occurred=move.at, payload=payload))


def roll_back(path: Path, to: int | None, settings: Settings, now: datetime) -> RolledBack:
    """Serve version `to`, or the champion before this one; raises VersionNotFound or AliasConflict."""
    name, registry = load_spec(path).name, Registry(settings.registry_url)
    current = registry.aliases(name).champion
    if current is None:
        raise VersionNotFound(f"{name} has no champion yet: run `perennial train {path}`")
    version = to if to is not None else _champion_before(registry, name, current)
    if version not in registry.versions(name):
        raise VersionNotFound(f"{name} has no version {version}; it has {_list(registry.versions(name))}")
    registry.promote(name, CHAMPION, version, expect=current, reason="rolled back by hand", now=now)
    return RolledBack(model=name, version=version, previous=current, at=now)


def _champion_before(registry: Registry, name: str, current: int) -> int:
    moves = [move for move in registry.history(name) if move.alias == CHAMPION and move.version == current]
    previous = moves[-1].previous if moves else None
    if previous is None:
        raise VersionNotFound(
            f"{name} version {current} is the first champion: name another with --to, one of {_list(registry.versions(name))}"
        )
    return previous


def _list(versions: tuple[int, ...]) -> str:
    return ", ".join(str(version) for version in versions)
