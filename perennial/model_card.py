"""The card: everything about one trained model that is not its estimator; the file `model.json`."""

import hashlib
from datetime import datetime
from typing import Literal

from pydantic import ConfigDict, Field

from perennial.base import FrozenModel, StoredModel
from perennial.estimates import Recalibration
from perennial.features import FeatureSet
from perennial.learners.declarations import Params
from perennial.metrics import Metrics
from perennial.schema import Schema
from perennial.signals import Bounds
from perennial.spec import ModelSpec, Task


class DataRef(FrozenModel):
    """The rows a model was trained on: their content's fingerprint, number, and first and last event time."""

    fingerprint: str
    rows: int
    since: datetime
    until: datetime


class Cause(FrozenModel):
    """Why a model was trained; `event_id` names the event that asked for it."""

    kind: Literal["initial", "drift", "performance", "challenger", "promotion", "age", "schedule", "manual"]
    event_id: str | None = None
    detail: str = ""


class Slice(FrozenModel):
    """Metrics of the test rows where `column` is `value`."""

    column: str
    value: str
    metrics: Metrics


class ModelCard(StoredModel):
    """One version of a model, described. `classes` are multiclass labels in the order of the scores, else ().

    The model has learnt every row there was. Its metrics are its judge's: the same recipe fitted to the rows before
    `judged_since`, and measured on those from then on.
    """

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    name: str
    version: int
    task: Task
    spec: ModelSpec
    schema_: Schema = Field(alias="schema")
    features: FeatureSet
    classes: tuple[str, ...] = ()
    label_texts: tuple[str, ...] = Field((), description="values of a binary target that mean false and true, else ()")
    params: Params
    rounds: int = Field(ge=1, description="boosting rounds of the estimator; 1 for a learner without rounds")
    rounds_chosen: tuple[int, ...] = Field(
        (), description="what this training and its ancestors' chose; `rounds` is their median"
    )
    metrics: Metrics
    judged_since: datetime | None = None
    slices: tuple[Slice, ...] = ()
    bounds: Bounds = Field(default_factory=dict)
    recalibration: Recalibration | None = Field(None, description="makes probabilities of scores, for estimates without labels")
    data: DataRef
    mode_losses: dict[str, float] = Field(default_factory=dict, description="of each data mode on the newest rows, if compared")
    learner_scores: dict[str, float] = Field(
        default_factory=dict, description="the metric of each learner's best trial over the folds, if they were compared"
    )
    trained_at: datetime
    git_commit: str | None = None
    wandb_run: str | None = None
    parent: int | None = None
    cause: Cause

    @property
    def learner(self) -> str:
        return self.spec.learner

    @property
    def until(self) -> datetime:
        return self.data.until

    @property
    def spec_fingerprint(self) -> str:
        """SHA-256 of the spec that it was trained by, defaults included: equal where two trainings had the same spec."""
        return hashlib.sha256(self.spec.model_dump_json().encode()).hexdigest()
