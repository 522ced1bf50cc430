"""What `perennial labels` shows: how many labels came, how many found their prediction, and those that did not or disagree.

Reads the prediction log's ids and labels, all of them; starts nothing and needs no champion.
"""

from datetime import datetime
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from monitoring.archive import CONTRADICTORY, UNMATCHED, Archive
from monitoring.partitions import collect
from perennial.log_columns import EVENT_TIME, ID, LABEL, RECEIVED_AT
from perennial.schema import Schema
from perennial.settings import Settings
from perennial.spec import load_spec


def label_report(path: Path, settings: Settings, *, unmatched: bool) -> list[str | Table]:
    """Lines of counts and, with `unmatched`, a table of every label that joined nothing or that a later one contradicts."""
    spec = load_spec(path)
    schema = Schema(columns=(), target=spec.target, event_time=spec.event_time, id=spec.id)
    archive = Archive(settings.model_home(spec.name), spec.task, schema)
    issues, counts = archive.label_issues(), archive.counts()
    sent = collect(archive.labels().select(LABEL), archive.home)[LABEL]
    classes = sent.value_counts(sort=True).iter_rows() if spec.task != "regression" else ()
    found = {issue: int((issues["issue"] == issue).sum()) for issue in (UNMATCHED, CONTRADICTORY)}
    told = ", ".join(f"{label} {rows:,}" for label, rows in classes)
    lines: list[str | Table] = [
        escape(f"{sent.len():,} labels of {counts.labels:,} ids{': ' if told else ''}{told}"),
        f"{counts.predictions:,} predictions",
        *(f"{rows:,} labels: {issue}" for issue, rows in found.items()),
    ]
    if not unmatched:
        return lines
    table = Table("id", "label", "event time", "received", "what", "prediction of")
    for row in issues.select(ID, LABEL, EVENT_TIME, RECEIVED_AT, "issue", "answered").iter_rows():
        table.add_row(*(_cell(value) for value in row))
    return [*lines, table]


def _cell(value: object) -> str:
    return f"{value:%Y-%m-%d %H:%M:%S}" if isinstance(value, datetime) else "" if value is None else escape(str(value))
