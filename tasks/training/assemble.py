"""Assemble: estimator, features, reference profile and card put together as the one value that can answer."""

import subprocess
from pathlib import Path

import numpy as np

from perennial.model import REFERENCE_ROWS, Model, build_model, sample_reference
from perennial.model_card import Cause, DataRef, ModelCard
from tasks.job import Job
from tasks.task_defaults import local_task
from tasks.training.evaluate import Evaluation
from tasks.training.fit import Fitted
from tasks.training.training_data import TrainingData, reference_profile

DRAFT = 0
"""Version of a model that has none yet; the registry gives it one."""


@local_task("assemble")
def assemble(job: Job, data: TrainingData, fitted: Fitted, evaluation: Evaluation, cause: Cause, parent: Model | None) -> Model:
    """A draft: complete but for its version and bounds; the evaluation is its judge's."""
    spec = job.spec
    card = ModelCard(
        name=spec.name,
        version=DRAFT,
        task=spec.task,
        spec=spec,
        schema_=data.schema,
        features=data.compiled.features,
        classes=data.classes,
        label_texts=data.label_texts,
        params=fitted.params,
        rounds=fitted.rounds,
        rounds_chosen=fitted.recipe.chosen,
        metrics=evaluation.metrics,
        judged_since=evaluation.since,
        slices=evaluation.slices,
        data=DataRef(fingerprint=data.fingerprint, rows=len(data.table), since=data.since, until=data.until),
        trained_at=job.now,
        git_commit=git_commit(job.base),
        wandb_run=f"{spec.name}-{job.now:%Y%m%dT%H%M%S}-{data.fingerprint[:8]}",
        parent=parent.card.version if parent else None,
        cause=cause,
    )
    # Sampled before it is scored: 5,000 rows are predicted, not all.
    seed = spec.search.seed
    sample = data.frame.sample(min(REFERENCE_ROWS, data.frame.height), seed=seed)
    reference = sample_reference(sample, np.asarray(fitted.predict(sample)), data.schema, seed)
    return build_model(card, fitted.estimator, reference_profile(data, fitted.estimator), reference, job.base)


def git_commit(directory: Path) -> str | None:
    """The commit the spec's directory stands at; None outside a repository or without git."""
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=directory, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
