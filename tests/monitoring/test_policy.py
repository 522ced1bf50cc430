"""The policy: one decision per window, in a fixed order of precedence, quiet during the cooldown.

Findings ask for trainings, the account for promotions; each test of the account has its opposite, so that none is always true.
"""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.avoidable_loss import ExcessLoss
from monitoring.champion_account import AccountStatement, ChampionAccount, PairedLoss
from monitoring.policy import LONGEST_TRAINING, PROMOTIONS, Findings, RetrainRequest, decide
from monitoring.window import Window
from perennial.signals import SIGNALS
from perennial.spec import ModelSpec, parse_spec

START = datetime(2013, 3, 4, tzinfo=UTC)
WEEK = timedelta(days=7)
BOUNDS = {"drift": 0.1, "loss": 0.5, "auc": 0.7}
VALUES = {"drift": 0.05, "loss": 0.4, "auc": 0.75}


def spec_with(policy: dict[str, Any] | None = None, **signals: Any) -> ModelSpec:
    return parse_spec(
        {
            "name": "m",
            "task": "binary",
            "target": "y",
            "event_time": "t",
            "sources": {"a": {"path": "a.csv"}},
            "features": {"x": {}, "d": {"date_part": "year"}},
            "signals": {"max_age": "60d", **signals},
            "policy": policy or {},
        },
        "test",
    )


SPEC = spec_with()


def findings(week: int = 0, **fields: Any) -> Findings:
    window = Window(start=START + week * WEEK, end=START + (week + 1) * WEEK)
    usual = {"rows": 1000, "labelled": 990, "values": VALUES, "bounds": BOUNDS, "age": timedelta(weeks=8)}
    return Findings(window=window, **{**usual, **fields})


def values(**changed: float) -> dict[str, Any]:
    """Ordinary values but for those named."""
    return {"values": VALUES | changed}


def aged(weeks: float) -> dict[str, Any]:
    """A champion whose newest training row is so old."""
    return {"age": timedelta(weeks=weeks)}


def requested(window: Window, cause: Any = "drift") -> RetrainRequest:
    """A request that was sent on account of this window."""
    return RetrainRequest(
        model="m", version=1, window_start=window.start, window_end=window.end, cause=cause, reason="", event_id=f"{uuid4()}"
    )


def week_before(end: datetime) -> Window:
    return Window(start=end - WEEK, end=end)


def account(
    *excesses: float, spec: ModelSpec = SPEC, error: float = 0.01, regression: float = 0.0, **fields: Any
) -> AccountStatement:
    """The statement of a champion whose loss exceeded the challengers' by so much, window for window."""

    def compared(excess: float, version: int) -> PairedLoss:
        difference = ExcessLoss(excess=excess, error=error)
        window = findings().window
        return PairedLoss(window=window, version=version, rows=900, champion_loss=0.5, other_loss=0.4, difference=difference)

    before = (compared(regression, 1),) if regression else ()
    kept = ChampionAccount(champion=2, challengers=tuple(compared(excess, 3) for excess in excesses), predecessor=before)
    return kept.statement(spec, timedelta(weeks=1)).model_copy(update=fields)


MAYBE = st.none() | st.floats(0, 2)


def by_signal(draw: st.DrawFn) -> dict[str, float]:
    drawn = {signal.name: draw(MAYBE) for signal in SIGNALS}
    return {name: value for name, value in drawn.items() if value is not None}


@st.composite
def any_findings(draw: st.DrawFn, week: int = 0) -> Findings:
    rows = draw(st.integers(0, 2000))
    return findings(
        week,
        rows=rows,
        labelled=draw(st.integers(0, rows)),
        coverage=draw(st.sampled_from([1.0, 0.95, 0.4])),
        trained_on_share=draw(st.sampled_from([0.0, 0.2, 0.9])),
        values=by_signal(draw),
        age=timedelta(days=draw(st.integers(0, 120))),
        null_increases=draw(st.dictionaries(st.sampled_from("abc"), st.floats(-1, 1))),
        unseen_increases=draw(st.dictionaries(st.sampled_from("abc"), st.floats(0, 1))),
        outside_increases=draw(st.dictionaries(st.sampled_from("abc"), st.floats(0, 1))),
        unreadable_share=draw(st.sampled_from([0.0, 0.0, 0.9])),
        bounds=by_signal(draw),
    )


@pytest.mark.parametrize(
    ("fields", "kind", "says"),
    [
        ({}, "none", "within bounds"),
        (values(drift=0.2), "drift", "0.2 is over its bound 0.1"),
        (values(loss=0.6), "performance", "loss 0.6"),
        (values(auc=0.6), "performance", "AUC 0.6 is under its bound 0.7"),
        (values(loss=0.6, drift=0.2), "performance", "loss"),
        ({"age": timedelta(days=61)}, "age", "61d old, over 60d"),
        ({"age": timedelta(days=61), **values(drift=0.2)}, "age", "61d old"),
        ({"labelled": 400, **values(loss=0.6)}, "none", "within bounds"),
        ({"null_increases": {"x": 0.31, "z": 0.1}, **values(loss=0.6)}, "data", r"x \+31%"),
        ({"unseen_increases": {"x": 0.6}, **values(loss=0.6)}, "data", r"categories unknown to the training rose .*: x \+60%"),
        ({"outside_increases": {"x": 0.9}, **values(drift=0.2)}, "data", r"far outside the training's range rose .*: x \+90%"),
        ({"unseen_increases": {"x": 0.3, "d": 1.0}, "outside_increases": {"x": 0.3, "d": 1.0}}, "none", "within bounds"),
        ({"unreadable_share": 0.5, **values(drift=0.2)}, "data", "50% of the stream's entries"),
        ({"rows": 0, "labelled": 0, "age": timedelta(days=100)}, "none", "no predictions"),
        ({"rows": 199, "labelled": 199, **values(drift=0.2)}, "none", "min_rows = 200"),
        ({"coverage": 0.4, **values(drift=0.2)}, "none", "covers only 40%"),
        ({"trained_on_share": 0.8, **values(drift=0.2)}, "none", "trained on 80%"),
        ({"bounds": {}, **values(drift=9.0, loss=9.0, auc=0.0)}, "none", "no bound"),
        ({"values": {}}, "none", "nothing to judge by"),
    ],
)
def test_each_finding_has_its_decision(fields: dict[str, Any], kind: str, says: str) -> None:
    decision = decide(findings(**fields), None, SPEC)
    assert decision.kind == kind
    with pytest.raises(AssertionError, match=says):
        raise AssertionError(decision.reason)


@pytest.mark.parametrize(("signal", "value"), [("drift", 9.0), ("loss", 9.0), ("auc", 0.0)])
def test_a_signal_switched_off_asks_for_nothing(signal: str, value: float) -> None:
    assert decide(findings(**values(**{signal: value})), None, spec_with(**{signal: False})).kind == "none"


@given(any_findings())
def test_broken_data_never_asks_for_a_retraining(found: Findings) -> None:
    decision = decide(found, None, SPEC)
    rises = (*found.null_increases.values(), *found.unseen_increases.values(), *found.outside_increases.values())
    if max(rises, default=0) > 0.3 or found.unreadable_share > 0.3:
        assert not decision.flow


@given(any_findings())
def test_what_cannot_be_judged_decides_nothing(found: Findings) -> None:
    if found.rows < SPEC.window.min_rows or found.coverage < 0.9 or found.trained_on_share > 0.5:
        assert decide(found, None, SPEC).kind == "none"


@given(any_findings(), st.integers(0, 5))
def test_the_same_findings_and_state_decide_the_same(found: Findings, before: int) -> None:
    last = requested(week_before(found.window.end - before * WEEK))
    assert decide(found, last, SPEC) == decide(found, last, SPEC)


@given(any_findings(), st.floats(1, 3))
def test_more_drift_never_calms(found: Findings, factor: float) -> None:
    if decide(found, None, SPEC).flow and "drift" in found.values:
        more = found.values | {"drift": found.values["drift"] * factor}
        assert decide(found.model_copy(update={"values": more}), None, SPEC).flow


@given(st.data(), st.integers(1, 3))
def test_no_two_requests_within_the_cooldown(data: st.DataObject, windows: int) -> None:
    spec = spec_with({"train_on": ["drift", "performance"]}, cooldown=f"{7 * windows}d")
    last: RetrainRequest | None = None
    requests = []
    for week in range(8):
        found = data.draw(any_findings(week))
        decision = decide(found, last, spec)
        # The champion changes whenever it likes: the cooldown counts from the request.
        last = requested(found.window, decision.kind) if decision.flow else last
        requests += [found.window.end] if decision.flow else []
    assert all(second - first > spec.cooldown for first, second in pairwise(requests))


def test_the_cooldown_is_one_window_and_says_so() -> None:
    first = findings(0, **values(drift=0.2))
    assert decide(first, None, SPEC).flow
    last = requested(first.window)
    second, third = (decide(findings(week, **values(drift=0.2)), last, SPEC) for week in (1, 2))
    assert (second.kind, second.in_cooldown) == ("none", True)
    assert "quiet until 2013-03-18" in second.reason
    assert third.kind == "drift"


def test_a_request_without_an_outcome_has_no_cooldown_after_an_hour() -> None:
    last = requested(week_before(START + WEEK))
    waits = (LONGEST_TRAINING, LONGEST_TRAINING + timedelta(seconds=1))
    held, over = (decide(findings(1, **values(drift=0.2)), last, SPEC, wait) for wait in waits)
    assert (held.kind, held.in_cooldown) == ("none", True)
    assert (over.kind, over.in_cooldown) == ("drift", False)
    assert decide(findings(1), last, SPEC, timedelta(days=9)).kind == "none", "a calm window asks for nothing"


def test_an_alert_about_data_starts_no_cooldown() -> None:
    broken = findings(0, null_increases={"x": 0.9})
    decision = decide(broken, None, SPEC)
    assert (decision.kind, decision.flow) == ("data", None)
    assert decide(broken, requested(week_before(START)), SPEC).kind == "data"


@pytest.mark.parametrize(
    ("stated", "fields", "kind", "says"),
    [
        (
            account(0.12),
            {},
            "promotion",
            r"avoidable loss 0\.12 ± 0\.01 of 0\.2 in 1 windows, which pays a promotion, and 0\.12 exp",
        ),
        (account(0.12), values(loss=0.6), "promotion", "avoidable"),
        (account(0.12), {"age": timedelta(days=61)}, "promotion", "avoidable"),
        (account(0.12), {"null_increases": {"x": 0.9}}, "data", "null share"),
        (account(0.12), {"rows": 10}, "none", "min_rows"),
        (account(0.05), {}, "none", r"within bounds: .*; avoidable loss 0\.05 ± 0\.01 of 0\.2 in 1 windows$"),
        (account(-0.12), {}, "none", "avoidable loss -0.12"),
        (account(0.12, error=0.5), {}, "none", r"0\.12 ± 0\.5"),
        (account(), {}, "none", "no challenger compared yet"),
        (account(0.05), values(drift=0.2), "drift", r"drift 0\.2 is over its bound 0\.1; avoidable loss 0\.05"),
        (account(newest_age=timedelta(weeks=4)), aged(8), "challenger", "trained 4 windows ago, and another is due after 4"),
        (account(newest_age=timedelta(weeks=3, days=6)), aged(8), "challenger", "trained 4 windows ago"),
        (account(newest_age=timedelta(weeks=3, days=1)), aged(8), "none", "within bounds"),
        (account(newest_age=timedelta(weeks=1)), aged(1), "challenger", "another is due after 1"),
        (account(newest_age=timedelta(weeks=1)), aged(2), "challenger", "another is due after 1"),
        (account(newest_age=timedelta(weeks=1)), aged(3), "none", "within bounds"),
        (account(newest_age=timedelta(weeks=2)), aged(4), "challenger", "another is due after 2"),
        (account(newest_age=timedelta(weeks=9)), values(drift=0.2), "drift", "drift"),
        (account(0.12, regression=0.2), {}, "rollback", "version 2 is better than version 1, which it replaced, with P ="),
        (account(regression=-0.2), {}, "none", "within bounds"),
        (account(regression=0.012), {}, "none", "within bounds"),  # P = .12
        (account(regression=0.014), {}, "rollback", r"P = 0\.081"),
        (account(regression=0.2), {"null_increases": {"x": 0.9}}, "data", "null share"),
        (
            account(unlabelled=5),
            values(drift=0.2),
            "promotion",
            "drift 0.2 .* labels are missing for 5 windows, so drift promotes",
        ),
        (account(unlabelled=4), values(drift=0.2), "drift", "drift 0.2"),
        (account(unlabelled=5), {}, "none", "within bounds"),
        (account(never_labelled=True), values(drift=0.2), "promotion", "no label has ever come"),
    ],
)
def test_the_account_promotes_and_findings_train(stated: AccountStatement, fields: dict[str, Any], kind: str, says: str) -> None:
    decision = decide(findings(**fields), None, SPEC, account=stated)
    assert decision.kind == kind, decision.reason
    with pytest.raises(AssertionError, match=says):
        raise AssertionError(decision.reason)


@pytest.mark.parametrize(
    ("policy", "stated", "fields", "kind"),
    [
        ({"train_on": ["every"]}, account(), values(drift=0.2, loss=0.6), "none"),
        ({"train_on": ["drift"]}, account(newest_age=timedelta(weeks=9)), values(loss=0.6), "none"),
        ({"train_on": ["performance"]}, account(), values(loss=0.6), "performance"),
        ({"train_on": ["drift", "performance", "every"]}, account(), {"age": timedelta(days=61)}, "none"),
        ({"every": 9}, account(newest_age=timedelta(weeks=4)), aged(8), "challenger"),
        ({"every": 9}, account(newest_age=timedelta(weeks=3)), {}, "none"),
        ({"every": 2}, account(newest_age=timedelta(weeks=3)), {}, "challenger"),
        ({"promote": "always"}, account(newest_age=timedelta(weeks=1)), aged(1), "none"),
        ({"promote": "always"}, account(0.5), {}, "none"),
        ({"promote": "always"}, account(0.5), values(loss=0.6), "performance"),
        ({"promote": "always"}, account(unlabelled=9), values(drift=0.2), "drift"),
        ({"promote": "always"}, account(regression=0.5), {}, "rollback"),
        ({"promote": "manual"}, account(0.5, regression=0.5, unlabelled=9), {}, "none"),
        ({"promote": "manual"}, account(0.5), values(drift=0.2), "drift"),
        ({"promote": "manual"}, account(), {"age": timedelta(days=99)}, "none"),
        ({"promote": "manual"}, account(newest_age=timedelta(days=61)), {}, "challenger"),
    ],
)
def test_the_spec_says_what_trains_and_what_promotes(
    policy: dict[str, Any], stated: AccountStatement, fields: dict[str, Any], kind: str
) -> None:
    assert decide(findings(**fields), None, spec_with(policy), account=stated).kind == kind


@pytest.mark.parametrize(("cost", "z", "kind"), [(0.5, 1.0, "none"), (0.2, 1.0, "promotion"), (0.2, 13.0, "none")])
def test_cost_and_certainty_are_the_specs(cost: float, z: float, kind: str) -> None:
    spec = spec_with({"cost": cost, "z": z})
    decision = decide(findings(), None, spec, account=account(0.12, spec=spec))
    assert decision.kind == kind
    assert f"of {cost:g}" in decision.reason


def test_a_promotion_waits_for_promotions_alone_and_a_rollback_for_nothing() -> None:
    """A challenger that was trained last week must not delay what it proves."""
    before = week_before(START)
    kinds = {
        cause: decide(findings(0), requested(before, cause), SPEC, account=account(0.5)).kind
        for cause in ("drift", "challenger", "promotion", "age")
    }
    assert kinds == {"drift": "promotion", "challenger": "promotion", "promotion": "none", "age": "none"}
    assert decide(findings(0), requested(before, "promotion"), SPEC, account=account(regression=0.5)).kind == "rollback"
    assert decide(findings(0, **values(drift=0.2)), requested(before, "promotion"), SPEC).in_cooldown


@given(any_findings(), st.lists(st.floats(-0.5, 0.5), max_size=5), st.floats(0, 0.2))
def test_only_the_account_promotes_where_labels_come_and_its_opposite_does_not(
    found: Findings, excesses: list[float], error: float
) -> None:
    """Swapped, champion and challenger never both pay."""
    young = found.model_copy(update={"age": timedelta()})
    kinds = [
        decide(young, None, SPEC, account=account(*signed, error=error)).kind for signed in (excesses, [-one for one in excesses])
    ]
    due = [account(*signed, error=error).due for signed in (excesses, [-one for one in excesses])]
    assert not all(due)
    assert all(one or kind not in PROMOTIONS for one, kind in zip(due, kinds, strict=True))


def test_a_challenger_every_window_waits_for_no_cooldown() -> None:
    """What comes every so many windows has its period in the spec; a finding in the same window waits."""
    spec = SPEC.model_copy(update={"policy": SPEC.policy.model_copy(update={"every": 1})})
    due = account(0.0, spec=spec).model_copy(update={"newest_age": spec.window.length})
    assert decide(findings(0), requested(week_before(START), "challenger"), spec, account=due).kind == "challenger"
