"""Where the parts of a table are: in a local directory, or below an fsspec URL with a copy of each on the local disk.

    {folder}/date=YYYY-MM-DD/part-00000.parquet

What reads parts is given local files. Those of a URL are copied when they are asked for, and again once the store says that they
have changed: that costs one listing each time, and what is new. A part is written as one object, so a lost connection leaves the
old one or the new one. Copies may be deleted at any time.
"""

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

from fsspec.implementations.local import LocalFileSystem
from pydantic import Field

from perennial.atomic_files import create_exclusively, locked, replace, replace_stored
from perennial.base import StoredModel, read_stored
from perennial.errors import SET_ASIDE, ArchiveError, StorageUnreachable
from perennial.object_store import open_files

DAY = "date="
COPIES = "archive-copies"
"""In a model's home: the directory of the copies of parts that are elsewhere."""


class PartFiles(Protocol):
    """The parts of one table, each a local path."""

    folder: Path

    def days(self) -> set[date]:
        """Dates that have parts."""

    def parts(self, day: date) -> list[Path]:
        """Local files with what the parts of a date hold now, in their order."""

    def parts_of(self, days: tuple[date, ...]) -> list[Path]:
        """The same for several dates, one after the other."""

    def create(self, path: Path, content: bytes) -> None:
        """Write a part that is new; raises ArchiveError, also where another writer has just created it."""

    def replace(self, path: Path, content: bytes) -> None:
        """Replace a part in one step; raises ArchiveError."""

    def remove(self, path: Path) -> None:
        """Delete a part; raises ArchiveError."""


def log_files(home: Path, url: str | None, table: str) -> PartFiles:
    """The parts of a table of a model's prediction log: in the model's home, or below a URL with their copies in the home."""
    if url is None:
        return LocalParts(home / table)
    if "://" not in url or url.startswith("file://"):
        return LocalParts(Path(url.removeprefix("file://")).absolute() / table)
    return StoredParts(home / COPIES / table, f"{url}/{table}")


class LocalParts:
    """Parts in a local directory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def days(self) -> set[date]:
        return {_day(path) for path in self.folder.glob(f"{DAY}*")}

    def parts(self, day: date) -> list[Path]:
        return sorted(path for path in (self.folder / day_folder(day)).glob("part-[0-9]*.parquet") if _is_part(path))

    def parts_of(self, days: tuple[date, ...]) -> list[Path]:
        return [path for day in days for path in self.parts(day)]

    def create(self, path: Path, content: bytes) -> None:
        _create(LocalFileSystem(), str(path), content)

    def replace(self, path: Path, content: bytes) -> None:
        with _naming(path):
            replace(LocalFileSystem(), str(path), content)

    def remove(self, path: Path) -> None:
        with _naming(path):
            path.unlink()
            with suppress(OSError):  # other parts are left
                path.parent.rmdir()


class Copies(StoredModel):
    """What the store said of each part when it was copied."""

    stamps: dict[str, str] = Field(default_factory=dict)


class StoredParts:
    """Parts below an fsspec URL; `folder` has a copy of each that was asked for."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, url
        self._files, self._root = open_files(url)

    def days(self) -> set[date]:
        return {_day(self.folder / name) for name in self._listed("")}

    def parts(self, day: date) -> list[Path]:
        return self._copied(day_folder(day), self._listed(f"/{day_folder(day)}"))

    def parts_of(self, days: tuple[date, ...]) -> list[Path]:
        if len(days) < 2:
            return [path for day in days for path in self.parts(day)]
        wanted = {day_folder(day) for day in days}
        listed = self._listed("")
        return self._copied(None, {name: one for name, one in listed.items() if name.partition("/")[0] in wanted}, listed)

    def create(self, path: Path, content: bytes) -> None:
        _create(self._files, self._object(path), content)

    def replace(self, path: Path, content: bytes) -> None:
        with _naming(self._object(path)):
            self._files.pipe_file(self._object(path), content)
        path.unlink(missing_ok=True)  # the copy may hold what was taken out on purpose

    def remove(self, path: Path) -> None:
        with _naming(self._object(path)):
            self._files.rm_file(self._object(path))
        path.unlink(missing_ok=True)

    def _object(self, path: Path) -> str:
        return f"{self._root}/{path.relative_to(self.folder).as_posix()}"

    def _listed(self, below: str) -> dict[str, str]:
        """The parts by their names, each with a digest of all that the store says of it."""
        with _naming(self.url, "read"):
            found: dict[str, Any] = self._files.find(f"{self._root}{below}")
        names = {path.removeprefix(f"{self._root}/"): one for path, one in found.items()}
        stamps = {name: sha256(repr(sorted(one.items())).encode()).hexdigest() for name, one in names.items()}
        return {name: stamp for name, stamp in sorted(stamps.items()) if name.startswith(DAY) and _is_part(Path(name))}

    def _copied(self, day: str | None, wanted: Mapping[str, str], listed: Mapping[str, str] | None = None) -> list[Path]:
        """The copies of some parts, made anew where they are not of what the store has; those of deleted parts go."""
        listed = wanted if listed is None else listed
        with locked(self.folder):
            known = _read_copies(self.folder)
            gone = [name for name in known if name not in listed and (day is None or name.startswith(f"{day}/"))]
            stale = [name for name, stamp in wanted.items() if known.get(name) != stamp or not (self.folder / name).exists()]
            for name in gone:
                (self.folder / name).unlink(missing_ok=True)
                known.pop(name)
            for name in stale:
                self._copy(name)
                known[name] = wanted[name]
            if gone or stale:
                replace_stored(self.folder / "copies.json", Copies(stamps=known))
        return [self.folder / name for name in wanted]

    def _copy(self, name: str) -> None:
        with _naming(f"{self._root}/{name}", "read"):
            replace(LocalFileSystem(), str(self.folder / name), self._files.cat_file(f"{self._root}/{name}"))


def _create(files: Any, path: str, content: bytes) -> None:
    with _naming(path):
        if not create_exclusively(files, path, content):
            raise FileExistsError(errno.EEXIST, "another writer has just created it")


def _read_copies(folder: Path) -> dict[str, str]:
    """What was copied; nothing where that cannot be read, so that all is copied anew."""
    path = folder / "copies.json"
    with suppress(OSError, ValueError):
        return dict(read_stored(Copies, path.read_bytes(), str(path)).stamps)
    return {}


def day_folder(day: date) -> str:
    """The directory of a date's parts, below that of the table."""
    return f"{DAY}{day.isoformat()}"


def _is_part(path: Path) -> bool:
    return path.suffix == ".parquet" and path.stem.removeprefix("part-").isdigit()


def _day(path: Path) -> date:
    """The date of a directory, or of a part in it; raises ArchiveError for one that is none."""
    folder = path if path.name.startswith(DAY) else path.parent
    try:
        return date.fromisoformat(folder.name.removeprefix(DAY))
    except ValueError:
        raise ArchiveError(f"{folder} is no date's directory: move it elsewhere, or {SET_ASIDE}") from None


@contextmanager
def _naming(where: Path | str, verb: str = "written") -> Iterator[None]:
    """What disk or store refuses is an ArchiveError that names the part."""
    try:
        yield
    except (OSError, StorageUnreachable) as error:
        raise ArchiveError(
            f"{where} cannot be {verb} ({getattr(error, 'strerror', None) or error}): free space or mend the directory; "
            "nothing was acknowledged, the stream keeps what is not archived"
        ) from error
