"""What may be damaged of a model in a registry that is a directory: moves, `aliases.json`, versions.

Damaged moves are rebuilt from those around them, and `aliases.json` from the moves. A damaged version is set aside, but for the
champion, which answers from the memory of services until a person lets another version serve.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

from deployments.doctor.damage import Damage, Quarantine, Repair, repair_command, set_aside
from perennial.alias_repair import StoredMoves, read_moves, write_aliases
from perennial.errors import NewerFormat, PerennialError
from perennial.model_loading import load_card
from perennial.registry import CHAMPION, MANIFEST, Registry

LEFT_OVER = timedelta(hours=1)
"""Age from which a file that was never finished is one of a process that died: publishing a version takes seconds."""


def registry_damages(registry: Registry, folder: Path, model: str, now: datetime) -> Iterator[Damage]:
    """Everything that is wrong in a model's directory of the registry; moves first, for what comes later rests on them."""
    stored = read_moves(folder)
    yield from _move_damages(stored, model)
    if not stored.pointer_is_right():
        wrong = "cannot be read" if stored.pointer is None else "does not say what the moves beside it say"
        yield Damage(folder / "aliases.json", wrong, repair_command(model), _rebuild_aliases(folder))
    yield from _version_damages(registry, folder, stored, model, now)


def _move_damages(stored: StoredMoves, model: str) -> Iterator[Damage]:
    rebuilt = stored.rebuilt()
    for generation in stored.gaps:
        path = stored.path(generation)
        wrong = "cannot be read" if path.exists() else "is missing"
        if generation in rebuilt:
            yield Damage(path, wrong, repair_command(model), _rebuild_move(stored.folder, generation))
        elif path.exists():
            yield set_aside(path, wrong, model, "the aliases stand where the move before it put them")


def _rebuild_move(folder: Path, generation: int) -> Repair:
    def repair(quarantine: Quarantine) -> str:
        stored = read_moves(folder)
        path, move = stored.path(generation), stored.rebuilt()[generation]
        kept = f"; the old file is {quarantine.move(path)}" if path.exists() else ""
        path.write_bytes(move.model_dump_json().encode())
        return f"rebuilt: {move.alias} from {move.previous} to {move.version}; its reason is lost{kept}"

    return repair


def _rebuild_aliases(folder: Path) -> Repair:
    def repair(quarantine: Quarantine) -> str:
        path, aliases = folder / "aliases.json", read_moves(folder).standing()
        kept = quarantine.copy(path)
        write_aliases(path, aliases)
        positions = ", ".join(f"{alias} {version}" for alias, version in sorted(aliases.positions.items()))
        return f"rebuilt from the moves: {positions or 'no alias'}; the old file is {kept}"

    return repair


def _version_damages(registry: Registry, folder: Path, stored: StoredMoves, model: str, now: datetime) -> Iterator[Damage]:
    champion, sound, damages = stored.standing().positions.get(CHAMPION), list[int](), dict[int, str]()
    numbers = sorted(int(path.name) for path in folder.glob("versions/*") if path.name.isdigit())
    for number in numbers:
        if (folder / "versions" / str(number) / MANIFEST).exists():
            wrong = _wrong_with(registry, model, number)
            damages |= {number: wrong} if wrong else {}
            sound += [] if wrong else [number]
        elif now.timestamp() - (folder / "versions" / str(number)).stat().st_mtime > LEFT_OVER.total_seconds():
            damages[number] = "was never finished: its publisher died"
    if champion is not None and champion not in numbers:
        damages[champion] = "is champion and missing"
    for number, wrong in damages.items():
        path = folder / "versions" / str(number)
        if number != champion:
            yield set_aside(path, wrong, model, "its number is not given again")
        else:
            others = [one for one in sound if one != champion]
            command = f"perennial rollback SPEC --to {others[-1]}" if others else "perennial train SPEC"
            yield Damage(path, wrong, f"restore it, or {command}")


def _wrong_with(registry: Registry, model: str, number: int) -> str:
    """What is wrong with the files of a version; nothing where they are what its manifest says, or another release's."""
    try:
        registry.read(model, number)
        load_card(registry, model, number)
    except NewerFormat:
        return ""
    except (PerennialError, OSError) as error:
        return str(error).partition(": restore it")[0]
    return ""
