"""What the local stack consists of, as one frozen value, and stack.json, the file that keeps it between commands."""

from pathlib import Path

from fsspec.implementations.local import LocalFileSystem
from pydantic import AwareDatetime, Field, ValidationError

from deployments.stack.ports import reachable
from perennial.atomic_files import replace
from perennial.base import FrozenModel, StoredModel, read_stored
from perennial.errors import StackError

STORE, PREFECT, WORKER, MONITOR = "store", "prefect", "worker", "monitor"
"""Names of the components, as `status` shows them; a worker polls the work pool and starts one process for each flow run, of
which the monitor is one."""


class Address(FrozenModel):
    """Where a component answers; `port` is None when the stack does not run it."""

    url: str
    port: int | None = None


class Service(FrozenModel):
    """One model's HTTP service."""

    model: str
    spec: Path = Field(description="absolute path of the model spec")
    host: str
    port: int

    @property
    def program(self) -> str:
        """Its name among the supervised programs."""
        return f"service-{self.model}"

    @property
    def url(self) -> str:
        """Where a client on this machine reaches it."""
        return f"http://{reachable(self.host)}:{self.port}"


class Stack(StoredModel):
    """The whole local stack; stored as stack.json."""

    home: Path = Field(description="absolute directory of all state")
    directory: Path = Field(description="where the programs run; relative paths of specs and tables start here")
    socket: Path = Field(description="unix socket of the supervisor")
    started_at: AwareDatetime
    store: Address
    prefect: Address
    services: tuple[Service, ...] = ()
    ports: dict[str, int] = Field(
        default_factory=dict, description="the last port of each program, also of those that do not run now"
    )

    @property
    def state_dir(self) -> Path:
        """Directory of the stack's own files."""
        return state_dir(self.home)

    @property
    def spec_list(self) -> Path:
        """The file that lists the specs of all models, which the monitor reads again while it runs."""
        return self.state_dir / "specs.json"

    def service_of(self, model: str) -> Service | None:
        """The service of a model, if the stack has one."""
        return next((service for service in self.services if service.model == model), None)


def state_dir(home: Path) -> Path:
    """Where the stack keeps its files below the home directory."""
    return home.absolute() / "stack"


def load_stack(home: Path) -> Stack | None:
    """The stack last started in this home directory; raises StackError for a damaged file, NewerFormat for a later release's."""
    file = state_dir(home) / "stack.json"
    try:
        return read_stored(Stack, file.read_bytes(), str(file))
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise StackError(f"{file} cannot be read: run `perennial down`, delete it, and start again\n  {error}") from error


def save_stack(stack: Stack) -> None:
    """Write the state file at once or not at all."""
    replace(LocalFileSystem(), str(stack.state_dir / "stack.json"), stack.model_dump_json(indent=2).encode())
