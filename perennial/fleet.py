"""The fleet's specs: files, directories of files, and lists of files, as commands and flows are given them, made into files.

A list is a JSON file that `perennial up` writes below the home directory, so that a monitor that follows models learns of those
that are added and removed.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from pydantic import ValidationError

from perennial.atomic_files import replace_stored
from perennial.base import StoredModel, read_stored
from perennial.errors import SpecError


class SpecList(StoredModel):
    """Paths of specs, as they were given."""

    specs: tuple[str, ...] = ()


def spec_files(given: Iterable[str | Path]) -> tuple[str, ...]:
    """The spec files among what was given, each once, in their order; raises SpecError for a directory or list without any."""
    return tuple(dict.fromkeys(file for one in given for file in _files(str(one))))


def write_spec_list(path: Path, specs: Iterable[str | Path]) -> None:
    """Write a list of specs at once or not at all."""
    replace_stored(path, SpecList(specs=tuple(map(str, specs))))


def _files(given: str) -> Iterator[str]:
    path = Path(given)
    if path.is_dir():
        found = sorted(str(file) for file in path.glob("*.toml"))
        if not found:
            raise SpecError(f"{given} holds no spec: a spec is a file whose name ends in .toml")
        yield from found
    elif path.suffix == ".json":
        yield from _listed(path)
    else:
        yield given


def _listed(path: Path) -> tuple[str, ...]:
    try:
        return read_stored(SpecList, path.read_bytes(), str(path)).specs
    except (OSError, ValidationError) as error:
        raise SpecError(f"{path} is no list of specs ({error}): `perennial up SPEC` writes it anew") from error
