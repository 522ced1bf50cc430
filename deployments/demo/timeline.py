"""The timeline page: one replay as a picture, in one HTML file that needs no network.

It draws values and computes none of them.
"""

from collections.abc import Sequence
from datetime import datetime
from html import escape
from typing import Literal

import plotly.graph_objects as go
from plotly.subplots import make_subplots
from pydantic import AwareDatetime

from perennial.base import FrozenModel

LOOP, STATIC, BOUND, INK = "#1f6feb", "#d9822b", "#b42318", "#24292f"
MARKS = {
    "event": ("diamond", "#b42318"),
    "retraining": ("circle", "#6e7781"),
    "promotion": ("triangle-up", "#1a7f37"),
    "refusal": ("x", "#d9822b"),
}
"""Symbol and colour of each kind of happening."""

LANES = tuple(reversed(MARKS))

TITLES = {
    "auc": "AUC (higher is better)",
    "log_loss": "Log loss (lower is better)",
    "accuracy": "Accuracy (higher is better)",
    "rmse": "RMSE (lower is better)",
    "mae": "MAE (lower is better)",
}
"""Metrics that get a strip of their own, in this order, where the replay has them."""

MOST_METRICS = 2

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


class Week(FrozenModel):
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


class Mark(FrozenModel):
    """Something that happened, at a moment of event time."""

    at: AwareDatetime
    kind: Literal["event", "retraining", "promotion", "refusal"]
    text: str


def draw(title: str, subtitle: str, weeks: Sequence[Week], marks: Sequence[Mark], table: Sequence[Sequence[str]]) -> str:
    """The page; `table` is its rows of text, the first of them the head."""
    figure = _figure(weeks, marks).to_html(full_html=False, include_plotlyjs=True, config={"displaylogo": False})
    head, *body = [[escape(cell) for cell in row] for row in table]
    return PAGE.format(
        title=escape(title),
        subtitle=escape(subtitle),
        figure=figure,
        head="".join(f"<th>{cell}</th>" for cell in head),
        body="\n".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in body),
    )


def _figure(weeks: Sequence[Week], marks: Sequence[Mark]) -> go.Figure:
    metrics = [name for name in TITLES if any(name in week.loop for week in weeks)][:MOST_METRICS]
    titles = [
        "Drift of the inputs and its bound (red where drift asked for a retraining)",
        *(TITLES[name] for name in metrics),
        "What happened",
    ]
    figure = make_subplots(rows=len(titles), shared_xaxes=True, vertical_spacing=0.06, subplot_titles=titles)
    _drift(figure, weeks)
    for row, metric in enumerate(metrics, start=2):
        _quality(figure, weeks, metric, row)
    _story(figure, marks, len(titles))
    return _dressed(figure, marks, len(titles))


def _drift(figure: go.Figure, weeks: Sequence[Week]) -> None:
    middles, drifts, bounds = _middles(weeks), [week.drift for week in weeks], [week.bound for week in weeks]
    colours = [BOUND if week.decision == "drift" else "#8c959f" for week in weeks]
    figure.add_bar(
        x=middles, y=drifts, marker_color=colours, hovertext=[_told(week) for week in weeks], name="drift", row=1, col=1
    )
    line = {"color": BOUND, "dash": "dash", "shape": "hvh"}
    figure.add_scatter(x=middles, y=bounds, mode="lines", line=line, name="bound", row=1, col=1)


def _told(week: Week) -> str:
    return f"{week.start:%d %b} to {week.end:%d %b}: {week.rows:,} rows, version {week.version}, {week.decision}"


def _quality(figure: go.Figure, weeks: Sequence[Week], metric: str, row: int) -> None:
    for name, colour, side in (("frozen first model", STATIC, "static"), ("loop", LOOP, "loop")):
        values = [getattr(week, side).get(metric) for week in weeks]
        figure.add_scatter(x=_middles(weeks), y=values, mode="lines+markers", line={"color": colour}, name=name,
                           legendgroup=name, showlegend=row == 2, row=row, col=1)  # fmt: skip


def _story(figure: go.Figure, marks: Sequence[Mark], row: int) -> None:
    for kind in LANES:
        symbol, colour = MARKS[kind]
        these = [mark for mark in marks if mark.kind == kind]
        figure.add_scatter(x=[mark.at for mark in these], y=[kind] * len(these), mode="markers", name=kind, showlegend=False,
                           hovertext=[mark.text for mark in these], hoverinfo="text+x",
                           marker={"symbol": symbol, "color": colour, "size": 12}, row=row, col=1)  # fmt: skip


def _dressed(figure: go.Figure, marks: Sequence[Mark], rows: int) -> go.Figure:
    for mark in marks:
        if mark.kind == "promotion":
            figure.add_vline(x=mark.at.timestamp() * 1000, line={"color": "#1a7f37", "width": 1, "dash": "dot"})
    figure.update_yaxes(categoryorder="array", categoryarray=list(LANES), row=rows, col=1)
    figure.update_yaxes(rangemode="tozero", row=1, col=1)
    figure.update_annotations(font_size=14, x=0, xanchor="left")
    legend = {"orientation": "h", "x": 1, "xanchor": "right", "y": 1.06}
    return figure.update_layout(template="plotly_white", height=230 * rows + 80, font_color=INK, legend=legend,
                                margin={"l": 80, "r": 20, "t": 70, "b": 40}, hovermode="closest", bargap=0.25)  # fmt: skip


def _middles(weeks: Sequence[Week]) -> list[datetime]:
    return [week.start + (week.end - week.start) / 2 for week in weeks]
