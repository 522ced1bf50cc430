"""The probe: a stale champion is found out, a good one stays below the cost, whatever learner it is of."""

from collections.abc import Iterator
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring import probe as module
from monitoring.avoidable_loss import Account
from monitoring.champion_account import PairedLoss
from monitoring.probe import FACTOR, MOST_ROWS, MOST_WINDOWS, ProbeRows, probe, windows_before
from monitoring.shadowing import Shadows, compare_probe, probe_rows
from monitoring.window import Window
from perennial.learner import Objective
from perennial.learners.declarations import LEARNERS
from perennial.links import link, raw_scores
from perennial.metrics import score
from perennial.model import Model
from perennial.registry import Registry
from perennial.spec import ModelSpec, Task
from perennial.spec_policy import PolicySpec
from tests.monitoring.test_shadowing import TURN, archived, booked, old, session, shadows, turned, week
from tests.support.models import TASKS, publish_small, small_frame, small_spec, train_small
from tests.support.mutants import mutant

PROBED = PolicySpec.model_validate({"evidence": "probe"})


def spec_of(task: Task = "binary") -> ModelSpec:
    return small_spec(task).model_copy(update={"policy": PROBED})


@cache
def settled(task: Task = "binary") -> Model:
    """A champion that has learnt what there is to learn."""
    rows = 4_000
    return train_small(small_frame(task, rows, start=TURN - timedelta(hours=rows)), task, rounds=100)


def shadowed(champion: Model, frame: pl.DataFrame, asked: list[Window] | None = None) -> Shadows:
    """A champion whose log holds the frame; the windows whose rows are read are noted."""

    def rows(window: Window) -> pl.DataFrame:
        if asked is not None:
            asked.append(window)
        inside = pl.col("asked_at").is_between(window.start, window.end, closed="left")
        return archived(frame.filter(inside), champion)

    return Shadows(Registry("nowhere"), champion, rows, lambda _: None, lambda _: None)


def compared(champion: Model, frame: pl.DataFrame, window: Window, compare: Any = compare_probe) -> PairedLoss | None:
    found = shadowed(champion, frame)
    paired: PairedLoss | None = compare(window, found.rows(window), found, spec_of(champion.card.task))
    return paired


@pytest.mark.parametrize("learner", LEARNERS)
@pytest.mark.parametrize("task", TASKS)
def test_a_stale_champion_of_any_learner_loses_to_its_probe(task: Task, learner: str) -> None:
    champion = train_small(small_frame(task, rows=24 * 28), task, learner=learner)
    found = compared(champion, turned(4, task), week(3))
    assert found is not None
    assert (found.probe, found.version, found.rows, found.window) == (True, 1, 24 * 7, week(3))
    assert found.difference.excess > 3 * found.difference.error > 0
    assert found.difference.excess == pytest.approx(FACTOR * (found.champion_loss / found.other_loss - 1))
    values = score(task, *judged_by(champion, turned(4, task), week(3))).values
    assert found.champion_loss == pytest.approx(values["rmse" if task == "regression" else "log_loss"])


def judged_by(champion: Model, frame: pl.DataFrame, window: Window) -> tuple[Any, Any]:
    rows = probe_rows(champion, shadowed(champion, frame).rows(window))
    return rows.labels, rows.scores


@pytest.mark.parametrize("task", TASKS)
def test_where_nothing_changes_the_account_stays_below_the_cost(task: Task) -> None:
    champion, account = settled(task), Account()
    frame = small_frame(task, rows=24 * 7 * 8, seed=5, start=week(0).start)
    for number in range(1, 8):
        found = compared(champion, frame, week(number))
        assert found is not None
        account = account.add(found.difference)
        assert not account.promotion_due(PROBED.cost, PROBED.z), number


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 1_000))
def test_what_the_trees_gain_counts_twice_with_its_error(seed: int) -> None:
    """The difference is that of the block sums, doubled: an account of probes decides by the same rule as one of versions."""
    champion, frame = old(), turned(3, seed=seed)
    found = compared(champion, frame, week(2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "FACTOR", 1.0)
        once = compared(champion, frame, week(2))
    assert found is not None
    assert once is not None
    assert found.difference == once.difference.times(2)
    assert (found.champion_loss, found.other_loss) == (once.champion_loss, once.other_loss)


def test_no_row_that_the_champion_was_trained_on_is_learnt_or_judged() -> None:
    frame = turned(3)
    half = train_small(frame.head(24 * 7 * 3 // 2))
    found = compared(half, frame, week(2))
    assert found is not None
    assert probe_rows(half, shadowed(half, frame).rows(week(1))).times.min() > np.datetime64(half.card.until.replace(tzinfo=None))
    assert compared(half, frame, week(1)) is None, "of the week before the champion knows every row: there is nothing to learn"
    assert list(windows_before(week(2), half.card.until)) == [week(1)]
    assert compared(train_small(frame), frame, week(2)) is None


def test_the_judged_window_is_not_learnt() -> None:
    """What happens for the first time in a window cannot be known before it: a probe that had seen it would gain."""
    before, after = small_frame(rows=24 * 7 * 3, seed=2, start=week(0).start), turned(1, start=3)
    found = compared(old(), pl.concat([before, after]), week(3))
    assert found is not None
    assert found.difference.excess < 0.1


def test_it_learns_from_the_newest_eight_windows_and_reads_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    champion, frame, asked = old(), turned(12), list[Window]()
    found = shadowed(champion, frame, asked)
    compare_probe(week(11), found.rows(week(11)), found, spec_of())
    assert asked == [week(11 - age) for age in range(MOST_WINDOWS + 1)]
    asked.clear()
    monkeypatch.setattr(module, "MOST_ROWS", 300)
    compare_probe(week(11), found.rows(week(11)), found, spec_of())
    assert asked == [week(11), week(10), week(9)]


def test_of_many_rows_the_newest_are_learnt() -> None:
    count = MOST_ROWS // 2 + 500
    parts = [
        ProbeRows(np.full((count, 1), value), np.zeros(count), np.full(count, value, "datetime64[s]"), np.zeros(count))
        for value in (2, 1, 0)
    ]

    def newest_first() -> Iterator[ProbeRows]:
        yield from parts[:2]
        raise AssertionError("two windows have enough")

    kept = module._newest(newest_first())
    assert (len(kept), kept.matrix[0, 0], kept.matrix[-1, 0]) == (MOST_ROWS, 1, 2)
    assert (kept.matrix == 2).sum() == count


@pytest.mark.parametrize("task", TASKS)
def test_the_same_rows_give_the_same_result(task: Task) -> None:
    assert compared(old(task), turned(3, task), week(2)) == compared(old(task), turned(3, task), week(2))


def test_a_class_that_the_champion_does_not_know_is_not_learnt() -> None:
    champion = old("multiclass")
    frame = turned(3, "multiclass").with_columns(
        pl.when(pl.int_range(pl.len()) % 9 == 0).then(pl.lit("huge")).otherwise("outcome").alias("outcome")
    )
    found = compared(champion, frame, week(2))
    assert found is not None
    assert np.isfinite(found.difference.excess)
    assert found.champion_loss == pytest.approx(score("multiclass", *judged_by(champion, frame, week(2))).values["log_loss"])


@pytest.mark.parametrize(
    "change",
    [pl.lit(1).alias("outcome"), pl.lit(0.5).alias("amount"), pl.lit(None, pl.Float64).alias("amount")],
)
def test_strange_windows_are_probed_without_an_error(change: pl.Expr) -> None:
    found = compared(old(), turned(3).with_columns(change), week(2))
    assert found is not None
    assert np.isfinite([found.difference.excess, found.difference.error]).all()


def test_too_few_labels_or_no_earlier_rows_compare_nothing() -> None:
    champion, frame = old(), turned(3)
    assert compared(champion, frame.filter(pl.col("asked_at") >= week(2).start), week(2)) is None
    assert compared(champion, frame.filter(pl.col("asked_at") < week(2).start + timedelta(hours=5)), week(2)) is None


def test_certain_scores_can_be_corrected() -> None:
    """A champion that is certain and wrong has infinite log-odds; a probe must not be stuck there."""
    rows, chance = 2_000, np.random.default_rng(0)
    certain = (chance.random(rows) < 0.5).astype(float)
    known = ProbeRows(certain[:, None], 1 - certain, np.arange(rows).astype("datetime64[h]"), certain)
    objective = Objective("binary", "log_loss", 0, seed=0, threads=1)
    features = small_features()
    found = probe(objective, "log_loss", features, known.take(slice(1_000, None)), [known.take(slice(1_000))])
    assert found is not None
    assert found.probe_loss < found.champion_loss


def small_features() -> Any:
    features = old().card.features
    return features.model_copy(update={"names": ("amount",), "categories": {}})


@given(seed=st.integers(0, 1_000))
@settings(max_examples=30, deadline=None)
def test_a_link_undoes_its_raw_scores(seed: int) -> None:
    chance = np.random.default_rng(seed)
    many = chance.random((5, 3)) + 1e-6
    cases: tuple[tuple[Task, Any], ...] = (
        ("binary", chance.random(5)),
        ("regression", chance.normal(size=5) * 100),
        ("multiclass", many / many.sum(axis=1, keepdims=True)),
    )
    for task, scores in cases:
        assert link(task, raw_scores(task, scores)) == pytest.approx(scores)


def test_an_account_of_probes_needs_no_challenger(tmp_path: Path) -> None:
    registry = Registry(str(tmp_path / "registry"))
    publish_small(registry, old())
    watched = session(tmp_path, registry, turned(5))
    weeks = [week(number) for number in range(5)]
    account = booked(watched, weeks, spec=spec_of())
    assert [one.window for one in account.challengers] == weeks[1:], "in the first there is nothing to learn from yet"
    assert all(one.probe for one in account.challengers)
    statement = account.statement(spec_of(), timedelta())
    assert statement.due
    assert "a probe 0." in statement.beside()
    assert str(account.model_copy(update={"challengers": ()}).statement(spec_of(), timedelta())) == "no probe compared yet"
    assert shadows(watched, week(4)).challengers() == []


MUTANTS = {
    "champion and probe are swapped": (
        "excess_loss(block_sums(ours, blocks), block_sums(theirs, blocks), metric)",
        "excess_loss(block_sums(theirs, blocks), block_sums(ours, blocks), metric)",
    ),
    "the champion is scored twice": (
        "(judged.scores, _probe_scores(objective, features, learnt, judged))",
        "(judged.scores, judged.scores)",
    ),
    "the judged window is learnt": ("_learnable(_newest(earlier), objective)", "_learnable(judged, objective)"),
    "the champion's scores are no start": (
        "correction = boost(table, objective, start, PARAMS, ROUNDS)",
        "correction = boost(table, objective, 0 * start, PARAMS, ROUNDS)",
    ),
    "a gain counts once": ("difference.times(FACTOR)", "difference"),
}


def check(mutated: Any) -> None:
    """What a probe must find: a stale champion, a good one, and that the future is not known."""

    def found(champion: Model, frame: pl.DataFrame, number: int) -> Any:
        rows = [probe_rows(champion, shadowed(champion, frame).rows(week(one))) for one in range(number, -1, -1)]
        rows = [mutated.ProbeRows(**vars(one)) for one in rows]
        task, metric = champion.card.task, "rmse" if champion.card.task == "regression" else "log_loss"
        return mutated.probe(Objective(task, metric, 0, seed=0, threads=1), metric, champion.card.features, rows[0], rows[1:])

    stale = found(old(), turned(3), 2)
    assert stale.difference.excess == pytest.approx(2 * (stale.champion_loss / stale.probe_loss - 1))
    assert stale.difference.excess > 0.5
    same = found(settled("regression"), small_frame("regression", rows=24 * 7 * 3, seed=5, start=week(0).start), 2)
    assert -0.3 < same.difference.excess < 0.1, "trees that do not start from the champion's values add all of them once more"
    sudden = found(old(), pl.concat([small_frame(rows=24 * 7 * 2, seed=5, start=week(0).start), turned(1, start=2)]), 2)
    assert sudden.difference.excess < 0.1


def test_the_probe_passes_its_checks() -> None:
    check(module)


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_does_not(name: str) -> None:
    with pytest.raises(AssertionError):
        check(mutant(module, *MUTANTS[name]))
