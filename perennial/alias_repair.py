"""Alias repair: the moves of a model's aliases read one by one, and what a damaged one of them, or `aliases.json`, has said.

A move carries where the aliases stood after it, so its neighbours, and `aliases.json` for the newest, tell what a damaged or a
missing one did: all but its reason, its evidence and whether a person made it. `aliases.json` only repeats the newest move.
For a registry that is a directory.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fsspec.implementations.local import LocalFileSystem
from pydantic import ValidationError

from perennial.atomic_files import replace
from perennial.base import read_stored
from perennial.errors import NewerFormat
from perennial.registry import CHAMPION, Aliases, Move, aliases_after

REBUILT = "rebuilt from the moves around it: the file of this move could not be read"
"""The reason of a move whose own is lost."""


@dataclass(frozen=True)
class StoredMoves:
    """What a model's directory holds of aliases: the moves that can be read, by generation, and `aliases.json` if it can be."""

    folder: Path
    moves: Mapping[int, Move]
    pointer: Aliases | None

    @property
    def newest(self) -> int:
        """The last generation that anything is known of."""
        named = (int(path.stem) for path in self.folder.glob("moves/*.json") if path.stem.isdigit())
        return max([*self.moves, *named], default=0)

    @property
    def gaps(self) -> tuple[int, ...]:
        """Generations whose move is missing or cannot be read."""
        return tuple(generation for generation in range(1, self.newest + 1) if generation not in self.moves)

    def path(self, generation: int) -> Path:
        return self.folder / "moves" / f"{generation:08d}.json"

    def pointer_is_right(self) -> bool:
        """Whether `aliases.json` is what a move has written; it may be behind, for readers follow the moves from there."""
        if self.pointer is None:
            return not (self.folder / "aliases.json").exists()
        if not self.pointer.generation:
            return not self.pointer.positions
        move = self.moves.get(self.pointer.generation)
        known = self.pointer.generation in self.gaps
        return known if move is None else move.positions == self.pointer.positions

    def rebuilt(self) -> dict[int, Move]:
        """The moves of the gaps, as far as their neighbours tell them."""
        moves = dict(self.moves)
        for generation in self.gaps:
            if (move := self._between(moves, generation)) is not None:
                moves[generation] = move
        return {generation: moves[generation] for generation in self.gaps if generation in moves}

    def standing(self) -> Aliases:
        """Where the aliases stand after the newest move that can be read or rebuilt."""
        moves = {**self.moves, **self.rebuilt()}
        return aliases_after(moves[max(moves)]) if moves else Aliases()

    def _between(self, moves: Mapping[int, Move], generation: int) -> Move | None:
        before = moves[generation - 1].positions if generation - 1 in moves else None if generation > 1 else {}
        follower, pointer = moves.get(generation + 1), self.pointer
        if follower is not None:
            after = {**follower.positions, follower.alias: follower.previous}
            at = follower.at
        elif pointer is not None and pointer.generation == generation and pointer.moved_at is not None:
            after, at = {**pointer.positions}, pointer.moved_at
        else:
            return None
        positions = {alias: version for alias, version in after.items() if version is not None}
        if before is None or len(changed := list(_changed(before, positions))) != 1:
            return None
        alias, version, previous = changed[0], positions.get(changed[0]), before.get(changed[0])
        # A rolled-back version that counted as any other could become champion again by itself.
        back = alias == CHAMPION and previous is not None and version is not None and version < previous
        about = {"alias": alias, "version": version, "previous": previous, "rollback": back, "reason": REBUILT}
        return Move(generation=generation, at=at, positions=positions, **about)


def read_moves(folder: Path) -> StoredMoves:
    """What the directory of a model in a registry holds."""
    moves, pointer = {}, None
    for path in sorted(folder.glob("moves/*.json")):
        with suppress(OSError, ValidationError, NewerFormat):
            move = read_stored(Move, path.read_bytes(), str(path))
            moves[move.generation] = move
    with suppress(OSError, ValidationError, NewerFormat):
        pointer = read_stored(Aliases, (folder / "aliases.json").read_bytes(), "aliases.json")
    return StoredMoves(folder, moves, pointer)


def write_aliases(path: Path, aliases: Aliases) -> None:
    """Replace `aliases.json` in one step."""
    replace(LocalFileSystem(), str(path), aliases.model_dump_json().encode())


def _changed(before: Mapping[str, int], after: Mapping[str, int]) -> Iterator[str]:
    return (alias for alias in {**before, **after} if before.get(alias) != after.get(alias))
