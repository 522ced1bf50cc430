"""Publish: a draft becomes a version in the registry, and the champion alias moves as a verdict allows."""

import logging
from dataclasses import replace
from datetime import UTC, datetime

from monitoring.policy import RetrainRequest
from perennial.errors import AliasConflict, PerennialError, TrainingError
from perennial.input_contract import read_base, refuse_other_task
from perennial.model import Model, to_files
from perennial.model_loading import load_card, load_champion, load_model
from perennial.registry import APPROVAL, CHALLENGER, CHAMPION, REJECTED, REQUEST
from perennial.signals import Bounds
from tasks.data.pruning import prune_datasets
from tasks.job import Job
from tasks.promotion.challenger import Challenger
from tasks.promotion.gate import Decision, Verdict
from tasks.task_defaults import local_task

ALIASES: dict[Decision, str] = {"promote": CHAMPION, "hold": APPROVAL, "reject": REJECTED}
"""The alias that each decision moves to the version."""

logger = logging.getLogger(__name__)


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


def publish_challenger(job: Job, challenger: Challenger) -> Challenger:
    """The challenger as the next version; called once nothing of its training can fail any more."""
    published = replace(challenger, model=publish(job, challenger.model, challenger.calibration.bounds))
    prune(job)
    return published


@local_task("prune datasets")
def prune(job: Job) -> None:
    """Delete the datasets that are neither among the newest nor those of a version that serves, waits or may come back."""
    base = read_base(job.home)
    try:
        cards = [load_card(job.registry, job.spec.name, version) for version in standing_versions(job)]
        needed = {card.data.fingerprint for card in cards} | ({base.fingerprint} if base else set())
        if deleted := prune_datasets(job.home, job.settings.keep_datasets, needed):
            logger.info("%d old datasets of %s deleted, the newest %d kept", deleted, job.spec.name, job.settings.keep_datasets)
    except (PerennialError, OSError) as error:
        logger.warning("old datasets of %s are not deleted: %s", job.spec.name, error)  # the version is published all the same


def standing_versions(job: Job) -> set[int]:
    """Champion, its predecessor, the newest challenger, and the version that waits for approval."""
    positions, move = job.registry.aliases(job.spec.name).positions, job.registry.last_move(job.spec.name, CHAMPION)
    predecessor = [move.previous] if move is not None and move.previous is not None else []
    return {*(positions[alias] for alias in (CHAMPION, CHALLENGER, APPROVAL) if alias in positions), *predecessor}


@local_task("publish")
def publish(job: Job, draft: Model, bounds: Bounds) -> Model:
    """Write the draft as the next version, name it challenger, and return it as read back, with the draft's scores."""
    complete, name = replace(draft, card=draft.card.model_copy(update={"bounds": bounds})), job.spec.name
    version = job.registry.publish(name, lambda number: to_files(complete.with_version(number)))
    standing = job.registry.aliases(name).challenger
    try:
        job.registry.promote(name, CHALLENGER, version, expect=standing, reason="published", now=datetime.now(UTC))
    except AliasConflict as error:
        # The alias only says which version came last; promotion and gate compare versions, not aliases.
        logger.warning("version %d of %s is not the newest challenger: %s", version, name, error)
    return load_model(job.registry, name, version, job.base)


@local_task("apply verdict")
def apply_verdict(
    job: Job, challenger: Model, champion: Model | None, verdict: Verdict, request: RetrainRequest | None = None
) -> None:
    """Make the version champion, let it wait for a person, or write down its refusal; evidence and reason are in the move.

    The move also names the event that it answers, so that nobody answers it again. Raises AliasConflict when another promoter
    moved the alias meanwhile, VersionWithdrawn for one that was rolled back, StaleToken for a run that was taken for dead.
    """
    name, alias = job.spec.name, ALIASES[verdict.decision]
    expect = job.registry.aliases(name).positions.get(alias)
    if alias == CHAMPION:
        expect = champion.card.version if champion else None
    version, now = challenger.card.version, datetime.now(UTC)
    evidence = {**verdict.evidence, **({REQUEST: request.event_id} if request else {})}
    job.registry.promote(name, alias, version, expect=expect, reason=verdict.reason, now=now, evidence=evidence)
