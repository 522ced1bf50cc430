"""The frozen first model: what would have happened without the loop, on the very rows the service answered.

The loop's side is the score each row was answered with, as the archive has it; nothing is predicted again for it.
The same comparison of one version with the one it replaced says what each promotion was worth.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl

from monitoring.archive import Archive
from monitoring.window import ORIGIN, Window, window_at
from perennial.log_columns import EVENT_TIME, LABEL, SCORE, VERSION
from perennial.metrics import Metrics, score
from perennial.model import Model, from_files
from perennial.registry import Registry
from perennial.spec import ModelSpec


@dataclass(frozen=True)
class Comparison:
    """Both sides on the same labelled rows; `static` is the model that did not answer them."""

    loop: Metrics
    static: Metrics


@dataclass(frozen=True)
class FrozenBaseline:
    """One model's frozen version, beside the archive of what was answered; None stands for too few labelled rows."""

    frozen: Model
    archive: Archive
    spec: ModelSpec

    def window(self, window: Window) -> Comparison | None:
        """Both sides on one window; too few rows are less than the spec's minimum."""
        return self.compare(self.archive.labelled(window.start, window.end), self.spec.window.min_rows)

    def answered_by(self, version: int) -> Comparison | None:
        """Both sides on the rows that `version` answered."""
        return self.compare(self.archive.labelled().filter(pl.col(VERSION) == version))

    def windows(self) -> dict[Window, Comparison]:
        """Every window of the archive with enough labelled rows, the last one as far as it goes; oldest first."""
        length, shift = self.spec.window.length, ORIGIN - datetime.fromtimestamp(0, UTC)
        starts = self.archive.scan().select((pl.col(EVENT_TIME) - shift).dt.truncate(length).unique().sort() + shift).collect()
        found = {window: self.window(window) for window in (window_at(start, length) for start in starts.to_series())}
        return {window: comparison for window, comparison in found.items() if comparison is not None}

    def compare(self, labelled: pl.LazyFrame, min_rows: int = 1) -> Comparison | None:
        """Both sides on some labelled rows of the archive."""
        rows = labelled.collect()
        if rows.height < min_rows:
            return None
        labels, answered = self.frozen.label_codec.encode_column(rows[LABEL]), np.array(rows[SCORE].to_list(), dtype=np.float64)
        loop, static = (score(self.spec.task, labels, scores) for scores in (answered, self.frozen.predict_frame(rows)))
        return Comparison(loop, static)


def open_frozen_baseline(
    registry: Registry, spec: ModelSpec, base: Path, home: Path, version: int = 1, archive_url: str | None = None
) -> FrozenBaseline:
    """Read the version to compare with, and the archive, of the model's `home` or a URL; raises RegistryError."""
    frozen = from_files(registry.read(spec.name, version), base)
    return FrozenBaseline(frozen, Archive(home, spec.task, frozen.card.schema_, url=archive_url), spec)


def mean_of(comparisons: Iterable[Comparison], side: str, metric: str) -> float | None:
    """Unweighted mean over windows, as the design's figures are; None where no window has the metric."""
    values = [getattr(one, side).values[metric] for one in comparisons if metric in getattr(one, side).values]
    return float(np.mean(values)) if values else None
