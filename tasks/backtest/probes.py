"""Probes of a history's models: the monitor's own probe, made when a simulated life asks for it, and kept in files.

Which champion is probed on which window depends on what was promoted before, so a life asks for one probe a window, out of many
that there could be. One costs what it costs the monitor, and the champion's scores of the window.
"""

from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple

from pydantic import Field

from monitoring.avoidable_loss import ExcessLoss
from monitoring.measurement import loss_metric
from monitoring.probe import MOST_WINDOWS, ProbeRows, probe, windows_before
from monitoring.window import Window
from perennial.base import StoredModel
from perennial.features import CompiledFeatures
from perennial.labels import LabelCodec
from perennial.learner import Estimator, Objective
from tasks.backtest.history import History
from tasks.backtest.trainings import fitted_at, read, write


class KeptProbes(StoredModel):
    """The probes of one boundary's model by window; None where nothing could be compared."""

    excess: dict[int, ExcessLoss | None] = Field(default_factory=dict)


class Champion(NamedTuple):
    """What is needed of a boundary's model. `since` is the time up to which a life's training there would have known labels."""

    compiled: CompiledFeatures
    classes: tuple[str, ...]
    estimator: Estimator
    since: datetime


class Probes:
    """Probes of the models of boundaries, which were fitted for so many `rounds`, on the windows of a history."""

    def __init__(self, history: History, rounds: Mapping[int, int]) -> None:
        self._history, self._rounds = history, rounds
        self._champion = lru_cache(maxsize=2)(self._read_champion)
        self._rows = lru_cache(maxsize=2 * MOST_WINDOWS)(self._encode)

    def __call__(self, boundary: int, window: int) -> ExcessLoss | None:
        """The model's loss on the window beyond that of a probe; None where there is nothing to compare."""
        file = self._history.directory / f"probes-{boundary}-{self._rounds[boundary]}.json"
        kept = read(KeptProbes, file) or KeptProbes()
        if window not in kept.excess:
            kept = KeptProbes(excess={**kept.excess, window: self._probe(boundary, self._history.windows[window])})
            write(file, kept)
        return kept.excess[window]

    def _probe(self, boundary: int, window: Window) -> ExcessLoss | None:
        spec, champion = self._history.job.spec, self._champion(boundary)
        objective = Objective(spec.task, spec.objective_metric, len(champion.classes), seed=0, threads=1)
        earlier = (self._rows(boundary, one) for one in windows_before(window, champion.since))
        found = probe(objective, loss_metric(spec), champion.compiled.features, self._rows(boundary, window), earlier)
        return None if found is None else found.difference

    def _read_champion(self, boundary: int) -> Champion:
        history = self._history
        data, estimator = fitted_at(history, boundary, self._rounds[boundary])
        return Champion(data.compiled, data.classes, estimator, history.windows[boundary].start + history.ahead)

    def _encode(self, boundary: int, window: Window) -> ProbeRows:
        """The rows of a window that are newer than the model's training."""
        history, champion, spec = self._history, self._champion(boundary), self._history.job.spec
        start = history.before(max(window.start, champion.since))
        rows = history.rows.slice(start, max(0, history.before(window.end) - start))
        matrix = champion.compiled.matrix(rows)
        labels = LabelCodec(spec.task, champion.classes).encode_column(rows[spec.target])
        times = rows[spec.event_time].dt.replace_time_zone(None).to_numpy()
        return ProbeRows(matrix, labels, times, champion.estimator.predict(matrix) if rows.height else labels)
