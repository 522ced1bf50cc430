"""The policy: one decision per window, in a fixed order of precedence, quiet during the cooldown."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.policy import LONGEST_TRAINING, Asked, Decision, Findings, after, decide
from monitoring.window import Window
from perennial.model_card import Bounds
from perennial.spec import ModelSpec, parse_spec

START = datetime(2013, 3, 4, tzinfo=UTC)
WEEK = timedelta(days=7)
BOUNDS = Bounds(drift=0.1, loss=0.5, auc=0.7)


def spec_with(**signals: Any) -> ModelSpec:
    return parse_spec(
        {
            "name": "m",
            "task": "binary",
            "target": "y",
            "event_time": "t",
            "sources": {"a": {"path": "a.csv"}},
            "features": {"x": {}},
            "signals": {"max_age": "60d", **signals},
        },
        "test",
    )


SPEC = spec_with()


def findings(week: int = 0, **fields: Any) -> Findings:
    window = Window(start=START + week * WEEK, end=START + (week + 1) * WEEK)
    usual = {"rows": 1000, "labelled": 990, "drift": 0.05, "loss": 0.4, "auc": 0.75, "bounds": BOUNDS}
    return Findings(window=window, **{**usual, **fields})


SHARES = st.floats(0, 1)
MAYBE = st.none() | st.floats(0, 2)


@st.composite
def any_findings(draw: st.DrawFn, week: int = 0) -> Findings:
    rows = draw(st.integers(0, 2000))
    return findings(
        week,
        rows=rows,
        labelled=draw(st.integers(0, rows)),
        cover=draw(st.sampled_from([1.0, 0.95, 0.4])),
        seen=draw(st.sampled_from([0.0, 0.2, 0.9])),
        drift=draw(MAYBE),
        loss=draw(MAYBE),
        auc=draw(st.none() | SHARES),
        age=timedelta(days=draw(st.integers(0, 120))),
        null_increases=draw(st.dictionaries(st.sampled_from("abc"), st.floats(-1, 1))),
        unreadable=draw(st.sampled_from([0.0, 0.0, 0.9])),
        bounds=Bounds(drift=draw(MAYBE), loss=draw(MAYBE), auc=draw(st.none() | SHARES)),
    )


@pytest.mark.parametrize(
    ("fields", "kind", "says"),
    [
        ({}, "none", "within bounds"),
        ({"drift": 0.2}, "drift", "0.2 is over its bound 0.1"),
        ({"loss": 0.6}, "performance", "loss 0.6"),
        ({"auc": 0.6}, "performance", "AUC 0.6 is under its bound 0.7"),
        ({"loss": 0.6, "drift": 0.2}, "performance", "loss"),
        ({"age": timedelta(days=61)}, "age", "61d old, over 60d"),
        ({"age": timedelta(days=61), "drift": 0.2}, "drift", "drift"),
        ({"loss": 0.6, "labelled": 400}, "none", "within bounds"),
        ({"null_increases": {"x": 0.31, "z": 0.1}, "loss": 0.6}, "data", r"x \+31%"),
        ({"unreadable": 0.5, "drift": 0.2}, "data", "50% of the stream's entries"),
        ({"rows": 0, "labelled": 0, "age": timedelta(days=100)}, "none", "no predictions"),
        ({"rows": 199, "labelled": 199, "drift": 0.2}, "none", "min_rows = 200"),
        ({"cover": 0.4, "drift": 0.2}, "none", "covers only 40%"),
        ({"seen": 0.8, "drift": 0.2}, "none", "trained on 80%"),
        ({"bounds": Bounds(), "drift": 9.0, "loss": 9.0, "auc": 0.0}, "none", "no bound"),
        ({"drift": None, "loss": None, "auc": None}, "none", "nothing to judge by"),
    ],
)
def test_each_finding_has_its_decision(fields: dict[str, Any], kind: str, says: str) -> None:
    decision = decide(findings(**fields), None, SPEC)
    assert decision.kind == kind
    with pytest.raises(AssertionError, match=says):
        raise AssertionError(decision.reason)


@pytest.mark.parametrize(("signal", "fields"), [("drift", {"drift": 9.0}), ("loss", {"loss": 9.0}), ("auc", {"auc": 0.0})])
def test_a_signal_switched_off_asks_for_nothing(signal: str, fields: dict[str, Any]) -> None:
    assert decide(findings(**fields), None, spec_with(**{signal: False})).kind == "none"


@given(any_findings())
def test_broken_data_never_asks_for_a_retraining(found: Findings) -> None:
    decision = decide(found, None, SPEC)
    if max(found.null_increases.values(), default=0) > SPEC.signals.max_null_increase or found.unreadable > 0.3:
        assert not decision.asks


@given(any_findings())
def test_what_cannot_be_judged_decides_nothing(found: Findings) -> None:
    if found.rows < SPEC.window.min_rows or found.cover < 0.9 or found.seen > 0.5:
        assert decide(found, None, SPEC).kind == "none"


@given(any_findings(), st.integers(0, 5))
def test_the_same_findings_and_state_decide_the_same(found: Findings, before: int) -> None:
    asked = Asked(at=found.window.end - before * WEEK, version=1, cause="drift")
    assert decide(found, asked, SPEC) == decide(found, asked, SPEC)


@given(any_findings(), st.floats(1, 3))
def test_more_drift_never_calms(found: Findings, factor: float) -> None:
    if decide(found, None, SPEC).asks and found.drift is not None:
        assert decide(found.model_copy(update={"drift": found.drift * factor}), None, SPEC).asks


@given(st.data(), st.integers(1, 3))
def test_no_two_requests_within_the_cooldown(data: st.DataObject, windows: int) -> None:
    spec = spec_with(cooldown=f"{7 * windows}d")
    asked: Asked | None = None
    requests = []
    for week in range(12):
        found = data.draw(any_findings(week))
        decision = decide(found, asked, spec)
        # The champion changes whenever it likes: the cooldown counts from the request.
        asked = after(asked, found.window, decision, version=week)
        requests += [found.window.end] if decision.asks else []
    assert all(second - first > spec.cooldown for first, second in pairwise(requests))


def test_the_cooldown_is_one_window_and_says_so() -> None:
    first = findings(0, drift=0.2)
    asked = after(None, first.window, decide(first, None, SPEC), version=1)
    second, third = (decide(findings(week, drift=0.2), asked, SPEC) for week in (1, 2))
    assert (second.kind, second.cooling) == ("none", True)
    assert "quiet until 2013-03-18" in second.reason
    assert third.kind == "drift"


def test_a_request_that_nothing_came_of_keeps_nobody_quiet() -> None:
    asked = Asked(at=START + WEEK, version=1, cause="drift")
    held, over = (
        decide(findings(1, drift=0.2), asked, SPEC, wait) for wait in (LONGEST_TRAINING, LONGEST_TRAINING + timedelta(seconds=1))
    )
    assert (held.kind, held.cooling) == ("none", True)
    assert (over.kind, over.cooling) == ("drift", False)
    assert decide(findings(1), asked, SPEC, timedelta(days=9)).kind == "none", "a calm window asks for nothing"


def test_an_alert_about_data_starts_no_cooldown() -> None:
    broken = findings(0, null_increases={"x": 0.9})
    decision = decide(broken, None, SPEC)
    assert decision.kind == "data"
    assert after(None, broken.window, decision, version=1) is None
    assert decide(broken, Asked(at=START, version=1, cause="drift"), SPEC).kind == "data"


def test_a_calm_window_keeps_the_last_request() -> None:
    asked = Asked(at=START, version=1, cause="age")
    assert after(asked, findings().window, Decision(kind="none", reason=""), version=2) == asked
