"""The drift engine measured: 100,000 rows of 20 columns against Evidently's preset, and 10 million rows in parts.

Both sides are given the same window in memory and use the same methods (Wasserstein, Jensen-Shannon). Ours compares it with the
frozen profile of the reference rows, Evidently with the reference rows themselves, 5,000 as in the product's reports. Seconds are
those of the process on a core, so that other work on the machine takes no part in them.

`python -m benchmarks.drift` counts the 10 million in a process of its own, whose peak memory it prints as JSON.
"""

import json
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl

from benchmarks.measure import Comparison
from monitoring.drift import Drift, measure_drift
from perennial.model import REFERENCE_ROWS
from perennial.profile import Profile, count_profile, fit_profile, merge_profiles
from perennial.spec import Kind

ROWS, PARTS = 100_000, 100
"""Rows of a window, or of a part of the large one, and parts of that."""

NUMBERS, CATEGORIES = 14, 6
KINDS: dict[str, Kind] = {f"n{at}": "numeric" for at in range(NUMBERS)} | {f"c{at}": "categorical" for at in range(CATEGORIES)}


def rows_of(count: int, seed: int) -> pl.DataFrame:
    """Rows of numbers and categories, a hundredth of them null, which later seeds shift a little."""
    chance = np.random.default_rng(seed)
    numbers = {name: chance.normal(0.01 * seed, 1.0, count) for name, kind in KINDS.items() if kind == "numeric"}
    names = np.array([f"category {at}" for at in range(50)])
    texts = {name: names[chance.integers(0, 50, count)] for name, kind in KINDS.items() if kind == "categorical"}
    hole = pl.Series(chance.random(count) < 0.01)
    return pl.DataFrame(numbers | texts).with_columns(pl.when(~hole).then(pl.col(*KINDS)))


def compare_with_evidently(rounds: int) -> Comparison:
    """Our distances of a window against a report of `DataDriftPreset`, A B A B."""
    before, now = rows_of(REFERENCE_ROWS, 0), rows_of(ROWS, 1)
    profile, theirs = fit_profile(before, KINDS, {}), _evidently(before, now)
    ours = _by_profile(profile, now)
    ours(), theirs()
    pairs = [(_cpu_seconds(ours), _cpu_seconds(theirs)) for _ in range(rounds)]
    first, second = zip(*pairs, strict=True)
    return Comparison("drift of 20 columns, profiles", ROWS, first, second, "Evidently")


def in_parts() -> dict[str, float]:
    """Ten million rows through mergeable parts, in a process of its own."""
    done = subprocess.run([sys.executable, "-m", "benchmarks.drift"], capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _count_parts() -> dict[str, float]:
    profile, seconds = fit_profile(rows_of(REFERENCE_ROWS, 0), KINDS, {}), 0.0
    whole: Profile | None = None
    for part in range(PARTS):
        rows = rows_of(ROWS, part)
        began = time.process_time()
        counted = count_profile(rows, profile)
        whole = merge_profiles([whole, counted]) if whole else counted
        seconds += time.process_time() - began
    drift = measure_drift(profile, whole) if whole else None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {"rows": float(drift.rows if drift else 0), "cpu_seconds": seconds, "peak_mb": peak / 1e6}


def _by_profile(profile: Profile, now: pl.DataFrame) -> Callable[[], Drift]:
    return lambda: measure_drift(profile, count_profile(now, profile))


def _evidently(before: pl.DataFrame, now: pl.DataFrame) -> Callable[[], object]:
    with _warnings_off():
        from evidently import DataDefinition, Dataset, Report
        from evidently.presets import DataDriftPreset
    columns = {kind: [name for name, one in KINDS.items() if one == kind] for kind in ("numeric", "categorical")}
    definition = DataDefinition(numerical_columns=columns["numeric"], categorical_columns=columns["categorical"])
    then, current = (Dataset.from_pandas(frame.to_pandas(), data_definition=definition) for frame in (before, now))

    def run() -> object:
        with _warnings_off():
            return Report([DataDriftPreset(num_method="wasserstein", cat_method="jensenshannon")]).run(current, then)

    return run


def _warnings_off() -> Any:
    return warnings.catch_warnings(action="ignore")


def _cpu_seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_count_parts()) + "\n")
