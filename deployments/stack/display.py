"""What a person sees of the stack on the terminal: a line for each component as it starts, and the table of `status`."""

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from deployments.stack.status import ComponentStatus

FINAL = ("ready", "stopped")
"""States after which a component's clock stands still."""


class StackProgress:
    """A live line for each component on a terminal; one plain line for each step elsewhere. Call it with (name, state)."""

    def __init__(self, console: Console) -> None:
        columns = (SpinnerColumn(finished_text="[green]✓"), TextColumn("{task.description:<20} {task.fields[state]:<10}"))
        self._live = Progress(*columns, TimeElapsedColumn(), console=console, disable=not console.is_terminal)
        self._console, self._tasks = console, dict[str, TaskID]()
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._live.stop()

    def __call__(self, name: str, state: str) -> None:
        """Show that a component has come to a state."""
        if not self._console.is_terminal:
            self._console.print(f"{time.monotonic() - self._began:6.1f} s  {name:<20} {state}")
            return
        if name not in self._tasks:
            self._tasks[name] = self._live.add_task(name, total=1, state=state)
        self._live.update(self._tasks[name], state=state, completed=1 if state in FINAL else 0)


def status_table(components: Sequence[ComponentStatus]) -> Table:
    """One row for each component, those that do not run in red."""
    table = Table("part", "state", "address", "pid", "memory", box=None, pad_edge=False)
    for row in components:
        memory = f"{row.memory_mb:.0f} MB" if row.memory_mb is not None else ""
        table.add_row(row.name, row.state, row.address, str(row.pid or ""), memory, style=None if row.healthy else "red")
    return table
