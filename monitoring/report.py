"""Reports: what Evidently shows people about a window, beside the decision, never part of it. The only file that imports it.

The distances it shows are computed by the same methods as ours, from samples of rows instead of
whole profiles; `disagreement` says how far the two are apart.
"""

import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from monitoring.drift import Drift
from monitoring.window import Window
from perennial.model import REFERENCE_ROWS, Model
from perennial.schema import free_name

DEFAULT_THRESHOLD = 0.1
"""From where on a column is painted as drifted when the model has no calibrated bound yet."""

TOLERANCE = 0.1
"""Difference of one feature's distance, sample against profile, from which one is wrong: twice what sampling explains."""

log = logging.getLogger(__name__)


def report_path(home: Path, window: Window) -> Path:
    """Where the report of a window is, or will be: known before it is written."""
    return home / "reports" / f"{window.key}.html"


def prepare() -> None:
    """Import Evidently now (2 to 10 seconds), so that the first report does not."""
    with _quiet():
        _evidently()


def write_report(home: Path, model: Model, window: Window, table: pl.DataFrame, bound: float | None) -> dict[str, float]:
    """Compare the window's features and scores with the model's reference; returns Evidently's distances by feature.

    Writes HTML and JSON under `reports`, and a run in the Evidently workspace under `evidently`. The HTML
    is written last: where it exists, the window has its report. `table` holds readable feature values.
    """
    path = report_path(home, window)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _quiet():
        snapshot = run_report(model, window, table, DEFAULT_THRESHOLD if bound is None else bound)
        snapshot.save_json(str(path.with_suffix(".json")))
        _add_to_workspace(home / "evidently", model.card.name, snapshot)
        snapshot.save_html(str(path))
        return distances(snapshot)


def distances(snapshot: Any) -> dict[str, float]:
    """Evidently's distance of each column that a report shows."""
    found = ((metric["config"], metric["value"]) for metric in snapshot.dict()["metrics"])
    return {str(config["column"]): float(value) for config, value in found if "column" in config}


def disagreement(theirs: Mapping[str, float], ours: Drift) -> dict[str, float]:
    """By feature: Evidently's distance minus ours, where it is beyond what sampling and bins explain.

    Numbers beyond the outermost edges have no bin that could say how far they are: such a window is not compared.
    """
    compared = {name: one for name, one in ours.distances.items() if name in theirs and one.outside <= 0}
    gaps = {name: theirs[name] - one.values for name, one in compared.items()}
    return {name: gap for name, gap in gaps.items() if abs(gap) > TOLERANCE + compared[name].error}


def run_report(model: Model, window: Window, table: pl.DataFrame, threshold: float) -> Any:
    """Evidently's snapshot of the window against the model's reference, nothing written."""
    report, dataset, definition, preset = _evidently()
    kinds = model.card.features.kinds
    numeric = [name for name in table.columns if kinds[name] == "numeric"]
    categorical = [name for name in table.columns if kinds[name] == "categorical"]
    scores = [] if model.card.classes else [free_name("prediction", table.columns)]
    columns = definition(numerical_columns=numeric + scores, categorical_columns=categorical)
    then, now = _sampled(model.compiled.table(model.reference), model, scores), _sampled(table, model, scores)
    # Evidently refuses a whole report over one column that it cannot draw; the profiles judge it all the same.
    shown = [name for name in (*table.columns, *scores) if _is_drawable(then[name].dropna(), now[name].dropna())]
    methods = {"num_method": "wasserstein", "cat_method": "jensenshannon"}
    thresholds = {"num_threshold": threshold, "cat_threshold": threshold}
    made = report(
        [preset(columns=shown, **methods, **thresholds)],
        metadata={"model": model.card.name, "version": str(model.card.version), "window": str(window)},
    )
    return made.run(
        dataset.from_pandas(now, data_definition=columns),
        dataset.from_pandas(then, data_definition=columns),
        timestamp=window.end.replace(tzinfo=None),
        name=f"{model.card.name} {window}",
    )


def _is_drawable(then: Any, now: Any) -> bool:
    """Whether both samples have values and, if numbers, a spread that bins can divide: near 1e300 there may be none."""
    if not (len(then) and len(now)):
        return False
    if then.dtype.kind != "f":
        return True
    try:
        return all(np.isfinite(one.std()) and np.isfinite(np.histogram(one, 10)[1]).all() for one in (then, now))
    except ValueError:  # "Too many bins for data range"
        return False


def _sampled(table: pl.DataFrame, model: Model, scores: list[str]) -> Any:
    """At most REFERENCE_ROWS rows as a pandas frame, with the model's scores under the name given; the same rows every time."""
    rows = table.sample(REFERENCE_ROWS, seed=0) if table.height > REFERENCE_ROWS else table
    columns = [pl.Series(name, model.predict_matrix(model.compiled.codes(rows))) for name in scores]
    return rows.with_columns(columns).to_pandas()


def _add_to_workspace(folder: Path, name: str, snapshot: Any) -> None:
    from evidently.ui.workspace import Workspace

    workspace = Workspace.create(str(folder))
    projects = workspace.search_project(name)
    project = projects[0] if projects else workspace.create_project(name)
    workspace.add_run(project.id, snapshot)


def _evidently() -> tuple[Any, Any, Any, Any]:
    os.environ.setdefault("DO_NOT_TRACK", "1")  # read by Evidently at import: no telemetry
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    return Report, Dataset, DataDefinition, DataDriftPreset


@contextmanager
def _quiet() -> Iterator[None]:
    """Evidently 0.7 uses deprecated names of numpy and litestar and divides by zero on constant columns."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
