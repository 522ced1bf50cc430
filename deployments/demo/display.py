"""What the demo shows while it runs: a live panel on a terminal, one plain line per window anywhere else.

It draws snapshots and reads no component of the stack.
"""

from dataclasses import dataclass, field
from datetime import datetime
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from perennial.signals import SIGNALS, Bounds, Signal, SignalValues


@dataclass(frozen=True)
class Snapshot:
    """The state of the replay at one moment."""

    clock: datetime
    requests: int = 0
    failed: int = 0
    rows: int = 0
    rows_per_second: float = 0.0
    values: SignalValues = field(default_factory=dict)
    bounds: Bounds = field(default_factory=dict)
    windows: int = 0
    events: int = 0
    retrainings: int = 0
    version: int | None = None
    metric: str = "AUC"
    loop: float | None = None
    static: float | None = None
    waiting: str = ""


class Display:
    """Lines only, for logs and continuous integration; snapshots are dropped."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        return None

    def print_line(self, text: str) -> None:
        """Print a line that stays, unwrapped, so that a log can be searched."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def update(self, snapshot: Snapshot) -> None:
        """Show the state now: nothing here, because a log has no place for what changes at every tick."""


class LiveDisplay(Display):
    """A panel that is redrawn in place, below the lines that stay."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._live = Live(console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._live.stop()

    def update(self, snapshot: Snapshot) -> None:
        """Hand the panel over; it is drawn four times a second at most."""
        self._live.update(panel(snapshot))


def display_on(console: Console) -> Display:
    """The live display on a terminal, lines only elsewhere."""
    return LiveDisplay(console) if console.is_terminal else Display(console)


def panel(snapshot: Snapshot) -> Panel:
    """One snapshot as people read it."""
    grid = Table.grid(padding=(0, 3))
    for _ in range(4):
        grid.add_column()
    for row in _cells(snapshot):
        grid.add_row(*row)
    state = Text(snapshot.waiting or "replaying", style="yellow" if snapshot.waiting else "green")
    return Panel(Group(grid, state), title=f"{snapshot.clock:%A %d %B %Y, %H:%M}", title_align="left", expand=False)


def _cells(snapshot: Snapshot) -> list[tuple[str, ...]]:
    failed = f" ({snapshot.failed} failed)" if snapshot.failed else ""
    quality = f"{number(snapshot.loop)} loop, {number(snapshot.static)} frozen first model"
    return [
        ("requests", f"{snapshot.requests:,}{failed}", "rows", f"{snapshot.rows:,} at {snapshot.rows_per_second:,.0f}/s"),
        *_signal_cells(snapshot),
        ("events", f"{snapshot.events}", "retrainings", f"{snapshot.retrainings}"),
        ("serving", f"version {snapshot.version or '-'}", snapshot.metric, quality),
    ]


def _signal_cells(snapshot: Snapshot) -> list[tuple[str, ...]]:
    """A row for each signal that needs no labels; what labels say is the quality beside."""
    shown = [signal for signal in SIGNALS if not signal.needs_labels]
    beside = [("windows", f"{snapshot.windows}"), *[("", "")] * len(shown)]
    return [(signal.label, _against(signal, snapshot), *cells) for signal, cells in zip(shown, beside, strict=False)]


def _against(signal: Signal, snapshot: Snapshot) -> str:
    limit = "most" if signal.alarms_when == "above" else "least"
    return f"{number(snapshot.values.get(signal.name))} of at {limit} {number(snapshot.bounds.get(signal.name))}"


def number(value: float | None, digits: int = 4) -> str:
    """A figure, or a dash where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"
