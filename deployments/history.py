"""What `perennial history` and `perennial trace` show: a model's life line by line, and one prediction from origin to truth."""

from collections import Counter
from collections.abc import Iterator
from datetime import datetime

import orjson
from rich import box
from rich.table import Column, Table

from deployments.model_reference import find_model
from monitoring.history import HistoryEntry, HistoryKind, model_history
from monitoring.trace import Trace, trace_prediction
from perennial.errors import DataError
from perennial.settings import Settings
from perennial.value_types import parse_time
from tasks.data.datasets import SHORT

COUNTED: tuple[HistoryKind, ...] = ("window", "training", "promotion", "refusal", "rollback")


def read_history(reference: str, settings: Settings) -> tuple[HistoryEntry, ...]:
    """Everything that happened to a model, oldest first; raises SpecError, RegistryError."""
    model = find_model(reference, settings)
    return model_history(model.home, model.registry, model.name)


def history_rows(entries: tuple[HistoryEntry, ...]) -> Table:
    """The entries for the terminal, newest last."""
    narrow = (Column("when", no_wrap=True), Column("what", no_wrap=True), Column("version", justify="right"))
    table = Table(*narrow, "why", box=box.SIMPLE_HEAD, pad_edge=False)
    for entry in entries:
        what = f"{entry.kind}{': ' + entry.decision if entry.decision else ''}{' (by hand)' if entry.by_person else ''}"
        why = f"{entry.window}: {entry.reason}" if entry.window else entry.reason
        why = f"{why} (Prefect run {entry.flow_run})" if entry.flow_run else why
        table.add_row(f"{entry.at:%Y-%m-%d %H:%M:%S}", what, str(entry.version or ""), why.replace("[", r"\["))
    return table


def history_end(entries: tuple[HistoryEntry, ...], reference: str) -> str:
    """The last line: what all of it came to, and what to do next."""
    if not entries:
        return f"nothing has happened yet: run `perennial train {reference}`"
    counts = Counter(entry.kind for entry in entries)
    said = ", ".join(f"{kind} {counts[kind]:,}" for kind in COUNTED if counts[kind])
    return f"{said}; one prediction in all detail: perennial trace {reference} ID"


def history_json(entries: tuple[HistoryEntry, ...]) -> str:
    """The entries as one JSON list."""
    return orjson.dumps([entry.model_dump(mode="json") for entry in entries], option=orjson.OPT_INDENT_2).decode()


def read_trace(reference: str, id_: str, event_time: str | None, settings: Settings) -> Trace:
    """One prediction of a model, traced; raises SpecError, RegistryError, PredictionNotFound."""
    model = find_model(reference, settings)
    return trace_prediction(model.home, model.registry, model.name, id_, _moment(event_time), model.archive_url)


def trace_rows(trace: Trace) -> dict[str, str]:
    """The trace row by row: the answer, the version and where it comes from, the truth, the window."""
    card, data = trace.card, trace.card.data
    score = trace.score if isinstance(trace.score, list) else [trace.score]
    return {
        "prediction": f"{trace.id} at {trace.event_time:%Y-%m-%d %H:%M:%S}, served {trace.served_at:%Y-%m-%d %H:%M:%S}",
        "asked": f"{trace.asked} times by this id; the newest is shown (another: --event-time)" if trace.asked > 1 else "",
        "inputs": ", ".join(f"{name} {value!r}" for name, value in trace.inputs.items()),
        "score": " ".join(f"{one:.6g}" for one in score) + (f" ({', '.join(card.classes)})" if card.classes else ""),
        "version": f"{card.name} version {card.version}, trained {card.trained_at:%Y-%m-%d %H:%M} by {card.learner}",
        "data": f"{data.fingerprint[:SHORT]}: {data.rows:,} rows from {data.since:%Y-%m-%d %H:%M} to {data.until:%Y-%m-%d %H:%M}",
        "spec": card.spec_fingerprint[:SHORT],
        "code": card.git_commit or "not in a git checkout",
        "trained for": f"{card.cause.kind}: {card.cause.detail}".rstrip(": ") + _event(card.cause.event_id),
        "verdict": "\n".join(_verdicts(trace)) or "none: a challenger about which nothing was decided",
        "label": _truth(trace),
        "window": _window(trace),
    }


def trace_json(trace: Trace) -> str:
    """The whole trace, the version's card included."""
    return trace.model_dump_json(indent=2, by_alias=True)


def _verdicts(trace: Trace) -> Iterator[str]:
    for move in trace.moves:
        by = ", by hand" if move.by_person else ""
        yield f"{'rolled back to' if move.rollback else move.alias} on {move.at:%Y-%m-%d %H:%M}{by}: {move.reason}"


def _truth(trace: Trace) -> str:
    if (truth := trace.truth) is None:
        return "has not come"
    contradicted = "; an earlier label said otherwise" if truth.contradicted else ""
    return f"{truth.label}, received {truth.received_at:%Y-%m-%d %H:%M:%S}{contradicted}"


def _window(trace: Trace) -> str:
    if (decision := trace.decision) is None:
        return f"{trace.window}, still open"
    judged = f"{trace.window}, judged for version {trace.judged_version}"
    return f"{judged}: {decision.kind}: {decision.reason}{_event(decision.event_id)}"


def _event(event_id: str | None) -> str:
    return f" (event {event_id})" if event_id else ""


def _moment(text: str | None) -> datetime | None:
    try:
        return None if text is None else parse_time(text)
    except ValueError:
        raise DataError(f"--event-time {text!r} is not a time; write one such as 2013-03-01T06:00:00Z") from None
