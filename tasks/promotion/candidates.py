"""Candidates: which published version may replace the champion, and which one can judge it.

Versions since the champion that keep the spec's contract, without those that were rolled back. A challenger that has not learnt
the judged rows is at hand where challengers shadow the champion; else the challenger's recipe is fitted without those rows.
"""

from monitoring.policy import RetrainRequest
from monitoring.settling import trained_for
from perennial.input_contract import InputContract
from perennial.model import Model
from perennial.model_card import ModelCard
from perennial.model_loading import load_card, load_model
from perennial.registry import REJECTED
from tasks.job import Job
from tasks.promotion.challenger import fit_judge
from tasks.promotion.comparison import Judged, judged_recipe, judged_version
from tasks.promotion.gate import Verdict, gate
from tasks.promotion.labelled_rows import LabelledRows
from tasks.task_defaults import local_task
from tasks.training.fit import Fitted


@local_task("find challenger")
def find_challenger(job: Job, champion: Model, known: LabelledRows) -> Model | None:
    """The newest version since the champion, if it knows every labelled row; None where one must be trained first."""
    newest = next(iter(challengers(job, champion)), None)
    if newest is None or newest.until < known.until:
        return None
    return load_model(job.registry, job.spec.name, newest.version, job.base)


@local_task("find published")
def find_published(job: Job, request: RetrainRequest | None) -> Model | None:
    """The version that a run published for this request before it was killed; it is judged instead of being trained again."""
    version = None if request is None else trained_for(job.registry, request)
    return None if version is None else load_model(job.registry, job.spec.name, version, job.base)


def judge_challenger(
    job: Job, known: LabelledRows, champion: Model | None, model: Model, fitted: Fitted | None, *, by_person: bool
) -> Verdict:
    """The gate's verdict on a model that knows all rows; `fitted` is its recipe without the judged ones, where there is one."""
    judge = find_judge(job, known, champion) if champion is not None else None
    if judge is None:
        recipe = fitted or fit_judge(job, known, model.card)
        judge = judged_recipe(job.spec, recipe, known.split.until, known.label_texts)
    rows, classes = known.split.test, known.new_classes
    return gate(job, model, judge, champion, rows, new_classes=classes, by_person=by_person)


@local_task("find judge")
def find_judge(job: Job, known: LabelledRows, champion: Model) -> Judged | None:
    """The newest version since the champion that has learnt none of the judged rows and was not refused itself; None without."""
    name = job.spec.name
    refused = {move.version for move in job.registry.moves(name) if move.alias == REJECTED}
    usable = (one for one in challengers(job, champion) if one.until <= known.split.until and one.version not in refused)
    found = next(usable, None)
    return None if found is None else judged_version(load_model(job.registry, name, found.version, job.base))


def challengers(job: Job, champion: Model) -> tuple[ModelCard, ...]:
    """The versions since the champion that may replace it, newest first.

    Neither those that were rolled back nor their descendants, which carry the same recipe on; nor those of another contract.
    """
    name, registry, standing = job.spec.name, job.registry, champion.card.version
    out = set(registry.withdrawn(name))
    found = []
    for version in (one for one in registry.versions(name) if one > standing):
        card = load_card(registry, name, version)
        if card.parent in out:
            out.add(version)
        if version not in out and not InputContract.of(card.spec, card.features.kinds).changes(job.spec):
            found.append(card)
    return tuple(reversed(found))
