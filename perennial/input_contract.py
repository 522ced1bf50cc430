"""The input contract of a training: what its rows must hold, and what a spec says otherwise since.

A change of the contract takes effect by `perennial train`, which reads the sources anew (docs/spec-changes.md). What a spec says
beside it (sources, windows, signals, gate, search) takes effect by itself, the next time it is used.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self

from pydantic import ValidationError

from perennial.atomic_files import replace_stored
from perennial.base import FrozenModel, StoredModel, read_stored
from perennial.errors import SET_ASIDE, DataError, SpecError
from perennial.settings import Settings
from perennial.spec import FeatureSpec, Kind, ModelSpec, Task, load_spec

BASE_FILE = "base.json"


class InputContract(FrozenModel):
    """The columns of a training and what they mean; a feature's kind is the one found where the spec names none."""

    task: Task
    target: str
    positive: str | None
    event_time: str
    id: str | None
    features: dict[str, FeatureSpec]
    derive: dict[str, str]

    @classmethod
    def of(cls, spec: ModelSpec, kinds: Mapping[str, Kind]) -> Self:
        """The contract of a spec; `kinds` are those that were found in the rows, by feature."""
        features = {name: one.model_copy(update={"kind": one.kind or kinds.get(name)}) for name, one in spec.features.items()}
        plain = {name: getattr(spec, name) for name in ("task", "target", "positive", "event_time", "id", "derive")}
        return cls(features=features, **plain)

    def changes(self, spec: ModelSpec) -> tuple[str, ...]:
        """What a spec says otherwise, for people; empty where it keeps the contract."""
        now = InputContract.of(spec, {name: one.kind for name, one in self.features.items() if one.kind})
        return tuple(self._differences(now))

    def _differences(self, now: "InputContract") -> Iterator[str]:
        for name in ("task", "target", "positive", "event_time", "id"):
            before, after = getattr(self, name), getattr(now, name)
            if before != after:
                both = before and after
                yield f"{name} is {after!r} and was {before!r}" if both else f"{name} {'added' if after else 'removed'}"
        for name in {**self.features, **now.features}:
            before, after = self.features.get(name), now.features.get(name)
            if before is None or after is None:
                yield f"feature {name!r} {'added' if before is None else 'removed'}"
            elif before.kind != after.kind:
                yield f"feature {name!r} is {after.kind} and was {before.kind}"
            elif before != after:
                yield f"feature {name!r} is computed in another way"
        for name in {**self.derive, **now.derive}:
            if self.derive.get(name) != now.derive.get(name):
                yield f"derive.{name} is another expression"


class Base(StoredModel):
    """Which dataset retrainings start from, and the contract of the training that made it the base."""

    fingerprint: str
    contract: InputContract


def read_base(home: Path) -> Base | None:
    """What retrainings of the model start from; None before its first training. Raises DataError for a file that is none."""
    path = home / "datasets" / BASE_FILE
    try:
        return read_stored(Base, path.read_bytes(), str(path))
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise DataError(
            f"{path} names no dataset ({error.errors()[0]['msg']}): restore it from a backup, or {SET_ASIDE}"
        ) from error


def set_base(home: Path, fingerprint: str, spec: ModelSpec, kinds: Mapping[str, Kind]) -> None:
    """Make a training's dataset the base of later retrainings if it is the first, or its input contract is another one."""
    base = read_base(home)
    if base is None or base.contract.changes(spec):
        base = Base(fingerprint=fingerprint, contract=InputContract.of(spec, kinds))
        replace_stored(home / "datasets" / BASE_FILE, base)


def contract_changes(home: Path, spec: ModelSpec, path: Path) -> str | None:
    """Why the model must be trained before it can be retrained, and the command; None where the spec keeps its input contract.

    Raises SpecError where the task has changed: then it is another model.
    """
    base = read_base(home)
    if base is None:
        return None
    refuse_other_task(spec, base.contract.task, f"its first training, in {home}")
    changes = base.contract.changes(spec)
    if not changes:
        return None
    since = f"the spec's inputs have changed since the last `perennial train` ({'; '.join(changes)})"
    return f"{since}: run `perennial train {path}`, which reads the sources anew"


def refuse_other_task(spec: ModelSpec, task: Task, where: str) -> None:
    """Raise SpecError when a model of the spec's name has another task: its versions, log and bounds mean something else."""
    if spec.task != task:
        wrong = f"task = {spec.task!r}, but {spec.name!r} is a {task} model since {where}"
        raise SpecError(f"{wrong}: a model of another task needs a name of its own; change `name` in the spec")


def changes_of(path: Path, settings: Settings) -> str | None:
    """`contract_changes` of the spec at a path, against what this machine's home holds; raises SpecError."""
    spec = load_spec(path)
    return contract_changes(settings.model_home(spec.name), spec, path)
