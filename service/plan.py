"""What the main process and its workers agree on: what is served, and how long a worker may take to end.

A file says what every worker of a service serves by now, so that a model is only deleted when none does.
"""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from pydantic import ValidationError

from perennial.atomic_files import replace_stored
from perennial.base import StoredModel, read_stored
from perennial.errors import NewerFormat
from perennial.settings import Settings
from perennial.spec import ModelSpec

DRAIN_TIMEOUT = timedelta(seconds=4)  # for requests in flight when the service ends
RETIRE_TIMEOUT = timedelta(seconds=5)  # in which a client that is silent may keep its connection to a worker that is replaced
FLUSH_TIMEOUT = timedelta(seconds=3)  # in which a worker that ends brings its last predictions to the store, or else to the disk


@dataclass(frozen=True, slots=True)
class ServedSpec:
    """One model to serve; `base` is the directory of its spec, for user functions."""

    spec: ModelSpec
    base: Path


@dataclass(frozen=True, slots=True)
class ServicePlan:
    """What to serve, sorted by name; travels to the workers by pickle."""

    settings: Settings
    models: tuple[ServedSpec, ...]
    store_url: str

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(one.spec.name for one in self.models)

    @property
    def only(self) -> str | None:
        """The name of the model where there is one alone; it is what short paths mean, and what error reports are marked with."""
        return self.names[0] if len(self.models) == 1 else None

    @property
    def home(self) -> Path:
        """Directory of the service's own state: in the model's where there is one alone."""
        settings = self.settings
        return (settings.model_home(self.only) if self.only else settings.home.absolute()) / "service"


class ServedModels(StoredModel):
    """The models of a service, by name."""

    models: tuple[str, ...] = ()


def write_served(settings: Settings, port: int, names: tuple[str, ...]) -> None:
    """Say that every worker of the service at this port serves these models and no others."""
    replace_stored(_served_file(settings.home, port), ServedModels(models=names))


def read_served(home: Path, port: int) -> tuple[str, ...] | None:
    """What every worker of the service at this port serves; None where nothing says so."""
    file = _served_file(home, port)
    try:
        return read_stored(ServedModels, file.read_bytes(), str(file)).models
    except (OSError, ValidationError, NewerFormat):
        return None


def _served_file(home: Path, port: int) -> Path:
    return home.absolute() / "service" / f"served-{port}.json"
