"""The frozen first model: what would have happened without the loop, on the very rows the service answered.

The loop's side is the score each row was answered with, as the archive has it; nothing is predicted again for it.
The same comparison of one version with the one it replaced says what each promotion was worth.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from monitoring.archive import Archive
from monitoring.window import Window, window_at
from perennial.log_columns import LABEL, SCORE, VERSION
from perennial.metrics import Metrics, score
from perennial.model import Model, from_files
from perennial.registry import Registry
from perennial.spec import ModelSpec

FIRST_VERSION = 1


@dataclass(frozen=True)
class Comparison:
    """Both sides on the same labelled rows; `static` is the model that did not answer them."""

    loop: Metrics
    static: Metrics


class FrozenBaseline:
    """One model's frozen version, beside the archive of what was answered."""

    def __init__(self, frozen: Model, archive: Archive, spec: ModelSpec) -> None:
        self._frozen, self._archive, self._spec = frozen, archive, spec

    def window(self, window: Window) -> Comparison | None:
        """Both sides on one window; None below the spec's least number of rows."""
        rows = self._archive.labelled(window.start, window.end).collect()
        return self._compare(rows) if rows.height >= self._spec.window.min_rows else None

    def answered_by(self, version: int) -> Comparison | None:
        """Both sides on the rows that `version` answered; None without a labelled one."""
        rows = self._archive.labelled().filter(pl.col(VERSION) == version).collect()
        return self._compare(rows) if rows.height else None

    def windows(self, since: datetime, until: datetime) -> dict[Window, Comparison]:
        """Every window of [since, until) with enough labelled rows; a window cut by `since` or `until` counts as it is."""
        found = {window: self.window(window) for window in windows_between(since, until, self._spec.window.length)}
        return {window: comparison for window, comparison in found.items() if comparison is not None}

    def pooled(self, since: datetime, until: datetime) -> Comparison | None:
        """Both sides on all labelled rows of [since, until) at once."""
        rows = self._archive.labelled(since, until).collect()
        return self._compare(rows) if rows.height else None

    def _compare(self, rows: pl.DataFrame) -> Comparison:
        labels = self._frozen.label_codec.encode_column(rows[LABEL])
        answered = np.array(rows[SCORE].to_list(), dtype=np.float64)
        static = self._frozen.predict_frame(rows)
        return Comparison(score(self._spec.task, labels, answered), score(self._spec.task, labels, static))


def open_frozen_baseline(
    registry: Registry, spec: ModelSpec, base: Path, home: Path, version: int = FIRST_VERSION
) -> FrozenBaseline:
    """Read the version to compare with, and the archive below the model's `home`; raises RegistryError."""
    frozen = from_files(registry.read(spec.name, version), base)
    return FrozenBaseline(frozen, Archive(home, spec.task, frozen.card.schema_), spec)


def windows_between(since: datetime, until: datetime, length: timedelta) -> list[Window]:
    """The windows that touch [since, until), oldest first."""
    windows = [window_at(since, length)]
    while windows[-1].end < until:
        windows.append(window_at(windows[-1].end, length))
    return windows


def mean_of(comparisons: Sequence[Comparison], side: str, metric: str) -> float | None:
    """Unweighted mean over windows, as the design's figures are; None where no window has the metric."""
    values = [getattr(one, side).values[metric] for one in comparisons if metric in getattr(one, side).values]
    return float(np.mean(values)) if values else None
