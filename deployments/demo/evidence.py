"""The evidence of a demo: what each component of the loop says happened, read at the end of the replay.

Nothing is taken from what the driver meant to do: replies are the client's count, rows the archive's, windows and versions files,
events and runs the Prefect API's, promotions the registry's history, moments of serving the service's own gauge.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

from deployments.prefect_client import FlowRun
from deployments.replay.frozen_baseline import Comparison, open_frozen_baseline
from deployments.replay.waits import LoopWaiter, ServiceMetrics, poll_until, scrape
from monitoring.archive import Counts
from monitoring.events import MODEL_HELD, MODEL_PROMOTED, MODEL_REJECTED, ModelEvent
from monitoring.state import WindowResult, load_results
from monitoring.window import Window
from perennial.errors import StackError
from perennial.log_columns import EVENT_TIME, VERSION
from perennial.model_card import ModelCard
from perennial.model_loading import load_card
from perennial.registry import CHAMPION, Move
from perennial.spec import ModelSpec
from tasks.serving.replay import Sent

REFUSALS = {MODEL_HELD: "held", MODEL_REJECTED: "rejected"}  # events by which the gate refuses a version, and how people say it
GATE_EVENTS = (MODEL_PROMOTED, *REFUSALS)

FEED_TIMEOUT = timedelta(seconds=60)  # until confirmed events can be read back: the server writes them every few seconds


@dataclass(frozen=True)
class Evidence:
    """What the components of the stack say at the end of a replay.

    `retrains` make challengers, `promotes` let one serve. `version_comparisons` has, for each version that replaced another,
    the rows it answered, beside what the replaced one would have answered; `first_served` the event time of the first archived
    row of each version.
    """

    sent: Sent
    service: ServiceMetrics
    counts: Counts
    windows: Sequence[WindowResult]
    comparisons: Mapping[Window, Comparison]
    pooled: Comparison | None
    events: Sequence[ModelEvent]
    retrains: Sequence[FlowRun]
    promotes: Sequence[FlowRun]
    moves: Sequence[Move]
    cards: Sequence[ModelCard]
    version_comparisons: Mapping[int, Comparison | None]
    first_served: Mapping[int, datetime]
    swaps: Mapping[int, datetime]
    problems: Sequence[str]


def collect_evidence(waiter: LoopWaiter, spec: ModelSpec, base: Path, sent: Sent) -> Evidence:
    """Read every component; raises PrefectUnreachable, RegistryError and ArchiveError."""
    loop, registry = waiter.loop, waiter.loop.registry
    windows, moves, versions = load_results(loop.home), registry.history(loop.model), registry.versions(loop.model)
    cards = [load_card(registry, loop.model, version) for version in versions]
    events = _events(waiter, windows, moves)
    frozen = open_frozen_baseline(registry, spec, base, loop.home, archive_url=loop.archive_url)
    first_served = frozen.archive.scan().group_by(VERSION).agg(pl.col(EVENT_TIME).min()).collect()
    return Evidence(
        sent=sent,
        service=scrape(loop.service_url, loop.authorization),
        counts=frozen.archive.counts(),
        windows=windows,
        comparisons=frozen.windows(),
        pooled=frozen.compare(frozen.archive.labelled()),
        events=events,
        retrains=loop.history.runs("retrain"),
        promotes=loop.history.runs("promote"),
        moves=moves,
        cards=cards,
        version_comparisons={
            version: open_frozen_baseline(registry, spec, base, loop.home, previous, loop.archive_url).answered_by(version)
            for version, previous in replacements(moves)
        },
        first_served=dict(first_served.iter_rows()),
        swaps=waiter.swaps,
        problems=[*waiter.problems, *sent.failures, *loop.history.client.failed_actions(loop.history.since)],
    )


def replacements(moves: Sequence[Move]) -> list[tuple[int, int]]:
    """Versions that were promoted, each with the one it replaced; the first champion replaced none, a rollback promotes none."""
    changes = ((move.version, move.previous) for move in moves if move.alias == CHAMPION)
    return [(new, old) for new, old in changes if new is not None and old is not None and new > old]


def gate_event(version: int, events: Sequence[ModelEvent]) -> ModelEvent | None:
    """The event that carries the gate's decision about a version."""
    return next((event for event in events if event.name in GATE_EVENTS and event.payload.get("version") == version), None)


def _events(waiter: LoopWaiter, windows: Sequence[WindowResult], moves: Sequence[Move]) -> Sequence[ModelEvent]:
    """The feed, once it shows every request of the windows and the gate's decision on every promoted version."""
    requests = {window.decision.event_id for window in windows if window.decision.event_id is not None}
    promoted = [version for version, _ in replacements(moves)]

    def complete_feed() -> Sequence[ModelEvent] | None:
        events = waiter.loop.history.events()
        complete = requests <= {event.id for event in events} and all(gate_event(version, events) for version in promoted)
        return events if complete else None

    try:
        return poll_until(complete_feed, FEED_TIMEOUT, "the event feed to show every request and every decision")
    except StackError as error:
        waiter.problems.append(str(error))
        return waiter.loop.history.events()
