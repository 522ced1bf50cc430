"""Publish: a version in the registry, and the alias moves that a verdict allows."""

import logging
from dataclasses import replace
from datetime import UTC, datetime

from perennial.errors import AliasConflict, TrainingError
from perennial.model import Model, to_files
from perennial.model_loading import load_champion, load_model
from perennial.registry import CHALLENGER, CHAMPION
from perennial.signals import Bounds
from tasks.job import Job
from tasks.promotion.gate import Verdict
from tasks.task_defaults import local_task

logger = logging.getLogger(__name__)


@local_task("champion")
def read_champion(job: Job) -> Model | None:
    """The model that serves; None while there is none."""
    return load_champion(job.registry, job.spec.name, job.base)


def require_champion(job: Job) -> Model:
    """The model that serves; raises TrainingError when there is none."""
    champion = read_champion.fn(job)
    if champion is None:
        raise TrainingError(f"{job.spec.name!r} has no champion in {job.settings.registry_url}: run the `train` flow first")
    return champion


def publish_version(job: Job, draft: Model, bounds: Bounds, now: datetime) -> Model:
    """Write the draft as the next version, name it challenger, and return it as read back: what serves is what is judged."""
    complete = replace(draft, card=draft.card.model_copy(update={"bounds": bounds}))
    version = job.registry.publish(job.spec.name, lambda number: to_files(complete.with_version(number)))
    _move_challenger(job, version, now)
    return load_model(job.registry, job.spec.name, version, job.base)


def move_champion(job: Job, challenger: Model, champion: Model | None, verdict: Verdict, now: datetime) -> None:
    """Move the champion alias if the verdict says so; raises AliasConflict when another promoter moved it meanwhile."""
    if verdict.decision == "promote":
        standing = champion.card.version if champion else None
        job.registry.promote(job.spec.name, CHAMPION, challenger.card.version, expect=standing, reason=verdict.reason, now=now)


def _move_challenger(job: Job, version: int, now: datetime) -> None:
    standing = job.registry.aliases(job.spec.name).challenger
    try:
        job.registry.promote(job.spec.name, CHALLENGER, version, expect=standing, reason="published", now=now)
    except AliasConflict as error:
        # The alias only says which version came last; the gate compares versions, not aliases.
        logger.warning("version %d of %s is not the newest challenger: %s", version, job.spec.name, error)


@local_task("publish")
def publish(job: Job, draft: Model, bounds: Bounds) -> Model:
    """Publish at this moment."""
    return publish_version(job, draft, bounds, datetime.now(UTC))


@local_task("apply verdict")
def apply_verdict(job: Job, challenger: Model, champion: Model | None, verdict: Verdict) -> None:
    """Promote, or not, at this moment."""
    move_champion(job, challenger, champion, verdict, datetime.now(UTC))
