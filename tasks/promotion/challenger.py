"""What the flows `train` and `retrain` have in common: from chosen parameters to a published challenger.

Called inside a flow run; each step is a task of its own there. A module of its own, because flow files define flows only.
"""

from dataclasses import dataclass

import polars as pl

from monitoring.calibration import Calibration
from perennial.model import Model
from perennial.model_card import Cause
from tasks.data.datasets import Dataset
from tasks.job import Job
from tasks.promotion.publish import publish
from tasks.training.assemble import assemble
from tasks.training.calibrate import calibrate
from tasks.training.evaluate import Evaluation, evaluate
from tasks.training.fit import Fitted, fit
from tasks.training.training_data import TrainingData
from tasks.training.tune import Tuned


@dataclass(frozen=True)
class Challenger:
    """A published version, and what is known of its training for those who judge and report it."""

    model: Model
    dataset: Dataset
    tuned: Tuned
    fitted: Fitted
    evaluation: Evaluation
    calibration: Calibration

    @property
    def version(self) -> int:
        """Its number in the registry."""
        return self.model.card.version


def train_challenger(
    job: Job, dataset: Dataset, data: TrainingData, tuned: Tuned, test: pl.DataFrame, cause: Cause, champion: Model | None
) -> Challenger:
    """Fit, evaluate, calibrate and publish; the champion is only named as the parent."""
    fitted = fit(job, data, tuned.params)
    evaluation = evaluate(job, fitted, test)
    draft = assemble(job, data, fitted, evaluation, cause, champion)
    calibration = calibrate(job, draft, data, fitted)
    model = publish(job, draft, calibration.bounds)
    return Challenger(model, dataset, tuned, fitted, evaluation, calibration)
