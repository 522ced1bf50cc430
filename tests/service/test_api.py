"""The LitAPI's border: what a client did wrong goes back as it is, what we did wrong goes to Sentry and says nothing."""

from pathlib import Path

import orjson
import pytest
from fastapi import HTTPException

from perennial.error_reporting import init_error_reporting
from perennial.errors import FunctionError, PerennialError, RequestError, StoreUnreachable, VersionNotFound
from perennial.settings import load_settings
from service.api import PerennialAPI
from service.desk import Ask
from service.refusal import body_of, internal, is_ours, status_of, too_large, unavailable
from tests.support import models
from tests.support.sentry_receiver import SentryReceiver


@pytest.fixture
def api(sentry: SentryReceiver) -> PerennialAPI:
    """An API whose worker was never set up: whatever it is asked is a failure of ours."""
    settings = load_settings({"SENTRY_DSN": sentry.dsn})
    init_error_reporting(settings, "service")
    return PerennialAPI(settings, models.small_spec(), Path(), "redis://127.0.0.1:1/0")


def test_a_failure_of_ours_is_reported_and_tells_the_client_nothing(api: PerennialAPI, sentry: SentryReceiver) -> None:
    with pytest.raises(HTTPException) as caught:
        api.decode_request(Ask("predict", b'{"instances": [{"secret": 7041776}]}'))
    assert (caught.value.status_code, caught.value.detail) == (500, internal())
    (event,) = sentry.wait_for(1)
    assert event["fingerprint"][:2] == ["service", "worker"]
    assert "7041776" not in "".join(sentry.bodies)


@pytest.mark.parametrize(
    ("error", "status", "code", "ours"),
    [
        (RequestError("row 1", row=1, column="amount"), 422, "invalid_request", False),
        (too_large("too many"), 413, "too_large", False),
        (unavailable("no_model", "none yet"), 503, "no_model", False),
        (StoreUnreachable("away"), 503, "unavailable", False),
        (VersionNotFound("no version"), 503, "unavailable", True),
        (FunctionError("a user function fails: secret"), 500, "internal", True),
    ],
)
def test_every_error_has_a_status_a_code_and_somebody_to_mind_it(
    error: PerennialError, status: int, code: str, ours: bool
) -> None:
    assert (status_of(error), is_ours(error)) == (status, ours)
    problem = orjson.loads(body_of(error))["error"]
    assert problem["code"] == code
    assert "secret" not in problem["message"]


def test_where_a_request_was_wrong_is_in_the_body() -> None:
    problem = orjson.loads(body_of(RequestError("row 1: wrong", row=1, column="amount")))["error"]
    assert problem == {"code": "invalid_request", "message": "row 1: wrong", "row": 1, "column": "amount"}
