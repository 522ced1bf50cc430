"""The timeline page: one replay as a picture, in one HTML file that needs no network.

Evidence goes in as windows and marks at moments of event time; what happened is put at the moment at which the monitor closed the
window that caused it. Drawing computes no figure.
"""

from collections.abc import Sequence
from datetime import datetime
from html import escape
from typing import Literal

import plotly.graph_objects as go
from plotly.subplots import make_subplots
from pydantic import AwareDatetime

from deployments.demo.evidence import GATE_EVENTS, REFUSALS, Evidence
from deployments.demo.frozen_baseline import Comparison
from deployments.prefect_client.client import FlowRun, PrefectEvent
from monitoring.state import WindowResult
from monitoring.window import Window
from perennial.base import FrozenModel
from perennial.spec import ModelSpec

LOOP, STATIC, BOUND, INK = "#1f6feb", "#d9822b", "#b42318", "#24292f"
SYMBOLS = {
    "event": ("diamond", "#b42318"),
    "retraining": ("circle", "#6e7781"),
    "promotion": ("triangle-up", "#1a7f37"),
    "refusal": ("x", "#d9822b"),
}
"""Symbol and colour of each kind of mark."""

KINDS = tuple(reversed(SYMBOLS))

TITLES = {
    "auc": "AUC (higher is better)",
    "log_loss": "Log loss (lower is better)",
    "accuracy": "Accuracy (higher is better)",
    "rmse": "RMSE (lower is better)",
    "mae": "MAE (lower is better)",
}
"""Metrics that get a strip of their own, in this order, where the replay has them."""

MAX_METRICS = 2

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 15px/1.5 system-ui, sans-serif; color: #24292f; max-width: 1180px; margin: 2rem auto; padding: 0 1rem; }}
h1 {{ font-size: 1.5rem; margin-bottom: .2rem; }} p {{ margin-top: 0; color: #57606a; }}
table {{ border-collapse: collapse; margin: 1rem 0 2rem; }}
td, th {{ border-bottom: 1px solid #d0d7de; padding: .35rem .9rem .35rem 0; text-align: left; }}
</style></head><body><h1>{title}</h1><p>{subtitle}</p>
{figure}
<table><thead><tr>{head}</tr></thead><tbody>
{body}
</tbody></table></body></html>
"""


class TimelineWindow(FrozenModel):
    """One window: its drift, and how the loop and the frozen first model did on the same labelled rows."""

    start: AwareDatetime
    end: AwareDatetime
    version: int | None
    rows: int
    labelled: int
    drift: float | None
    bound: float | None
    decision: str
    loop: dict[str, float]
    static: dict[str, float]


class TimelineMark(FrozenModel):
    """Something that happened, at a moment of event time."""

    at: AwareDatetime
    kind: Literal["event", "retraining", "promotion", "refusal"]
    text: str


def timeline_windows(evidence: Evidence) -> list[TimelineWindow]:
    """Every window that was closed, or has metrics: the newest one may have labels and still be open."""
    results = {result.window: result for result in evidence.windows}
    windows = sorted({*results, *evidence.comparisons}, key=lambda window: window.start)
    return [_timeline_window(window, results.get(window), evidence.comparisons.get(window)) for window in windows]


def timeline_marks(evidence: Evidence, spec: ModelSpec) -> list[TimelineMark]:
    """Requests, retrainings and the gate's decisions, each at the watermark at which its window closed."""
    closed_at = {result.decision.event_id or "": result.window.end + spec.window.lateness for result in evidence.windows}
    causes = {card.version: card.cause.event_id or "" for card in evidence.cards}
    caused = [(event.id, "event", _event_text(event)) for event in evidence.events]
    caused += [(run.event_id or "", "retraining", _run_text(run)) for run in evidence.retrains]
    for event in (event for event in evidence.events if event.name in GATE_EVENTS):
        kind = "refusal" if event.name in REFUSALS else "promotion"
        caused.append((causes.get(event.payload.get("version", 0), ""), kind, _event_text(event)))
    return [
        TimelineMark.model_validate({"at": closed_at[event_id], "kind": kind, "text": text})
        for event_id, kind, text in caused
        if event_id and event_id in closed_at
    ]


def _timeline_window(window: Window, result: WindowResult | None, comparison: Comparison | None) -> TimelineWindow:
    return TimelineWindow(
        start=window.start,
        end=window.end,
        version=result.version if result else None,
        rows=result.findings.rows if result else comparison.loop.rows if comparison else 0,
        labelled=comparison.loop.rows if comparison else 0,
        drift=result.findings.values.get("drift") if result else None,
        bound=result.findings.bounds.get("drift") if result else None,
        decision=result.decision.kind if result else "still open",
        loop=comparison.loop.values if comparison else {},
        static=comparison.static.values if comparison else {},
    )


def _run_text(run: FlowRun) -> str:
    took = f" in {(run.ended - run.started).total_seconds():.0f} s" if run.ended and run.started else ""
    return f"{run.name}: {run.state.lower()}{took}"


def _event_text(event: PrefectEvent) -> str:
    version = f"version {event.payload['version']}: " if "version" in event.payload else ""
    return f"{event.name}: {version}{event.payload.get('reason', '')}"


def draw(
    title: str, subtitle: str, windows: Sequence[TimelineWindow], marks: Sequence[TimelineMark], table: Sequence[Sequence[str]]
) -> str:
    """The page; `table` is its rows of text, the first of them the head."""
    figure = _figure(windows, marks).to_html(full_html=False, include_plotlyjs=True, config={"displaylogo": False})
    head, *body = [[escape(cell) for cell in row] for row in table]
    return PAGE.format(
        title=escape(title),
        subtitle=escape(subtitle),
        figure=figure,
        head="".join(f"<th>{cell}</th>" for cell in head),
        body="\n".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in body),
    )


def _figure(windows: Sequence[TimelineWindow], marks: Sequence[TimelineMark]) -> go.Figure:
    metrics = [name for name in TITLES if any(name in window.loop for window in windows)][:MAX_METRICS]
    titles = [
        "Drift of the inputs and its bound (red where drift asked for a retraining)",
        *(TITLES[name] for name in metrics),
        "What happened",
    ]
    figure = make_subplots(rows=len(titles), shared_xaxes=True, vertical_spacing=0.06, subplot_titles=titles)
    _add_drift(figure, windows)
    for row, metric in enumerate(metrics, start=2):
        _add_metric(figure, windows, metric, row)
    _add_marks(figure, marks, len(titles))
    return _with_layout(figure, marks, len(titles))


def _add_drift(figure: go.Figure, windows: Sequence[TimelineWindow]) -> None:
    middles, drifts, bounds = _centres(windows), [window.drift for window in windows], [window.bound for window in windows]
    colours = [BOUND if window.decision == "drift" else "#8c959f" for window in windows]
    figure.add_bar(
        x=middles,
        y=drifts,
        marker_color=colours,
        hovertext=[_hover_text(window) for window in windows],
        name="drift",
        row=1,
        col=1,
    )
    line = {"color": BOUND, "dash": "dash", "shape": "hvh"}
    figure.add_scatter(x=middles, y=bounds, mode="lines", line=line, name="bound", row=1, col=1)


def _hover_text(window: TimelineWindow) -> str:
    return f"{window.start:%d %b} to {window.end:%d %b}: {window.rows:,} rows, version {window.version}, {window.decision}"


def _add_metric(figure: go.Figure, windows: Sequence[TimelineWindow], metric: str, row: int) -> None:
    for name, colour, side in (("frozen first model", STATIC, "static"), ("loop", LOOP, "loop")):
        values = [getattr(window, side).get(metric) for window in windows]
        figure.add_scatter(x=_centres(windows), y=values, mode="lines+markers", line={"color": colour}, name=name,
                           legendgroup=name, showlegend=row == 2, row=row, col=1)  # fmt: skip


def _add_marks(figure: go.Figure, marks: Sequence[TimelineMark], row: int) -> None:
    for kind in KINDS:
        symbol, colour = SYMBOLS[kind]
        these = [mark for mark in marks if mark.kind == kind]
        figure.add_scatter(x=[mark.at for mark in these], y=[kind] * len(these), mode="markers", name=kind, showlegend=False,
                           hovertext=[mark.text for mark in these], hoverinfo="text+x",
                           marker={"symbol": symbol, "color": colour, "size": 12}, row=row, col=1)  # fmt: skip


def _with_layout(figure: go.Figure, marks: Sequence[TimelineMark], rows: int) -> go.Figure:
    for mark in marks:
        if mark.kind == "promotion":
            figure.add_vline(x=mark.at.timestamp() * 1000, line={"color": "#1a7f37", "width": 1, "dash": "dot"})
    figure.update_yaxes(categoryorder="array", categoryarray=list(KINDS), row=rows, col=1)
    figure.update_yaxes(rangemode="tozero", row=1, col=1)
    figure.update_annotations(font_size=14, x=0, xanchor="left")
    legend = {"orientation": "h", "x": 1, "xanchor": "right", "y": 1.06}
    return figure.update_layout(template="plotly_white", height=230 * rows + 80, font_color=INK, legend=legend,
                                margin={"l": 80, "r": 20, "t": 70, "b": 40}, hovermode="closest", bargap=0.25)  # fmt: skip


def _centres(windows: Sequence[TimelineWindow]) -> list[datetime]:
    return [window.start + (window.end - window.start) / 2 for window in windows]
