"""What every command shares: the settings, a flow run in this process, and what is printed. Heavy imports wait for their call."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perennial.errors import PrefectUnreachable, StackError
from perennial.settings import Settings, load_settings

if TYPE_CHECKING:
    from prefect import State
    from rich.console import Console

    from deployments.alias_moves import Approved, RolledBack


def read_settings() -> Settings:
    """The settings of this process."""
    return load_settings(os.environ)


def run_flow(name: str, verbose: bool, **parameters: Any) -> "State[Any]":
    """Run a flow here, against the stack where one runs."""
    from deployments import foreground

    foreground.join_stack(read_settings(), os.environ)
    return foreground.run_flow(name, read_settings(), make_console(), verbose=verbose, **parameters)


def show_backtest(spec: Path, state: "State[Any]", *, write: bool) -> int:
    """What a backtest found, and what it recommends, in the spec if so; returns the exit code."""
    from deployments.spec_edit import write_keys
    from deployments.summary import backtest_rows
    from tasks.backtest.report import policy_table, read_report

    path = Path(state.result())
    report = read_report(path)
    if write:
        write_keys(spec, report.sections)
    make_console().print(policy_table(report))
    show(backtest_rows(report, path, spec, written=write))
    return 0


def show_training(spec: Path, state: "State[Any]") -> int:
    """What a training found and decided; returns the exit code."""
    from deployments.summary import training_columns, training_rows

    if state.name == "Declined":
        show({"declined": state.message or ""})
    else:
        make_console().print(training_columns(state.result(), spec, read_settings()))
        show(training_rows(state.result(), spec, read_settings()))
    return 0


def announce(move: "RolledBack | Approved") -> str:
    """Tell Prefect of a move by hand where an API is configured; returns why it does not know, or nothing."""
    from deployments.foreground import join_stack

    try:
        join_stack(read_settings(), os.environ)
        if "PREFECT_API_URL" in os.environ:
            move.announce()
    except (PrefectUnreachable, StackError) as error:
        return f"the Prefect feed does not know: {error}"
    return ""


def show(rows: Mapping[str, str]) -> None:
    """Print rows of a name and what there is to say of it."""
    from deployments.summary import format_rows

    make_console().print(format_rows(rows), markup=False, highlight=False)


def make_console() -> "Console":
    """Standard output, without line breaks of its own."""
    from rich.console import Console

    return Console(soft_wrap=True)
