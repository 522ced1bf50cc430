"""The doctor: looks at every file that outlives a process, and mends what can be mended without a decision of a person.

Reading costs what is on disk: each version's files, each Parquet part. What a newer release wrote is not damaged. A stack may run
meanwhile; only Prefect's database is looked at while it does not.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from deployments.doctor.damage import Damage, Quarantine
from deployments.doctor.dataset_files import dataset_damages
from deployments.doctor.monitor_files import monitor_damages
from deployments.doctor.registry_files import registry_damages
from deployments.doctor.service_files import service_damages, waiting_notes
from deployments.doctor.stack_files import left_over, stack_damages
from deployments.stack.stack import environment_of
from deployments.stack.state import state_dir
from deployments.stack.supervisord import find_supervisor
from monitoring.part_files import COPIES
from perennial.errors import PerennialError, RegistryError
from perennial.registry import Registry
from perennial.settings import Settings
from perennial.spec import RESERVED, load_spec

OURS = ("monitor", "predictions", "labels", "windows", "datasets", "service", "requests", "label_source", COPIES)
"""Directories of a model's home by which it is one."""


@dataclass(frozen=True)
class Examination:
    """Which models were looked at, what is damaged, whether it was all there is, and what was not looked at."""

    models: tuple[str, ...]
    damages: tuple[Damage, ...]
    whole: bool
    notes: tuple[str, ...] = ()


def examine(reference: str | None, settings: Settings, environ: Mapping[str, str], now: datetime) -> Examination:
    """Look at the files of one model, by name or spec, or at all there are and the stack's; raises SpecError, RegistryError."""
    names = known_models(settings) if reference is None else (_name(reference, settings),)
    registry, folder = Registry(settings.registry_url), registry_folder(settings)
    damages, store_url = list(_stack(settings)) if reference is None else [], _store(settings, environ)
    for name in names:
        damages += _model(name, settings, registry, folder, store_url, now)
    notes = [] if folder is not None else [f"{settings.registry_url} is no directory: its files were not looked at"]
    if settings.archive:
        notes.append(f"the prediction logs are in {settings.archive}: their files were not looked at")
    if store_url is None:
        notes += [line for name in names for line in waiting_notes(settings.model_home(name))]
    return Examination(names, tuple(damages), reference is None, tuple(notes))


def mend(damages: Iterable[Damage], home: Path, now: datetime) -> Iterator[tuple[Damage, str]]:
    """Repair what can be repaired, one after the other; each with what was done, or why it could not be."""
    quarantine = Quarantine(home, now)
    for damage in damages:
        if damage.repair is not None:
            try:
                yield damage, damage.repair(quarantine)
            except (PerennialError, OSError) as error:
                yield damage, f"not repaired: {error}"


def summary(found: Examination, repaired: int) -> str:
    """The last line: what was looked at, what came of it, and what to do next."""
    count = len(found.models)
    names = f" ({', '.join(found.models)})" if 0 < count <= 5 else ""
    mended = f"{repaired} repaired; " if repaired else ""
    if not found.damages:
        whole = " and the stack" if found.whole else ""
        return f"{mended}nothing is damaged in the files of {count} {'model' if count == 1 else 'models'}{names}{whole}"
    mendable = sum(damage.repair is not None for damage in found.damages)
    return f"{mended}{len(found.damages)} damaged, of which `--repair` mends {mendable}; it deletes nothing"


def known_models(settings: Settings) -> tuple[str, ...]:
    """Every model that the registry's or the home's directory has anything of."""
    folder, home = registry_folder(settings), settings.home.absolute()
    found = [path.name for path in folder.glob("models/*") if path.is_dir()] if folder is not None else []
    homes = (path for path in home.glob("*") if path.name not in RESERVED)
    found += [path.name for path in homes if any((path / name).is_dir() for name in OURS)]
    return tuple(sorted(set(found)))


def registry_folder(settings: Settings) -> Path | None:
    """The directory of the registry; None where it is on other storage."""
    url = settings.registry_url.removeprefix("file://")
    return None if "://" in url else Path(url).absolute()


def _name(reference: str, settings: Settings) -> str:
    if Path(reference).suffix == ".toml" or Path(reference).is_file():
        return load_spec(Path(reference)).name
    known = known_models(settings)
    if reference not in known:
        raise RegistryError(
            f"no model {reference!r} in {settings.home} (it has {', '.join(known) or 'none'}): set PERENNIAL_HOME?"
        )
    return reference


def _store(settings: Settings, environ: Mapping[str, str]) -> str | None:
    """The store that a repair may bring predictions into, if one is known; beside a damaged stack it is not."""
    try:
        return environment_of(settings, environ).get("REDIS_URL")
    except PerennialError:
        return None


def _stack(settings: Settings) -> Iterator[Damage]:
    runs = find_supervisor(state_dir(settings.home)) is not None
    yield from stack_damages(settings.home, runs=runs)


def _model(
    name: str, settings: Settings, registry: Registry, folder: Path | None, store_url: str | None, now: datetime
) -> Iterator[Damage]:
    home = settings.model_home(name)
    if folder is not None:
        yield from registry_damages(registry, folder / "models" / name, name, now)
        yield from left_over(folder / "models" / name, name, now)
    yield from monitor_damages(home, registry, name, now)
    yield from dataset_damages(home, name)
    yield from service_damages(home, name, store_url)
    yield from left_over(home, name, now)
