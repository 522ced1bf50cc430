"""Propose: the text of a spec for a table, from a sample of its rows and what a person answered."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import polars as pl

from perennial.durations import format_duration
from perennial.errors import DataError
from perennial.spec import RESERVED, ModelSpec, parse_spec
from tasks.data.ingest import assemble
from tasks.proposal.event_time import EventTime, find_event_time, time_from_rows
from tasks.proposal.features import Id, find_id, propose_features
from tasks.proposal.pace import Fact, Pace, fit_to_pace, format_rate, pace_facts
from tasks.proposal.questions import Ask
from tasks.proposal.spec_text import Key, Section, spec_text
from tasks.proposal.table import SAMPLE, Table, read_table
from tasks.proposal.target import Target, find_target

CHEAP = 5_000_000  # cells of a table up to which three more fits at a retraining take seconds


@dataclass(frozen=True)
class Wishes:
    """What a person said beforehand; None is asked or inferred."""

    table: str
    target: str | None = None
    time: str | None = None
    time_format: str | None = None
    time_from_rows: str | None = None
    id: str | None = None
    task: str | None = None
    positive: str | None = None
    name: str | None = None
    connection: str | None = None


@dataclass(frozen=True)
class Proposal:
    """A spec as text, the same read, how many rows were looked at, what was inferred, and what can happen at the table's pace.

    `middle` is the event time by which half of the rows have come.
    """

    text: str
    spec: ModelSpec
    sample: str
    sections: tuple[Section, ...]
    facts: tuple[Fact, ...]
    middle: datetime


def propose(wishes: Wishes, base: Path, environ: Mapping[str, str], ask: Ask, now: datetime) -> Proposal:
    """A spec for a table, in the directory `base`; raises DataError or SpecError naming what a person has to say."""
    table = read_table(wishes.table, wishes.connection, base, environ)
    target = find_target(table, wishes.target, wishes.task, wishes.positive, ask)
    time = _event_time(table, wishes, ask, environ, now)
    id_ = find_id(table, target, time, wishes.id)
    described = _described(wishes, table, target, time, id_)
    provisional = _parsed(described)
    frame = assemble(provisional, base, environ).frame if table.cut else assemble(provisional, base, environ, SAMPLE).frame
    pace = Pace.of(frame[time.column])
    sections = (*described, *_fitted(pace, frame, target))
    spec = _parsed(sections)
    rows = f"{table.frame.height:,} rows" + (
        f", the first {SAMPLE:,} of each file; all {frame.height:,} for the pace" if table.cut else ", all there are"
    )
    head = (f"Proposed by `perennial init` from {rows}.", "Every key says why it is what it is; change what you know better.")
    return Proposal(spec_text(sections, head), spec, rows, sections, tuple(pace_facts(spec, pace)), pace.middle)


def model_name(wishes: Wishes) -> str:
    """The name of the model: as it was said, else that of the table."""
    stem = wishes.name or re.split(r"[/\\]", wishes.table.split("?")[0].rstrip("/"))[-1].split(".")[0]
    stem = "table" if wishes.connection and not wishes.name else stem
    plain = re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")[:50]
    plain = plain if re.match(r"[a-z]", plain) else f"table-{plain}".rstrip("-")
    return f"{plain}-model" if plain in RESERVED else plain


def _event_time(table: Table, wishes: Wishes, ask: Ask, environ: Mapping[str, str], now: datetime) -> EventTime:
    if wishes.time_from_rows is not None:
        return time_from_rows(table, wishes.time_from_rows, table.count(environ), now)
    return find_event_time(table, wishes.time, wishes.time_format, ask)


def _described(wishes: Wishes, table: Table, target: Target, time: EventTime, id_: Id) -> tuple[Section, ...]:
    """The sections that say what the table is."""
    values = table.frame[target.column]
    unknown = f", {values.null_count():,} null: not known yet" if values.null_count() else ""
    top = [
        Key("name", model_name(wishes)),
        Key("task", target.task, target.why),
        Key("target", target.column, f"what is predicted{unknown}"),
        *([Key("positive", target.positive, target.why_positive)] if target.positive else []),
        Key("event_time", time.column, f"when a row is asked about: {time.why}"),
        Key("id", id_.column, id_.why),
    ]
    features = tuple(propose_features(table, target, time, id_))
    if all(key.value is None for key in features):
        shown = "".join(f"\n  {key.name}: {key.why}" for key in features)
        raise DataError(f"no column is left to learn from {target.column!r}:{shown}")
    source = _merged([*table.keys, *time.source_keys])
    return (
        Section("", tuple(top)),
        Section(f"sources.{table.name}", source),
        Section("derive", (time.derive,) if time.derive else ()),
        Section("features", features),
    )


def _merged(keys: list[Key]) -> tuple[Key, ...]:
    return tuple({key.name: key for key in keys}.values())


def _fitted(pace: Pace, frame: pl.DataFrame, target: Target) -> tuple[Section, ...]:
    """The sections that follow from the table's pace."""
    fitted = fit_to_pace(pace)
    window, gate = fitted.window, fitted.gate
    length, typical = format_duration(window.length), pace.typical(window.length)
    cells = frame.height * frame.width
    auto = cells <= CHEAP
    compared = "all rows, trailing windows and weights by recency are compared at each training: three more fits of a small table"
    known = frame[target.column].drop_nulls().len()
    checks = (Key("min_rows", max(10, known // 2), f"only {known} rows have a label"),) if known < 200 else ()
    return (
        Section("checks", checks),
        Section("split", (Key("test", fitted.split.test, "the newest part is the test: one window"),)),
        Section(
            "window",
            (
                Key(
                    "length", window.length, f"{format_rate(pace.without_strays.per_day)}: about {typical:,.0f} rows in {length}"
                ),
                Key("lateness", window.lateness, "when a window closes after its end; raise it to how long your labels take"),
                Key("min_rows", window.min_rows, "a window with fewer rows is not judged"),
            ),
        ),
        Section(
            "gate",
            (
                Key("holdout", gate.holdout, "the newest labelled rows on which a new version must not be worse: one window"),
                Key("min_rows", gate.min_rows, "with fewer rows the guardrails alone decide"),
            ),
        ),
        Section("signals", (Key("blocks", fitted.signals.blocks, "newest windows on which bounds are calibrated"),)),
        Section(
            "retrain",
            (
                Key(
                    "data",
                    "auto" if auto else "all",
                    compared if auto else "comparing data modes (auto) would fit a large table three more times",
                ),
                Key("half_life", fitted.half_life, "8 windows, where weights by recency are used"),
            ),
        ),
    )


def _parsed(sections: tuple[Section, ...]) -> ModelSpec:
    return parse_spec(tomllib.loads(spec_text(sections, ())), "the proposed spec")
