"""Prefect's empty database, migrated once for all tests: its first start in a home takes ten seconds, most of them migrations.

The demo's tests and those of the installed package start without it, as a person's first start does.
"""

import os
import shutil
import sqlite3
import subprocess
import tempfile
from contextlib import closing
from functools import cache
from importlib.metadata import version
from pathlib import Path

from deployments.stack.programs import prefect_home
from perennial.atomic_files import locked
from tests.support.processes import python

NAME = "prefect.db"


def copy_migrated_database(home: Path) -> None:
    """Put the database into a Prefect home that has none."""
    home.mkdir(parents=True, exist_ok=True)
    shutil.copy(_migrated(), home / NAME)


def prepare_home(home: Path) -> None:
    """Put the database where the stack of this home directory, which has none yet, will look for it."""
    copy_migrated_database(prefect_home(home.absolute()))


@cache
def _migrated() -> Path:
    """The file that all test processes of this user share; the first one makes it, and the others wait."""
    directory = Path(tempfile.gettempdir()) / f"perennial-{os.getuid()}-test-prefect-{version('prefect')}"
    directory.mkdir(mode=0o700, exist_ok=True)
    with locked(directory):
        if not (directory / NAME).exists():
            _migrate(directory)
    return directory / NAME


def _migrate(directory: Path) -> None:
    with tempfile.TemporaryDirectory(dir=directory) as home:
        command = python("-m", "prefect", "server", "database", "upgrade", "-y")
        subprocess.run(command, env={**os.environ, "PREFECT_HOME": home}, check=True, capture_output=True)
        made = Path(home, NAME)
        with closing(sqlite3.connect(made)) as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        made.rename(directory / NAME)
