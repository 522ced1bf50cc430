"""What the doctor finds, and the quarantine, to which damaged files are moved: nothing is deleted.

{home}/stack/quarantine/{time}/{path below the home}
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from deployments.stack.state import state_dir

ELSEWHERE = 4  # parts of a path outside of the home that name it in the quarantine


class Quarantine:
    """Where one run of the doctor moves files; the directory appears with the first one."""

    def __init__(self, home: Path, now: datetime) -> None:
        self._home = home.absolute()
        self.folder = state_dir(home) / "quarantine" / f"{now:%Y%m%dT%H%M%S}"

    def move(self, path: Path) -> Path:
        """Move a file or a directory aside; returns where it is now."""
        target = self._target(path)
        shutil.move(path, target)
        return target

    def copy(self, path: Path) -> Path:
        """Keep a copy of a file that is about to be replaced; returns where it is."""
        return Path(shutil.copy2(path, self._target(path)))

    def _target(self, path: Path) -> Path:
        path = path.absolute()
        below = path.relative_to(self._home) if path.is_relative_to(self._home) else Path(*path.parts[-ELSEWHERE:])
        target = self.folder / below
        target.parent.mkdir(parents=True, exist_ok=True)
        return target


Repair = Callable[[Quarantine], str]
"""Mends one damage and returns what was done."""


@dataclass(frozen=True)
class Damage:
    """A damaged file: what is wrong with it, and either how `--repair` mends it or the command by which a person does."""

    path: Path
    wrong: str
    command: str
    repair: Repair | None = None

    def __str__(self) -> str:
        return f"{self.path}: {self.wrong}: {self.command}"


def repair_command(model: str) -> str:
    """The command that repairs what is damaged of a model."""
    return f"perennial doctor {model} --repair".replace("  ", " ")


def set_aside(path: Path, wrong: str, model: str, consequence: str) -> Damage:
    """A damage that is mended by moving the file to the quarantine; `consequence` is what then is so."""
    return Damage(path, wrong, repair_command(model), lambda quarantine: f"moved to {quarantine.move(path)}; {consequence}")
