"""The gate: strictly better on rows that neither model was trained on, or no promotion."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from perennial.errors import AliasConflict
from perennial.model import Model
from perennial.spec import Task
from tasks.job import Job
from tasks.promotion.gate import Verdict, decide, gate, measure
from tasks.promotion.publish import apply_verdict, publish, read_champion
from tests.support.models import TASKS, small_frame, small_model, small_spec, train_small
from tests.tasks.making import later_frame, make_job

PROMOTE = Verdict(decision="promote", reason="better", metric="log_loss")


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return make_job(tmp_path)


def poor_model(task: Task) -> Model:
    """A champion that learnt the opposite of the truth."""
    return train_small(later_frame(task, 300, flipped=True).with_columns(pl.col("asked_at") - timedelta(hours=1_000)), task)


def test_the_first_model_is_promoted_unopposed(job: Job) -> None:
    assert gate.fn(job, small_model(), None, small_frame()).decision == "promote"


@pytest.mark.parametrize("task", TASKS)
def test_the_better_model_wins_whichever_side_it_is_on(tmp_path: Path, task: Task) -> None:
    job, holdout = make_job(tmp_path, task), later_frame(task, 200)
    good, poor = small_model(task), poor_model(task)
    won, lost = gate.fn(job, good, poor, holdout), gate.fn(job, poor, good, holdout)
    assert (won.decision, lost.decision) == ("promote", "reject")
    assert (won.challenger, won.champion) == (lost.champion, lost.challenger)
    assert won.rows == 200
    assert won.metric == job.spec.objective_metric
    assert "newer than both trainings" in won.reason


def test_an_equal_model_is_rejected(job: Job) -> None:
    verdict = gate.fn(job, small_model(), small_model(), later_frame("binary", 100))
    assert verdict.decision == "reject"
    assert "no better" in verdict.reason


def test_rows_either_model_was_trained_on_do_not_count(job: Job) -> None:
    holdout = pl.concat([small_frame().tail(100), later_frame("binary", 50)])
    verdict = gate.fn(job, small_model(), small_model(rows=900), holdout)
    assert verdict.rows == 50
    assert verdict.since == small_model().card.until


def test_too_few_rows_or_one_class_hold(job: Job) -> None:
    few = gate.fn(job, small_model(), poor_model("binary"), later_frame("binary", 19))
    assert (few.decision, few.rows, few.challenger) == ("hold", 19, None)
    assert "gate.min_rows asks for 20" in few.reason
    alike = gate.fn(job, small_model(), poor_model("binary"), later_frame("binary", 200).filter(pl.col("outcome") == 1))
    assert alike.decision == "hold"
    assert "have the same outcome" in alike.reason


def test_rows_without_a_label_do_not_count(job: Job) -> None:
    holdout = later_frame("binary", 60).with_columns(outcome=pl.when(pl.int_range(pl.len()) % 2 == 0).then("outcome"))
    assert gate.fn(job, small_model(), poor_model("binary"), holdout).rows == 30


@pytest.mark.parametrize(
    ("challenger", "champion", "metric", "min_gain", "decision"),
    [
        (0.49, 0.50, "log_loss", 0.0, "promote"),
        (0.50, 0.50, "log_loss", 0.0, "reject"),
        (0.51, 0.50, "log_loss", 0.0, "reject"),
        (0.51, 0.50, "auc", 0.0, "promote"),
        (0.51, 0.50, "auc", 0.05, "reject"),
        (0.0, 0.0, "rmse", 0.0, "reject"),
        (0.1, 0.0, "rmse", 0.0, "reject"),
    ],
)
def test_the_decision(challenger: float, champion: float, metric: str, min_gain: float, decision: str) -> None:
    assert decide(metric, challenger, champion, min_gain)[0] == decision


def test_a_class_the_champion_never_saw_counts_against_it() -> None:
    spec, model = small_spec("multiclass"), small_model("multiclass")
    rows = later_frame("multiclass", 100)
    with_new = rows.with_columns(outcome=pl.when(pl.int_range(pl.len()) < 10).then(pl.lit("new")).otherwise("outcome"))
    assert measure(spec, model, with_new) > measure(spec, model, rows) + 1


class TestPromotion:
    """The champion alias moves by compare-and-set, and only on the gate's word."""

    def test_a_promoted_version_serves(self, job: Job) -> None:
        model = publish.fn(job, small_model(), small_model().card.bounds)
        apply_verdict.fn(job, model, None, PROMOTE)
        champion = read_champion.fn(job)
        assert champion is not None
        assert champion.card == model.card
        assert [(move.alias, move.reason) for move in job.registry.history("small")] == [
            ("challenger", "published"),
            ("champion", "better"),
        ]

    def test_a_held_or_rejected_version_does_not(self, job: Job) -> None:
        model = publish.fn(job, small_model(), small_model().card.bounds)
        for decision in ("hold", "reject"):
            apply_verdict.fn(job, model, None, PROMOTE.model_copy(update={"decision": decision}))
        assert read_champion.fn(job) is None

    def test_of_two_promoters_one_wins_and_the_other_is_told(self, job: Job) -> None:
        first, second, third = (publish.fn(job, small_model(), small_model().card.bounds) for _ in range(3))
        apply_verdict.fn(job, first, None, PROMOTE)
        apply_verdict.fn(job, second, first, PROMOTE)
        with pytest.raises(AliasConflict, match="champion of 'small' is at version 2, not 1"):
            apply_verdict.fn(job, third, first, PROMOTE)
        assert job.registry.aliases("small").champion == 2

    def test_the_draft_keeps_no_version_of_its_own(self, job: Job) -> None:
        draft = replace(small_model(), card=small_model().card.model_copy(update={"version": 0}))
        assert [publish.fn(job, draft, draft.card.bounds).card.version for _ in range(2)] == [1, 2]
