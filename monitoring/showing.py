"""Showing a closed window to people: its artifact, its Evidently report and the model's page.

All of it comes after the event was sent and the result written, so that no decision waits for it, and nothing of it may hold the
loop up: what cannot be made is reported as an error and left out. A window's result names its report from the moment it is
written; one that could not be made is taken out of the result again.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from monitoring.closing import ClosedWindow
from monitoring.page import write_page
from monitoring.report import disagreement, prune_reports, write_report
from monitoring.state import WindowResult, load_result, save_result
from perennial.error_reporting import report
from perennial.registry import Registry
from perennial.settings import Settings

log = logging.getLogger(__name__)


def show_closed(
    closed: ClosedWindow, home: Path, registry: Registry, settings: Settings, on_window: Callable[[WindowResult], None]
) -> None:
    """Make everything that people see of a window; what fails is reported, never raised."""
    result = closed.result
    with _reported("show-window", result):
        on_window(result)
    if result.report is not None and not _write_report(closed, home, settings.keep_reports):
        with _reported("report", result):
            standing = load_result(home, result.window) or result
            save_result(home, standing.model_copy(update={"report": None}))
    with _reported("page", result):
        write_page(home, registry, result.model, settings.prefect_api_url)


def _write_report(closed: ClosedWindow, home: Path, keep: int) -> bool:
    """Whether the report is there."""
    written = False
    with _reported("report", closed.result):  # Evidently is a tool for people, of 200,000 lines
        theirs = write_report(home, closed.judged, closed.result, closed.table)
        written = True
        if apart := disagreement(theirs, closed.drift):
            log.warning("Evidently and the profiles disagree about %s: %s", closed.result.window, apart)
        prune_reports(home, keep)
    return written


@contextmanager
def _reported(what: str, result: WindowResult) -> Iterator[None]:
    """The window is closed; how it is shown may fail in any way."""
    try:
        yield
    except Exception as error:
        log.exception("%s of %s failed for window %s", what, result.model, result.window)
        report(error, group=("monitoring", what), model=result.model, version=result.version)
