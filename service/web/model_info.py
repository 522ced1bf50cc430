"""What /model says: the champion's card, cut to what a person asks."""

import threading
from datetime import datetime
from typing import Any

import orjson
from pydantic import ConfigDict, Field

from perennial.base import FrozenModel
from perennial.metrics import Metrics
from perennial.model_card import Cause, DataRef
from perennial.registry import Registry
from perennial.settings import Settings
from service.errors import unavailable


class ModelInfo(FrozenModel):
    """The champion: what it is and where it comes from; what the card has beyond it is not ours to show."""

    model_config = ConfigDict(extra="ignore")

    model: str
    version: int
    task: str
    target: str
    inputs: dict[str, str] = Field(description="columns a row needs, with their types")
    classes: tuple[str, ...]
    trained_at: datetime
    promoted_at: datetime | None
    data: DataRef
    metrics: Metrics
    cause: Cause
    parent: int | None


class ChampionInfo:
    """The champion as the registry has it; versions never change, so each is read once per process."""

    def __init__(self, settings: Settings, name: str) -> None:
        self._registry = Registry(settings.registry_url)
        self._name = name
        self._cards: dict[int, dict[str, Any]] = {}
        self._lock = threading.Lock()

    def version(self) -> int | None:
        """The champion's version, None before the first promotion."""
        return self._registry.aliases(self._name).champion

    def info(self) -> ModelInfo:
        """The champion's description; raises ServiceError (503) before the first promotion."""
        aliases = self._registry.aliases(self._name)
        if aliases.champion is None:
            raise unavailable("no_model", f"no version of {self._name!r} has been promoted yet")
        card = self._card(aliases.champion)
        inputs = {column["name"]: column["dtype"] for column in card["schema"]["columns"]}
        own = {"model": card["name"], "target": card["schema"]["target"], "inputs": inputs, "promoted_at": aliases.moved_at}
        return ModelInfo.model_validate({**card, **own})

    def _card(self, version: int) -> dict[str, Any]:
        with self._lock:
            if version not in self._cards:
                self._cards = {version: orjson.loads(self._registry.read(self._name, version)["model.json"])}
            return self._cards[version]
