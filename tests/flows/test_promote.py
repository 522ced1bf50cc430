"""The story of a promotion: the newest challenger past the gate, trained first where none knows every row."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from deployments.alias_moves import approve, roll_back, waiting_approvals
from flows.promote import promote
from flows.retrain import retrain
from perennial.model import Model
from perennial.model_loading import load_card
from perennial.registry import CHAMPION
from perennial.settings import load_settings
from tasks.job import Job
from tasks.reporting.training_report import read_training_report
from tests.flows.asking import artifacts, runs, told
from tests.flows.test_retrain import outcome, serving, set_values
from tests.tasks.making import NOW, later_frame, log_rows
from tests.tasks.promotion.test_retrain_request import EVENT_ID, event


def due(**changes: Any) -> dict[str, Any]:
    """The payload of a promotion that is due."""
    return event(**{"cause": "promotion", "reason": "avoidable loss 0.25 has reached the cost 0.2", **changes})


def turn(job: Job, champion: Model, since: int = 0, until: int = 600) -> pl.DataFrame:
    """Rows of a world that turned, asked and answered."""
    rows = later_frame("binary", until, flipped=True).slice(since)
    log_rows(job, champion, rows)
    return rows


def test_a_challenger_that_knows_every_row_is_promoted_without_another_training(home: Path, prefect_api: str) -> None:
    job, champion = serving(home)
    turn(job, champion)
    assert retrain(str(job.path)) == 2
    assert read_training_report(job.home, 2).verdict is None
    assert promote(str(job.path), due()) == 2
    assert job.registry.versions("small") == (1, 2)
    assert job.registry.aliases("small").champion == 2
    run = runs(prefect_api, "promote")[0]
    assert run["name"] == "small after promotion of version 1"
    assert "PROMOTE: small version 2" in artifacts(prefect_api, run["id"])["small-gate"]["data"]
    payload = told(prefect_api, "perennial.model.promoted", run["id"])["payload"]
    assert (payload["rows"], payload["judge"]) == (48, "its recipe without these rows")
    assert outcome(home, run["id"]) == "promoted"
    report = read_training_report(job.home, 2).verdict
    move = job.registry.last_move("small", CHAMPION)
    assert report is not None
    assert move is not None
    assert move.evidence["promised"] == report.promised < 0


def test_without_one_it_is_trained_at_once_and_the_older_challenger_judges(home: Path, prefect_api: str) -> None:
    job, champion = serving(home)
    turn(job, champion, until=500)
    retrain(str(job.path))
    turn(job, champion, since=500)
    assert promote(str(job.path), due()) == 3
    card = load_card(job.registry, "small", 3)
    assert (card.data.rows, card.cause.kind, card.cause.event_id) == (1_600, "promotion", EVENT_ID)
    run = runs(prefect_api, "promote")[0]
    assert told(prefect_api, "perennial.model.promoted", run["id"])["payload"]["judge"] == "version 2"
    assert {"small-evaluation", "small-gate"} == set(artifacts(prefect_api, run["id"]))
    assert job.registry.aliases("small").champion == 3


def test_a_settled_promotion_is_declined(home: Path, prefect_api: str) -> None:
    job, champion = serving(home)
    turn(job, champion)
    promote(str(job.path), due())
    promote(str(job.path), due())
    run = runs(prefect_api, "promote")[0]
    assert run["state"]["name"] == "Declined"
    assert run["state"]["message"] == "version 2 was promoted for this event already"
    assert job.registry.versions("small") == (1, 2)


def test_a_challenger_that_is_proven_worse_is_refused_and_its_event_is_settled(home: Path, prefect_api: str) -> None:
    job, champion = serving(home)
    job.path.write_text(job.path.read_text().replace("max_rounds = 40", "max_rounds = 1"))
    log_rows(job, champion, later_frame("binary", 300))
    assert promote(str(job.path), due()) == 2
    aliases = job.registry.aliases("small")
    assert (aliases.champion, aliases.positions["rejected"]) == (1, 2)
    run = runs(prefect_api, "promote")[0]
    assert "less than gate.min_probability" in told(prefect_api, "perennial.model.rejected", run["id"])["payload"]["reason"]
    assert outcome(home, run["id"]) == "rejected"
    promote(str(job.path), due())
    assert runs(prefect_api, "promote")[0]["state"]["message"] == "version 2 was rejected for this event already"


def test_a_version_that_was_rolled_back_is_not_promoted_again_but_a_new_one_is(home: Path) -> None:
    job, champion = serving(home)
    turn(job, champion)
    assert promote(str(job.path)) == 2
    roll_back(job.path, None, job.settings, NOW)
    assert promote(str(job.path), due()) == 3, "version 2 knows every row, and returns by hand only"
    assert job.registry.aliases("small").champion == 3


def test_what_the_gate_lets_through_waits_for_a_person_where_the_spec_says_so(home: Path, prefect_api: str) -> None:
    job, champion = serving(home)
    set_values(job, "gate", require_approval=True)
    turn(job, champion)
    assert promote(str(job.path), due()) == 2
    assert job.registry.aliases("small").champion == 1
    assert outcome(home, runs(prefect_api, "promote")[0]["id"]) == "held"
    settings = load_settings({"PERENNIAL_HOME": str(home / "var")})
    (waiting,) = waiting_approvals([job.path], settings)
    assert waiting.startswith(f"small version 2 waits: perennial approve {job.path}")
    move = approve(job.path, settings, NOW)
    assert (move.version, move.previous) == (2, 1)
    assert job.registry.aliases("small").champion == 2
    assert list(waiting_approvals([job.path], settings)) == []


def test_rows_without_labels_are_promoted_on_the_guardrails_alone(home: Path) -> None:
    job, champion = serving(home)
    log_rows(job, champion, later_frame("binary", 300), labelled=False)
    assert promote(str(job.path), due(cause="drift", reason="drift 0.5 is over its bound 0.1, and no labels come")) == 2
    move = job.registry.last_move("small", CHAMPION)
    assert move is not None
    assert move.reason.startswith("warning: nothing was compared, the guardrails alone decide")


@pytest.mark.parametrize("holdout", ["3d", "7d"])
def test_the_judged_rows_are_as_many_as_the_spec_says(home: Path, holdout: str) -> None:
    job, champion = serving(home)
    job.path.write_text(job.path.read_text().replace('holdout = "2d"', f'holdout = "{holdout}"'))
    turn(job, champion)
    promote(str(job.path))
    verdict = read_training_report(job.home, 2).verdict
    assert verdict is not None
    assert verdict.rows == int(holdout[0]) * 24
