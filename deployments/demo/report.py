"""The report of a demo: summary.json, timeline.html, a table of versions on the terminal, and whether the run did what was asked.

The timeline is one HTML file that needs no network. What happened stands in it at the event time at which the monitor closed
the window that caused it.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from html import escape
from io import StringIO
from pathlib import Path
from typing import Any

import orjson
import plotly.graph_objects as go
from plotly.subplots import make_subplots
from rich.console import Console
from rich.table import Table

from deployments.demo.display import number, print_line
from deployments.demo.evidence import GATE_EVENTS, REFUSALS, Evidence
from deployments.demo.frozen_baseline import Comparison
from deployments.demo.summary import find_losses, summarise_versions, unmet_goals
from deployments.prefect_client import FlowRun
from monitoring.events import ModelEvent
from monitoring.state import WindowResult
from monitoring.window import Window
from perennial.metrics import higher_is_better
from perennial.spec import ModelSpec

LOOP, STATIC, BOUND, WITHIN, PROMOTED = "#1f6feb", "#d9822b", "#b42318", "#8c959f", "#1a7f37"
SYMBOLS = {"refusal": "x", "promotion": "triangle-up", "training": "circle", "event": "diamond"}  # from the lowest line up
ACCOUNT_ROW = 2  # below the drift
MAX_METRICS = 2  # that get a strip of their own: a task's first two without Brier's score, which tells what the log loss tells

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 15px/1.5 system-ui, sans-serif; color: #24292f; max-width: 1180px; margin: 2rem auto; padding: 0 1rem; }}
</style></head><body><h1>{title}</h1><p>{subtitle}</p>
{figure}
{table}
</body></html>
"""


def write_report(evidence: Evidence, summary: Mapping[str, Any], directory: Path, spec: ModelSpec, console: Console) -> None:
    """Write summary.json and timeline.html, and print the table of versions."""
    (directory / "summary.json").write_bytes(orjson.dumps(summary, option=orjson.OPT_INDENT_2))
    page = draw(f"Perennial: {spec.name}", evidence, summary, spec.window.lateness)
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


def draw(title: str, evidence: Evidence, summary: Mapping[str, Any], lateness: timedelta) -> str:
    """The timeline page."""
    subtitle = (
        "{predictions_answered:,} predictions, {labels_joined:,} labels, {windows} windows; challengers trained: {retrain_runs}, "
        "promotions: {promotions}, refusals: {refusals}, rollbacks: {rollbacks}; mean AUC "
    ).format_map(summary)
    subtitle += f"{number(summary['auc_loop'])} with the loop, {number(summary['auc_static'])} with the first model frozen"
    figure = _figure(evidence, timeline_marks(evidence, lateness))
    html = figure.to_html(full_html=False, include_plotlyjs=True, config={"displaylogo": False})
    recorder = Console(record=True, file=StringIO(), width=120)
    recorder.print(version_table(evidence))
    table = recorder.export_html(inline_styles=True, code_format="<pre>{code}</pre>")
    return PAGE.format(title=escape(title), subtitle=escape(subtitle), figure=html, table=table)


def timeline_marks(evidence: Evidence, lateness: timedelta) -> dict[str, list[tuple[datetime, str]]]:
    """Requests, trainings and the gate's decisions by kind, each at the watermark at which its window closed, with its text."""
    closed_at = {result.decision.event_id: result.window.end + lateness for result in evidence.windows}
    causes = {card.version: card.cause.event_id for card in evidence.cards}
    caused = [(event.id, "event", _event_text(event)) for event in evidence.events]
    caused += [(run.event_id or "", "training", _run_text(run)) for run in evidence.retrains]
    for event in (event for event in evidence.events if event.name in GATE_EVENTS):
        kind = "refusal" if event.name in REFUSALS else "promotion"
        cause = event.payload.get("request") or causes.get(event.payload.get("version", 0)) or ""
        caused.append((cause, kind, _event_text(event)))
    return {
        kind: [(closed_at[id_], text) for id_, found, text in caused if found == kind and id_ in closed_at] for kind in SYMBOLS
    }


def _run_text(run: FlowRun) -> str:
    took = f" in {(run.ended - run.started).total_seconds():.0f} s" if run.ended and run.started else ""
    return f"{run.name}: {run.state.lower()}{took}"


def _event_text(event: ModelEvent) -> str:
    version = f"version {event.payload['version']}: " if "version" in event.payload else ""
    return f"{event.name}: {version}{event.payload.get('reason', '')}"


def _figure(evidence: Evidence, marks: Mapping[str, Sequence[tuple[datetime, str]]]) -> go.Figure:
    known = dict.fromkeys(name for one in evidence.comparisons.values() for name in one.loop.values if name != "brier")
    metrics = sorted(known, key=lambda name: not higher_is_better(name))[:MAX_METRICS]
    titles = ["Drift of the inputs and its bound (red where drift asked for a retraining)"]
    titles += ["Avoidable loss since the champion's promotion, and what a new version may cost (1 is the loss of one window)"]
    titles += [f"{name} ({'higher' if higher_is_better(name) else 'lower'} is better)" for name in metrics]
    rows = len(titles) + 1
    figure = make_subplots(rows, shared_xaxes=True, vertical_spacing=0.06, subplot_titles=[*titles, "What happened"])
    _add_drift(figure, evidence.windows)
    _add_account(figure, evidence.windows)
    for row, metric in enumerate(metrics, start=ACCOUNT_ROW + 1):
        _add_metric(figure, evidence.comparisons, metric, row)
    _add_marks(figure, marks, rows)
    figure.update_yaxes(rangemode="tozero", row=1, col=1)
    figure.update_annotations(font_size=14, x=0, xanchor="left")
    legend = {"orientation": "h", "x": 1, "xanchor": "right", "y": 1.06}
    return figure.update_layout(template="plotly_white", height=230 * rows + 80, legend=legend, margin={"t": 70, "b": 40})


def _add_drift(figure: go.Figure, results: Sequence[WindowResult]) -> None:
    middles, drifts = [_middle(one.window) for one in results], [one.findings.values.get("drift") for one in results]
    colours = [BOUND if one.decision.kind == "drift" else WITHIN for one in results]
    texts = [f"{one.window}: {one.findings.rows:,} rows, version {one.version}, {one.decision.kind}" for one in results]
    figure.add_bar(x=middles, y=drifts, marker_color=colours, hovertext=texts, name="drift", row=1, col=1)
    bounds, line = [one.findings.bounds.get("drift") for one in results], {"color": BOUND, "dash": "dash", "shape": "hvh"}
    figure.add_scatter(x=middles, y=bounds, mode="lines", line=line, name="bound", row=1, col=1)


def _add_account(figure: go.Figure, results: Sequence[WindowResult]) -> None:
    stated = [(_middle(one.window), one.account) for one in results if one.account is not None]
    middles, accounts = [middle for middle, _ in stated], [account for _, account in stated]
    errors, texts = {"array": [one.error for one in accounts], "color": WITHIN}, [f"{one}; {one.beside()}" for one in accounts]
    saved, style = [one.avoidable if one.windows else None for one in accounts], {"color": LOOP}
    shown = {"error_y": errors, "hovertext": texts, "mode": "lines+markers", "line": style, "name": "avoidable loss"}
    figure.add_scatter(x=middles, y=saved, row=ACCOUNT_ROW, col=1, **shown)
    costs, line = [one.cost for one in accounts], {"color": BOUND, "dash": "dash"}
    figure.add_scatter(x=middles, y=costs, mode="lines", line=line, name="cost", row=ACCOUNT_ROW, col=1)


def _add_metric(figure: go.Figure, comparisons: Mapping[Window, Comparison], metric: str, row: int) -> None:
    middles = [_middle(window) for window in comparisons]
    for name, colour, side in (("frozen first model", STATIC, "static"), ("loop", LOOP, "loop")):
        values, style = [getattr(one, side).values.get(metric) for one in comparisons.values()], {"color": colour}
        figure.add_scatter(
            x=middles, y=values, line=style, name=name, legendgroup=name, showlegend=row == ACCOUNT_ROW + 1, row=row, col=1
        )


def _add_marks(figure: go.Figure, marks: Mapping[str, Sequence[tuple[datetime, str]]], row: int) -> None:
    for (kind, symbol), colour in zip(SYMBOLS.items(), (STATIC, PROMOTED, WITHIN, BOUND), strict=True):
        times, texts = [at for at, _ in marks[kind]], [text for _, text in marks[kind]]
        style = {"mode": "markers", "marker": {"symbol": symbol, "color": colour, "size": 12}, "showlegend": False}
        figure.add_scatter(x=times, y=[kind] * len(times), hovertext=texts, hoverinfo="text+x", row=row, col=1, **style)
    for at, _ in marks["promotion"]:
        figure.add_vline(x=at.timestamp() * 1000, line={"color": PROMOTED, "width": 1, "dash": "dot"})
    figure.update_yaxes(categoryorder="array", categoryarray=list(SYMBOLS), row=row, col=1)


def _middle(window: Window) -> datetime:
    return window.start + (window.end - window.start) / 2
