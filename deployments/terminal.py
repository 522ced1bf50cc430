"""What every command shares: the settings, a flow run in this process, and what is printed. Heavy imports wait for their call."""

import os
import webbrowser
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perennial.errors import PrefectUnreachable, SettingsError, SpecError, StackError
from perennial.settings import Settings, load_settings
from perennial.spec_policy import MAX_CHALLENGER_SHARE

if TYPE_CHECKING:
    from prefect import State
    from rich.console import Console

    from deployments.alias_moves import Approved, RolledBack
    from deployments.stack.state import Stack


def read_settings() -> Settings:
    """The settings of this process."""
    return load_settings(os.environ)


def run_flow(name: str, verbose: bool, **parameters: Any) -> "State[Any]":
    """Run a flow here, against the stack where one runs; a spec that cannot be read is said before a server is started."""
    from deployments import foreground
    from perennial.spec import load_spec

    load_spec(Path(parameters["spec"]))
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


def bring_up(specs: Sequence[Path], challenger_share: float | None = None, *, triage: bool = False) -> int:
    """Bring the stack up for specs and say where it answers; returns the exit code: 1 where a spec was left out."""
    from deployments.stack import stack as stacks
    from deployments.stack.plan import StackOptions
    from deployments.stack.status import StackProgress

    if not specs:
        raise SpecError("no spec is given: `perennial up SPEC ...`, such as examples/flights.toml or a directory of specs")
    if challenger_share is not None and not 0 <= challenger_share <= MAX_CHALLENGER_SHARE:
        raise SettingsError(f"--challenger-share {challenger_share:g}: expected 0 to {MAX_CHALLENGER_SHARE} percent of the rows")
    with StackProgress(make_console()) as progress:
        stack, broken = stacks.up(
            specs, read_settings(), os.environ, datetime.now(UTC), progress, StackOptions(challenger_share, triage)
        )
    show({**_addresses(stack), "left out": "\n".join(broken.values()), "next": _next_step(specs)})
    return 1 if broken else 0


def _addresses(stack: "Stack") -> dict[str, str]:
    from deployments.proxies import describe_proxies
    from deployments.stack.programs import triage_home
    from deployments.stack.triage import ACCOUNT

    assert stack.service is not None
    asked = os.environ.get("PERENNIAL_PORT", str(stack.service.port))
    moved = f"another program of the stack has {asked}: {stack.service.port} instead"
    several = [f"{model.name}  {stack.url_of(model.name)}/predict" for model in stack.models] if len(stack.models) > 1 else []
    return {
        "Prefect UI": stack.prefect.url.removesuffix("/api"),
        "service": f"{stack.service.url}/docs",
        "models": "\n".join(several),
        "challengers": f"answer {share:g} % of the rows" if (share := stack.service.challenger_share) else "",
        "triage": f"{url}   (account: {triage_home(stack.home) / ACCOUNT})" if (url := stack.triage_url) else "",
        "port": moved if asked != str(stack.service.port) else "",
        "proxy": describe_proxies(os.environ),
        "logs": str(stack.state_dir / "logs"),
    }


def _next_step(specs: Sequence[Path]) -> str:
    one = specs[0] if len(specs) == 1 and specs[0].suffix == ".toml" else "SPEC"
    return f"perennial train {one}   (end it all: perennial down)"


def show_status() -> int:
    """Print what runs and what each model's newest window led to; returns the exit code: 1 when a part is not well."""
    from deployments.alias_moves import waiting_approvals
    from deployments.stack import stack as stacks
    from deployments.stack.status import stack_status

    console, settings = make_console(), read_settings()
    stack = stacks.running_stack(settings)
    if stack is None:
        console.print(stacks.outlived_supervisor(settings) or "the stack is down; start it with `perennial up SPEC`")
        return 1
    found = stack_status(stack, os.environ, datetime.now(UTC))
    console.print(found.table())
    for decision in found.decisions:
        console.print(decision, markup=False, highlight=False)
    for failure in found.failures:
        console.print(failure, style="red", markup=False)
    waiting = waiting_approvals([model.spec for model in stack.models], settings)
    for said in (*found.notes, *stacks.spec_changes(stack, settings), *waiting):
        console.print(said, style="yellow", markup=False)
    return 0 if found.healthy else 1


def show_pages(spec: Path | None, *, browse: bool) -> int:
    """Draw pages, and say or open where they are."""
    from deployments.pages import write_pages

    for name, (file, address) in write_pages(spec, read_settings()).items():
        show({name: f"{address or file.as_uri()}\n{file}" if address else str(file)})
        if browse:
            webbrowser.open(address or file.as_uri())
    return 0


def show_models(*, as_json: bool) -> int:
    """Print a row for each model; returns the exit code: 1 where one is in trouble."""
    from pydantic import TypeAdapter

    from deployments.models import ModelRow, model_rows, models_table
    from deployments.stack.stack import running_stack
    from deployments.stack.state import load_stack

    settings = read_settings()
    running = running_stack(settings)
    stack = running or load_stack(settings.home)
    rows = model_rows(stack, settings, running=running is not None) if stack is not None else []
    if as_json:
        print(TypeAdapter(list[ModelRow]).dump_json(rows, indent=1).decode())  # noqa: T201 - for a program, not a console
    elif rows:
        make_console().print(models_table(rows, datetime.now(UTC)))
    else:
        make_console().print("no models; add one with `perennial up SPEC`")
    return 1 if any(row.trouble for row in rows) else 0


def replay_table(spec: Path, **wishes: Any) -> int:
    """Replay a spec's table and say what came of it, also of a replay that is interrupted; returns the exit code."""
    from deployments.foreground import join_stack

    join_stack(read_settings(), os.environ)
    from deployments.replay.replay import Interrupted, Wishes, replay_spec  # imports Prefect, which reads what was joined
    from deployments.summary import replay_rows
    from tasks.job import load_job

    try:
        found = replay_spec(load_job(spec, os.environ, datetime.now(UTC)), Wishes(**wishes), make_console())
        show(replay_rows(found, spec))
    except Interrupted as interrupted:
        show(replay_rows(interrupted.replayed, spec, over=False))
        raise
    return 0


def remove_model(model: str, *, yes: bool) -> int:
    """Show what there is of a model, ask, and delete it; returns the exit code: 1 where the answer was no."""
    from deployments.removal import plan_removal, remove

    removal = plan_removal(model, read_settings())
    show(removal.lines())
    if not yes and not _agreed(f"delete all of this of {model}? [y/N] "):
        show({"nothing": "was deleted; `--yes` does not ask"})
        return 1
    remove(removal, read_settings(), os.environ)
    show({"removed": model})
    return 0


def forget_rows(model: str, id_: str | None, before: str | None, *, yes: bool) -> int:
    """Show what a model has of an id, or of before a moment, and with `yes` delete it; returns the exit code."""
    from deployments.forget import forget, plan_forgetting, subject_of
    from deployments.model_reference import find_model

    plan = plan_forgetting(find_model(model, read_settings()), subject_of(id_, before))
    show(plan.lines())
    if not plan.found:
        show({"nothing": "was found that could be deleted"})
    elif not yes:
        show({"nothing": "was deleted yet", "next": "the same command with --yes"})
    else:
        forget(plan, datetime.now(UTC))
        show({"forgotten": "all of what is listed above"})
    return 0


def _agreed(question: str) -> bool:
    try:
        return input(question).strip().lower() in ("y", "yes")
    except EOFError:  # nobody is there to ask
        return False


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


def print_json(text: str) -> None:
    """Print JSON as it is, whatever the width of the terminal."""
    make_console().out(text, highlight=False)


def make_console(width: int | None = None) -> "Console":
    """Standard output, without line breaks of its own; tables have the terminal's width unless another is given."""
    from rich.console import Console

    return Console(soft_wrap=True, width=width)
