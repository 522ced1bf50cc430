"""What the local stack consists of, as one frozen value, and stack.json, the file that keeps it between commands."""

from pathlib import Path
from typing import Any

from pydantic import AwareDatetime, Field, ValidationError, model_validator

from deployments.stack.ports import reachable
from perennial.atomic_files import replace_stored
from perennial.base import FrozenModel, StoredModel, read_stored
from perennial.errors import SET_ASIDE, StackError
from perennial.redaction import StoredAddress, without_credentials
from perennial.settings import Settings

STORE, PREFECT, SERVICE, WORKER, MONITOR, TRIAGE = "store", "prefect", "service", "worker", "monitor", "triage"
"""Names of the components, as `status` shows them; a worker polls the work pool and starts one process for each flow run, of
which the monitor is one."""


class Address(FrozenModel):
    """Where a component answers; `port` is None when the stack does not run it."""

    url: StoredAddress
    port: int | None = None

    def as_given(self, url: str | None) -> "Address":
        """The address with the password that it has in the environment, where that names the same place."""
        return self if url is None or without_credentials(url) != self.url else self.model_copy(update={"url": url})


class Service(FrozenModel):
    """The HTTP service of all models."""

    host: str
    port: int
    challenger_share: float | None = Field(None, description="as `up --challenger-share` says; None: as the settings do")

    @property
    def url(self) -> str:
        """Where a client on this machine reaches it."""
        return f"http://{reachable(self.host)}:{self.port}"


class HostedModel(FrozenModel):
    """A model that the stack serves and follows."""

    name: str
    spec: Path = Field(description="absolute path of the model spec")


class Stack(StoredModel):
    """The whole local stack; stored as stack.json."""

    home: Path = Field(description="absolute directory of all state")
    directory: Path = Field(description="where the programs run; relative paths of specs and tables start here")
    socket: Path = Field(description="unix socket of the supervisor")
    started_at: AwareDatetime
    store: Address
    prefect: Address
    service: Service | None = Field(None, description="None without models")
    triage_port: int | None = Field(None, description="of Bugsink on loopback, where `up --triage` asked for it")
    models: tuple[HostedModel, ...] = ()
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

    @model_validator(mode="before")
    @classmethod
    def _from_a_service_for_each_model(cls, raw: Any) -> Any:
        """A file of a release that ran a service for each model: the first one's port is that of the service now."""
        if not isinstance(raw, dict) or "services" not in raw:
            return raw
        kept = {name: value for name, value in raw.items() if name != "services"}
        ports = {name: port for name, port in raw.get("ports", {}).items() if not name.startswith("service-")}
        first = raw["services"][0]["port"] if raw["services"] else None
        return {**kept, "ports": {**ports, **({SERVICE: first} if first else {})}}

    @property
    def triage_url(self) -> str | None:
        return f"http://127.0.0.1:{self.triage_port}" if self.triage_port is not None else None

    def with_passwords(self, settings: Settings) -> "Stack":
        """The stack as its file has it, with the passwords of its addresses, which are in the environment only."""
        store, prefect = self.store.as_given(settings.redis_url), self.prefect.as_given(settings.prefect_api_url)
        return self.model_copy(update={"store": store, "prefect": prefect})

    def spec_of(self, model: str) -> Path | None:
        """The spec of a model, if the stack has it."""
        return next((one.spec for one in self.models if one.name == model), None)

    def url_of(self, model: str) -> str | None:
        """Where clients ask a model, if the stack has it: the paths are short while it is the only one."""
        if self.service is None or self.spec_of(model) is None:
            return None
        return self.service.url if len(self.models) == 1 else f"{self.service.url}/models/{model}"


def state_dir(home: Path) -> Path:
    """Where the stack keeps its files below the home directory."""
    return home.absolute() / "stack"


def last_stack(settings: Settings) -> Stack | None:
    """The stack last started in this home directory, its addresses with the environment's passwords; raises as `load_stack`."""
    stack = load_stack(settings.home)
    return stack.with_passwords(settings) if stack is not None else None


def load_stack(home: Path) -> Stack | None:
    """The stack last started in this home directory, as its file has it: without passwords.

    Raises StackError for a damaged file, NewerFormat for a later release's.
    """
    file = state_dir(home) / "stack.json"
    try:
        return read_stored(Stack, file.read_bytes(), str(file))
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise StackError(
            f"{file} cannot be read: run `perennial down`, delete it ({SET_ASIDE}), and start again\n  {error}"
        ) from error


def save_stack(stack: Stack) -> None:
    """Write the state file at once or not at all."""
    replace_stored(stack.state_dir / "stack.json", stack, indent=2)
