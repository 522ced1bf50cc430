"""What `perennial labels` shows: how many labels came, how many found their prediction, and those that did not or disagree.

Reads the prediction log's ids and labels, all of them; starts nothing and needs no champion.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from monitoring.archive import CONTRADICTORY, UNMATCHED, open_labels
from monitoring.label_retention import read_dropped
from monitoring.partitions import collect
from perennial.log_columns import EVENT_TIME, ID, LABEL, RECEIVED_AT
from perennial.settings import Settings
from perennial.spec import ModelSpec, load_spec
from tasks.data.label_source import load_state

TIME = "%Y-%m-%d %H:%M:%S"
SHOWN = 3  # refused rows of a file


def label_report(path: Path, settings: Settings, *, unmatched: bool) -> list[str]:
    """Lines of counts and, with `unmatched`, one for every label that joined nothing or that a later one contradicts."""
    spec = load_spec(path)
    archive = open_labels(spec, settings)
    issues, counts = archive.label_issues(), archive.counts()
    sent = collect(archive.labels().select(LABEL), archive.home)[LABEL]
    classes = sent.value_counts(sort=True).iter_rows() if spec.task != "regression" else ()
    told = ", ".join(f"{label} {rows:,}" for label, rows in classes)
    found = {issue: int((issues["issue"] == issue).sum()) for issue in (UNMATCHED, CONTRADICTORY)}
    return [
        f"{counts.predictions:,} predictions",
        f"{sent.len():,} labels of {counts.labels:,} ids{': ' if told else ''}{told}",
        *(f"{rows:,} labels of which {issue}" for issue, rows in found.items()),
        *_dropped_lines(archive.home),
        *_source_lines(spec, settings),
        *(_line(row) for row in issues.iter_rows(named=True) if unmatched),
    ]


def _dropped_lines(home: Path) -> Iterator[str]:
    if dropped := read_dropped(home).dropped:
        yield f"{dropped:,} labels dropped, whose prediction did not come in time (PERENNIAL_KEEP_UNMATCHED_LABELS)"


def _source_lines(spec: ModelSpec, settings: Settings) -> Iterator[str]:
    """What was read of the label source, file by file."""
    parts = load_state(settings.model_home(spec.name)).parts
    if spec.labels is not None and not parts:
        yield f"nothing read yet of {spec.labels.path or spec.labels.loader or 'the query'}: a running monitor polls it"
    for name, part in sorted(parts.items()):
        read = f"{part.delivered:,} labels read, the last time at {part.read_at:{TIME}}" if part.read_at else "not read yet"
        yield f"{name}: {read}"
        if part.refused:
            yield from (f"  {part.refused:,} rows refused, such as:", *(f"  {reason}" for reason in part.reasons[:SHOWN]))
        if part.error:
            yield f"  cannot be read, and is tried again: {part.error}"


def _line(row: dict[str, Any]) -> str:
    known = f", known at {row[EVENT_TIME]:{TIME}}" if row[EVENT_TIME] else ""
    of = f" of the prediction of {row['answered']:{TIME}}" if row["answered"] else ""
    return f"  {row[ID]}  label {row[LABEL]}{known}, received {row[RECEIVED_AT]:{TIME}}: {row['issue']}{of}"
