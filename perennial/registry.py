"""The model registry: immutable versions and movable aliases on any fsspec path.

    models/{name}/numbers/{n}       empty: the number is taken, also when the version's folder is deleted later
    models/{name}/versions/{n}/     files of one version, with manifest.json: their SHA-256 digests
    models/{name}/moves/{g}.json    the g-th move of an alias; creating it is the compare-and-set
    models/{name}/aliases.json      where the aliases stand after the newest move

Files are not overwritten, but for `aliases.json`, which repeats what the moves say. A number is given once, for services and
the prediction log know versions by number (tests/cases/test_faults.py). A version that was rolled back becomes champion again by
a person's move only (tests/perennial/test_rollbacks.py).
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from fsspec.implementations.local import LocalFileSystem
from pydantic import AwareDatetime, Field, ValidationError

from perennial.atomic_files import create_exclusively, replace
from perennial.base import Stored, StoredModel, read_stored
from perennial.errors import AliasConflict, CorruptVersion, RegistryError, StaleToken, VersionNotFound, VersionWithdrawn
from perennial.object_store import open_files

MANIFEST = "manifest.json"
CHAMPION = "champion"
CHALLENGER = "challenger"
APPROVAL = "approval"  # the version that has passed the gate and waits for a person (`gate.require_approval`)
REJECTED = "rejected"  # the version that the gate refused last
TRAINING = "training"  # no version, but a claim to train the model: a move that gives its run the next token
CONTRACT = "contract"  # the version that was champion when the row contracts of earlier champions were closed
REQUEST, RUN = "request", "run"  # in the evidence of moves: the id of the event that one answers, the run that claims
_ATTEMPTS = 64  # publishers that may race for a version number before one gives up


class Manifest(StoredModel):
    """The files of a version, each with the SHA-256 of its content."""

    files: dict[str, str]


class Move(StoredModel):
    """One move of an alias, and `positions` after it; `version` None means the alias was taken away.

    `evidence` is what a promotion rests on; `promised` in it is the relative change of the loss that the gate measured.
    `token` is the number of claims to train the model by then: the fencing token of the newest.
    """

    generation: int
    alias: str
    version: int | None
    previous: int | None
    at: AwareDatetime
    reason: str
    positions: dict[str, int]
    token: int = 0
    rollback: bool = False
    by_person: bool = False
    evidence: dict[str, Any] = Field(default_factory=dict)


class Aliases(StoredModel):
    """Where the aliases stand after `generation` moves."""

    generation: int = 0
    positions: dict[str, int] = Field(default_factory=dict)
    token: int = 0
    moved_at: AwareDatetime | None = None

    @property
    def champion(self) -> int | None:
        return self.positions.get(CHAMPION)

    @property
    def challenger(self) -> int | None:
        return self.positions.get(CHALLENGER)


class Registry:
    """Versions and aliases of all models below one fsspec URL.

    Who has claimed the training of a model writes with the `token` of that claim, and raises StaleToken once there is a newer
    one. Claims are moves, so that no claim can come between the look at the token and the move that rests on it.
    """

    def __init__(self, url: str, token: int | None = None) -> None:
        self.url, self._token = url, token
        self._fs, self._root = open_files(url)

    def publish(self, name: str, make_files: Callable[[int], Mapping[str, bytes]]) -> int:
        """Write the next version and return its number; `make_files` gets the number and gives the files.

        The manifest is written last, exclusively: a version without one does not exist, and two
        publishers of the same number cannot both win.
        """
        first = max(self._numbers(name, "numbers") + self._numbers(name, "versions"), default=0) + 1
        for number in range(first, first + _ATTEMPTS):
            if create_exclusively(self._fs, f"{self._model(name)}/numbers/{number}", b""):
                self._write(name, number, make_files(number))
                return number
        raise RegistryError(f"no free version of {name!r} in {self.url} after {_ATTEMPTS} tries: too many publishers at once")

    def read(self, name: str, version: int, *only: str) -> dict[str, bytes]:
        """The files of a version, or `only` some; raises VersionNotFound, or CorruptVersion when a digest does not match."""
        folder, files = self._version(name, version), {}
        path, fix = f"{folder}/{MANIFEST}", f"restore it or promote another version of {name!r}"
        if (manifest := self._stored(Manifest, path, fix, CorruptVersion)) is None:
            raise self._no_such(name, version)
        for file, digest in ((file, digest) for file, digest in manifest.files.items() if not only or file in only):
            try:
                files[file] = bytes(self._fs.cat_file(f"{folder}/{file}"))
            except FileNotFoundError:
                raise CorruptVersion(f"{folder}/{file} of {name!r} version {version} is missing: {fix}") from None
            if (found := _digest(files[file])) != digest:
                wrong = f"does not match its manifest (recorded {digest[:12]}, found {found[:12]})"
                raise CorruptVersion(f"{folder}/{file} {wrong}: {fix}")
        return files

    def names(self) -> tuple[str, ...]:
        """The models that have a complete version, by name."""
        folder = f"{self._root}/models"
        self._fs.invalidate_cache(folder)
        try:
            entries: list[Any] = self._fs.ls(folder, detail=False)
        except FileNotFoundError:
            return ()
        names = sorted(str(entry).rstrip("/").rsplit("/", 1)[-1] for entry in entries)
        return tuple(name for name in names if self.versions(name))

    def versions(self, name: str) -> tuple[int, ...]:
        """Numbers of all complete versions, ascending."""
        return tuple(number for number in self._numbers(name, "versions") if self._exists(name, number))

    def aliases(self, name: str) -> Aliases:
        path, fix = (
            f"{self._model(name)}/aliases.json",
            "delete it, it is rebuilt from the moves beside it (`perennial doctor --repair` does)",
        )
        aliases = self._stored(Aliases, path, fix) or Aliases()
        # A promoter may have died between its move and the pointer: follow the moves that are there.
        while (move := self._move(name, aliases.generation + 1)) is not None:
            aliases = aliases_after(move)
        return aliases

    def stamp(self, name: str) -> tuple[object, ...] | None:
        """What differs after each move of an alias, for two `stat` calls; None where the storage is not a local one."""
        if not isinstance(self._fs, LocalFileSystem):
            return None
        return tuple(_file_stamp(f"{self._model(name)}/{path}") for path in ("aliases.json", "moves"))

    def promote(
        self,
        name: str,
        alias: str,
        version: int,
        *,
        expect: int | None,
        reason: str,
        now: datetime,
        by_person: bool = False,
        evidence: Mapping[str, Any] | None = None,
    ) -> Aliases:
        """Move an alias from `expect` to `version`; raises AliasConflict when it does not stand there any more.

        Raises VersionWithdrawn where a rolled-back version would become champion without a person.
        """
        if alias == CHAMPION and not by_person and (rollback := self.withdrawn(name).get(version)) is not None:
            raise VersionWithdrawn(describe_withdrawal(name, version, rollback))
        change = {"version": version, "reason": reason, "at": now, "by_person": by_person, "evidence": dict(evidence or {})}
        return self._move_alias(name, alias, version, expect, change)

    def roll_back(
        self,
        name: str,
        version: int,
        *,
        expect: int,
        reason: str,
        now: datetime,
        by_person: bool = False,
        evidence: Mapping[str, Any] | None = None,
    ) -> Aliases:
        """Make an earlier version champion again and withdraw `expect`; raises AliasConflict when that serves no more."""
        change = {"version": version, "reason": reason, "at": now, "by_person": by_person, "evidence": dict(evidence or {})}
        return self._move_alias(name, CHAMPION, version, expect, {**change, "rollback": True})

    def claim(self, name: str, run: str, *, expect: int, reason: str, now: datetime) -> int:
        """Claim the training of a model for a run: the new token, with which every older one is stale.

        `expect` is the token that stands; raises AliasConflict when another claim or move has come first.
        """
        current = self.aliases(name)
        if current.token != expect:
            raise AliasConflict(f"{name!r} was claimed by another run: claim {current.token} stands, not {expect}")
        token, change = expect + 1, {"at": now, "reason": reason, "evidence": {RUN: run}}
        self._append(name, Move(alias=TRAINING, version=None, previous=None, token=token, **_base(current), **change))
        return token

    def require_token(self, name: str, aliases: Aliases | None = None) -> None:
        """Raises StaleToken where this registry was opened with a token, and a newer claim was made since."""
        if self._token is None:
            return
        standing = (aliases or self.aliases(name)).token
        if standing != self._token:
            lost = f"claim {self._token} to train {name!r} was succeeded by claim {standing}"
            raise StaleToken(f"{lost}: this run was taken for dead, and another one has its work; nothing is to be done")

    def _move_alias(self, name: str, alias: str, version: int, expect: int | None, change: Mapping[str, Any]) -> Aliases:
        if not self._exists(name, version):
            raise self._no_such(name, version)
        current = self.aliases(name)
        self.require_token(name, current)
        standing = current.positions.get(alias)
        if standing != expect:
            moved = f"is at version {standing}, not {expect}: it was moved"
            raise AliasConflict(f"{alias} of {name!r} {moved}; read it, decide again")
        change = {**_base(current), "positions": {**current.positions, alias: version}, **change}
        return self._append(name, Move(alias=alias, previous=expect, token=current.token, **change))

    def _append(self, name: str, move: Move) -> Aliases:
        """Write the next move; raises AliasConflict when somebody else has written it meanwhile."""
        path = f"{self._model(name)}/moves/{move.generation:08d}.json"
        if not create_exclusively(self._fs, path, move.model_dump_json().encode()):
            raise AliasConflict(f"{move.alias} of {name!r}: another one moved an alias just now; read it, decide again")
        aliases = aliases_after(move)
        replace(self._fs, f"{self._model(name)}/aliases.json", aliases.model_dump_json().encode())
        return aliases

    def last_move(self, name: str, alias: str) -> Move | None:
        """The newest move of an alias; of the champion: how the version that serves came to do so."""
        return next((move for move in self.moves(name) if move.alias == alias), None)

    def withdrawn(self, name: str) -> dict[int, Move]:
        """The versions that were rolled back and that no person has made champion since, each with its rollback."""
        found: dict[int, Move] = {}
        for move in self.history(name):
            if move.alias != CHAMPION or move.version is None:
                continue
            if move.rollback and move.previous is not None and move.version < move.previous:
                found[move.previous] = move
            if move.by_person:
                found.pop(move.version, None)
        return found

    def awaiting_approval(self, name: str) -> Move | None:
        """The move by which a version came to wait for a person; None where none waits, or the champion has changed since."""
        newest = next((move for move in self.moves(name) if move.alias in (APPROVAL, CHAMPION)), None)
        return newest if newest is not None and newest.alias == APPROVAL else None

    def moves(self, name: str) -> Iterator[Move]:
        """Every move of every alias, newest first; each is read when it is asked for."""
        for generation in range(self.aliases(name).generation, 0, -1):
            if (move := self._move(name, generation)) is not None:
                yield move

    def history(self, name: str) -> tuple[Move, ...]:
        """Every move of every alias, oldest first."""
        return tuple(self.moves(name))[::-1]

    def _move(self, name: str, generation: int) -> Move | None:
        path = f"{self._model(name)}/moves/{generation:08d}.json"
        return self._stored(
            Move, path, "restore it; the moves before it say where the aliases stood, and `perennial doctor --repair` rebuilds it"
        )

    def _stored(self, kind: type[Stored], path: str, fix: str, error: type[RegistryError] = RegistryError) -> Stored | None:
        """A stored value, None where there is no file; raises `error` naming the file, what is wrong with it, and the fix."""
        try:
            return read_stored(kind, self._fs.cat_file(path), path)
        except FileNotFoundError:
            return None
        except ValidationError as invalid:
            first = invalid.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"])) or "the file"
            raise error(f"{path} cannot be read ({where}: {first['msg']}): {fix}") from invalid

    def _write(self, name: str, number: int, files: Mapping[str, bytes]) -> None:
        folder = self._version(name, number)
        self._fs.makedirs(folder, exist_ok=True)
        for file, content in files.items():
            self._fs.pipe_file(f"{folder}/{file}", content)
        self.require_token(name)
        manifest = Manifest(files={file: _digest(content) for file, content in sorted(files.items())})
        if not create_exclusively(self._fs, f"{folder}/{MANIFEST}", manifest.model_dump_json(indent=1).encode()):
            raise RegistryError(f"{folder} is complete already; a version never changes")

    def _no_such(self, name: str, version: int) -> VersionNotFound:
        known = list(self.versions(name)) or "none"
        return VersionNotFound(f"{name!r} has no version {version} in {self.url}; it has {known}")

    def _numbers(self, name: str, kind: str) -> list[int]:
        folder = f"{self._model(name)}/{kind}"
        self._fs.invalidate_cache(folder)
        try:
            entries: list[Any] = self._fs.ls(folder, detail=False)
        except FileNotFoundError:
            return []
        names = (str(entry).rstrip("/").rsplit("/", 1)[-1] for entry in entries)
        return sorted(int(entry) for entry in names if entry.isdigit())

    def _exists(self, name: str, version: int) -> bool:
        return bool(self._fs.exists(f"{self._version(name, version)}/{MANIFEST}"))

    def _model(self, name: str) -> str:
        return f"{self._root}/models/{name}"

    def _version(self, name: str, version: int) -> str:
        return f"{self._model(name)}/versions/{version}"


def _file_stamp(path: str) -> tuple[int, ...] | None:
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_ctime_ns, found.st_ino, found.st_size


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _base(aliases: Aliases) -> dict[str, Any]:
    """What a move is that follows on `aliases` and changes none."""
    return {"generation": aliases.generation + 1, "positions": aliases.positions}


def aliases_after(move: Move) -> Aliases:
    """Where the aliases stand after a move, as `aliases.json` says it."""
    return Aliases(generation=move.generation, positions=move.positions, token=move.token, moved_at=move.at)


def describe_withdrawal(name: str, version: int, rollback: Move) -> str:
    """Why a version does not serve again by itself, and what a person can do about it."""
    when = f"version {version} of {name!r} was rolled back on {rollback.at:%Y-%m-%d %H:%M} ({rollback.reason})"
    return f"{when} and returns by hand only: perennial rollback SPEC --to {version}"
