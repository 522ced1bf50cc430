"""The gate: a challenger is refused where it is proven to be worse or breaks a guardrail, and only then."""

from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from perennial.model import Model
from perennial.spec import ModelSpec, Task
from tasks.job import Job
from tasks.promotion.comparison import compare, judged_version
from tasks.promotion.gate import Verdict, gate
from tests.support.models import TASKS, small_frame, small_model, train_small
from tests.tasks.making import later_frame, make_job, respecified


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return make_job(tmp_path)


def poor_model(task: Task = "binary") -> Model:
    """A model that learnt the opposite of the truth, from rows before the first ones."""
    return train_small(later_frame(task, 300, flipped=True).with_columns(pl.col("asked_at") - timedelta(hours=1_000)), task)


def judge(job: Job, challenger: Model, champion: Model, rows: pl.DataFrame) -> Verdict:
    """The verdict on a challenger that is its own judge, for it has not learnt these rows."""
    return gate.fn(job, challenger, judged_version(challenger), champion, rows)


def test_the_first_model_is_promoted_unopposed(job: Job) -> None:
    verdict = gate.fn(job, small_model(), judged_version(small_model()), None, small_frame())
    assert (verdict.decision, verdict.reason) == ("promote", "the first model: nothing serves yet")
    assert len(verdict.guardrails) > 1


@pytest.mark.parametrize("task", TASKS)
def test_the_better_model_wins_whichever_side_it_is_on(tmp_path: Path, task: Task) -> None:
    job, rows = make_job(tmp_path, task), later_frame(task, 200)
    good, poor = small_model(task), poor_model(task)
    won, lost = judge(job, good, poor, rows), judge(job, poor, good, rows)
    assert (won.decision, lost.decision) == ("promote", "reject")
    assert (won.challenger, won.champion) == (lost.champion, lost.challenger)
    assert won.challenger is not None
    assert won.champion is not None
    assert won.challenger < won.champion
    assert (won.probability, lost.probability) == (1.0, 0.0)
    assert won.rows == 200
    assert won.promised == pytest.approx(won.challenger / won.champion - 1)
    assert "judged by version 1; better with probability 1.00" in won.reason
    assert "less than gate.min_probability = 0.2" in lost.reason


def test_doubt_promotes(job: Job) -> None:
    verdict = judge(job, small_model(), small_model(), later_frame("binary", 100))
    assert (verdict.decision, verdict.probability) == ("promote", 0.5)


def test_rows_that_judge_or_champion_have_learnt_do_not_count(job: Job) -> None:
    rows = pl.concat([small_frame().tail(100), later_frame("binary", 50)])
    for pair in ((small_model(), small_model(rows=900)), (small_model(rows=900), small_model())):
        verdict = judge(job, *pair, rows)
        assert (verdict.rows, verdict.since) == (50, small_model().card.until)


def test_too_few_rows_or_one_class_promote_with_a_warning(job: Job) -> None:
    few = judge(job, poor_model(), small_model(), later_frame("binary", 19))
    assert (few.decision, few.rows, few.challenger, few.probability) == ("promote", 19, None, None)
    assert few.reason.startswith("warning: nothing was compared, the guardrails alone decide: only 19 labelled rows")
    assert "gate.min_rows asks for 20" in few.reason
    alike = judge(job, poor_model(), small_model(), later_frame("binary", 200).filter(pl.col("outcome") == 1))
    assert alike.decision == "promote"
    assert "have the same outcome" in alike.reason


def test_rows_without_a_label_do_not_count(job: Job) -> None:
    rows = later_frame("binary", 60).with_columns(outcome=pl.when(pl.int_range(pl.len()) % 2 == 0).then("outcome"))
    assert judge(job, small_model(), poor_model(), rows).rows == 30


def test_a_person_is_waited_for_where_the_spec_says_so_unless_a_person_asked(job: Job) -> None:
    careful = respecified(job, gate={"require_approval": True})
    rows, models = later_frame("binary", 100), (small_model(), judged_version(small_model()), poor_model())
    assert gate.fn(careful, *models, rows, by_person=False).decision == "hold"
    assert gate.fn(careful, *models, rows, by_person=True).decision == "promote"
    worse = (poor_model(), judged_version(poor_model()), small_model())
    assert gate.fn(careful, *worse, rows, by_person=False).decision == "reject", "proof needs no person"


def test_the_verdict_is_the_same_each_time_and_its_evidence_names_what_it_rests_on(job: Job) -> None:
    first, again = (judge(job, small_model(), poor_model(), later_frame("binary", 100)) for _ in range(2))
    assert first.probability == again.probability
    assert {"promised", "probability", "rows", "since", "judge", "broken"} <= set(first.evidence)


def test_a_class_the_champion_never_saw_counts_against_it(tmp_path: Path) -> None:
    spec: ModelSpec = make_job(tmp_path, "multiclass").spec
    model, rows = small_model("multiclass"), later_frame("multiclass", 100)
    with_new = rows.with_columns(outcome=pl.when(pl.int_range(pl.len()) < 10).then(pl.lit("new")).otherwise("outcome"))
    plain, new = (compare(spec, judged_version(model), model, one).losses()[1] for one in (rows, with_new))
    assert new > plain + 1


def test_with_rmse_the_roots_are_reported_and_squares_are_drawn(tmp_path: Path) -> None:
    job = make_job(tmp_path, "regression")
    verdict = judge(job, small_model("regression"), poor_model("regression"), later_frame("regression", 100))
    assert verdict.metric == "rmse"
    assert verdict.challenger == pytest.approx(1.7, abs=0.6)
