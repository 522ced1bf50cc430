"""The data mode: which rows a retraining learns, where the spec says `retrain.data = "auto"`.

All rows, trailing windows, or all weighted by recency: none is best everywhere, and none is known to be beforehand. So each
training fits the champion's recipe to the rows before the newest in each mode, and its card keeps what each mode lost on these.
The mode that has lost least in the newest trainings is used; a change takes a lead of one standard error. Costs three more fits.
"""

import math
import statistics
from collections.abc import Sequence
from contextlib import suppress

from monitoring.measurement import loss_metric
from perennial.errors import TrainingError
from perennial.model import Model
from perennial.model_loading import load_card
from tasks.data.retraining_data import MODES, in_mode, select_rows
from tasks.job import Job
from tasks.promotion.labelled_rows import LabelledRows
from tasks.task_defaults import local_task
from tasks.training.evaluate import evaluate
from tasks.training.fit import Recipe, refit
from tasks.training.training_data import build_training_data

ModeLosses = dict[str, float]  # by mode: the loss of its judge on the newest rows of one training

RECENT = 8
"""Newest trainings that count."""


def settle_data_mode(job: Job, known: LabelledRows, champion: Model) -> tuple[Job, ModeLosses]:
    """The job in the mode to train in, and what each mode lost this time; nothing is compared where the spec names a mode."""
    if job.spec.retrain.data != "auto":
        return job, {}
    name, registry = job.spec.name, job.registry
    cards = [load_card(registry, name, version) for version in reversed(registry.versions(name)[-RECENT:])]
    compared = [card for card in cards if card.mode_losses]
    losses = compare_modes(job, known, champion)
    current = compared[0].spec.retrain.data if compared else MODES[0]
    mode = choose_mode([losses, *(card.mode_losses for card in compared)], current)
    return in_mode(job, mode), losses


@local_task("compare data modes")
def compare_modes(job: Job, known: LabelledRows, champion: Model) -> ModeLosses:
    """What the champion's recipe loses on the newest rows when it is fitted to the others in each mode; a mode may fail."""
    recipe, losses = Recipe(champion.card.params, champion.card.rounds), ModeLosses()
    for mode in MODES if champion.card.learner == job.spec.learner else ():
        one = in_mode(job, mode)
        rows = select_rows.fn(one, known.split.train, known.new_classes)
        with suppress(TrainingError):
            data = build_training_data.fn(one, rows.rows, known.dataset.manifest, rows.weights, known.label_texts)
            losses[mode] = evaluate.fn(one, refit.fn(one, data, recipe), known.split.test).metrics.values[loss_metric(job.spec)]
    return losses


def choose_mode(records: Sequence[ModeLosses], current: str) -> str:
    """The mode that lost least in the newest trainings, newest first; the current one unless the lead is more than its error."""
    whole = [record for record in records[:RECENT] if all(record.get(mode, 0) > 0 for mode in MODES)]
    if len(whole) < 2:
        return current
    excess = {mode: [record[mode] / record[current] - 1 for record in whole] for mode in MODES}
    best = min(MODES, key=lambda mode: statistics.fmean(excess[mode]))
    error = statistics.stdev(excess[best]) / math.sqrt(len(whole))
    return best if statistics.fmean(excess[best]) < -error else current
