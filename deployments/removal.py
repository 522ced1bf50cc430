"""Removing a model: what would be deleted, shown before, and deleted once the service and the monitor have let go of it."""

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deployments.stack.stack import running_stack, store_of, take_out
from perennial.base import MODEL_NAME
from perennial.errors import SpecError
from perennial.registry import Registry
from perennial.settings import Settings
from perennial.spec import RESERVED
from service.prediction_log.redis_client import connect, translate_redis_errors

MB = 1_000_000


@dataclass(frozen=True)
class Removal:
    """What a model has: its directory, its versions where they are below the home directory too, and its keys of the store.

    `kept` is what is elsewhere, and stays.
    """

    model: str
    directories: tuple[Path, ...]
    kept: str
    keys: Mapping[str, int]

    def lines(self) -> dict[str, str]:
        """What is deleted, and what is not, for people."""
        sizes = [f"{path}  {_size(path) / MB:.1f} MB" for path in self.directories]
        return {
            "deletes": "\n".join(sizes),
            "streams": "\n".join(f"{key}  {count:,} entries that are in no archive" for key, count in self.keys.items()),
            "keeps": self.kept,
        }


def plan_removal(model: str, settings: Settings) -> Removal:
    """Look at what there is of a model; raises SpecError where there is nothing, StoreUnreachable."""
    if not re.fullmatch(MODEL_NAME, model) or model in RESERVED:  # before it becomes a part of a path
        raise SpecError(f"{model!r} is no name of a model: `perennial models` lists them")
    registry = Path(settings.home).absolute() / "registry" / "models" / model
    own = Registry(settings.registry_url)
    elsewhere = not registry.exists() and bool(own.versions(model))
    found = tuple(path for path in (settings.model_home(model).absolute(), registry) if path.exists())
    stack = running_stack(settings)
    followed = stack is not None and stack.spec_of(model) is not None
    if not (found or followed):
        raise SpecError(f"there is no model {model!r} in {settings.home}: `perennial models` lists them")
    url = store_of(stack, settings)
    kept = [f"versions of {model} in {settings.registry_url}"] if elsewhere else []
    kept += [f"the prediction log in {log}"] if (log := settings.archive_url(model)) else []
    return Removal(model, found, "\n".join(kept), _keys(model, url) if url else {})


def remove(removal: Removal, settings: Settings, environ: Mapping[str, str]) -> None:
    """Stop serving and following the model, then delete what was shown. The other models are not touched."""
    stack = running_stack(settings)
    if stack is not None and stack.spec_of(removal.model) is not None:
        stack = take_out(removal.model, settings, environ)
    url = store_of(stack, settings)
    if url:
        with translate_redis_errors(url), connect(url) as store:
            for key in store.scan_iter(match=f"perennial:{removal.model}:*", count=1000):
                store.delete(key)
    for directory in removal.directories:
        shutil.rmtree(directory, ignore_errors=False)


def _keys(model: str, url: str) -> dict[str, int]:
    with translate_redis_errors(url), connect(url) as store:
        keys = [key.decode() for key in store.scan_iter(match=f"perennial:{model}:*", count=1000)]
        return {key: int(store.xlen(key)) for key in sorted(keys) if store.type(key) == b"stream"}


def _size(directory: Path) -> int:
    return sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())
