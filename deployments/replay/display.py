"""What a replay shows while it runs: one line per window that stays, and on a terminal a panel below that is drawn anew.

The driver and its pace change a `ReplayProgress`; rich's refresh thread reads it four times a second and draws `panel`.
"""

from dataclasses import dataclass, field
from datetime import datetime

from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from deployments.replay.frozen_baseline import Comparison, mean_of
from monitoring.champion_account import AccountStatement
from monitoring.policy import Findings, Flow
from monitoring.state import WindowResult
from tasks.serving.replay import Sent

ROLLING_WINDOWS = 4  # over which the panel averages a metric: one is noise
METRICS = {"binary": ("auc", "AUC"), "multiclass": ("accuracy", "accuracy"), "regression": ("rmse", "RMSE")}
"""By task, the one metric that lines and panel show, and what they call it."""


@dataclass
class ReplayProgress:
    """Where a replay stands; `sending_s` is the seconds that it has waited for replies, `version` is the champion.

    What the loop does is known only to a replay that keeps its pace.
    """

    clock: datetime
    task: str
    paced: bool = True
    sent: Sent = field(default_factory=Sent)
    sending_s: float = 0.0
    windows: list[tuple[WindowResult, Comparison | None]] = field(default_factory=list)
    runs: int = 0
    version: int | None = None


def print_line(console: Console, text: str) -> None:
    """Print a line that stays, unwrapped, so that a log can be searched."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def panel(progress: ReplayProgress, waiting: str) -> Panel:
    """A replay as people read it; `waiting` is what it waits for, if anything."""
    grid = Table.grid(padding=(0, 3))
    for row in _cells(progress):
        grid.add_row(*row)
    state = Text(f"waiting for {waiting}", style="yellow") if waiting else Text("replaying", style="green")
    return Panel(Group(grid, state), title=f"{progress.clock:%A %d %B %Y, %H:%M}", title_align="left", expand=False)


def _cells(progress: ReplayProgress) -> list[tuple[str, ...]]:
    sent, windows = progress.sent, list(progress.windows)
    speed = sent.predictions / progress.sending_s if progress.sending_s else 0
    asked = ("requests", f"{sent.requests:,} ({sent.failed} failed)", "rows", f"{sent.predictions:,} at {speed:,.0f}/s")
    if not progress.paced:
        return [asked, ("labels", f"{sent.labels:,}", "", "")]
    metric, name = METRICS[progress.task]
    recent = [comparison for _, comparison in windows if comparison][-ROLLING_WINDOWS:]
    quality = f"{number(mean_of(recent, 'loop', metric))} loop, {number(mean_of(recent, 'static', metric))} frozen first model"
    requests = sum(result.decision.flow is not None for result, _ in windows)
    return [
        asked,
        ("windows", f"{len(windows)}", "newest", _signals(windows[-1][0].findings) if windows else "-"),
        ("events", f"{requests}", "trainings and promotions", f"{progress.runs}"),
        ("serving", f"version {progress.version or '-'}", name, quality),
        ("account", _account(windows[-1][0].account) if windows else "-", "", ""),
    ]


def _signals(findings: Findings) -> str:
    """The signals that need no labels; what labels say is the quality beside."""
    shown, values, bounds = [one for one in findings.shown if not one.needs_labels], findings.values, findings.bounds
    return "  ".join(f"{one.label} {number(values.get(one.name))} (bound {number(bounds.get(one.name))})" for one in shown)


def window_line(result: WindowResult, comparison: Comparison | None, task: str) -> str:
    """One window in one line."""
    findings, (metric, name) = result.findings, METRICS[task]
    loop, frozen = (number(mean_of([comparison] if comparison else [], side, metric)) for side in ("loop", "static"))
    kind = "" if result.decision.kind == "none" else f"{result.decision.kind.upper()}: "
    when, rows = f"{findings.window.start:%d %b} to {findings.window.end:%d %b}", f"{findings.rows:>6,} rows"
    quality, account = f"{name} {loop} (frozen {frozen})", _account(result.account)
    diagnosis = f"diagnosis {result.diagnosis.kind if result.diagnosis else '-'}"
    decision = f"{kind}{result.decision.reason}"
    return "  ".join((when, rows, f"v{result.version}", _signals(findings), quality, account, diagnosis, decision))


def _account(account: AccountStatement | None) -> str:
    """What the challengers would have saved by now, beside what a new version may cost."""
    saved = account.avoidable if account is not None and account.windows else None
    return f"avoidable {'-' if saved is None else f'{saved:+.3f}'}" + (f" of {account.cost:g}" if account is not None else "")


def outcome_text(flow: Flow, before: int | None, after: int | None, newest: int, message: str) -> str:
    """What a flow led to: `before` and `after` are the champions around it, `newest` the newest version there is."""
    if after != before:
        return f"version {after} answers now"
    if newest > (before or 0) and not message:
        what = f"version {newest} shadows" if flow == "retrain" else f"the gate refused version {newest}"
        return f"{what}, version {before} answers on"
    return f"{message or 'nothing was published'}; version {before} answers on"


def number(value: float | None) -> str:
    """A figure, or a dash where there is none."""
    return "-" if value is None else f"{value:.4f}"
