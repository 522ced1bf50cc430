"""Reports: what Evidently shows people about a window, beside the decision, never part of it. The only file that imports it.

A report begins with our own headline: the decision with its bounds, the diagnosis, and every column by what it adds to the drift
(distance times importance). Below it Evidently draws the MOST_DRAWN columns that add most, and the score, from at most
REFERENCE_ROWS rows of each side. The headline says so, because Evidently's verdict on a column is not the decision: the bound is
one of the weighted sum.

The distances it shows are computed by the same methods as ours, from samples of rows instead of
whole profiles; `disagreement` says how far the two are apart. Evidently's script (3.5 MB) is one file for all reports of a model.
"""

import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from monitoring.drift import Drift
from monitoring.state import WindowResult
from monitoring.window import Window
from perennial.model import REFERENCE_ROWS, Model
from perennial.schema import free_name
from perennial.settings import REPORTS

DEFAULT_THRESHOLD = 0.1
"""From where on a column is painted as drifted when the model has no calibrated bound yet."""

TOLERANCE = 0.1
"""Difference of one feature's distance, sample against profile, from which one is wrong: twice what sampling explains."""

MOST_DRAWN = 8
"""Columns that Evidently draws, those that add most to the drift; each costs it 60 ms and 30 KB."""

LIBRARY = "evidently.js"
"""Evidently's script, beside the reports that load it."""

log = logging.getLogger(__name__)


def report_path(home: Path, window: Window) -> Path:
    """Where the report of a window is, or will be: known before it is written."""
    return home / REPORTS / f"{window.key}.html"


def prepare() -> None:
    """Import Evidently now (2 to 10 seconds), so that the first report does not."""
    with _quiet():
        _evidently()


def write_report(home: Path, model: Model, result: WindowResult, table: pl.DataFrame) -> dict[str, float]:
    """Compare the window's features and scores with the model's reference; returns Evidently's distances by feature.

    Writes HTML and JSON under `reports`, and a run in the Evidently workspace under `evidently`. The HTML
    is written last: where it exists, the window has its report. `table` holds readable feature values.
    """
    path, bound = report_path(home, result.window), result.findings.bounds.get("drift")
    path.parent.mkdir(parents=True, exist_ok=True)
    with _quiet():
        shares = contributions(result, model)
        snapshot = run_report(model, result.window, table, DEFAULT_THRESHOLD if bound is None else bound, shares)
        snapshot.save_json(str(path.with_suffix(".json")))
        _add_to_workspace(home / "evidently", model.card.name, snapshot)
        page = _with_shared_library(snapshot.get_html_str(as_iframe=False), path.parent)
        path.write_text(page.replace("<body>", f"<body>{headline(result, model)}", 1), encoding="utf-8")
        return distances(snapshot)


def prune_reports(home: Path, keep: int) -> int:
    """Delete all but the newest reports, each with its run in the workspace; how many there were to delete."""
    old = sorted((home / REPORTS).glob("*.html"))[:-keep]
    runs = sorted((home / "evidently").glob("*/snapshots/*.json"), key=lambda path: path.stat().st_mtime)[:-keep]
    for path in (*old, *(path.with_suffix(".json") for path in old), *runs):
        path.unlink(missing_ok=True)
    if old:
        log.info("%d old reports of %s deleted, the newest %d kept", len(old), home.name, keep)
    return len(old)


def contributions(result: WindowResult, model: Model) -> dict[str, float]:
    """What each column adds to the drift, its distance times its importance; the largest first."""
    shares = {name: distance * model.profile.importance[name] for name, distance in result.distances.items()}
    return dict(sorted(shares.items(), key=lambda item: (-item[1], item[0])))


def headline(result: WindowResult, model: Model) -> str:
    """What was decided about the window, as the head of a page: nothing below it may be taken for the decision."""
    findings, values, decision = result.findings, result.findings.values, result.decision
    signals = [one.describe(values[one.name], findings.bounds.get(one.name)) for one in findings.shown if one.name in values]
    facts = {
        "Decision": f"{decision.kind}: {decision.reason}",
        "Measured": ", ".join(signals),
        "Diagnosis": str(result.diagnosis) if result.diagnosis else "",
        "Rows": f"{findings.rows:,}, of which {min(findings.rows, REFERENCE_ROWS):,} are drawn below",
        "Below": f"of the columns that can be drawn the {MOST_DRAWN} that add most to the drift, and the score. Evidently "
        "compares each alone with the bound of their sum; whether the window drifted is what the decision says.",
    }
    said = "".join(f"<p><b>{name}</b>: {escape(text)}</p>" for name, text in facts.items() if text)
    title = f"{result.model} version {result.version}, {result.window}"
    return f'{_STYLE}<header class="perennial"><h1>{escape(title)}</h1>{said}{_column_table(result, model)}</header>'


def _column_table(result: WindowResult, model: Model) -> str:
    """Every column, the one that adds most to the drift first."""
    shares = contributions(result, model)
    cells = ((name, result.distances[name], model.profile.importance[name], share) for name, share in shares.items())
    rows = "".join(f"<tr><td>{escape(name)}</td>{''.join(f'<td>{one:.4g}</td>' for one in more)}</tr>" for name, *more in cells)
    head = "".join(f"<th>{name}</th>" for name in ("column", "distance", "importance", "distance x importance"))
    said = f"What each of the {len(shares)} columns adds to the drift, the most first"
    return f"<details open><summary>{said}</summary><table><tr>{head}</tr>{rows}</table></details>" if shares else ""


_STYLE = """<style>
.perennial {
  font: 15px/1.5 system-ui, sans-serif;
  margin: 1rem auto;
  padding: 0 1rem;
  max-width: 1180px;
  overflow-wrap: break-word;
}
.perennial h1 { font-size: 1.3rem; }
.perennial p { margin: .2rem 0; }
.perennial td, .perennial th { text-align: left; padding-right: .6rem; font-size: 13px; overflow-wrap: anywhere; }
</style>"""


def _with_shared_library(page: str, folder: Path) -> str:
    """The page with Evidently's script beside it instead of in it; as it is where the script is not found in it."""
    from evidently.legacy.utils.dashboard import STATIC_PATH

    script = (Path(STATIC_PATH) / "index.js").read_text(encoding="utf-8")
    library = folder / LIBRARY
    if not library.exists() or library.stat().st_size != len(script.encode()):
        library.write_text(script, encoding="utf-8")
    return page.replace(f"<script>{script}</script>", f'<script src="{LIBRARY}"></script>', 1)


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


def run_report(
    model: Model, window: Window, table: pl.DataFrame, threshold: float, shares: Mapping[str, float] | None = None
) -> Any:
    """Evidently's snapshot of the window against the model's reference, nothing written.

    Of the columns it has those that `shares` names first, or all.
    """
    report, dataset, definition, value_drift = _evidently()
    kinds = model.card.features.kinds
    scores = [] if model.card.classes else [free_name("prediction", table.columns)]
    then, now = _sampled(model.compiled.table(model.reference), model, scores), _sampled(table, model, scores)
    # Evidently refuses a whole report over one column that it cannot draw; the profiles judge it all the same.
    drawable = [name for name in (shares or table.columns) if _is_drawable(then[name].dropna(), now[name].dropna())]
    shown = drawable[: MOST_DRAWN if shares else None]
    categorical = [name for name in shown if kinds[name] == "categorical"]
    scores = [name for name in scores if _is_drawable(then[name].dropna(), now[name].dropna())]
    numeric = [*(name for name in shown if kinds[name] == "numeric"), *scores]
    columns = definition(numerical_columns=numeric, categorical_columns=categorical)
    methods = {name: "jensenshannon" if name in categorical else "wasserstein" for name in (*shown, *scores)}
    made = report(
        [value_drift(column=name, method=method, threshold=threshold) for name, method in methods.items()],
        metadata={"model": model.card.name, "version": str(model.card.version), "window": str(window)},
        include_tests=False,
    )
    return made.run(
        dataset.from_pandas(now[[*methods]], data_definition=columns),
        dataset.from_pandas(then[[*methods]], data_definition=columns),
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
    from evidently.metrics import ValueDrift

    return Report, Dataset, DataDefinition, ValueDrift


@contextmanager
def _quiet() -> Iterator[None]:
    """Evidently 0.7 uses deprecated names of numpy and litestar and divides by zero on constant columns."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
