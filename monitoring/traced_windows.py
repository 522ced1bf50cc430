"""Traced windows: of each open window the last traced request that was archived, whose trace its closing continues.

They outlive a run, for a window may be open for weeks. A trace that is lost harms nothing, so nobody waits for this file.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from pydantic import Field, ValidationError

from monitoring.state import write_stored
from monitoring.window import Window, window_at
from perennial.base import StoredModel, read_stored
from perennial.errors import ArchiveError, NewerFormat
from perennial.record import PredictionBatch
from perennial.spec import ModelSpec
from perennial.tracing import continue_trace

FILE = "monitor/traces.json"
"""Below the model's home; there is none where nothing is traced."""


class TracedWindows(StoredModel):
    """Headers of trace steps by window key."""

    headers: dict[str, str] = Field(default_factory=dict)


@contextmanager
def tracing_archival(records: Sequence[PredictionBatch], spec: ModelSpec, home: Path) -> Iterator[None]:
    """Archiving these records, as a step of the traces that they carry; remembers the step for the window of its newest row."""
    traced = [record for record in records if record.traces and record.ids]
    headers: dict[str, str] = {}
    with ExitStack() as steps:
        for record in traced:
            key = window_at(max(record.event_times), spec.window.length).key
            for header in record.traces:
                step = steps.enter_context(continue_trace(header, "archive predictions", "queue.process"))
                headers |= {key: step.header} if step.header else {}
        yield
    if headers:
        _save(home, _load(home).headers | headers)


@contextmanager
def tracing_closing(window: Window, home: Path) -> Iterator[None]:
    """Closing a window, as a step of the trace it has, if any; forgets the traces of this window and of those before."""
    headers = _load(home).headers
    with continue_trace(headers.get(window.key, ""), "close window", "task"):
        yield
    if headers:
        _save(home, {key: header for key, header in headers.items() if key > window.key})


def _load(home: Path) -> TracedWindows:
    path = home / FILE
    try:
        return read_stored(TracedWindows, path.read_bytes(), str(path))
    except (OSError, ValidationError, NewerFormat):
        return TracedWindows()


def _save(home: Path, headers: dict[str, str]) -> None:
    with suppress(ArchiveError):
        write_stored(home / FILE, TracedWindows(headers=headers))
