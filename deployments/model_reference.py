"""Which model a person means: by the path of its spec, or by its name where the registry or the home directory knows it.

A name is enough for what only reads. User functions are looked for beside the spec; the running stack knows where it is.
"""

from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from deployments.stack.state import load_stack
from perennial.errors import RegistryError
from perennial.registry import Registry
from perennial.settings import Settings
from perennial.spec import load_spec


@dataclass(frozen=True)
class ModelReference:
    """A model by name; `spec` is None where only the name is known."""

    name: str
    spec: Path | None
    settings: Settings

    @property
    def home(self) -> Path:
        """Directory of the model's state."""
        return self.settings.model_home(self.name)

    @property
    def archive_url(self) -> str | None:
        """Where its prediction log is; None where it is in its home."""
        return self.settings.archive_url(self.name)

    @property
    def registry(self) -> Registry:
        return Registry(self.settings.registry_url)

    @property
    def base(self) -> Path:
        """Directory that user functions are looked for in."""
        return self.spec.absolute().parent if self.spec else Path.cwd()

    @property
    def written(self) -> str:
        """The spec as commands in messages name it."""
        return str(self.spec) if self.spec else "SPEC"


def find_model(reference: str | Path, settings: Settings) -> ModelReference:
    """The model that a spec's path or a name means; raises SpecError for a path, RegistryError for a name that is unknown."""
    path = Path(reference)
    if isinstance(reference, Path) or path.suffix == ".toml" or path.is_file():
        return ModelReference(load_spec(path).name, path, settings)
    name, registry = str(reference), Registry(settings.registry_url)
    stack = load_stack(settings.home)
    spec = stack.spec_of(name) if stack else None
    if spec is None and not registry.versions(name):
        raise RegistryError(_unknown(name, registry))
    return ModelReference(name, spec if spec and spec.exists() else None, settings)


def _unknown(name: str, registry: Registry) -> str:
    known = registry.names()
    near = get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(known) or 'none yet'}"
    return f"no model {name!r} in {registry.url} ({hint}); give a spec's path, or set PERENNIAL_HOME to where the model lives"
