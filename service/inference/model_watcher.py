"""The model watcher: reads the registry's aliases of one model, loads the version they name and swaps it in.

Called by the watcher thread of a worker (watcher_thread.py), where loading, checking, compiling and warming up happen too; the
swap is one assignment. A version that cannot be
served is refused, reported and tried again later, and the one before it answers on. The version before stays in memory,
and so does the challenger where that is wanted: a swap to either needs no loading. A challenger that is to answer a share of the
rows hangs on the live version, so that both change by that one assignment.
"""

import copy
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from perennial.arrays import Floats
from perennial.error_reporting import report, tag
from perennial.errors import NewerFormat, RegistryError
from perennial.model import Model
from perennial.model_loading import load_model
from perennial.registry import CHALLENGER, CHAMPION, Aliases, Registry
from perennial.schema import Schema
from service.decoding.row_contract import RowContract
from service.decoding.row_encoding import FEW
from service.errors import unavailable
from service.inference.challenger_share import ChallengerShare, withheld
from service.inference.champion_history import ChampionHistory
from service.metrics import ModelMetrics

# Wait before a refused version is tried again, doubling: storage hiccups pass, a corrupt version stays corrupt.
FIRST_RETRY, LAST_RETRY = timedelta(seconds=1), timedelta(seconds=60)
READ_INTERVAL = timedelta(seconds=10)  # after which the aliases are read even where `stat` says that nothing has changed

logger = logging.getLogger(__name__)


class CompiledModel:
    """A version with what serving makes of it once, in the thread that loads it: its row contract and its row scorer.

    Where `challenger` is not None, that version answers a share of the rows.
    """

    def __init__(self, model: Model, schemas: tuple[Schema, ...] = ()) -> None:
        self.model, self.card, self.version = model, model.card, model.card.version
        self.schemas = schemas
        self.challenger: AnsweringChallenger | None = None
        self.contract = RowContract(model, schemas)
        self._score = model.estimator.row_scorer()

    def accepting(self, schemas: tuple[Schema, ...]) -> "CompiledModel":
        """The same model for clients that write rows by any of these schemas; itself where it is so already."""
        if schemas == self.schemas:
            return self
        other = copy.copy(self)
        other.schemas, other.contract = schemas, RowContract(self.model, schemas)
        return other

    def beside(self, challenger: "AnsweringChallenger | None") -> "CompiledModel":
        """The same model with this challenger; itself where it is so already."""
        if challenger is self.challenger:
            return self
        other = copy.copy(self)
        other.challenger = challenger
        return other

    def score_vectors(self, vectors: Sequence[Sequence[float]]) -> list[Any]:
        """A score for each encoded row: a float, or a list of one for each class."""
        if len(vectors) <= FEW:
            return [self._score(vector) for vector in vectors]
        return self.score_matrix(np.array(vectors, dtype=np.float64))

    def score_matrix(self, matrix: Floats) -> list[Any]:
        """`score_vectors` of an (n, k) matrix."""
        scores: list[Any] = self.model.predict_matrix(matrix).tolist()
        return scores


@dataclass(frozen=True, slots=True)
class AnsweringChallenger:
    """A challenger that answers clients, and the share of the rows that it answers."""

    model: CompiledModel
    share: ChallengerShare


@dataclass(frozen=True, slots=True)
class _RefusedVersion:
    version: int
    reason: str
    pause: timedelta
    again: float  # monotonic time of the next try


class ModelWatcher:
    """Keeps `live` at the registry's champion; the request path reads it, and only `check` assigns it.

    With `marks_reports`, every error report of the process is marked with the live version: where it serves one model alone.
    With `with_challenger`, or a `challenger_share` above 0 (percent of the rows), `challenger` follows the alias of that name in
    the same way; it answers that share where it may.
    """

    def __init__(
        self,
        registry: Registry,
        name: str,
        base: Path,
        contract_until: date | None = None,
        *,
        metrics: ModelMetrics,
        with_challenger: bool = False,
        challenger_share: float = 0.0,
        marks_reports: bool = False,
    ) -> None:
        self._registry, self._name, self._base = registry, name, base
        self._metrics, self._marks_reports = metrics, marks_reports
        self._with_challenger, self.challenger_share = with_challenger or challenger_share > 0, challenger_share
        self._history = ChampionHistory(registry, name, contract_until)
        self._refused: dict[str, _RefusedVersion] = {}
        self._away = ""
        self._previous: CompiledModel | None = None
        self._stamp: object = None
        self._next_read = 0.0
        self.is_wanted = True  # in memory, or it would be if it could be loaded
        self.live: CompiledModel | None = None
        self.challenger: CompiledModel | None = None
        self._answering: AnsweringChallenger | None = None
        self._judged: tuple[int, str | None] | None = None  # what the moves say of the challenger, up to a generation
        self.withheld: str | None = None  # why the challenger answers no share of the rows, if so
        self.champion: int | None = None  # by the registry, which may be refused; None while the registry cannot be read

    @property
    def promoted_at(self) -> datetime | None:
        """When the live version became champion."""
        return self._history.promoted_at.get(self.live.version) if self.live else None

    @property
    def refusal(self) -> str | None:
        """Why the registry's champion is not served, or is not known, if so."""
        if (refused := self._refused.get(CHAMPION)) is not None:
            return f"version {refused.version} of {self._name!r} is champion, and it is refused: {refused.reason}"
        return f"the registry cannot be read: {self._away}" if self._away else None

    def require_live(self) -> CompiledModel:
        """The live version; raises ServiceError (503) saying why there is none."""
        if (live := self.live) is None:
            none_yet = f"no version of {self._name!r} has been promoted yet: train one, it is served at once"
            raise unavailable("no_model", self.refusal or none_yet)
        return live

    @property
    def serveable(self) -> int:
        """The version that answers, or would once it is loaded; raises ServiceError (503) saying why there is none."""
        if not self.is_wanted and self.champion is not None:
            return self.champion
        return self.require_live().version

    def unload(self) -> None:
        """Let go of every version; aliases are still looked at, and `load` brings the champion back."""
        self.is_wanted = False
        self.live = self.challenger = self._previous = self._answering = None

    def load(self) -> None:
        """Bring the champion into memory, if it can be; never raises."""
        self.is_wanted = True
        self.check()

    def look(self) -> None:
        """`check` where something may have changed: what `stat` does not show is seen after READ_INTERVAL."""
        stamp, now = self._registry.stamp(self._name), time.monotonic()
        is_settled = not self._away and not self._refused and now < self._next_read
        if is_settled and stamp is not None and stamp == self._stamp:
            return
        self._stamp, self._next_read = stamp, now + READ_INTERVAL.total_seconds()
        self.check()

    def check(self) -> None:
        """Read the aliases and follow them; never raises."""
        try:
            aliases = self._registry.aliases(self._name)
            if self.is_wanted:
                self._history.follow(aliases, datetime.now(UTC))
        except Exception as error:  # noqa: BLE001 - any storage backend, any failure: the live model answers on
            self._lost_sight(error)
            return
        self._away, self.champion = "", aliases.champion
        if not self.is_wanted:
            return
        self._follow_champion(aliases.champion)
        if self._with_challenger:
            self._follow_challenger(aliases.challenger)
        if self.challenger_share:
            self._share_rows(aliases)

    def _follow_champion(self, wanted: int | None) -> None:
        if wanted is None or (found := self._get(CHAMPION, wanted)) is None:
            return
        before = self.live
        is_new = before is None or before.version != wanted
        # The next step decides anew whether a challenger answers beside it.
        self.live = found.accepting(self._history.schemas).beside(None if is_new else self._answering)
        if is_new:
            self._previous = before.beside(None) if before else self._previous
            if self._marks_reports:
                tag(version=wanted)
            logger.info("version %d of %s answers now", wanted, self._name)
            self._metrics.swapped(wanted)

    def _follow_challenger(self, wanted: int | None) -> None:
        if wanted == (self.challenger.version if self.challenger else None):
            return
        # The one before is let go first: three models in memory are enough.
        self.challenger = None
        if wanted is not None and (challenger := self._get(CHALLENGER, wanted)) is not None:
            self.challenger = challenger
            logger.info("version %d of %s is loaded as challenger", wanted, self._name)

    def _share_rows(self, aliases: Aliases) -> None:
        """Let the challenger answer its share of the live version's rows, or take it from it."""
        live, before = self.live, self._answering
        if live is None:
            return
        self.withheld = self._why_withheld(live, aliases)
        wanted = self.challenger if self.withheld is None else None
        if wanted is not (before.model if before else None):
            share = ChallengerShare(self.challenger_share, self._name, wanted.version) if wanted else None
            self._answering = AnsweringChallenger(wanted, share) if wanted and share else None
            self._metrics.shared(share.percent / 100 if share else 0.0)
            logger.info("rows of %s that its challenger answers: %s", self._name, share or f"none, {self.withheld}")
        self.live = live.beside(self._answering)

    def _why_withheld(self, live: CompiledModel, aliases: Aliases) -> str | None:
        """Why the challenger answers no rows, if so; the moves are read once for each of them."""
        if live.version != aliases.champion:
            return f"version {aliases.champion} is champion and does not answer"
        if self._judged is None or self._judged[0] != aliases.generation:
            self._judged = aliases.generation, withheld(aliases, self._registry.moves(self._name))
        if (reason := self._judged[1]) is not None:
            return reason
        if self.challenger is None:
            return f"version {aliases.challenger} cannot be served"
        other_form = self.challenger.contract.form != live.contract.form
        return f"version {aliases.challenger} takes other columns than the champion" if other_form else None

    def _get(self, alias: str, version: int) -> CompiledModel | None:
        """The version, from memory or loaded; None when it is refused."""
        for held in (self.live, self._previous, self.challenger):
            if held is not None and held.version == version:
                self._refused.pop(alias, None)
                return held
        refused = self._refused.get(alias)
        if refused is not None and refused.version == version and time.monotonic() < refused.again:
            return None
        try:
            compiled = CompiledModel(load_model(self._registry, self._name, version, self._base), self._history.schemas)
        except Exception as error:  # noqa: BLE001 - a version is refused whatever is wrong with it
            self._refuse(alias, version, error)
            return None
        self._refused.pop(alias, None)
        return compiled

    def _refuse(self, alias: str, version: int, error: Exception) -> None:
        before = self._refused.get(alias)
        again = before is not None and before.version == version
        pause = min(2 * before.pause, LAST_RETRY) if before and again else FIRST_RETRY
        self._refused[alias] = _RefusedVersion(version, _reason(error), pause, time.monotonic() + pause.total_seconds())
        if not again:
            logger.error("version %d of %s is refused as %s, %s: %s", version, self._name, alias, self._remains(), error)
            report(error, group=("service", "version-refused", self._name), model=self._name, refused_version=version)
            self._metrics.refused()

    def _remains(self) -> str:
        return f"version {self.live.version} answers on" if self.live else "there is no other"

    def _lost_sight(self, error: Exception) -> None:
        if not self._away:  # once per absence, not once per look
            logger.warning("the registry at %s cannot be read, %s: %s", self._registry.url, self._remains(), error)
            report(error, group=("service", "registry-unreachable", self._name), model=self._name)
        self._away, self.champion = _reason(error), None


def _reason(error: Exception) -> str:
    """What clients are told of it: the registry's own words, of others only the kind."""
    return str(error) if isinstance(error, RegistryError | NewerFormat) else f"{type(error).__name__}, see the service's log"
