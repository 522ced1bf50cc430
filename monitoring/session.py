"""The monitor's session: what the active monitor works with between two losses of its lease.

It holds the champion, the prediction log typed by the champion's schema, the stored state and the watermark. All of it is
read from registry and disk when a session begins, so a session may end anywhere without harm. One thread uses it.
"""

import logging
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import polars as pl

from monitoring.archive import MAX_CLOCK_SKEW, Archive
from monitoring.champion_account import ChampionAccount
from monitoring.closing import Judge
from monitoring.consumer import Batch
from monitoring.ledger import Ledger, adopt
from monitoring.loop_figures import LoopRecorder
from monitoring.partitions import collect
from monitoring.shadowing import Shadows
from monitoring.state import MonitorState, WindowResult, load_state, save_state
from monitoring.window import Window, due_windows, newest_rows, watermark, window_at
from perennial.errors import PerennialError
from perennial.log_columns import VERSION
from perennial.model import Model
from perennial.model_card import ModelCard
from perennial.model_loading import load_card, load_model
from perennial.registry import Registry
from perennial.schema import Schema
from perennial.spec import ModelSpec
from perennial.value_types import OLDEST

log = logging.getLogger(__name__)


class MonitorSession:
    """Champion, log, state and watermark of one active monitor."""

    def __init__(
        self,
        spec: ModelSpec,
        home: Path,
        model: Model,
        now: datetime,
        registry: Registry,
        base: Path,
        archive_url: str | None = None,
    ) -> None:
        """`archive_url` is where the prediction log is; None where it is in the model's home."""
        self._spec, self._home, self._registry, self._base, self._archive_url = spec, home, registry, base, archive_url
        self._cards: dict[int, ModelCard | None] = {}
        self.state, self.ledger, self.figures = load_state(home), Ledger(home), LoopRecorder(spec, home)
        if (earlier := self.state.last_request) is not None:
            adopt(home, earlier.request, earlier.sent_at)
        self.use(model)
        self._newest, self._oldest = self.archive.newest(now), self.archive.oldest()

    def use(self, model: Model) -> None:
        """Judge by this champion from now on, and type the log by its schema."""
        self.model = model
        self.archive = self._archive(model)

    def judge(self, window: Window) -> Judge:
        """The champion and the versions of its input contract, or, where another contract answered most of the window's rows,
        the version that answered most of those."""
        counts, champion = self.archive.rows_by_version(window.start, window.end), self.model
        own = self._alike(champion, counts)
        others = counts.keys() - own
        if sum(counts[version] for version in others) <= sum(counts[version] for version in own):
            return Judge(champion, self.archive, own, self._shadows())
        model = self._load(max(others, key=lambda version: (counts[version], version)))
        if model is None:
            return Judge(champion, self.archive, own, self._shadows())
        return Judge(model, self._archive(model), self._alike(model, others), serves=False)

    def judge_to_close(self, window: Window) -> Judge:
        """Who judges a window that is closed now; what the ledger has about it is carried out for the version it is about."""
        judge, decided = self.judge(window), self.ledger.about(window)
        if decided is not None and decided.request is not None and decided.request.version != judge.model.card.version:
            model = self._load(decided.request.version)
            counts = self.archive.rows_by_version(window.start, window.end)
            if model is not None:
                judge = Judge(model, self._archive(model), self._alike(model, counts), serves=False)
        return replace(judge, last=self.ledger.last_request(), decided=decided)

    def _shadows(self) -> Shadows:
        """The versions that the champion may be compared with: those of its input contract."""

        def card(version: int) -> ModelCard | None:
            found = self._card(version)
            return found if found is not None and self._alike(self.model, (version,)) else None

        return Shadows(self._registry, self.model, self._answered_alike, card, self._load)

    def _answered_alike(self, window: Window) -> pl.DataFrame:
        """A window's rows, with their labels, that were answered under the champion's input contract."""
        rows = collect(self.archive.with_labels(window.start, window.end), self.archive.home)
        return rows.filter(pl.col(VERSION).is_in(list(self._alike(self.model, rows[VERSION].unique()))))

    def _load(self, version: int) -> Model | None:
        try:
            return load_model(self._registry, self._spec.name, version, self._base)
        except PerennialError as error:
            log.warning("version %d cannot be loaded to judge: %s", version, error)
            return None

    def _archive(self, model: Model) -> Archive:
        return Archive(self._home, self._spec.task, model.card.schema_, self._schema_of, self._archive_url)

    def _alike(self, model: Model, versions: Iterable[int]) -> frozenset[int]:
        """Those of the versions that have the model's input contract; one that is not in the registry counts as alike."""
        schemas = {version: self._schema_of(version) or model.card.schema_ for version in versions}
        return frozenset(version for version, one in schemas.items() if one.dtypes == model.card.schema_.dtypes)

    def _schema_of(self, version: int) -> Schema | None:
        card = self._card(version)
        return card.schema_ if card else None

    def _card(self, version: int) -> ModelCard | None:
        if version not in self._cards:
            try:
                self._cards[version] = load_card(self._registry, self._spec.name, version)
            except PerennialError:
                self._cards[version] = None
        return self._cards[version]

    def advance(self, batch: Batch, now: datetime) -> None:
        """Move the watermark by the archived predictions; a time in the future does not count, nor do one or two rows."""
        records = [entry.record for entry in batch.predictions]
        rows = [asked for record in records for asked in zip(record.event_times, record.ids, strict=True)]
        credible = [asked for asked in rows if OLDEST <= asked[0] <= now + MAX_CLOCK_SKEW]
        if credible:
            self._newest = newest_rows(self._newest, credible)
            self._oldest = min([min(credible)[0], *([self._oldest] if self._oldest else [])])

    def due(self) -> list[Window]:
        """Windows to close now, oldest first."""
        since, spec, reached = self.state.closed_until or self._oldest, self._spec.window, watermark(self._newest)
        if since is None or reached is None or window_at(since, spec.length).end + spec.lateness > reached:
            return []
        return list(due_windows(spec, since, reached, self.archive.dates()))

    def record(self, result: WindowResult, account: ChampionAccount | None) -> None:
        """The window is closed: remember that, and the champion's account."""
        self.figures.window_closed(result)
        state = MonitorState(closed_until=result.window.end, account=account)
        save_state(self._home, state)
        self.state = state
