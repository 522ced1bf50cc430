"""Closing a row contract by hand: the alias `contract` moves to the champion, and services refuse what only earlier ones took."""

from datetime import datetime
from pathlib import Path

from perennial.errors import VersionNotFound
from perennial.registry import CONTRACT, Registry
from perennial.settings import Settings
from perennial.spec import load_spec


def close_contract(path: Path, settings: Settings, now: datetime) -> int:
    """Accept rows by the champion's contract alone, and by later ones; returns its version. Raises VersionNotFound."""
    name, registry = load_spec(path).name, Registry(settings.registry_url)
    aliases = registry.aliases(name)
    if aliases.champion is None:
        raise VersionNotFound(f"{name} has no champion yet: run `perennial train {path}`")
    standing = aliases.positions.get(CONTRACT)
    registry.promote(name, CONTRACT, aliases.champion, expect=standing, reason="contract closed by hand", now=now)
    return aliases.champion
