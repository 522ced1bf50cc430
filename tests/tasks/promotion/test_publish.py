"""Versions are published as challengers, and the verdict moves one alias: champion, approval or rejected."""

from dataclasses import replace
from pathlib import Path

import pytest

from perennial.errors import AliasConflict
from perennial.registry import CHAMPION
from tasks.job import Job
from tasks.promotion.gate import Verdict
from tasks.promotion.publish import apply_verdict, publish, read_champion
from tests.support.models import small_model
from tests.tasks.making import make_job

PROMOTE = Verdict(decision="promote", reason="better", metric="log_loss", challenger=0.48, champion=0.5)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return make_job(tmp_path)


def test_a_promoted_version_serves_and_the_move_keeps_what_was_promised(job: Job) -> None:
    model = publish.fn(job, small_model(), small_model().card.bounds)
    apply_verdict.fn(job, model, None, PROMOTE)
    champion = read_champion.fn(job)
    assert champion is not None
    assert champion.card == model.card
    history = job.registry.history("small")
    assert [(move.alias, move.reason) for move in history] == [("challenger", "published"), ("champion", "better")]
    assert history[-1].evidence["promised"] == pytest.approx(-0.04)


@pytest.mark.parametrize(("decision", "alias"), [("hold", "approval"), ("reject", "rejected")])
def test_a_held_or_rejected_version_does_not_serve_and_the_reason_is_kept(job: Job, decision: str, alias: str) -> None:
    model = publish.fn(job, small_model(), small_model().card.bounds)
    apply_verdict.fn(job, model, None, PROMOTE.model_copy(update={"decision": decision}))
    assert read_champion.fn(job) is None
    move = job.registry.last_move("small", alias)
    assert move is not None
    assert (move.version, move.reason) == (1, "better")
    assert (job.registry.awaiting_approval("small") is not None) == (decision == "hold")


def test_of_two_promoters_one_wins_and_the_other_is_told(job: Job) -> None:
    first, second, third = (publish.fn(job, small_model(), small_model().card.bounds) for _ in range(3))
    apply_verdict.fn(job, first, None, PROMOTE)
    apply_verdict.fn(job, second, first, PROMOTE)
    with pytest.raises(AliasConflict, match="champion of 'small' is at version 2, not 1"):
        apply_verdict.fn(job, third, first, PROMOTE)
    assert job.registry.aliases("small").positions[CHAMPION] == 2


def test_the_draft_keeps_no_version_of_its_own(job: Job) -> None:
    draft = replace(small_model(), card=small_model().card.model_copy(update={"version": 0}))
    assert [publish.fn(job, draft, draft.card.bounds).card.version for _ in range(2)] == [1, 2]
