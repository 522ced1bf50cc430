"""The learner of a training: the spec's, or where it says `learner = "auto"` the best of all learners by a comparison.

The comparison is a search too, and `search.trials` is its budget in whole. Half of it is shared out among the learners, each with
one trial at least; they see the same rows and folds. The learner with the best trial is then searched on with what is left,
beginning at that trial. One that cannot learn the rows is left out with its reason. Retrainings keep the champion's learner.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

from prefect import get_run_logger

from perennial.errors import TrainingError
from perennial.learners.declarations import AUTO, LEARNERS
from perennial.model import Model
from tasks.job import Job
from tasks.training.training_data import TrainingData
from tasks.training.tune import ComparedLearner, Trial, Tuned, tune

Search = Callable[..., Tuned]
"""`tune`, or its function."""


def with_learner(job: Job, learner: str) -> Job:
    """The job with this learner in its spec."""
    return replace(job, spec=job.spec.model_copy(update={"learner": learner}))


def keep_learner(job: Job, champion: Model) -> Job:
    """The job of a retraining: where the spec leaves the learner open it is the champion's."""
    return with_learner(job, champion.card.learner) if job.spec.learner == AUTO else job


def choose_learner(job: Job, data: TrainingData) -> tuple[Job, Tuned]:
    """The job with the learner to train, and the search for its parameters."""
    if job.spec.learner != AUTO:
        return job, tune(job, data, job.spec.search.trials)
    chosen, tuned = compare_learners(job, data)
    get_run_logger().info("learner %s is trained; %s", chosen.spec.learner, "; ".join(map(str, tuned.compared)))
    return chosen, tuned


def compare_learners(job: Job, data: TrainingData, search: Search | None = None) -> tuple[Job, Tuned]:
    """The job with the learner of the best trial, and every trial; raises TrainingError where no learner can learn the rows.

    Each search is a task of the flow run that calls this; outside of one give `tune.fn`.
    """
    search = search or tune
    compared, budget = tuple(LEARNERS), job.spec.search.trials
    share = max(1, budget // (2 * len(compared)))
    found = {name: _try_learner(search, with_learner(job, name), data, share) for name in compared}
    searches = {name: one for name, one in found.items() if isinstance(one, Tuned)}
    if not searches:
        raise TrainingError(f"no learner can learn these rows: {'; '.join(f'{name}: {why}' for name, why in found.items())}")
    best = min(searches, key=lambda name: min(trial.loss for trial in searches[name].trials))
    chosen, left = with_learner(job, best), budget - share * len(compared)
    if left > 0:
        searches[best] = _search_on(search, chosen, data, left, searches[best])
    reasons = {name: str(one) for name, one in found.items() if isinstance(one, TrainingError)}
    return chosen, searches[best].model_copy(update={"compared": _record(job, searches, reasons)})


def _try_learner(search: Search, job: Job, data: TrainingData, trials: int) -> Tuned | TrainingError:
    try:
        return search(job, data, trials)
    except TrainingError as error:
        return error


def _search_on(search: Search, job: Job, data: TrainingData, trials: int, begun: Tuned) -> Tuned:
    """The search continued: it begins at the best point so far, and its random points are others than before."""
    other = job.spec.search.model_copy(update={"seed": job.spec.search.seed + 1})
    more = search(replace(job, spec=job.spec.model_copy(update={"search": other})), data, trials, begun.params)
    every = [*begun.trials, *more.trials]
    best = min(every, key=lambda trial: trial.loss)
    numbered = tuple(trial.model_copy(update={"number": number}) for number, trial in enumerate(every))
    screened = begun.screened + more.screened
    return begun.model_copy(update={"params": best.params, "loss": best.loss, "trials": numbered, "screened": screened})


def _record(job: Job, searches: Mapping[str, Tuned], reasons: Mapping[str, str]) -> tuple[ComparedLearner, ...]:
    """Every learner in the order of its best trial; those that failed come last."""
    metric = job.spec.objective_metric
    ranked = sorted(searches, key=lambda name: min(trial.loss for trial in searches[name].trials))
    tried: list[tuple[str, tuple[Trial, ...], str | None]] = [(name, searches[name].trials, None) for name in ranked]
    failed: list[tuple[str, tuple[Trial, ...], str | None]] = [(name, (), why) for name, why in reasons.items()]
    return tuple(
        ComparedLearner(learner=name, metric=metric, trials=trials, failure=why) for name, trials, why in (*tried, *failed)
    )
