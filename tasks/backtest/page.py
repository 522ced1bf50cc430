"""The page of a backtest: one HTML file that needs no other, with its verdict, plots and table; and where results are kept."""

from html import escape

import fsspec
import plotly.graph_objects as go
from plotly.subplots import make_subplots
from prefect.artifacts import create_markdown_artifact

from perennial import atomic_files as files
from tasks.backtest.report import HEAD, BacktestReport, policy_cells, report_markdown, report_path, section_text
from tasks.backtest.study import DEFAULT, PolicyResult
from tasks.job import Job
from tasks.reporting.track import Table, track_tables
from tasks.task_defaults import local_task

OURS, OTHER, FRONTIER = "#1f77b4", "#999999", "#2ca02c"

TITLES = (
    "Decay: how much more an older model loses than the newest one on the same rows",
    "Gain against promotions (the line: what no other policy beats in both)",
    "Loss of each window",
)

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>body{{font:15px/1.5 system-ui,sans-serif;max-width:1100px;margin:2em auto;padding:0 1em}}
table{{border-collapse:collapse}}td,th{{padding:2px 12px 2px 0;text-align:right}}td:first-child,th:first-child{{text-align:left}}
pre{{background:#f4f4f4;padding:1em}}</style>
<h1>{title}</h1>
<p>{subtitle}</p>
<ul>{sentences}</ul>
<pre>{section}</pre>
{figure}
<table><tr>{head}</tr>{rows}</table>
</html>
"""


@local_task("keep report")
def keep_report(job: Job, report: BacktestReport) -> str:
    """Write report and page beside the model's other state, show an artifact; returns the report's path."""
    path = report_path(job.home)
    contents = {path: report.model_dump_json(indent=2), path.with_suffix(".html"): draw_page(report)}
    for file, content in contents.items():
        files.replace(fsspec.filesystem("file"), str(file), content.encode())
    key, said = f"{report.model}-backtest", report.sentences[-1]
    create_markdown_artifact(report_markdown(report), key=key, description=said)
    track_report(job, report)
    return str(path)


def track_report(job: Job, report: BacktestReport) -> bool:
    """Policies, decay and verdict as a run of W&B; returns whether it was taken."""
    found, decay = report.recommendation, [(one.age, one.excess, one.error) for one in report.decay]
    tables: dict[str, Table] = {
        "policies": (HEAD, [policy_cells(one) for one in report.policies]),
        "decay": (("age", "excess", "error"), decay),
    }
    verdict = {"verdict": "; ".join(report.sentences), "decay": report.kind, "recommended": found.name, "gain": found.gain_share}
    return track_tables(job, "backtest", {f"backtest/{name}": value for name, value in verdict.items()}, tables)


def draw_page(report: BacktestReport) -> str:
    """The whole page; plotly's script is inside it, 4 MB."""
    figure = _figure(report).to_html(full_html=False, include_plotlyjs=True, config={"displaylogo": False})
    first, last = report.starts[0], report.starts[-1]
    subtitle = (
        f"{report.rows:,} labelled rows, {len(report.starts)} windows from {first:%Y-%m-%d} to {last:%Y-%m-%d}, learning from "
        f"{report.data}; a new version costs {report.cost:g} of a window's {report.metric}"
    )
    return PAGE.format(
        title=escape(f"Backtest of {report.model}"),
        subtitle=escape(subtitle),
        sentences="".join(f"<li>{escape(one)}</li>" for one in report.sentences),
        section=escape(section_text(report.sections)),
        figure=figure,
        head="".join(f"<th>{escape(one)}</th>" for one in HEAD),
        rows="".join(f"<tr>{_row(one)}</tr>" for one in report.policies),
    )


def pareto_frontier(policies: tuple[PolicyResult, ...]) -> list[PolicyResult]:
    """The policies that none beats in both gain and promotions, by promotions."""
    found: list[PolicyResult] = []
    for one in sorted(policies, key=lambda one: (one.promotions, -(one.gain_share or 0.0))):
        if one.gain_share is not None and (not found or one.gain_share > (found[-1].gain_share or 0.0)):
            found.append(one)
    return found


def _row(one: PolicyResult) -> str:
    return "".join(f"<td>{escape(cell)}</td>" for cell in policy_cells(one))


def _figure(report: BacktestReport) -> go.Figure:
    figure = make_subplots(3, 1, vertical_spacing=0.09, subplot_titles=TITLES)
    _add_decay(figure, report)
    _add_pareto(figure, report)
    for name, losses in report.losses.items():
        figure.add_scatter(x=report.starts, y=losses, name=name, row=3, col=1)
    figure.update_annotations(font_size=14, x=0, xanchor="left")
    for row, (x, y) in enumerate(
        (("age in windows", "excess loss"), ("promotions", "share of the gain"), ("", report.metric)), 1
    ):
        figure.update_xaxes(title_text=x, row=row, col=1)
        figure.update_yaxes(title_text=y, row=row, col=1)
    return figure.update_layout(template="plotly_white", height=1150, margin={"t": 60, "b": 40}, legend={"y": 0.2})


def _add_decay(figure: go.Figure, report: BacktestReport) -> None:
    ages, errors = [one.age for one in report.decay], {"type": "data", "array": [one.error for one in report.decay]}
    values, line = [one.excess for one in report.decay], {"color": OURS}
    figure.add_scatter(x=ages, y=values, error_y=errors, line=line, showlegend=False, row=1, col=1)
    figure.add_hline(y=0, line={"color": OTHER, "dash": "dot"}, row=1, col=1)


def _add_pareto(figure: go.Figure, report: BacktestReport) -> None:
    """Every policy as a point that says its name when it is pointed at; those on the frontier say it always."""
    shown = [one for one in report.policies if one.gain_share is not None]
    points = {"x": [one.promotions for one in shown], "y": [one.gain_share for one in shown]}
    marker = {"color": [OURS if one.name.startswith(DEFAULT) else OTHER for one in shown], "size": 9}
    names, style = [one.name for one in shown], {"mode": "markers", "showlegend": False}
    figure.add_scatter(**points, hovertext=names, hoverinfo="text+x+y", marker=marker, row=2, col=1, **style)
    frontier = pareto_frontier(report.policies)
    line = {"x": [one.promotions for one in frontier], "y": [one.gain_share for one in frontier]}
    text = {
        "mode": "lines+text",
        "text": [one.name for one in frontier],
        "textposition": "bottom right",
        "textfont": {"size": 10},
    }
    colour = {"color": FRONTIER, "shape": "hv"}
    figure.add_scatter(**line, **text, line=colour, cliponaxis=False, showlegend=False, row=2, col=1)
