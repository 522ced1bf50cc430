"""Publish: from chosen parameters to a version in the registry, and the alias moves that a verdict allows."""

import logging
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import polars as pl

from monitoring.calibration import Calibration
from perennial.errors import AliasConflict, TrainingError
from perennial.input_contract import refuse_other_task
from perennial.model import Model, to_files
from perennial.model_card import Cause
from perennial.model_loading import load_champion, load_model
from perennial.registry import CHALLENGER, CHAMPION
from perennial.signals import Bounds
from tasks.data.datasets import Dataset
from tasks.job import Job
from tasks.promotion.gate import Verdict
from tasks.task_defaults import local_task
from tasks.training.assemble import assemble
from tasks.training.calibrate import calibrate
from tasks.training.evaluate import Evaluation, evaluate
from tasks.training.fit import Fitted, fit
from tasks.training.training_data import TrainingData
from tasks.training.tune import Tuned

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Challenger:
    """A trained model, a draft until it is published, and what is known of its training for those who judge and report it."""

    model: Model
    dataset: Dataset
    data: TrainingData
    tuned: Tuned
    fitted: Fitted
    evaluation: Evaluation
    calibration: Calibration

    @property
    def version(self) -> int:
        """Its number in the registry; 0 for a draft."""
        return self.model.card.version


@local_task("champion")
def read_champion(job: Job) -> Model | None:
    """The model that serves; None while there is none. Raises SpecError where the spec has another task."""
    champion = load_champion(job.registry, job.spec.name, job.base)
    if champion is not None:
        refuse_other_task(job.spec, champion.card.task, f"version {champion.card.version}")
    return champion


def require_champion(job: Job) -> Model:
    """The model that serves; raises TrainingError when there is none."""
    champion = read_champion.fn(job)
    if champion is None:
        raise TrainingError(f"{job.spec.name!r} has no champion in {job.settings.registry_url}: run the `train` flow first")
    return champion


def train_challenger(
    job: Job, dataset: Dataset, data: TrainingData, tuned: Tuned, test: pl.DataFrame, cause: Cause, champion: Model | None
) -> Challenger:
    """Fit, evaluate and calibrate a draft, each a task of the flow run that calls this; the champion is named as the parent."""
    fitted = fit(job, data, tuned.params)
    evaluation = evaluate(job, fitted, test)
    draft = assemble(job, data, fitted, evaluation, cause, champion)
    calibration = calibrate(job, draft, data, fitted, champion)
    return Challenger(draft, dataset, data, tuned, fitted, evaluation, calibration)


def publish_challenger(job: Job, challenger: Challenger) -> Challenger:
    """The challenger as the next version; called once it has been judged, so that what fails before publishes nothing."""
    return replace(challenger, model=publish(job, challenger.model, challenger.calibration.bounds))


@local_task("publish")
def publish(job: Job, draft: Model, bounds: Bounds) -> Model:
    """Write the draft as the next version, name it challenger, and return it as read back, with the draft's scores."""
    complete, name = replace(draft, card=draft.card.model_copy(update={"bounds": bounds})), job.spec.name
    version = job.registry.publish(name, lambda number: to_files(complete.with_version(number)))
    standing = job.registry.aliases(name).challenger
    try:
        job.registry.promote(name, CHALLENGER, version, expect=standing, reason="published", now=datetime.now(UTC))
    except AliasConflict as error:
        # The alias only says which version came last; the gate compares versions, not aliases.
        logger.warning("version %d of %s is not the newest challenger: %s", version, name, error)
    return load_model(job.registry, name, version, job.base)


@local_task("apply verdict")
def apply_verdict(job: Job, challenger: Model, champion: Model | None, verdict: Verdict) -> None:
    """Move the champion alias if the verdict says so; raises AliasConflict when another promoter moved it meanwhile."""
    if verdict.decision != "promote":
        return
    standing, now = champion.card.version if champion else None, datetime.now(UTC)
    job.registry.promote(job.spec.name, CHAMPION, challenger.card.version, expect=standing, reason=verdict.reason, now=now)
