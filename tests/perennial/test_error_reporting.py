"""What reaches Sentry: every error, well grouped and tagged, and never a value of a row."""

import subprocess

import pytest
import sentry_sdk

from perennial import __version__, error_reporting
from perennial.errors import ChecksFailed, DataError, RecordError, RequestError, SettingsError, StoreUnreachable
from perennial.settings import Settings, load_settings
from tests.support.processes import ROOT, python
from tests.support.sentry_receiver import Event, SentryReceiver

SECRET = "Ms. Henrietta Quill, 4111-1111"


@pytest.fixture
def watched(sentry: SentryReceiver) -> SentryReceiver:
    error_reporting.init_error_reporting(settings(sentry), "service", model="small", version=3)
    return sentry


def settings(sentry: SentryReceiver) -> Settings:
    return load_settings({"SENTRY_DSN": sentry.dsn, "PERENNIAL_ENVIRONMENT": "tests"})


def raised(error: Exception) -> Exception:
    """The error with a traceback whose frame has a local variable that must stay here."""
    applicant = {"name": SECRET}
    try:
        assert applicant
        raise error
    except type(error) as caught:
        return caught


def sent(sentry: SentryReceiver) -> Event:
    error_reporting.flush()
    (event,) = sentry.wait_for(1)
    return event


def test_an_issue_says_which_release_component_model_and_version(watched: SentryReceiver):
    error_reporting.tag(flow_run="b1c2", flow_run_url="http://127.0.0.1:4200/runs/flow-run/b1c2")
    error_reporting.report(
        raised(StoreUnreachable("redis://127.0.0.1:1 does not answer; start it")), group=("service", "store"), version=4
    )
    event = sent(watched)
    assert event["release"] == f"perennial@{__version__}"
    assert event["environment"] == "tests"
    assert event["tags"] == {
        "component": "service",
        "model": "small",
        "version": "4",
        "flow_run": "b1c2",
        "flow_run_url": "http://127.0.0.1:4200/runs/flow-run/b1c2",
    }
    assert event["exception"]["values"][-1]["value"] == "redis://127.0.0.1:1 does not answer; start it"


def test_a_failed_flow_a_poisoned_record_and_a_service_error_are_three_issues(watched: SentryReceiver):
    error_reporting.report(raised(DataError("empty table")), group=("flow", "retrain", "small"))
    error_reporting.report(raised(DataError("another empty table")), group=("flow", "retrain", "small"))
    error_reporting.report(raised(RecordError("truncated")), group=("record", "small"))
    error_reporting.report(raised(RuntimeError("boom")), group=("service", "/predict"))
    error_reporting.flush()
    fingerprints = [tuple(event["fingerprint"]) for event in watched.wait_for(4)]
    assert fingerprints[0] == fingerprints[1] == ("flow", "retrain", "small", "DataError")
    assert len(set(fingerprints)) == 3


@pytest.mark.parametrize(
    "error",
    [
        ChecksFailed(f"column 'name': {SECRET!r} is not allowed"),
        RequestError(f"row 2: {SECRET!r} is not a number", row=2, column="income"),
        RecordError(f"entry 1-0: {SECRET}"),
        ValueError(f"could not convert {SECRET}"),
        KeyError(SECRET),
        LookupError(SECRET),
    ],
    ids=lambda error: type(error).__name__,
)
def test_no_value_of_a_row_leaves_the_machine(watched: SentryReceiver, error: Exception):
    error.__cause__ = raised(ValueError(f"inner {SECRET}"))
    error_reporting.report(raised(error), group=("record", "small"))
    event = sent(watched)
    assert "Henrietta" not in "".join(watched.bodies)
    outer = event["exception"]["values"][-1]
    assert outer["type"] == type(error).__name__
    assert "tests/perennial/test_error_reporting.py line" in outer["value"]
    assert outer["value"].endswith("raised")  # the function in which it was raised


def test_what_the_sdk_would_gather_is_dropped(watched: SentryReceiver):
    sentry_sdk.add_breadcrumb(message=SECRET)
    sentry_sdk.set_extra("row", SECRET)
    sentry_sdk.set_user({"username": SECRET})
    sentry_sdk.set_context("row", {"password": SECRET})
    error_reporting.report(raised(RuntimeError("boom")), group=("service", "/predict"))
    event = sent(watched)
    assert not event.keys() & {"extra", "user", "request", "breadcrumbs", "modules"}
    assert "Henrietta" not in "".join(watched.bodies)


def test_an_issue_names_the_commit_where_the_installation_knows_it(sentry: SentryReceiver):
    known = settings(sentry).model_copy(update={"commit": "0123456789abcdef0123"})
    error_reporting.init_error_reporting(known, "service")
    error_reporting.report(raised(RuntimeError("boom")), group=("service",))
    assert sent(sentry)["release"] == f"perennial@{__version__}+0123456789ab"


def test_a_check_in_says_which_run_and_schedule_and_nothing_more(watched: SentryReceiver):
    sentry_sdk.set_extra("row", SECRET)
    sentry_sdk.set_user({"username": SECRET})
    config = {"schedule": {"type": "interval", "value": 5, "unit": "minute"}}
    error_reporting.check_in("monitor", "b1c2", "ok", config)
    error_reporting.flush()
    (told,) = [payload for kind, payload in watched.items if kind == "check_in"]
    assert told["monitor_slug"] == "monitor"
    assert (told["check_in_id"], told["status"], told["monitor_config"]) == ("b1c2", "ok", config)
    assert "Henrietta" not in "".join(watched.bodies)


def test_the_column_of_a_bad_request_is_a_tag(watched: SentryReceiver):
    error_reporting.report(raised(RequestError("bad", row=2, column="income")), group=("service", "/predict"))
    assert sent(watched)["tags"]["column"] == "income"


def test_passwords_in_addresses_are_taken_out(watched: SentryReceiver):
    error_reporting.report(raised(StoreUnreachable("redis://me:hunter2@example.org:6379 does not answer")), group=("store",))
    assert sent(watched)["exception"]["values"][-1]["value"] == "redis://***@example.org:6379 does not answer"


def test_a_mark_can_be_taken_away(watched: SentryReceiver):
    error_reporting.tag(version=None)
    error_reporting.report(raised(RuntimeError("boom")), group=("service",))
    assert "version" not in sent(watched)["tags"]


def test_a_message_without_an_error_is_not_sent(watched: SentryReceiver):
    sentry_sdk.capture_message(SECRET)
    error_reporting.report(raised(RuntimeError("boom")), group=("service",))
    sent(watched)


CRASH = f"""
import os, threading
from perennial.settings import load_settings
from perennial.error_reporting import init_error_reporting
init_error_reporting(load_settings(os.environ), "worker")
def fail(): raise ValueError({SECRET!r})
thread = threading.Thread(target=fail, name="inner")
thread.start(); thread.join()
raise RuntimeError({SECRET!r})
"""


def test_an_error_nobody_caught_is_sent_from_any_thread(sentry: SentryReceiver):
    done = subprocess.run(python("-c", CRASH), env={"SENTRY_DSN": sentry.dsn}, cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 1
    assert "Sentry" not in done.stderr.decode()
    kinds = [event["exception"]["values"][-1]["type"] for event in sentry.wait_for(2)]
    assert kinds == ["ValueError", "RuntimeError"]
    assert "Henrietta" not in "".join(sentry.bodies)


def test_without_a_dsn_nothing_happens(monkeypatch: pytest.MonkeyPatch, sentry: SentryReceiver):
    monkeypatch.setenv("SENTRY_DSN", sentry.dsn)  # only the settings count
    error_reporting.init_error_reporting(Settings(), "service", model="small")
    error_reporting.report(raised(RuntimeError("boom")), group=("service",))
    error_reporting.flush()
    assert sentry.items == []


def test_a_malformed_dsn_names_the_variable():
    with pytest.raises(SettingsError, match="SENTRY_DSN is not a DSN"):
        error_reporting.init_error_reporting(load_settings({"SENTRY_DSN": "nonsense"}), "service")
