"""The specs that a command was given, files and directories, read: the models, and what is wrong with those that are none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deployments.stack.state import HostedModel
from perennial.errors import PerennialError, SpecError
from perennial.fleet import spec_files
from perennial.input_contract import changes_of
from perennial.settings import Settings
from perennial.spec import load_spec


@dataclass(frozen=True)
class GivenSpecs:
    """The models of the specs that can be read; `broken` says of the others of a directory why not."""

    models: tuple[HostedModel, ...]
    broken: Mapping[str, str]


def read_specs(given: Sequence[Path], settings: Settings) -> GivenSpecs:
    """Read them; raises SpecError for a spec that was named and is wrong, or where none of a directory can be read."""
    models, broken = dict[str, HostedModel](), dict[str, str]()
    for path in map(Path, spec_files(given)):
        try:
            model = _hosted(path, settings)
            if models.setdefault(model.name, model) != model:
                raise SpecError(f"{path} is a second spec of model {model.name}, after {models[model.name].spec}: rename one")
        except PerennialError as error:
            if path in given:
                raise
            broken[str(path)] = str(error)
    if not models:
        raise SpecError("no spec can be read:\n" + "\n".join(broken.values()))
    return GivenSpecs(tuple(models.values()), broken)


def unreadable(models: Sequence[HostedModel], settings: Settings) -> dict[str, str]:
    """What is wrong with the specs of models that a stack has, by model; nothing for those that can be read."""
    found = dict[str, str]()
    for model in models:
        try:
            _hosted(model.spec, settings)
        except PerennialError as error:
            found[model.name] = str(error)
    return found


def _hosted(path: Path, settings: Settings) -> HostedModel:
    changes_of(path, settings)  # raises where the task is another one
    return HostedModel(name=load_spec(path).name, spec=path.absolute())
