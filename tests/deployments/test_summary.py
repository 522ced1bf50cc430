"""The tables at the end of commands, of each task."""

from pathlib import Path

import pytest

from deployments.summary import training_rows
from perennial.metrics import Metrics
from perennial.schema import Column
from perennial.settings import Settings
from perennial.spec import Task
from tasks.data.validate import Checks, Problem
from tasks.promotion.gate import Verdict
from tasks.reporting.training_report import TrainingReport, report_file
from tests.support.models import small_model, write_small

RATES: dict[Task, tuple[dict[str, float], str]] = {
    "binary": ({"false": 0.75, "true": 0.25}, "outcome: true in 25.00%"),
    "multiclass": (
        {f"c{number}": 0.1 for number in range(10)},
        "outcome: " + ", ".join(f"c{number} 10.00%" for number in range(8)) + ", and 2 more classes",
    ),
    "regression": ({"mean": 3.0, "deviation": 1.5}, "outcome: mean 3, deviation 1.5"),
}


def write_report(home: Path, task: Task, values: dict[str, float] | None = None, baseline: float = 0.75) -> None:
    problem = Problem(column="amount", what="is not a number", rows=2, examples=("'x'",))
    file = report_file(home, 3)
    file.parent.mkdir(parents=True)
    columns = tuple(Column(name=f"x{number}", kind="numeric", dtype="float") for number in range(10))
    card, metrics = small_model(task, version=3).card, Metrics(rows=193, values=values or {"loss": 0.5, "only_ours": 0.25})
    schema = card.schema_.model_copy(update={"columns": columns})
    report = TrainingReport(
        card=card.model_copy(update={"schema_": schema, "metrics": metrics, "learner_scores": {"linear": 0.3, "lightgbm": 0.4}}),
        checks=Checks(rows=1_000, bad_rows=2, unlabelled=5, problems=(problem,), quarantine="bad.parquet"),
        base_rate=RATES[task][0],
        baseline=dict.fromkeys(values or ["loss"], baseline),
        verdict=Verdict(decision="hold", reason="only 3 labelled rows", metric="loss"),
        warning="the monitor will never alarm on drift",
    )
    file.write_text(report.model_dump_json())


def card_metric(task: Task) -> str:
    return "rmse" if task == "regression" else "log_loss"


@pytest.mark.parametrize("task", list(RATES))
def test_a_training_is_told_row_by_row(task: Task, tmp_path: Path) -> None:
    settings, spec = Settings(home=tmp_path / "var"), write_small(tmp_path, task)
    write_report(settings.model_home("small"), task)
    rows = training_rows(3, spec, settings)
    assert rows["base rate"] == RATES[task][1]
    assert rows["rows"] == "1,000 read, 2 quarantined, 5 without a label"
    assert rows["quarantined"] == "amount: is not a number in 2 rows, such as 'x'\nlisted in bad.parquet"
    assert rows["kinds"] == "10 numeric: x0, x1, x2, x3, x4, x5, x6, x7 and 2 more"
    assert (
        rows["test"]
        == "193 newest rows, by the same recipe fitted without them\nloss 0.5 (always the mean: 0.75)\nonly_ours 0.25"
    )
    assert rows["learners"] == f"{card_metric(task)} over the folds: linear 0.3, lightgbm 0.4"
    assert rows["gate"] == "held: only 3 labelled rows"
    assert rows["warning"] == "the monitor will never alarm on drift"
    assert rows["serves"] == "nothing: no version has passed the gate"
    assert rows["next"] == f"mend in {spec} what the gate names, then perennial train {spec}"


@pytest.mark.parametrize(("task", "ours", "warned"), [("binary", 0.8, True), ("binary", 0.7, False), ("regression", 0.75, True)])
def test_a_model_that_is_no_better_than_the_mean_is_warned_of(tmp_path: Path, task: Task, ours: float, warned: bool) -> None:
    settings, spec = Settings(home=tmp_path / "var"), write_small(tmp_path, task)
    write_report(settings.model_home("small"), task, {card_metric(task): ours})
    first, *rest = training_rows(3, spec, settings)["warning"].splitlines()
    assert first.startswith(f"by {card_metric(task)} it is no better than always the mean") == warned
    assert (rest if warned else [first]) == ["the monitor will never alarm on drift"]
