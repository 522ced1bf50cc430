"""One retraining per cause: what is settled already is declined."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from monitoring.ledger import Ledger
from monitoring.policy import RetrainRequest
from perennial.errors import TrainingError
from perennial.model_card import Cause
from tasks.job import Job, planned_moment
from tasks.promotion.publish import publish
from tasks.promotion.retrain_request import already_handled, cause_of, read_request, record_outcome, start_request
from tests.support.models import small_model
from tests.tasks.making import make_job

LATER = datetime(2024, 3, 1, 4, tzinfo=UTC)
EVENT_ID = "6ba7b810-9dad-51d1-80b4-00c04fd430c8"


def event(**changes: Any) -> dict[str, Any]:
    """The payload of an event, as an automation hands it on."""
    request = RetrainRequest(
        model="small",
        version=1,
        window_start=datetime(2024, 1, 1, tzinfo=UTC),
        window_end=datetime(2024, 1, 8, tzinfo=UTC),
        cause="drift",
        reason="drift 0.5 is over its bound 0.1",
        evidence={"drift": 0.5},
        event_id=EVENT_ID,
    )
    return {**request.model_dump(mode="json"), **changes}


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return make_job(tmp_path)


def test_a_fresh_request_is_not_declined(job: Job) -> None:
    champion = publish.fn(job, small_model(), {})
    request = read_request(job, event())
    assert already_handled.fn(job, champion, request) is None
    assert cause_of(request) == Cause(kind="drift", event_id=EVENT_ID, detail="drift 0.5 is over its bound 0.1")


def test_a_request_about_an_older_champion_is_declined(job: Job) -> None:
    assert already_handled.fn(job, small_model(version=2), read_request(job, event())) == (
        "the event is about version 1, and version 2 serves by now"
    )


def test_a_cause_that_a_version_was_trained_for_is_declined(job: Job) -> None:
    champion = publish.fn(job, small_model(), {})
    asked = small_model().card.model_copy(update={"cause": Cause(kind="drift", event_id=EVENT_ID)})
    publish.fn(job, replace(small_model(), card=asked), {})
    assert already_handled.fn(job, champion, read_request(job, event())) == "version 2 was trained for this event already"


def test_a_window_whose_rows_a_newer_version_has_learnt_trains_nothing(job: Job) -> None:
    champion = publish.fn(job, small_model(), {})
    publish.fn(job, small_model(), {})
    until = small_model().card.until
    learnt, later = (read_request(job, event(window_end=one.isoformat())) for one in (until, until + timedelta(hours=1)))
    said = already_handled.fn(job, champion, learnt)
    assert said is not None
    assert said.startswith("version 2 has learnt rows until 2024-")
    assert already_handled.fn(job, champion, later) is None
    always = job.spec.model_copy(update={"policy": job.spec.policy.model_copy(update={"promote": "always"})})
    assert already_handled.fn(replace(job, spec=always), champion, learnt) is None, "the gate has refused that version"


def test_by_hand_nothing_is_declined(job: Job) -> None:
    assert read_request(job, None) is None
    assert already_handled.fn(job, small_model(), None) is None
    assert cause_of(None).kind == "manual"


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ({}, "parameter `event` is not a request to retrain"),
        (event(extra=1), "parameter `event` is not a request to retrain"),
        (event(model="large"), "the event is about 'large', but the spec is 'small'"),
    ],
)
def test_a_payload_that_is_no_request_is_refused(job: Job, payload: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        read_request(job, payload)


def test_broken_data_is_not_learnt(job: Job) -> None:
    with pytest.raises(TrainingError, match="broken data is mended at its source"):
        cause_of(read_request(job, event(cause="data")))


def test_a_training_by_the_clock_is_in_the_ledger_and_done_once_for_its_moment(job: Job) -> None:
    moment = datetime(2024, 2, 1, 4, tzinfo=UTC)
    planned, again, next_one = (replace(job, planned=at, run_id=run) for at, run in ((moment, "1"), (moment, "2"), (LATER, "3")))
    start_request.fn(planned, None)
    (entry,) = Ledger(job.home).entries()
    assert (entry.stage, entry.planned, entry.flow, entry.flow_run) == ("started", moment, None, "1")
    record_outcome.fn(planned, None, "failed", "no rows")
    assert already_handled.fn(again, small_model(), None) is None, "a failure may be made good"
    start_request.fn(again, None)
    record_outcome.fn(again, None, "challenger")
    said = already_handled.fn(again, small_model(), None)
    assert said == "the training planned for 2024-02-01 04:00 has its outcome: challenger"
    assert already_handled.fn(next_one, small_model(), None) is None
    assert len(Ledger(job.home).entries()) == 1


def test_a_training_by_hand_is_not_in_the_ledger(job: Job) -> None:
    start_request.fn(job, None)
    record_outcome.fn(job, None, "challenger")
    assert Ledger(job.home).entries() == ()


def test_the_moment_of_a_training_by_the_clock_is_its_runs_or_the_one_that_it_makes_good() -> None:
    assert planned_moment(False, LATER) is None
    assert planned_moment(True, LATER) == LATER
    assert planned_moment(LATER.isoformat(), datetime.now(UTC)) == LATER


def test_a_training_by_the_clock_says_so() -> None:
    assert cause_of(None, scheduled=True).kind == "schedule"
    assert cause_of(None).kind == "manual"
