"""Track: one W&B run per training, with its data, search, curves and files. The only file that imports wandb.

Offline without a key, and never in the way: whatever W&B fails at is a warning, for the model is published already.
"""

import logging
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from perennial.arrays import Floats
from perennial.model import to_files
from perennial.spec import Task
from tasks.data.datasets import SHORT
from tasks.job import Job
from tasks.promotion.challenger import Challenger
from tasks.promotion.gate import Verdict
from tasks.task_defaults import local_task
from tasks.training.evaluate import Evaluation
from tasks.training.tune import Tuned

if TYPE_CHECKING:
    import wandb

POINTS = 50
"""Points of a curve: enough to see its shape, few enough to draw at once."""

_DIRECTORIES = ("WANDB_DIR", "WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR")
"""W&B spreads over the home directory unless each of these is set: staged artifacts live outside the run's own."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Curve:
    """Points of a line chart."""

    title: str
    x: str
    y: str
    points: tuple[tuple[float, float], ...]


def track_training(job: Job, challenger: Challenger, verdict: Verdict) -> None:
    """Send a training to W&B; raises whatever W&B raises."""
    import wandb

    _keep_below(job.settings.home.absolute() / "wandb")
    card = challenger.model.card
    run = wandb.init(
        project=job.settings.wandb_project,
        dir=os.environ["WANDB_DIR"],
        id=card.wandb_run,
        name=f"{card.name} v{card.version}",
        group=card.name,
        job_type=card.cause.kind,
        tags=[job.settings.environment, card.task],
        config=_config(challenger),
        settings=_settings(job),
    )
    try:
        _log(run, challenger, verdict)
    finally:
        run.finish()


@local_task("track")
def track(job: Job, challenger: Challenger, verdict: Verdict) -> bool:
    """Send a training to W&B, or warn; returns whether it was sent."""
    try:
        track_training(job, challenger, verdict)
    except Exception as error:  # noqa: BLE001 - tracking must never undo a training
        logger.warning("W&B did not take the training of %s version %d: %s", job.spec.name, challenger.model.card.version, error)
        return False
    return True


def curves(task_: Task, evaluation: Evaluation) -> tuple[Curve, ...]:
    """The plots that suit the task: ROC, precision-recall and calibration, or residuals."""
    calibration = tuple((row.predicted, row.observed) for row in evaluation.calibration)
    match task_:
        case "binary":
            return (*_ranking_curves(evaluation), Curve("Calibration", "predicted", "observed", calibration))
        case "multiclass":
            return (Curve("Calibration", "confidence", "accuracy", calibration),)
        case "regression":
            residuals = tuple((predicted, observed - predicted) for predicted, observed in calibration)
            return (
                Curve("Calibration", "predicted", "observed", calibration),
                Curve("Residuals", "predicted", "mean residual", residuals),
            )


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


def _keep_below(home: Path) -> None:
    """Keep W&B's files below `home`, unless the person says where."""
    for variable in _DIRECTORIES:
        directory = Path(
            os.environ.setdefault(variable, str(home / variable.removeprefix("WANDB_").removesuffix("_DIR").lower()))
        )
        directory.mkdir(parents=True, exist_ok=True)


def _settings(job: Job) -> "wandb.Settings":
    import wandb

    mode = job.environ.get("WANDB_MODE") or ("online" if job.settings.wandb_api_key else "offline")
    return wandb.Settings(
        mode=mode,
        init_timeout=job.settings.wandb_init_timeout.total_seconds(),
        silent=True,
        console="off",
        disable_git=True,
        disable_code=True,
        x_disable_stats=True,
        x_disable_meta=True,
        x_save_requirements=False,
    )


def _config(challenger: Challenger) -> dict[str, Any]:
    card = challenger.model.card
    return {
        **card.model_dump(
            mode="json", include={"version", "task", "params", "rounds", "data", "git_commit", "parent", "cause", "bounds"}
        ),
        "spec": card.spec.model_dump(mode="json"),
        "dataset": challenger.dataset.manifest.model_dump(mode="json", include={"fingerprint", "rows", "origin"}),
    }


def _log(run: "wandb.Run", challenger: Challenger, verdict: Verdict) -> None:
    card, fitted = challenger.model.card, challenger.fitted
    metric = card.spec.objective_metric
    for number in _thinned(len(fitted.curve), 2 * POINTS):
        run.log({f"learning/{metric}": fitted.curve[number]}, step=number + 1)
    importance = challenger.model.profile.importance
    tables = {
        "importance": _table(("feature", "share"), sorted(importance.items(), key=lambda item: -item[1])),
        "slices": _table(("column", "value", "rows", metric), [_slice_row(one, metric) for one in card.slices]),
    }
    if challenger.tuned.trials:
        tables["trials"] = _trials(challenger.tuned)
    run.log({**tables, **{f"plots/{curve.title}": _chart(curve) for curve in curves(card.task, challenger.evaluation)}})
    run.summary.update({f"test/{name}": value for name, value in challenger.evaluation.metrics.values.items()})
    run.summary.update({"version": card.version, **{f"gate/{key}": value for key, value in _verdict(verdict).items()}})
    _keep_artifacts(run, challenger, verdict)


def _thinned(count: int, most: int) -> list[int]:
    """At most so many places of a list, evenly spread, with the first and the last."""
    return sorted({int(place) for place in np.linspace(0, count - 1, min(count, most))}) if count else []


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> "wandb.Table":
    import wandb

    return wandb.Table(columns=list(columns), data=[list(row) for row in rows])


def _chart(curve: Curve) -> Any:
    import wandb

    return wandb.plot.line(_table((curve.x, curve.y), curve.points), curve.x, curve.y, title=curve.title)


def _trials(tuned: Tuned) -> "wandb.Table":
    names = tuple(tuned.params)
    rows = [
        (trial.number, trial.loss, float(np.mean(trial.rounds)), *(trial.params[name] for name in names))
        for trial in tuned.trials
    ]
    return _table(("trial", "loss", "rounds", *names), rows)


def _slice_row(one: Any, metric: str) -> tuple[str, str, int, float | None]:
    return one.column, one.value, one.metrics.rows, one.metrics.values.get(metric)


def _verdict(verdict: Verdict) -> dict[str, Any]:
    return verdict.model_dump(mode="json", exclude_none=True)


def _keep_artifacts(run: "wandb.Run", challenger: Challenger, verdict: Verdict) -> None:
    """The version's files, and the dataset by reference: a mirror of the registry under the same aliases."""
    import wandb

    card = challenger.model.card
    aliases = [f"v{card.version}", "challenger", *(["champion"] if verdict.decision == "promote" else [])]
    model = wandb.Artifact(card.name, type="model", metadata={"version": card.version})
    with tempfile.TemporaryDirectory() as folder:
        for name, content in to_files(challenger.model).items():
            (Path(folder) / name).write_bytes(content)
        model.add_dir(folder)
        run.log_artifact(model, aliases=aliases)
    fingerprint = challenger.dataset.manifest.fingerprint
    data = wandb.Artifact(f"{card.name}-data", type="dataset", metadata={"fingerprint": fingerprint})
    data.add_reference((challenger.dataset.path / "data.parquet").as_uri(), checksum=False)
    data.add_file(str(challenger.dataset.path / "manifest.json"))
    run.log_artifact(data, aliases=[fingerprint[:SHORT], *aliases])
