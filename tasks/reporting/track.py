"""Track: one W&B run per training, with its data, search, curves and files. The only file that imports wandb.

A training's run, and a verdict's, also has what each earlier promotion promised and what came true of it by then.
Offline without a key, and never in the way: whatever W&B fails at is a warning, for the model is published already.
"""

import json
import logging
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from monitoring.history import promises
from monitoring.state import load_results
from perennial.arrays import Floats
from perennial.model import Model, to_files
from perennial.model_card import ModelCard
from perennial.spec import Task
from tasks.data.datasets import SHORT, part_file
from tasks.job import Job
from tasks.promotion.challenger import Challenger
from tasks.promotion.gate import Verdict
from tasks.task_defaults import local_task
from tasks.training.evaluate import Evaluation
from tasks.training.tune import Tuned

if TYPE_CHECKING:
    import wandb

Table = tuple[Sequence[str], Sequence[Sequence[Any]]]  # its columns and its rows

POINTS = 50  # of a curve: enough to see its shape, few enough to draw at once

_DIRECTORIES = {"WANDB_DIR": "dir", "WANDB_DATA_DIR": "data", "WANDB_CACHE_DIR": "cache", "WANDB_CONFIG_DIR": "config"}
"""Where W&B keeps files, below its own directory; unset, each of these would spread over the person's home directory."""

_MANIFEST_KEYS = {"fingerprint", "rows", "origin"}
_CARD_KEYS = {"version", "task", "params", "rounds", "rounds_chosen", "data", "git_commit", "parent", "cause", "bounds"}

_QUIET: dict[str, Any] = {
    "silent": True,
    "console": "off",
    **dict.fromkeys(("disable_git", "disable_code", "x_disable_stats", "x_disable_meta"), True),
    "x_save_requirements": False,
}
"""Settings of a run that prints nothing and looks at neither the machine, nor its packages, nor the code."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Curve:
    """Points of a line chart."""

    title: str
    x: str
    y: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class RunAbout:
    """What a W&B run is called and is about."""

    id: str
    name: str
    job_type: str
    config: Mapping[str, Any]


@local_task("track")
def track(job: Job, challenger: Challenger, verdict: Verdict | None) -> bool:
    """Send a training to W&B, with the verdict on it if there is one, or warn; returns whether it was sent."""

    def send(run: "wandb.Run") -> None:
        _log(run, challenger)
        if verdict is not None:
            run.summary.update(_gate_summary(verdict))
        _log_promises(run, job)
        _log_artifacts(run, challenger, promoted=verdict is not None and verdict.decision == "promote")

    card, manifest = challenger.model.card, challenger.dataset.manifest.model_dump(mode="json", include=_MANIFEST_KEYS)
    return _in_run(job, _about(card, str(card.wandb_run), card.cause.kind, dataset=manifest), send)


@local_task("track verdict")
def track_verdict(job: Job, model: Model, verdict: Verdict) -> bool:
    """Send what the gate decided about a version that was trained earlier to W&B as a run of its own, or warn."""

    def send(run: "wandb.Run") -> None:
        run.summary.update(_gate_summary(verdict))
        _log_promises(run, job)

    return _in_run(job, _about(model.card, f"{model.card.wandb_run}-gate-{job.now:%Y%m%dT%H%M%S}", "gate"), send)


def track_tables(job: Job, job_type: str, summary: Mapping[str, Any], tables: Mapping[str, Table]) -> bool:
    """Send figures and tables that are about no version to W&B as a run of their own, or warn."""

    def send(run: "wandb.Run") -> None:
        run.log({name: _table(*table) for name, table in tables.items()})
        run.summary.update(dict(summary))

    name, config = job.spec.name, {"spec": job.spec.model_dump(mode="json")}
    return _in_run(job, RunAbout(f"{name}-{job_type}-{job.now:%Y%m%dT%H%M%S}", f"{name} {job_type}", job_type, config), send)


def _about(card: ModelCard, id_: str, job_type: str, **more: Any) -> RunAbout:
    config = {**card.model_dump(mode="json", include=_CARD_KEYS), "spec": card.spec.model_dump(mode="json"), **more}
    return RunAbout(id_, f"{card.name} v{card.version}", job_type, config)


def _in_run(job: Job, about: RunAbout, send: Callable[["wandb.Run"], None]) -> bool:
    try:
        run = _start(job, about)
        try:
            send(run)
        finally:
            run.finish()
    except Exception as error:  # noqa: BLE001 - tracking must never undo a training
        logger.warning("W&B did not take the %s run %s: %s", about.job_type, about.name, error)
        return False
    return True


def _gate_summary(verdict: Verdict) -> dict[str, Any]:
    return {f"gate/{key}": value for key, value in verdict.model_dump(mode="json", exclude_none=True).items()}


def curves(task_: Task, evaluation: Evaluation) -> tuple[Curve, ...]:
    """The plots that suit the task: ROC, precision-recall and calibration, or residuals."""
    calibration = tuple((row.predicted, row.observed) for row in evaluation.calibration)
    if task_ == "multiclass":
        return (Curve("Calibration", "confidence", "accuracy", calibration),)
    calibrated = Curve("Calibration", "predicted", "observed", calibration)
    if task_ == "binary":
        return (*_ranking_curves(evaluation), calibrated)
    residuals = tuple((predicted, observed - predicted) for predicted, observed in calibration)
    return (calibrated, Curve("Residuals", "predicted", "mean residual", residuals))


def _ranking_curves(evaluation: Evaluation) -> tuple[Curve, ...]:
    """ROC and precision-recall over the thresholds; none with a single class."""
    from sklearn.metrics import precision_recall_curve, roc_curve

    labels, predictions = evaluation.labels, evaluation.predictions
    if np.unique(labels).size < 2:
        return ()
    false_positives, true_positives, _ = roc_curve(labels, predictions)
    precision, recall, _ = precision_recall_curve(labels, predictions)
    return (
        Curve("ROC", "false positive rate", "true positive rate", _points(false_positives, true_positives)),
        Curve("Precision-recall", "recall", "precision", _points(recall, precision)),
    )


def _points(x: Floats, y: Floats) -> tuple[tuple[float, float], ...]:
    return tuple((float(x[place]), float(y[place])) for place in _thinned(len(x), POINTS))


def _thinned(count: int, most: int) -> list[int]:
    """At most so many places of a list, evenly spread, with the first and the last."""
    return sorted({int(place) for place in np.linspace(0, count - 1, min(count, most))}) if count else []


def _start(job: Job, about: RunAbout) -> "wandb.Run":
    """A run whose files stay below the home directory, unless the person says where; offline without a key."""
    import wandb

    os.environ.setdefault("WANDB_SILENT", "true")  # artifacts print before a run's own settings hold
    for variable, name in _DIRECTORIES.items():
        directory = os.environ.setdefault(variable, str(job.settings.home.absolute() / "wandb" / name))
        Path(directory).mkdir(parents=True, exist_ok=True)
    return wandb.init(
        project=job.settings.wandb_project,
        dir=os.environ["WANDB_DIR"],
        id=about.id,
        name=about.name,
        group=job.spec.name,
        job_type=about.job_type,
        tags=[job.settings.environment, job.spec.task],
        config=dict(about.config),
        settings=wandb.Settings(
            mode=job.environ.get("WANDB_MODE") or ("online" if job.settings.wandb_api_key else "offline"),
            init_timeout=job.settings.wandb_init_timeout.total_seconds(),
            **_QUIET,
        ),
    )


def _log(run: "wandb.Run", challenger: Challenger) -> None:
    import wandb

    card, curve = challenger.model.card, challenger.judge.curve
    metric, importance = card.spec.objective_metric, challenger.model.profile.importance
    for number in _thinned(len(curve), 2 * POINTS):
        run.log({f"learning/{metric}": curve[number]}, step=number + 1)
    slices = [(one.column, one.value, one.metrics.rows, one.metrics.values.get(metric)) for one in card.slices]
    charts = {one.title: (_table((one.x, one.y), one.points), one.x, one.y) for one in curves(card.task, challenger.evaluation)}
    run.log(
        {
            "importance": _table(("feature", "share"), sorted(importance.items(), key=lambda item: -item[1])),
            "slices": _table(("column", "value", "rows", metric), slices),
            **({"trials": _trials(challenger.tuned)} if challenger.tuned.trials else {}),
            **({"learners": _learners(challenger.tuned)} if challenger.tuned.compared else {}),
            **{f"plots/{title}": wandb.plot.line(*data, title=title) for title, data in charts.items()},
        }
    )
    test = {f"test/{name}": value for name, value in challenger.evaluation.metrics.values.items()}
    learners = {f"learner/{name}": value for name, value in card.learner_scores.items()}
    run.summary.update({**test, **learners, "version": card.version})


def _log_promises(run: "wandb.Run", job: Job) -> None:
    """What each promotion so far promised and what came true of it; the newest one that is known is in the summary too."""
    found = promises(job.registry.history(job.spec.name), load_results(job.home))
    run.log({"promises": _table(("version", "promised", "turned out"), [(p.version, p.promised, p.turned_out) for p in found])})
    if known := [one for one in found if one.turned_out is not None]:
        run.summary.update({f"truth/{key}": value for key, value in known[-1].model_dump().items()})


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> "wandb.Table":
    import wandb

    return wandb.Table(columns=list(columns), data=[list(row) for row in rows])


def _trials(tuned: Tuned) -> "wandb.Table":
    names = tuple(tuned.params)
    rows = [
        (one.number, one.rows, one.loss, float(np.mean(one.rounds)), *(one.params[name] for name in names))
        for one in (*tuned.screened, *tuned.trials)
    ]
    return _table(("trial", "rows", "loss", "rounds", *names), rows)


def _learners(tuned: Tuned) -> "wandb.Table":
    """Every trial of every learner that was compared; their parameters are of different names, so they are JSON."""
    rows = [
        (one.learner, trial.number, trial.loss, float(np.mean(trial.rounds)), json.dumps(trial.params))
        for one in tuned.compared
        for trial in one.trials
    ]
    return _table(("learner", "trial", "loss", "rounds", "params"), rows)


def _log_artifacts(run: "wandb.Run", challenger: Challenger, *, promoted: bool) -> None:
    """The version's files, and the dataset by reference: a mirror of the registry under the same aliases."""
    import wandb

    card, dataset = challenger.model.card, challenger.dataset
    aliases = [f"v{card.version}", "challenger", *(["champion"] if promoted else [])]
    model = wandb.Artifact(card.name, type="model", metadata={"version": card.version})
    with tempfile.TemporaryDirectory() as folder:
        for name, content in to_files(challenger.model).items():
            (Path(folder) / name).write_bytes(content)
        model.add_dir(folder)
        run.log_artifact(model, aliases=aliases)
    fingerprint = dataset.manifest.fingerprint
    data = wandb.Artifact(f"{card.name}-data", type="dataset", metadata={"fingerprint": fingerprint})
    for part in dataset.manifest.parts:
        data.add_reference(part_file(dataset.path.parent.parent, part).as_uri(), checksum=False)
    data.add_file(str(dataset.path / "manifest.json"))
    run.log_artifact(data, aliases=[fingerprint[:SHORT], *aliases])
