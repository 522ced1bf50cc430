"""What `perennial check` says: what was understood of a spec, and what a sample of its sources holds. Nothing is written."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path

from rich.console import RenderableType

from perennial.durations import format_duration
from perennial.spec import ModelSpec, load_spec
from perennial.user_functions import load_function
from tasks.data.columns import column_table, summarise_columns
from tasks.data.ingest import Assembled, assemble
from tasks.data.validate import check_table
from tasks.proposal.pace import Pace, pace_facts

SAMPLE = 10_000  # rows read of each file of the first source; sources that are joined to it are read whole


def check_spec(path: Path, environ: Mapping[str, str], now: datetime) -> Iterator[RenderableType]:
    """An account of the spec, then of each column of a sample; raises what a training on the sample would raise."""
    yield describe_spec(path)
    spec = load_spec(path)
    table = assemble(spec, path.absolute().parent, environ, SAMPLE)
    yield f"\n{table.frame.height:,} rows read of the first {SAMPLE:,} of each file" if table.frame.height else ""
    yield column_table(summarise_columns(table.frame, spec, table.odd, table.unread))
    checks = spec.checks.model_copy(update={"min_rows": min(spec.checks.min_rows, SAMPLE)})
    _, found = check_table(table.frame, spec.model_copy(update={"checks": checks}), None, now, table.unread)
    repeated = [f"{found.repeated:,} rows are as another in every column; no id tells them apart"] if found.repeated else []
    said = [*repeated, *map(str, (*found.problems, *table.joins))]
    yield from said
    yield ("\n" if said else "") + "\n".join(describe_pace(spec, table, path.absolute().parent, environ))


def describe_pace(spec: ModelSpec, table: Assembled, base: Path, environ: Mapping[str, str]) -> Iterator[str]:
    """What of the loop can happen at the table's pace, and what never will; a sample that does not show it is read whole."""
    first = next(iter(spec.sources))
    told = table.cut and table.in_order and table.files == 1
    times = table.frame[spec.event_time]
    if table.cut and not told:
        times = assemble(spec, base, environ).frame[spec.event_time]
    for fact in pace_facts(spec, Pace.of(times)):
        of_what = (
            f" (the first {times.len():,} rows of {first!r}, which are in order of time)" if told and fact.name == "pace" else ""
        )
        yield f"{fact.name:<10}{'' if fact.possible else 'NEVER: '}{fact.text}{of_what}"


def describe_spec(path: Path) -> str:
    """A short account of a spec; raises SpecError or FunctionError naming what is wrong."""
    spec = load_spec(path)
    loaders = (source.loader for source in spec.sources.values())
    for reference in filter(None, (*loaders, *(feature.function for feature in spec.features.values()))):
        load_function(reference, path.parent)
    return "\n".join(f"{name:<12}{value}" for name, value in _account(spec))


def _account(spec: ModelSpec) -> tuple[tuple[str, str], ...]:
    window, max_age = spec.window, spec.signals.max_age
    features = (name if one.operation == "column" else f"{name} ({one.operation})" for name, one in spec.features.items())
    signals = [*(signal.name for signal in spec.enabled_signals), *([f"age over {format_duration(max_age)}"] if max_age else [])]
    late = f"closed {format_duration(window.lateness)} late"
    return (
        ("model", f"{spec.name} ({spec.task}), judged by {spec.objective_metric}"),
        ("target", f"{spec.target} at {spec.event_time}"),
        ("sources", ", ".join(spec.sources)),
        ("inputs", ", ".join(spec.inputs)),
        ("features", ", ".join(features)),
        ("window", f"{format_duration(window.length)}, {late}, {window.min_rows} rows or more"),
        ("signals", ", ".join(signals) or "none"),
        *([("labels", f"{spec.labels.where}, looked at every {format_duration(spec.labels.every)}")] if spec.labels else []),
        ("retraining", f"on {spec.retrain.data} rows{_where(spec)}, at most once in {format_duration(spec.cooldown)}"),
    )


def _where(spec: ModelSpec) -> str:
    return " of the sources" if spec.retrain.rows == "sources" else ""
