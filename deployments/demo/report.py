"""The report of a demo: summary.json, timeline.html, a table of versions on the terminal, and whether the run did what was asked.

The timeline is the model's page (`monitoring.page`) with what the first model would have done beside it: one HTML file that needs
no network.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

from deployments.demo.evidence import Evidence
from deployments.demo.summary import find_losses, summarise_versions, unmet_goals
from deployments.replay.display import number, print_line
from deployments.replay.frozen_baseline import Comparison
from monitoring.page import ModelStory, draw_page
from monitoring.page.chart import Point, Series, Strip
from monitoring.page.strips import middle
from monitoring.window import Window
from perennial.metrics import higher_is_better

MAX_METRICS = 2  # that get a strip of their own: a task's first two without Brier's score, which tells what the log loss tells


def write_report(evidence: Evidence, summary: Mapping[str, Any], directory: Path, story: ModelStory, console: Console) -> None:
    """Write summary.json and timeline.html, and print the table of versions."""
    (directory / "summary.json").write_bytes(orjson.dumps(summary, option=orjson.OPT_INDENT_2))
    story = replace(story, reports_at=f"{story.model}/{story.reports_at}")
    page = draw(f"Perennial: {story.model}", evidence, summary, story)
    (directory / "timeline.html").write_text(page, encoding="utf-8")
    console.print("\nWhat became of each version (AUC on the rows it answered: of its predecessor, had it stayed, and its own)")
    console.print(version_table(evidence))


def exit_code(evidence: Evidence, whole_year: bool, console: Console) -> int:
    """Print what was asked of this run, what is missing and what was noted; 0 when nothing is missing, else 1."""
    quick, whole = "nothing lost (a whole year must also show that it helps)", "nothing lost, the loop closed and helped"
    missing = [*find_losses(evidence), *(unmet_goals(evidence) if whole_year else ())]
    for text in [*missing, *(f"note: {problem}" for problem in evidence.problems)]:
        print_line(console, text)
    console.print(f"asked of this run: {whole if whole_year else quick}: {'NO' if missing else 'yes'}", markup=False)
    return 1 if missing else 0


def version_table(evidence: Evidence) -> Table:
    """The versions, one in a row."""
    head = ("version", "cause", "gate", "since", "trained on", "AUC before", "AUC after")
    table = Table(*head, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for one in summarise_versions(evidence):
        since, qualities = f"{one.promoted_at:%d %b %Y}" if one.promoted_at else "-", map(number, (one.auc_before, one.auc_after))
        table.add_row(str(one.version), one.cause, one.decision, since, f"{one.train_rows:,}", *qualities)
    return table


def draw(title: str, evidence: Evidence, summary: Mapping[str, Any], story: ModelStory) -> str:
    """The timeline page: the model's page, with the frozen first model beside what was answered."""
    subtitle = (
        "{predictions_answered:,} predictions, {labels_joined:,} labels, {windows} windows; challengers trained: {retrain_runs}, "
        "promotions: {promotions}, refusals: {refusals}, rollbacks: {rollbacks}; mean AUC "
    ).format_map(summary)
    subtitle += f"{number(summary['auc_loop'])} with the loop, {number(summary['auc_static'])} with the first model frozen"
    return draw_page(story, title, subtitle, list(comparison_strips(evidence.comparisons)))


def comparison_strips(comparisons: Mapping[Window, Comparison]) -> Iterator[Strip]:
    """For each of a task's first metrics: the loop beside the frozen first model, on the same rows."""
    known = dict.fromkeys(name for one in comparisons.values() for name in one.loop.values if name != "brier")
    for metric in sorted(known, key=lambda name: not higher_is_better(name))[:MAX_METRICS]:
        better = "higher" if higher_is_better(metric) else "lower"
        shown = (
            Series("loop", _points(comparisons, "loop", metric), "circle", "accent"),
            Series("frozen first model", _points(comparisons, "static", metric), "square", "warn", dashed=True),
        )
        yield Strip(f"{metric} with the loop and with the first model frozen", shown, f"{better} is better")


def _points(comparisons: Mapping[Window, Comparison], side: str, metric: str) -> tuple[Point, ...]:
    found = ((window, getattr(one, side).values.get(metric)) for window, one in comparisons.items())
    return tuple(Point(middle(window), value, f"{window}: {number(value)}") for window, value in found)
