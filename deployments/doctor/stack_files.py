"""What may be damaged of the stack's own files: `stack.json`, the list of specs, Prefect's database, and files never finished."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path

from deployments.doctor.damage import Damage, Quarantine, Repair, repair_command, set_aside
from deployments.doctor.monitor_files import wrong_with
from deployments.doctor.registry_files import LEFT_OVER
from deployments.stack.programs import prefect_home
from deployments.stack.state import Stack, load_stack, state_dir
from perennial.errors import PerennialError
from perennial.fleet import SpecList, write_spec_list

DATABASE = "prefect.db"
LEFT = ("**/.staged-*", "**/.*.partial")  # names of files that become others when they are finished


def stack_damages(home: Path, *, runs: bool) -> Iterator[Damage]:
    """Everything that is wrong with the stack's files; while it runs, its database is not looked at."""
    directory = state_dir(home)
    file, specs = directory / "stack.json", directory / "specs.json"
    if wrong := wrong_with(file, Stack):
        if runs:
            yield Damage(file, wrong, "perennial down, then perennial doctor --repair")
        else:
            yield set_aside(file, wrong, "", "`perennial up SPEC` writes it anew, perhaps with other ports")
    if wrong := wrong_with(specs, SpecList):
        yield Damage(specs, wrong, repair_command(""), _list_specs(home, specs))
    database = prefect_home(home) / DATABASE
    if not runs and database.exists() and (wrong := _wrong_with_database(database)):
        yield Damage(database, wrong, repair_command(""), _set_database_aside(database))


def left_over(folder: Path, model: str, now: datetime) -> Iterator[Damage]:
    """Files that a process had begun and never finished: they are old, and no process will."""
    for path in sorted(path for pattern in LEFT for path in folder.glob(pattern)):
        if now.timestamp() - path.stat().st_mtime > LEFT_OVER.total_seconds():
            yield set_aside(path, "was never finished: its writer died", model, "nothing reads it")


def _list_specs(home: Path, specs: Path) -> Repair:
    def repair(quarantine: Quarantine) -> str:
        kept = quarantine.move(specs)
        try:
            stack = load_stack(home)
        except PerennialError:
            stack = None
        if stack is None:
            return f"moved to {kept}; `perennial up SPEC` writes it anew"
        write_spec_list(specs, [model.spec for model in stack.models])
        return f"written anew from stack.json; the old file is {kept}"

    return repair


def _wrong_with_database(database: Path) -> str:
    try:
        with closing(sqlite3.connect(database)) as connection:
            said = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.Error as error:
        said = str(error)
    return "" if said == "ok" else f"is damaged ({said.splitlines()[-1]})"


def _set_database_aside(database: Path) -> Repair:
    def repair(quarantine: Quarantine) -> str:
        for end in ("-wal", "-shm"):
            if (beside := database.with_name(database.name + end)).exists():
                quarantine.move(beside)
        return f"moved to {quarantine.move(database)}; the next `perennial up` makes another one, without the runs of before"

    return repair
