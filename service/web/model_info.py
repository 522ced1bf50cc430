"""What /model says: the live version's card, cut to what a person asks, and the rows that clients may send it."""

from datetime import datetime
from typing import Any

from msgspec.structs import asdict
from pydantic import ConfigDict, Field

from perennial.base import FrozenModel
from perennial.metrics import Metrics
from perennial.model_card import Cause, DataRef
from service.inference.model_watcher import CompiledModel, ModelWatcher
from service.metrics import IGNORED, MISSING, count_answered, count_columns


class RowForm(FrozenModel):
    """The keys that a row may have, and how often it had those of another version, since the service started.

    A column in `optional` is one that an earlier champion or the challenger does not have: where it is left out it is null. A
    column in `ignored` is one that only they have.
    """

    required: dict[str, str] = Field(description="columns a row must have, with their types; null is always taken")
    optional: dict[str, str] = Field(description="columns a row may leave out")
    ignored: dict[str, str] = Field(description="columns a row may have to no effect")
    id: tuple[str, ...] = Field(validation_alias="ids", description="keys under which a row may name its id")
    event_time: tuple[str, ...] = Field(validation_alias="times", description="keys under which a row may name its event time")
    missing_rows: dict[str, int] = Field(description="rows that left a column out, or had it as only another version takes it")
    ignored_rows: dict[str, int] = Field(description="rows that had a column which was ignored")


class ChallengerInfo(FrozenModel):
    """The challenger beside the champion, where it is to answer a share of the rows."""

    version: int | None = Field(description="the challenger that answers rows now; null where none does")
    share: float = Field(description="percent of the rows that it answers, or would")
    withheld: str | None = Field(description="why no challenger answers, if so")


class ModelInfo(FrozenModel):
    """The champion: what it is and where it comes from; what the card has beyond it is not ours to show."""

    model_config = ConfigDict(extra="ignore")

    model: str
    version: int
    task: str
    target: str
    inputs: dict[str, str] = Field(description="the model's columns, with their types")
    rows: RowForm
    classes: tuple[str, ...]
    trained_at: datetime
    promoted_at: datetime | None = Field(description="when this version became champion, the last time if several")
    data: DataRef
    metrics: Metrics
    cause: Cause
    parent: int | None
    refused: str | None = Field(description="why the registry's champion does not answer or is not known, if so")
    challenger: ChallengerInfo | None = Field(description="null where no challenger is to answer a share of the rows")
    answered: dict[int, int] = Field(description="rows that each version has answered since the service started")


def describe_live(watcher: ModelWatcher) -> ModelInfo:
    """The live version's description; raises ServiceError (503) when there is none."""
    live = watcher.require_live()
    counts = count_columns(live.card.name)
    card, rows = live.card, {**asdict(live.contract.keys), "missing_rows": counts[MISSING], "ignored_rows": counts[IGNORED]}
    known: dict[str, Any] = {"promoted_at": watcher.promoted_at, "refused": watcher.refusal, "rows": rows}
    known |= {"challenger": _challenger(watcher, live), "answered": count_answered(card.name)}
    own = {"model": card.name, "target": card.schema_.target, "inputs": card.schema_.dtypes}
    return ModelInfo.model_validate({**dict(card), **own, **known})


def _challenger(watcher: ModelWatcher, live: CompiledModel) -> ChallengerInfo | None:
    if not watcher.challenger_share:
        return None
    version = live.challenger.model.version if live.challenger else None
    return ChallengerInfo(version=version, share=watcher.challenger_share, withheld=watcher.withheld)
