"""Challengers: trained on every labelled row there is, and measured by a judge.

A model cannot be measured on rows that it has learnt, and one that leaves the newest rows out is worth less. So each training
fits its recipe twice: a judge, to all but the newest rows, which gives the metrics on those and the number of rounds, and the
model itself, to all rows. What is published is the model; the metrics on its card are the judge's. The judge costs one fit.
"""

from dataclasses import dataclass, replace

from monitoring.calibration import Calibration
from perennial.model import Model
from perennial.model_card import Cause, ModelCard
from tasks.data.datasets import Dataset
from tasks.data.retraining_data import learning
from tasks.job import Job
from tasks.promotion.data_mode import settle_data_mode
from tasks.promotion.labelled_rows import LabelledRows, selected_data
from tasks.training.assemble import assemble
from tasks.training.calibrate import calibrate
from tasks.training.evaluate import Evaluation, evaluate
from tasks.training.fit import Fitted, Recipe, fit, refit, rounds_so_far
from tasks.training.learner_choice import keep_learner, with_learner
from tasks.training.training_data import TrainingData
from tasks.training.tune import Tuned, keep_or_tune


@dataclass(frozen=True)
class Challenger:
    """A trained model, a draft until it is published, its judge, and what is known of the training for those who report it.

    The judge has learnt the `older` rows, the model the whole `data`.
    """

    model: Model
    judge: Fitted
    older: TrainingData
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


def train_challenger(job: Job, known: LabelledRows, cause: Cause, champion: Model) -> Challenger:
    """A draft by the champion's parameters, or by a new search where the spec asks for one."""
    job, losses = settle_data_mode(keep_learner(job, champion), known, champion)
    older = selected_data(job, known, known.split.train)
    tuned = keep_or_tune(job, older, champion)
    draft = fit_challenger(job, known, older, selected_data(job, known, known.rows), tuned, cause, champion)
    card = draft.model.card.model_copy(update={"mode_losses": losses})
    return replace(draft, model=replace(draft.model, card=card))


def fit_challenger(
    job: Job, known: LabelledRows, older: TrainingData, whole: TrainingData, tuned: Tuned, cause: Cause, champion: Model | None
) -> Challenger:
    """Fit and measure the judge, fit the model to all rows, calibrate; each is a task of the flow run that calls this."""
    judge = fit(job, older, tuned.params, rounds_so_far(job, tuned.params, champion.card if champion else None))
    evaluation = evaluate(job, judge, known.split.test)
    fitted = refit(job, whole, judge.recipe)
    draft = assemble(job, whole, fitted, evaluation, cause, champion)
    calibration = calibrate(job, draft, whole, fitted, champion)
    found = {"recalibration": calibration.recalibration, "learner_scores": tuned.learner_scores}
    draft = replace(draft, card=draft.card.model_copy(update=found))
    return Challenger(draft, judge, older, known.dataset, whole, tuned, fitted, evaluation, calibration)


def fit_judge(job: Job, known: LabelledRows, card: ModelCard) -> Fitted:
    """The recipe of a published version, fitted to all but the newest rows."""
    job = with_learner(learning(job, card.spec.retrain), card.learner)
    return refit(job, selected_data(job, known, known.split.train), Recipe(card.params, card.rounds, card.rounds_chosen))
