"""The LitAPI: every request passes its three steps; a client's mistake goes back as it is, an error of ours says nothing."""

from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from perennial.error_reporting import flush, init_error_reporting
from perennial.errors import FunctionError, PerennialError, RequestError, StoreUnreachable, VersionNotFound
from perennial.record import PredictionBatch
from perennial.settings import load_settings
from service.errors import error_body, error_response, too_large, unavailable
from service.inference.litapi import PredictionAPI
from service.inference.model_watcher import CompiledModel, ModelWatcher
from service.inference.predictor import InferenceRequest, Operation, Predictor
from tests.support import models
from tests.support.sentry_receiver import SentryReceiver
from tests.support.waiting import wait_until

Ask = Callable[..., InferenceRequest]
GOOD = {"amount": 1.5, "shop": "north"}


class Recorder:
    """In the place of log and metrics, which have tests of their own: keeps what they were given."""

    has_room = True

    def __init__(self) -> None:
        self.batches: list[PredictionBatch] = []
        self.counted: list[tuple[int, dict[str, int], dict[str, int]]] = []

    def append(self, batch: PredictionBatch, size: int) -> None:
        self.batches.append(batch)

    def predicted(self, version: int, rows: int, unknown: Any = (), nulls: Any = (), *_by_contract: Any) -> None:
        self.counted.append((rows, dict(unknown), dict(nulls)))


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def live() -> ModelWatcher:
    """The watcher's part: which version is live."""

    class Watcher(ModelWatcher):
        refusal = None

        def __init__(self) -> None:
            self._name, self.live = "small", CompiledModel(models.small_model())

    return Watcher()


@pytest.fixture
def api() -> PredictionAPI:
    return PredictionAPI(lambda: None)  # type: ignore[arg-type, return-value]  # no worker is set up


@pytest.fixture
def ask(recorder: Recorder, live: Any) -> Ask:
    """Makes requests as the endpoints do, to the version that is live then."""
    stand_in: Any = recorder
    predictor = Predictor(10_000, stand_in, stand_in)

    def ask(operation: Operation, *rows: Any) -> InferenceRequest:
        return InferenceRequest(operation, orjson.dumps({"instances": rows}), live.require_live(), predictor)

    return ask


def test_requests_that_wait_together_are_answered_in_order_and_share_an_entry_of_the_log(
    api: PredictionAPI, recorder: Recorder, ask: Ask
) -> None:
    responses = api.handle_batch(
        [ask("predict", {**GOOD, "id": "a"}), ask("explain", {**GOOD, "id": "b"}), ask("predict", *[GOOD] * 20, GOOD)]
    )
    assert [response.status for response in responses] == [200, 200, 200]
    bodies = [orjson.loads(response.body) for response in responses]
    assert [len(body.get("predictions", ())) for body in bodies] == [1, 0, 21]
    assert bodies[1]["explanations"][0]["id"] == "b"
    (batch,) = recorder.batches
    assert batch.ids == tuple(one["id"] for body in (bodies[0], bodies[2]) for one in body["predictions"])
    assert list(batch.scores) == [one["score"] for body in (bodies[0], bodies[2]) for one in body["predictions"]]
    assert batch.columns == {"amount": (1.5,) * 22, "shop": ("north",) * 22}
    assert recorder.counted == [(22, {}, {})]


def test_one_wrong_request_spoils_none_of_the_others(api: PredictionAPI, recorder: Recorder, ask: Ask) -> None:
    responses = api.handle_batch([ask("predict", GOOD), ask("predict", {**GOOD, "amount": "much"}), ask("predict", GOOD)])
    assert [response.status for response in responses] == [200, 422, 200]
    assert b"'much', expected a finite number" in responses[1].body
    assert sum(len(batch.ids) for batch in recorder.batches) == 2


def test_a_request_keeps_the_version_that_decoded_it(api: PredictionAPI, recorder: Recorder, live: Any, ask: Ask) -> None:
    first = api.decode_request(ask("predict", GOOD))
    live.live = CompiledModel(models.small_model(version=2, seed=1))
    answers = api.predict([first, api.decode_request(ask("predict", GOOD))])
    assert [orjson.loads(api.encode_response(one))["version"] for one in answers] == [1, 2]
    assert [batch.version for batch in recorder.batches] == [1, 2]
    expected = [model.predict_frame(models.small_frame(rows=1)) for model in (models.small_model(), models.small_model(seed=1))]
    assert expected[0] != expected[1], "the two versions answer differently"
    assert recorder.batches[0].scores != recorder.batches[1].scores


def test_a_log_that_refuses_fails_the_requests_that_it_would_have_held(api: PredictionAPI, recorder: Recorder, ask: Ask) -> None:
    def refuse(batch: PredictionBatch, size: int) -> None:
        raise unavailable("log_full", "the prediction log is full")

    recorder.append = refuse  # type: ignore[method-assign]
    assert [response.status for response in api.handle_batch([ask("predict", GOOD), ask("predict", GOOD)])] == [503, 503]


def test_one_model_s_failure_spoils_none_of_another_s(api: PredictionAPI, recorder: Recorder, live: Any, ask: Ask) -> None:
    broken: Any = SimpleNamespace(has_room=True, append=lambda batch, size: 1 / 0, predicted=recorder.predicted)
    body, other = orjson.dumps({"instances": [GOOD]}), Predictor(10_000, broken, broken)
    waiting = [ask("predict", GOOD), InferenceRequest("predict", body, live.live, other), ask("predict", GOOD)]
    assert [response.status for response in api.handle_batch(waiting)] == [200, 500, 200]
    assert sum(len(batch.ids) for batch in recorder.batches) == 2


def test_a_failure_of_ours_is_reported_and_tells_the_client_nothing(api: PredictionAPI, sentry: SentryReceiver) -> None:
    init_error_reporting(load_settings({"SENTRY_DSN": sentry.dsn}), "service")
    broken: Any = None  # which predicts nothing
    (response,) = api.handle_batch([InferenceRequest("predict", b'{"secret": 7041776}', broken, broken)])
    assert (response.status, response.body) == (500, error_body(RuntimeError("secret")))
    (event,) = sentry.wait_for(1)
    assert event["fingerprint"][:2] == ["service", "worker"]
    assert "7041776" not in "".join(sentry.bodies)


def issues(sentry: SentryReceiver) -> set[tuple[str, ...]]:
    return {tuple(event["fingerprint"]) for event in sentry.events()}


def test_equal_failures_are_one_issue_that_names_a_prediction(
    api: PredictionAPI, ask: Ask, recorder: Recorder, sentry: SentryReceiver
) -> None:
    """Whatever the rows and messages were; and another cause in the same place of the service is another issue."""
    place = "Quill " + "Street"  # in parts: the source around an error is sent
    init_error_reporting(load_settings({"SENTRY_DSN": sentry.dsn}), "service")

    def fail(batch: PredictionBatch, size: int) -> None:
        raise ValueError(f"no place for {batch.ids} {batch.columns}")

    recorder.append = fail  # type: ignore[method-assign]
    for number in range(100):
        (response,) = api.handle_batch([ask("predict", {"amount": number, "shop": f"{place} {number}", "id": f"p-{number}"})])
        assert response.status == 500
    broken: Any = None
    api.handle_batch([InferenceRequest("predict", b"{}", broken, broken)])
    flush(30)
    wait_until(lambda: len(issues(sentry)) == 2, 20, "another cause to be another issue")
    assert ("service", "worker", "ValueError", "service.inference.predictor._record") in issues(sentry)
    tags = sentry.events()[0]["tags"]
    assert (tags["model"], tags["version"], tags["prediction"]) == ("small", "1", "p-0")
    assert place not in "".join(sentry.bodies)


@pytest.mark.parametrize(
    ("error", "status", "code", "internal"),
    [
        (RequestError("row 1", row=1, column="amount"), 422, "invalid_request", False),
        (too_large("too many"), 413, "too_large", False),
        (unavailable("no_model", "none yet"), 503, "no_model", False),
        (StoreUnreachable("away"), 503, "unavailable", False),
        (VersionNotFound("no version"), 503, "unavailable", True),
        (FunctionError("a user function fails: secret"), 500, "internal", True),
    ],
)
def test_every_error_has_a_status_and_a_code_and_is_ours_or_not(
    error: PerennialError, status: int, code: str, internal: bool, caplog: pytest.LogCaptureFixture
) -> None:
    response = error_response(error)
    assert (response.status, "a request failed" in caplog.messages) == (status, internal)
    problem = orjson.loads(response.body)["error"]
    assert problem["code"] == code
    assert "secret" not in problem["message"]


def test_where_a_request_was_wrong_is_in_the_body() -> None:
    problem = orjson.loads(error_body(RequestError("row 1: wrong", row=1, column="amount")))["error"]
    assert problem == {"code": "invalid_request", "message": "row 1: wrong", "row": 1, "column": "amount"}


def test_a_row_without_a_time_happens_when_it_is_asked(api: PredictionAPI, recorder: Recorder, ask: Ask) -> None:
    before = datetime.now(UTC)
    api.handle_batch([ask("predict", GOOD)])
    assert before <= recorder.batches[0].event_times[0] <= recorder.batches[0].served_at <= datetime.now(UTC)
