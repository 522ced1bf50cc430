"""The champion as the monitor sees it: the model whose windows are judged, read again when the alias moved."""

from pathlib import Path

from perennial.error_reporting import tag
from perennial.model import Model
from perennial.registry import Registry
from service.champion import load


class Champion:
    """Follows the champion alias of one model."""

    def __init__(self, registry: Registry, name: str, base: Path) -> None:
        self._registry, self._name, self._base = registry, name, base
        self._model: Model | None = None

    def current(self) -> Model | None:
        """The champion now, None before the first promotion; raises RegistryError when it cannot be loaded."""
        version = self._registry.aliases(self._name).champion
        if version is None:
            return None
        if self._model is None or self._model.card.version != version:
            self._model = load(self._registry, self._name, version, self._base)
            tag(model=self._name, version=version)
        return self._model
