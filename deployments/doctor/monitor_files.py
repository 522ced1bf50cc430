"""What may be damaged of what the monitor keeps of a model: its state, windows, decisions, trouble, label source and archive.

The state is derived anew from the windows. What says nothing that is needed again is set aside; so is a Parquet part, whose
rows are lost unless a backup has it, and no other part's with it.
"""

from collections.abc import Iterator
from contextlib import suppress
from datetime import date, datetime, timedelta
from pathlib import Path

import polars as pl
from pydantic import ValidationError

from deployments.doctor.damage import Damage, Quarantine, Repair, repair_command, set_aside
from monitoring.ledger import LedgerStep, Receipt, record_outcome
from monitoring.state import STATE, MonitorState, WindowResult, save_state
from monitoring.state_repair import derive_state
from monitoring.trouble import Trouble
from perennial.base import StoredModel, read_stored
from perennial.errors import NewerFormat, PerennialError
from perennial.model_loading import load_card
from perennial.registry import Registry
from tasks.data.label_source import LabelSourceState

AHEAD = timedelta(days=1)
"""How far ahead of the clock windows may be closed: the monitor closes none that is not over."""


def monitor_damages(home: Path, registry: Registry, model: str, now: datetime) -> Iterator[Damage]:
    """Everything that is wrong below a model's home of what the monitor writes."""
    yield from _state_damages(home, model, now)
    for path in sorted(home.glob("windows/*.json")):
        if wrong := wrong_with(path, WindowResult):
            yield set_aside(path, wrong, model, "history and page do without this window")
    for path in sorted(home.glob("requests/*.json")):
        if wrong := wrong_with(path, Receipt):
            yield Damage(path, wrong, repair_command(model), _mend_receipt(path, home, registry, model, now))
    for path in sorted(home.glob("decisions/*/[0-9]*.json")):
        if wrong := wrong_with(path, LedgerStep):
            yield set_aside(path, wrong, model, "the decision goes on from its other steps")
    if wrong := wrong_with(home / "monitor" / "trouble.json", Trouble):
        yield set_aside(home / "monitor" / "trouble.json", wrong, model, "the monitor writes it anew if the trouble lasts")
    yield from _label_source_damages(home, model)
    for table in ("predictions", "labels"):
        yield from _archive_damages(home / table, model)


def wrong_with(path: Path, kind: type[StoredModel]) -> str:
    """What is wrong with a stored value; nothing where it can be read, is not there, or is a newer release's."""
    try:
        read_stored(kind, path.read_bytes(), str(path))
    except (FileNotFoundError, NewerFormat):
        return ""
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        return f"cannot be read ({'.'.join(map(str, first['loc'])) or 'the file'}: {first['msg']})"
    return ""


def _state_damages(home: Path, model: str, now: datetime) -> Iterator[Damage]:
    path = home / STATE
    wrong = wrong_with(path, MonitorState)
    if not wrong and path.exists():
        with suppress(NewerFormat):
            until = read_stored(MonitorState, path.read_bytes(), str(path)).closed_until
            wrong = f"says that windows are closed until {until:%Y-%m-%d %H:%M}" if until and until > now + AHEAD else ""
    if wrong:
        yield Damage(path, wrong, repair_command(model), _derive_state(home))


def _derive_state(home: Path) -> Repair:
    def repair(quarantine: Quarantine) -> str:
        kept, state = quarantine.move(home / STATE), derive_state(home)
        save_state(home, state)
        until = f"closed until {state.closed_until:%Y-%m-%d %H:%M}" if state.closed_until else "every window is judged anew"
        return f"derived from the windows: {until}; the old file is {kept}"

    return repair


def _mend_receipt(path: Path, home: Path, registry: Registry, model: str, now: datetime) -> Repair:
    """A receipt of which a version tells is written again; without it the request counts as not begun, and may be sent again."""

    def repair(quarantine: Quarantine) -> str:
        kept = quarantine.move(path)
        for version in registry.versions(model):
            with suppress(PerennialError):
                if load_card(registry, model, version).cause.event_id == path.stem:
                    reason = f"version {version} was trained for it; the receipt itself could not be read"
                    record_outcome(home, path.stem, "challenger", now, reason=reason)
                    return f"rebuilt: {reason}; the old file is {kept}"
        return f"moved to {kept}; the request counts as not begun"

    return repair


def _label_source_damages(home: Path, model: str) -> Iterator[Damage]:
    """At most one, for all of it is set aside together."""
    folder = home / "label_source"
    wrong = {folder / "state.json": wrong_with(folder / "state.json", LabelSourceState)}
    wrong |= {path: wrong_with_parquet(path) for path in sorted(folder.rglob("*.parquet"))}
    found = next(((path, one) for path, one in wrong.items() if one), None)
    if found is not None:
        done = "all labels are read anew, and those that are known do not count twice"
        yield Damage(*found, repair_command(model), lambda quarantine: f"{folder} moved to {quarantine.move(folder)}; {done}")


def _archive_damages(folder: Path, model: str) -> Iterator[Damage]:
    for day in sorted(folder.glob("date=*")):
        try:
            date.fromisoformat(day.name.removeprefix("date="))
        except ValueError:
            yield set_aside(day, "is no date's directory", model, "the prediction log goes on without it")
            continue
        for path in sorted(day.glob("*.parquet")):
            if not path.stem.removeprefix("part-").isdigit():
                yield set_aside(path, "is no part of the prediction log", model, "the prediction log goes on without it")
            elif wrong := wrong_with_parquet(path):
                yield set_aside(path, wrong, model, f"{told_rows(path)}, no other part's")


def wrong_with_parquet(path: Path) -> str:
    """What is wrong with a Parquet file, all of which is read; nothing where it can be."""
    try:
        pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        return f"cannot be read ({str(error).splitlines()[0][:120]})"
    return ""


def told_rows(path: Path) -> str:
    """How many rows are lost with a part, as far as its footer can be read."""
    try:
        rows = pl.scan_parquet(path).select(pl.len()).collect().item()
    except (OSError, pl.exceptions.PolarsError):
        return "how many rows it held is unknown, and these are lost"
    return f"its {rows:,} rows are lost"
