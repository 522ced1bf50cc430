"""The judge has not learnt what it is judged on, and the model that is published has learnt all of it."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from prefect import flow

from monitoring.archive import Archive
from perennial.arrays import Floats
from perennial.model import Model
from perennial.model_card import Cause
from tasks.job import Job
from tasks.promotion import challenger as challengers
from tasks.promotion.labelled_rows import read_labelled_rows
from tests.flows.test_retrain import serving
from tests.monitoring.streams import add_labels, told
from tests.support.mutants import mutant
from tests.tasks.making import NOW, later_frame, log_rows

Predictions = tuple[Floats, Floats, Floats]

LEAKS = {
    "the judge of a training": (
        "older = selected_data(job, known, known.split.train)",
        "older = selected_data(job, known, known.rows)",
    ),
    "the judge of a version": ("card.spec.retrain), known, known.split.train)", "card.spec.retrain), known, known.rows)"),
}


def learnt(job: Job, champion: Model, module: Any) -> Predictions:
    """Scores of some rows by a challenger, by its judge, and by the judge that is fitted later from the challenger's card."""

    @flow
    def train() -> Predictions:
        known, rows = read_labelled_rows(job, champion), later_frame("binary", 100, seed=3)
        draft = module.train_challenger(job, known, Cause(kind="manual"), champion)
        later = module.fit_judge(job, known, draft.model.card)
        return draft.model.predict_frame(rows), draft.judge.predict(rows), later.predict(rows)

    return train()


def tell(job: Job, champion: Model, frame: pl.DataFrame, at: datetime) -> None:
    """Tell labels at a time; the latest ones count."""
    add_labels(Archive(job.home, "binary", champion.card.schema_), [told(champion, frame, at)])


def check(home: Path, module: Any) -> None:
    """Other labels of the judged rows change the model and neither judge; both judges are the same recipe."""
    job, champion = serving(home)
    frame = later_frame("binary", 300)
    log_rows(job, champion, frame, labelled=False)
    tell(job, champion, frame, NOW)
    first = learnt(job, champion, module)
    judged = pl.col("asked_at") > frame["asked_at"].max() - job.spec.judged_length
    turned = frame.with_columns(outcome=pl.when(judged).then(1 - pl.col("outcome")).otherwise("outcome"))
    tell(job, champion, turned, NOW + timedelta(hours=1))
    second = learnt(job, champion, module)
    assert not np.array_equal(first[0], second[0])
    assert np.array_equal(first[1], second[1])
    assert np.array_equal(first[2], second[2])
    assert np.array_equal(first[1], first[2])


def test_the_judged_rows_are_learnt_by_the_model_and_not_by_its_judge(home: Path) -> None:
    check(home, challengers)


@pytest.mark.parametrize("leak", LEAKS)
def test_a_leak_of_the_judged_rows_is_noticed(home: Path, leak: str) -> None:
    with pytest.raises(AssertionError):
        check(home, mutant(challengers, *LEAKS[leak]))
