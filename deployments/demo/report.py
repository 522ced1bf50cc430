"""The report of a demo: summary.json, timeline.html, a table of versions for people, and whether the run did what was asked."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from deployments.demo.display import number
from deployments.demo.evidence import Evidence
from deployments.demo.summary import Summary, VersionSummary, find_losses, summarise, to_json, unmet_goals
from deployments.demo.timeline import draw, timeline_marks, timeline_windows
from perennial.spec import ModelSpec


def write_report(evidence: Evidence, directory: Path, spec: ModelSpec, console: Console) -> Summary:
    """Count, write summary.json and timeline.html, and print the table of versions."""
    summary = summarise(evidence)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "summary.json").write_bytes(to_json(summary))
    windows, marks, rows = timeline_windows(evidence), timeline_marks(evidence, spec), version_table(summary)
    page = draw(f"Perennial: {spec.name}", _subtitle(summary), windows, marks, rows)
    (directory / "timeline.html").write_text(page, encoding="utf-8")
    _print_versions(rows, console)
    return summary


def exit_code(summary: Summary, whole_year: bool, console: Console) -> int:
    """Print what was asked of this run, what is missing and what was noted; 0 when nothing is missing, else 1."""
    quick, whole = "nothing lost (a whole year must also show that it helps)", "nothing lost, the loop closed and helped"
    missing = [*find_losses(summary), *(unmet_goals(summary) if whole_year else ())]
    for text in [*missing, *(f"note: {problem}" for problem in summary.problems)]:
        console.print(text, markup=False, highlight=False, soft_wrap=True)
    console.print(f"asked of this run: {whole if whole_year else quick}: {'NO' if missing else 'yes'}", markup=False)
    return 1 if missing else 0


def version_table(summary: Summary) -> list[list[str]]:
    """The table of versions, its head first."""
    head = ["version", "cause", "gate", "since", "trained on", "AUC before", "AUC after"]
    return [head, *(_row(version) for version in summary.versions)]


def _row(version: VersionSummary) -> list[str]:
    since = f"{version.promoted_at:%d %b %Y}" if version.promoted_at else "-"
    qualities = (number(version.auc_before), number(version.auc_after))
    return [str(version.version), version.cause, version.decision, since, f"{version.train_rows:,}", *qualities]


def _print_versions(rows: list[list[str]], console: Console) -> None:
    table = Table(*rows[0], box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for row in rows[1:]:
        table.add_row(*row)
    console.print("\nWhat became of each version (AUC on the rows it answered: of its predecessor, had it stayed, and its own)")
    console.print(table)


def _subtitle(summary: Summary) -> str:
    return (
        f"{summary.predictions_answered:,} predictions, {summary.labels_joined:,} labels, {summary.windows} windows; "
        f"retrainings: {summary.retrain_runs}, promotions: {summary.promotions}, refusals: {summary.refusals}; "
        f"mean AUC {number(summary.auc_loop)} with the loop, {number(summary.auc_static)} with the first model frozen"
    )
