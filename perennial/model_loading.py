"""Loading a version: read from the registry, checked, warmed up. Service, monitor and training all load a version here.

A version that comes out of `load_model` is the one asked for, its files match their digests (the registry's check), and it
reproduces the scores stored with its reference sample on this machine. Costs a few hundred milliseconds, most of it parsing
the estimator. Polars and the learner's library are imported at the first call, so a process that forks may import this module.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perennial.errors import CorruptVersion
from perennial.log_columns import SCORE
from perennial.registry import Registry

if TYPE_CHECKING:
    from perennial.model import Model
    from perennial.model_card import ModelCard

WARM_UP_ROWS = 64  # rows of the reference sample predicted before a version may serve: the first prediction is the slow one
SCORE_TOLERANCE = 1e-6  # from the stored score: far above the order of float sums, far below any threshold's meaning


def load_model(registry: Registry, name: str, version: int, base: Path) -> "Model":
    """A version read, checked and warmed up; `base` is the spec's directory. Raises RegistryError, or what is wrong with it.

    Its scores on the reference sample must be those stored with it: the same files on a machine that computes
    something else are not the same model.
    """
    from perennial.model import from_files

    model = from_files(registry.read(name, version), base)
    if (model.card.name, model.card.version) != (name, version):
        said = f"version {model.card.version} of {model.card.name!r}"
        raise CorruptVersion(f"version {version} of {name!r} says it is {said}: publish it again")
    _warm_up(model)
    return model


def load_card(registry: Registry, name: str, version: int) -> "ModelCard":
    """A version's card alone, without reading its other files. Raises RegistryError, or what is wrong with it."""
    from perennial.model import CARD_FILE, card_from_files

    return card_from_files(registry.read(name, version, CARD_FILE))


def read_card_fields(registry: Registry, name: str, version: int) -> dict[str, Any]:
    """A version's card as it is stored, without the checks that an old one may not pass. Raises RegistryError, ValueError."""
    from perennial.model import CARD_FILE

    fields: dict[str, Any] = json.loads(registry.read(name, version, CARD_FILE)[CARD_FILE])
    return fields


def load_champion(registry: Registry, name: str, base: Path, known: "Model | None" = None) -> "Model | None":
    """The champion now, None before the first promotion; `known` is returned where it is the champion still."""
    version = registry.aliases(name).champion
    if version is None or (known is not None and known.card.version == version):
        return known if version is not None else None
    return load_model(registry, name, version, base)


def _warm_up(model: "Model") -> None:
    import numpy as np

    sample = model.reference.head(WARM_UP_ROWS)
    stored = np.array(sample[SCORE].to_list())
    if not np.allclose(model.predict_frame(sample), stored, rtol=SCORE_TOLERANCE, atol=SCORE_TOLERANCE):
        raise CorruptVersion(
            f"version {model.card.version} of {model.card.name!r} does not reproduce the scores stored with it: "
            "its files do not belong together, or this machine's libraries compute something else; train it again here"
        )
