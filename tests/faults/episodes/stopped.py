"""Damage that a person mends: the stack is down, files of its home are damaged, `perennial doctor --repair`, and up again."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import polars as pl

from perennial.log_columns import ID
from tests.support.stack import perennial

GARBAGE = b'{"generation": "first", \x00'


@dataclass(frozen=True)
class StoppedStack:
    """A home whose stack can be ended and started with the settings it had."""

    home: Path
    spec: Path
    environ: dict[str, str]

    def up(self) -> None:
        """As a person starts it again."""
        perennial("up", str(self.spec), **self.environ)

    def damage(self, seed: int) -> tuple[list[str], set[str]]:
        """Down, damage, repair, up; which files were damaged, and the ids that went with a part of the archive."""
        perennial("down", **self.environ)
        kinds = Random(seed).sample(KINDS, 3)
        gone: set[str] = set()
        for kind in kinds:
            gone |= kind(self.home)
        perennial("doctor", "--repair", **self.environ)
        self.up()
        return [kind.__name__.replace("_", " ") for kind in kinds], gone


def alias(home: Path) -> set[str]:
    """`aliases.json` is garbage."""
    (home / "registry/models/small/aliases.json").write_bytes(GARBAGE)
    return set()


def archive_part(home: Path) -> set[str]:
    """A part of the archive is cut in half: its rows are lost, and no others."""
    part = min((home / "small/predictions").rglob("*.parquet"))
    gone = set(pl.read_parquet(part, columns=[ID])[ID])
    content = part.read_bytes()
    part.write_bytes(content[: len(content) // 2])
    return gone


def monitor_state(home: Path) -> set[str]:
    """The monitor's state is garbage."""
    (home / "small/monitor/state.json").write_bytes(GARBAGE)
    return set()


def ledger_step(home: Path) -> set[str]:
    """The first step of the newest decision is garbage."""
    max((home / "small/decisions").glob("*/0001.json"), key=lambda path: path.stat().st_mtime).write_bytes(GARBAGE)
    return set()


def spec_list(home: Path) -> set[str]:
    """The list of the models that are served and followed is garbage."""
    (home / "stack/specs.json").write_bytes(GARBAGE)
    return set()


KINDS: Sequence[Callable[[Path], set[str]]] = (alias, archive_part, monitor_state, spec_list)
