"""The champion watcher: every inference worker looks at the alias, loads what it names and swaps it in.

Loading, checking and warming up happen in the watcher's thread; the swap is one assignment. A version that cannot be
served is refused, reported and tried again later, and the one before it answers on.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from perennial.errors import CorruptVersion
from perennial.registry import Registry
from perennial.triage import report, tag

if TYPE_CHECKING:
    from perennial.model import Model

FIRST_RETRY = 1.0
LAST_RETRY = 60.0
"""Seconds before a refused version is tried again, doubling: storage hiccups pass, a corrupt version stays corrupt."""

WARM_ROWS = 64
"""Rows of the reference sample predicted before a version may serve: the first prediction is the slow one."""

SAME = 1e-6
"""How far a score may be from the stored one: far above the order of float sums, far below any threshold's meaning."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Live:
    """A model that answers, and since when."""

    model: "Model"
    since: datetime

    @property
    def version(self) -> int:
        """The version in the registry."""
        return self.model.card.version


@dataclass(frozen=True, slots=True)
class _Refused:
    version: int
    pause: float
    again: float
    """Monotonic time of the next try."""


class ChampionWatcher:
    """Keeps `live` at the registry's champion; `live` is read by the request path, and only `look` assigns it."""

    def __init__(
        self,
        registry: Registry,
        name: str,
        base: Path,
        *,
        on_swap: Callable[[Live], None],
        on_refuse: Callable[[], None],
    ) -> None:
        self._registry = registry
        self._name = name
        self._base = base
        self._on_swap = on_swap
        self._on_refuse = on_refuse
        self._refused: _Refused | None = None
        self._away = False
        self._previous: Live | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.live: Live | None = None

    def start(self, interval: float) -> None:
        """Look once, so that the first request finds a model, then every `interval` seconds."""
        self.look()
        self._thread = threading.Thread(target=self._run, args=(interval,), name="champion-watcher", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop looking; the live model stays."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=5)

    def look(self) -> None:
        """One look at the alias; never raises."""
        try:
            wanted = self._registry.aliases(self._name).champion
            self._away = False
        except Exception as error:  # noqa: BLE001 - any storage backend, any failure: the live model answers on
            self._lost_sight(error)
            return
        if wanted is not None and wanted != self._live_version() and self._may_try(wanted):
            self._swap_to(wanted)

    def _run(self, interval: float) -> None:
        while not self._stop.wait(interval):
            self.look()

    def _swap_to(self, version: int) -> None:
        try:
            live = self._previous_if(version) or Live(load(self._registry, self._name, version, self._base), datetime.now(UTC))
        except Exception as error:  # noqa: BLE001 - a version is refused whatever is wrong with it
            self._refuse(version, error)
            return
        self._previous, self._refused = self.live, None
        self.live = live
        tag(version=version)
        logger.info("version %d of %s answers now", version, self._name)
        self._on_swap(live)

    def _refuse(self, version: int, error: Exception) -> None:
        again = self._refused is not None and self._refused.version == version
        pause = min(2 * self._refused.pause, LAST_RETRY) if self._refused and again else FIRST_RETRY
        self._refused = _Refused(version, pause, time.monotonic() + pause)
        if not again:
            logger.error("version %d of %s is refused, %s: %s", version, self._name, self._remains(), error)
            report(error, group=("service", "version-refused", self._name), refused_version=version)
            self._on_refuse()

    def _may_try(self, version: int) -> bool:
        refused = self._refused
        return refused is None or refused.version != version or time.monotonic() >= refused.again

    def _previous_if(self, version: int) -> Live | None:
        """The version before this one is still in memory: rolling back to it needs no loading."""
        previous = self._previous
        return Live(previous.model, datetime.now(UTC)) if previous is not None and previous.version == version else None

    def _remains(self) -> str:
        return f"version {self.live.version} answers on" if self.live else "there is no other"

    def _live_version(self) -> int | None:
        return None if self.live is None else self.live.version

    def _lost_sight(self, error: Exception) -> None:
        if not self._away:  # once per absence, not once per look
            logger.warning("the registry at %s cannot be read, %s: %s", self._registry.url, self._remains(), error)
            report(error, group=("service", "registry-unreachable", self._name))
        self._away = True


def load(registry: Registry, name: str, version: int, base: Path) -> "Model":
    """A version read, checked and warmed up; raises RegistryError, or whatever is wrong with it.

    Its scores on the reference sample must be those stored with it: the same files on a machine that computes
    something else are not the same model.
    """
    from perennial.model import from_files

    model = from_files(registry.read(name, version), base)
    if (model.card.name, model.card.version) != (name, version):
        raise CorruptVersion(
            f"version {version} of {name!r} says it is version {model.card.version} of {model.card.name!r}: publish it again"
        )
    _warm_up(model)
    return model


def _warm_up(model: "Model") -> None:
    import numpy as np

    sample = model.reference.head(WARM_ROWS)
    stored = np.array(sample["_score"].to_list())
    if not np.allclose(model.predict_frame(sample), stored, rtol=SAME, atol=SAME):
        raise CorruptVersion(
            f"version {model.card.version} of {model.card.name!r} does not reproduce the scores stored with it: "
            "its files do not belong together, or this machine's libraries compute something else; train it again here"
        )
