"""What a person sees while the stack comes up or goes down: one line for each part, with the seconds it took."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

DONE = ("ready", "stopped")
"""States after which a part's clock stands still."""


class StackProgress:
    """A live line for each part on a terminal; one plain line for each step anywhere else. Call it with (part, state)."""

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

    def __call__(self, part: str, state: str) -> None:
        """Show that a part has come to a state."""
        if not self._console.is_terminal:
            self._console.print(f"{time.monotonic() - self._began:6.1f} s  {part:<20} {state}")
            return
        if part not in self._tasks:
            self._tasks[part] = self._live.add_task(part, total=1, state=state)
        self._live.update(self._tasks[part], state=state, completed=1 if state in DONE else 0)
