"""The count of faults: every kind of loss is seen, and nothing else is."""

import pytest

from tests.faults.episodes.accounting import (
    Answer,
    Archived,
    Cause,
    Failure,
    Harm,
    Tally,
    altered,
    doubles,
    lost_labels,
    lost_predictions,
    missing,
    unexcused,
)
from tests.faults.episodes.plan import AT_RANDOM, DATA, Fault, kinds, plan

ARCHIVE = {
    "same": Archived(1, 1, 0.5, labelled=True),
    "unlabelled": Archived(1, 1, 0.5, labelled=False),
    "doubled": Archived(2, 1, 0.5, labelled=True),
    "other score": Archived(1, 2, 0.6, labelled=True),
}


def test_what_was_answered_and_is_not_archived_is_lost_and_so_is_a_label_without_its_row():
    ids = [*ARCHIVE, "gone"]
    assert lost_predictions(ids, ARCHIVE) == ["gone"]
    assert lost_labels(ids, ARCHIVE) == ["unlabelled", "gone"]


def test_a_row_archived_twice_or_with_another_score_is_altered_unless_its_client_had_to_ask_again():
    once, again = Answer(1, 0.5), Answer(1, 0.5, again=True)
    assert sorted(altered(dict.fromkeys(ARCHIVE, once), ARCHIVE)) == ["doubled", "other score"]
    assert altered(dict.fromkeys(ARCHIVE, again), ARCHIVE) == ["doubled"]


@pytest.mark.parametrize("what", ["versions", "verdicts", "completed"])
def test_a_cause_with_two_of_anything_is_double(what: str):
    well = Cause("a", "w1", "promoted", 1, 1, 1)
    assert doubles([well, Cause("b", "w2", "promoted", **{what: 2})]) == [Cause("b", "w2", "promoted", **{what: 2})]


def test_a_window_without_a_cause_is_missing_and_so_is_a_cause_that_did_not_come_through():
    causes = [Cause("a", "w1", "promoted"), Cause("b", "w2", "failed"), Cause("c", "w3", None), Cause("d", "w4", "rejected")]
    assert missing(causes, ["w1", "w2", "w3", "w4", "w5"]) == ["w2", "w3", "w5"]


def test_a_request_may_fail_while_the_service_is_harmed_and_a_label_while_the_store_is():
    service, store = Harm("service", 10, 20), Harm("store", 30, 40)
    early, harmed = Failure(1, 9, "/predict"), Failure(9, 11, "/predict")
    asked, told = Failure(31, 32, "/predict"), Failure(31, 32, "/feedback")
    assert unexcused([early, harmed, asked, told], [service, store]) == [early, asked]


def test_an_episode_is_what_came_since_the_one_before():
    assert Tally(3, 1, 0, 2).since(Tally(1, 1, 0, 2)) == Tally(2)
    assert Tally(2) + Tally(1, 1, 0, 2) == Tally(3, 1, 0, 2), "and all of them are the run's"
    assert Tally().clean
    assert not Tally(labels_lost=1).clean
    assert Tally(2).since(Tally(5)).clean, "what was missing until then has come"


def test_a_seed_repeats_its_episodes_and_each_kind_comes_once_before_any_comes_again():
    episodes = plan(len(kinds()), seed=7)
    assert episodes == plan(len(kinds()), seed=7) != plan(len(kinds()), seed=8)
    assert episodes[:5] == plan(5, seed=7)
    assert sorted(one.faults[0].kind for one in episodes) == sorted(kind for kind, _ in kinds())
    assert {kind for kind, _ in kinds()} > set(DATA)
    assert all("disk full" not in str(one) for one in plan(100, seed=7, left_out=["disk full"]))


def test_a_fault_says_what_happens_when():
    assert str(Fault("kill store", AT_RANDOM, 1.5)) == "kill store, 1.5 s in"
    assert str(Fault("kill retrain", "promoted")) == "kill retrain, promoted"
