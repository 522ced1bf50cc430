"""The outcome of a demo: evidence gathered from every part, then summary.json, timeline.html and a table for people."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import polars as pl
from rich.console import Console
from rich.table import Table

from deployments.demo.display import number
from deployments.demo.frozen_baseline import Compared, open_baseline
from deployments.demo.service_metrics import scrape
from deployments.demo.summary import REFUSALS, Evidence, Summary, VersionLine, replacements, summarise, to_json
from deployments.demo.timeline import Mark, Week, draw
from deployments.demo.waits import Hold, Loop, patiently
from deployments.prefect_client.history import Run, Seen
from monitoring.archive import Archive
from monitoring.events import MODEL_PROMOTED
from monitoring.state import WindowResult, load_results
from monitoring.window import Window
from perennial.errors import StackError
from perennial.log_columns import EVENT_TIME, VERSION
from perennial.model import CARD_FILE
from perennial.model_card import ModelCard
from perennial.spec import ModelSpec
from tasks.serving.replay import Sent

FEED_PATIENCE = 60.0
"""Seconds until events that were confirmed can be read back: the server writes them to its database every few."""


@dataclass(frozen=True)
class Measured:
    """What only the driver's own process can know."""

    sent: Sent
    start: datetime
    until: datetime
    peak_memory_mb: float
    wall_s: float


def gather(hold: Hold, spec: ModelSpec, base: Path, measured: Measured) -> Evidence:
    """Ask every part what happened; raises PrefectUnreachable, RegistryError and ArchiveError."""
    loop = hold.loop
    windows, cards = load_results(loop.home), _cards(loop)
    events = _events(hold, windows, cards)
    archive = Archive(loop.home, spec.task, cards[0].schema_)
    frozen = open_baseline(loop.registry, spec, base, loop.home)
    moves = loop.registry.history(loop.model)
    tenures = {
        int(move.version): open_baseline(loop.registry, spec, base, loop.home, move.previous).answered_by(move.version)
        for move in replacements(moves)
        if move.version is not None and move.previous is not None
    }
    return Evidence(
        sent=measured.sent,
        scraped=scrape(loop.service_url, loop.authorization),
        counts=archive.counts(),
        windows=windows,
        weeks=frozen.windows(measured.start, measured.until),
        pooled=frozen.pooled(measured.start, measured.until),
        events=events,
        retrains=loop.witness.runs("retrain"),
        moves=moves,
        cards=cards,
        tenures={version: compared for version, compared in tenures.items() if compared is not None},
        first_served=_first_served(archive),
        swaps=hold.swaps,
        peak_memory_mb=measured.peak_memory_mb,
        wall_s=measured.wall_s,
        problems=[*hold.problems, *measured.sent.failures, *loop.witness.failures()],
    )


def write(directory: Path, summary: Summary, evidence: Evidence, spec: ModelSpec) -> None:
    """summary.json and timeline.html."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "summary.json").write_bytes(to_json(summary))
    page = draw(*_headline(summary, spec), weeks_of(evidence), marks_of(evidence, spec), version_rows(summary))
    (directory / "timeline.html").write_text(page, encoding="utf-8")


def conclude(evidence: Evidence, directory: Path, spec: ModelSpec, console: Console) -> Summary:
    """Count, write the files and print the table."""
    summary = summarise(evidence)
    write(directory, summary, evidence, spec)
    head, *rows = version_rows(summary)
    table = Table(*head, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for row in rows:
        table.add_row(*row)
    console.print("\nWhat became of each version (AUC on the rows it answered: of its predecessor, had it stayed, and its own)")
    console.print(table)
    return summary


def version_rows(summary: Summary) -> list[list[str]]:
    """The table of versions, its head first."""
    head = ["version", "cause", "gate", "since", "trained on", "AUC before", "AUC after"]
    return [head, *([*_told(version)] for version in summary.versions)]


def _told(line: VersionLine) -> Sequence[str]:
    since = f"{line.promoted_at:%d %b %Y}" if line.promoted_at else "-"
    rows = f"{line.train_rows:,}"
    return str(line.version), line.cause, line.decision, since, rows, number(line.auc_before), number(line.auc_after)


def _headline(summary: Summary, spec: ModelSpec) -> tuple[str, str]:
    subtitle = (
        f"{summary.predictions_answered:,} predictions, {summary.labels_joined:,} labels, {summary.windows} windows; "
        f"retrainings: {summary.retrain_runs}, promotions: {summary.promotions}, refusals: {summary.refusals}; "
        f"mean AUC {number(summary.auc_loop)} with the loop, {number(summary.auc_static)} with the first model frozen"
    )
    return f"Perennial: {spec.name}", subtitle


def _cards(loop: Loop) -> list[ModelCard]:
    versions = loop.registry.versions(loop.model)
    return [ModelCard.model_validate_json(loop.registry.read(loop.model, version)[CARD_FILE]) for version in versions]


def _events(hold: Hold, windows: Sequence[WindowResult], cards: Sequence[ModelCard]) -> list[Seen]:
    """The feed, once it shows every request of the windows and a judgement of every retrained version."""
    asked = {window.decision.event_id for window in windows if window.decision.event_id is not None}
    judged = {card.version for card in cards if card.parent is not None}

    def feed() -> list[Seen] | None:
        events = hold.loop.witness.events()
        verdicts = {event.payload.get("version") for event in events if event.name in (MODEL_PROMOTED, *REFUSALS)}
        return events if asked <= {event.id for event in events} and judged <= verdicts else None

    try:
        return patiently(feed, FEED_PATIENCE, "the event feed to show every request and every verdict")
    except StackError as error:
        hold.problems.append(str(error))
        return hold.loop.witness.events()


def _first_served(archive: Archive) -> dict[int, datetime]:
    rows = archive.scan().group_by(VERSION).agg(pl.col(EVENT_TIME).min()).collect()
    return {int(version): at for version, at in rows.iter_rows()}


def weeks_of(evidence: Evidence) -> list[Week]:
    """Every window that was closed, or has metrics: the newest one may have labels and still be open."""
    results = {result.window: result for result in evidence.windows}
    windows = sorted({*results, *evidence.weeks}, key=lambda window: window.start)
    return [_week(window, results.get(window), evidence.weeks.get(window)) for window in windows]


def _week(window: Window, result: WindowResult | None, compared: Compared | None) -> Week:
    return Week(
        start=window.start,
        end=window.end,
        version=result.version if result else None,
        rows=result.findings.rows if result else compared.loop.rows if compared else 0,
        labelled=compared.loop.rows if compared else 0,
        drift=result.findings.values.get("drift") if result else None,
        bound=result.findings.bounds.get("drift") if result else None,
        decision=result.decision.kind if result else "still open",
        loop=compared.loop.values if compared else {},
        static=compared.static.values if compared else {},
    )


def marks_of(evidence: Evidence, spec: ModelSpec) -> list[Mark]:
    """Everything that happened, at the event time of its cause: the watermark at which the window closed."""
    decided = {result.decision.event_id: result.window.end + spec.window.lateness for result in evidence.windows}
    closed = {event_id: at for event_id, at in decided.items() if event_id is not None}
    asked = [(closed[event.id], event) for event in evidence.events if event.id in closed]
    runs = [(closed[run.event_id], run) for run in evidence.retrains if run.event_id is not None and run.event_id in closed]
    return [
        *(Mark(at=at, kind="event", text=_event_text(event)) for at, event in asked),
        *(Mark(at=at, kind="retraining", text=_run_text(run)) for at, run in runs),
        *_verdicts(evidence, closed),
    ]


def _verdicts(evidence: Evidence, closed: Mapping[str, datetime]) -> list[Mark]:
    causes = {card.version: card.cause.event_id or "" for card in evidence.cards}
    marks = []
    for event in evidence.events:
        at = closed.get(causes.get(event.payload.get("version", 0), ""))
        if at is not None and event.name in (MODEL_PROMOTED, *REFUSALS):
            kind = "refusal" if event.name in REFUSALS else "promotion"
            marks.append(Mark.model_validate({"at": at, "kind": kind, "text": _event_text(event)}))
    return marks


def _run_text(run: Run) -> str:
    took = f" in {(run.ended - run.started).total_seconds():.0f} s" if run.ended and run.started else ""
    return f"{run.name}: {run.state.lower()}{took}"


def _event_text(event: Seen) -> str:
    version = f"version {event.payload['version']}: " if "version" in event.payload else ""
    return f"{event.name}: {version}{event.payload.get('reason', '')}"
