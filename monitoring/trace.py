"""Trace: one prediction followed back to everything it came from, and forward to what became true of it.

From the prediction log: what was asked, what was answered, and the label with the time it came. From the registry: the version
that answered, its rows, spec, code and cause, and the moves by which it came to serve. From the monitor: the window in which the
prediction lies and what that led to. It costs reading the log's ids, for the log is laid out by time.
"""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import AwareDatetime, Field

from monitoring.archive import CONTRADICTED, Archive
from monitoring.partitions import collect
from monitoring.policy import Decision
from monitoring.state import WindowResult, load_results
from monitoring.window import Window, window_at
from perennial.base import FrozenModel
from perennial.errors import PredictionNotFound
from perennial.labels import StoredLabel
from perennial.log_columns import EVENT_TIME, LABEL, RECEIVED_AT, SCORE, SERVED_AT, VERSION
from perennial.model_card import ModelCard
from perennial.model_loading import load_card
from perennial.registry import APPROVAL, CHAMPION, REJECTED, Move, Registry
from perennial.schema import Schema

VERDICTS = (CHAMPION, APPROVAL, REJECTED)
"""The aliases whose moves say what was decided about a version."""

SHOWN = 5  # event times named in a message


class Truth(FrozenModel):
    """The label that counts for a prediction; `contradicted` says that an earlier one was another."""

    label: StoredLabel
    received_at: AwareDatetime
    contradicted: bool = False


class Trace(FrozenModel):
    """One prediction with its origin and its truth.

    `asked` is how many predictions have its id; `inputs` are the values that the client sent. `moves` are those by which the
    version was promoted, refused or put before a person, with the gate's reason and evidence. `decision` is None while the
    window is open.
    """

    id: str
    event_time: AwareDatetime
    served_at: AwareDatetime
    score: float | list[float]
    inputs: dict[str, Any]
    asked: int
    card: ModelCard
    moves: tuple[Move, ...]
    truth: Truth | None
    window: Window
    decision: Decision | None = Field(None, description="of the window, once it is closed")
    judged_version: int | None = Field(None, description="the champion for which the window was judged")

    @property
    def version(self) -> int:
        """The version that answered."""
        return self.card.version


def trace_prediction(
    home: Path, registry: Registry, name: str, id_: str, event_time: datetime | None = None, archive_url: str | None = None
) -> Trace:
    """The newest prediction of an id, or the one of an event time; `home` is the model's own, `archive_url` of its log.

    Raises PredictionNotFound where the log has none, RegistryError where the version that answered is gone.
    """
    log = _Log(home, archive_url)
    first = _find(log, registry, name, id_, event_time)
    card = load_card(registry, name, first[VERSION])
    rows = _predictions(log, card, card.schema_, id_)
    found = next(row for row in rows if (row[EVENT_TIME], row[SERVED_AT]) == (first[EVENT_TIME], first[SERVED_AT]))
    result = _window_result(home, found[EVENT_TIME])
    return Trace(
        id=id_,
        event_time=found[EVENT_TIME],
        served_at=found[SERVED_AT],
        score=found[SCORE],
        inputs={column: found[column] for column in card.schema_.names},
        asked=len(rows),
        card=card,
        moves=tuple(move for move in registry.history(name) if move.version == card.version and move.alias in VERDICTS),
        truth=_truth(found),
        window=result.window if result else window_at(found[EVENT_TIME], card.spec.window.length),
        decision=result.decision if result else None,
        judged_version=result.version if result else None,
    )


@dataclass(frozen=True)
class _Log:
    """Where a model's prediction log is: in its home, or below a URL."""

    home: Path
    url: str | None

    def archive(self, card: ModelCard, schema: Schema) -> Archive:
        return Archive(self.home, card.task, schema, url=self.url)


def _find(log: _Log, registry: Registry, name: str, id_: str, event_time: datetime | None) -> dict[str, Any]:
    """The log's own columns of the prediction; raises PredictionNotFound that says what the log has instead."""
    versions = registry.versions(name)
    if not versions:
        raise PredictionNotFound(
            f"{name!r} has no version in {registry.url}, so nothing was predicted: run `perennial train SPEC`"
        )
    card = load_card(registry, name, versions[-1])
    bare = Schema(columns=(), target=card.schema_.target, event_time=card.schema_.event_time, id=card.schema_.id)
    rows = _predictions(log, card, bare, id_)
    chosen = [row for row in rows if event_time is None or row[EVENT_TIME] == event_time]
    if chosen:
        return chosen[-1]
    if rows:
        times = ", ".join(f"{row[EVENT_TIME]:%Y-%m-%dT%H:%M:%S}" for row in rows[-SHOWN:])
        raise PredictionNotFound(f"{name} answered {id_!r}, but not at {event_time}: its event times are {times}")
    days = log.archive(card, bare).dates()
    kept = f"predictions from {days[0]} to {days[-1]}" if days else "no prediction yet"
    fix = "the monitor archives what was asked within seconds while it runs (`perennial status`)"
    raise PredictionNotFound(
        f"no prediction of {name} has the id {id_!r}; the log in {log.url or log.home / 'predictions'} has {kept}: {fix}"
    )


def _predictions(log: _Log, card: ModelCard, schema: Schema, id_: str) -> list[dict[str, Any]]:
    """The predictions of an id with their labels, the newest last."""
    rows = collect(log.archive(card, schema).predictions_of(id_), log.home)
    return rows.sort(EVENT_TIME, SERVED_AT, maintain_order=True).to_dicts()


def _truth(row: dict[str, Any]) -> Truth | None:
    if row[LABEL] is None:
        return None
    return Truth(label=row[LABEL], received_at=row[RECEIVED_AT], contradicted=bool(row[CONTRADICTED]))


def _window_result(home: Path, event_time: datetime) -> WindowResult | None:
    """The result of the closed window that holds a time; looked for, because the spec may have other windows by now."""
    results = reversed(load_results(home))
    return next((one for one in results if one.window.start <= event_time < one.window.end), None)
