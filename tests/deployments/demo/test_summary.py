"""The summary: each figure comes from the part that knows it, and what went missing is said."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from deployments.demo.evidence import Evidence
from deployments.demo.summary import find_losses, summarise, summarise_versions, unmet_goals
from deployments.prefect_client import FlowRun
from deployments.replay.frozen_baseline import Comparison, mean_of
from deployments.replay.waits import ServiceMetrics, read_metrics
from monitoring.archive import Counts
from monitoring.events import (
    DRIFT_DETECTED,
    MODEL_PROMOTED,
    MODEL_REJECTED,
    MODEL_ROLLED_BACK,
    PERFORMANCE_DEGRADED,
    ModelEvent,
)
from monitoring.window import window_at
from perennial.metrics import Metrics
from perennial.model_card import Cause, DataRef, ModelCard
from perennial.registry import Move
from tasks.serving.replay import Sent

MARCH = datetime(2013, 3, 1, tzinfo=UTC)
NOW = datetime(2024, 1, 1, 12, tzinfo=UTC)
WEEK = timedelta(days=7)

ASKED_OF_EVERY_SUMMARY = [
    "requests_sent",
    "requests_failed",
    "predictions_answered",
    "predictions_archived",
    "labels_sent",
    "labels_joined",
    "windows",
    "drift_events",
    "performance_events",
    "retrain_runs",
    "retrain_runs_started_by_automation",
    "challenger_events",
    "promotion_events",
    "promote_runs",
    "promotions",
    "refusals",
    "rollbacks",
    "versions",
    "auc_static",
    "auc_loop",
    "logloss_static",
    "logloss_loop",
    "event_to_retrain_start_s",
    "promotion_to_serving_s",
    "peak_memory_mb",
    "wall_s",
]


def a_card(version: int, kind: str, rows: int) -> ModelCard:
    data = DataRef(fingerprint="f", rows=rows, since=MARCH - 2 * WEEK, until=MARCH)
    return ModelCard.model_construct(version=version, cause=Cause(kind=kind), data=data, parent=version - 1 or None)  # type: ignore[arg-type]


def a_move(generation: int, version: int, previous: int | None) -> Move:
    at = NOW + timedelta(minutes=generation)
    positions = {"champion": version}
    return Move(
        generation=generation,
        alias="champion",
        version=version,
        previous=previous,
        at=at,
        reason="",
        positions=positions,
    )


def a_run(number: int, event_id: str, *, automated: bool = True, delay: float = 8.0) -> FlowRun:
    began = NOW + timedelta(minutes=number, seconds=delay)
    return FlowRun(
        id=f"run-{number}",
        name=f"retrain-{number}",
        deployment_id="retrain",
        created=began,
        expected_start=began,
        started=began,
        ended=began,
        state="COMPLETED",
        message="",
        auto_scheduled=False,
        created_by="AUTOMATION" if automated else None,
        event_id=event_id,
    )


def an_event(number: int, name: str, **payload: Any) -> ModelEvent:
    return ModelEvent(id=f"event-{number}", name=name, model="flights", occurred=NOW + timedelta(minutes=number), payload=payload)


def comparison(loop_auc: float, static_auc: float) -> Comparison:
    loop = Metrics(rows=100, values={"auc": loop_auc, "log_loss": 1 - loop_auc})
    return Comparison(loop, Metrics(rows=100, values={"auc": static_auc, "log_loss": 1 - static_auc}))


def evidence() -> Evidence:
    """Two requests to retrain: the first one's version was promoted, the second one's rejected."""
    windows = [window_at(MARCH + number * WEEK, WEEK) for number in range(2)]
    return Evidence(
        sent=Sent(requests=50, failed=0, predictions=1_000, labels=900),
        service=ServiceMetrics(version=2, predictions=1_000, labels=900),
        counts=Counts(predictions=1_000, labels=900, joined=900),
        windows=[],
        comparisons={windows[0]: comparison(0.70, 0.70), windows[1]: comparison(0.74, 0.68)},
        pooled=comparison(0.71, 0.69),
        events=[
            an_event(1, DRIFT_DETECTED),
            an_event(2, MODEL_PROMOTED, version=2, reason="better"),
            an_event(3, PERFORMANCE_DEGRADED),
            an_event(4, MODEL_REJECTED, version=3, reason="no better"),
        ],
        retrains=[a_run(1, "event-1", delay=8.0), a_run(3, "event-3", delay=6.0)],
        promotes=[a_run(2, "event-5")],
        moves=[a_move(1, 1, None), a_move(2, 2, 1)],
        cards=[a_card(1, "initial", 5_000), a_card(2, "drift", 6_000), a_card(3, "performance", 7_000)],
        version_comparisons={2: comparison(0.74, 0.70)},
        first_served={1: MARCH, 2: MARCH + WEEK},
        swaps={1: NOW + timedelta(minutes=1, seconds=0.5), 2: NOW + timedelta(minutes=2, seconds=0.3)},
        problems=[],
    )


def summary_of(found: Evidence) -> dict[str, Any]:
    """The summary as a reader of summary["json"] has it."""
    document: dict[str, Any] = orjson.loads(orjson.dumps(summarise(found, 1234.56, timedelta(seconds=99.99))))
    return document


def test_a_summary_has_every_figure_that_was_asked_for() -> None:
    summary = summary_of(evidence())
    assert set(ASKED_OF_EVERY_SUMMARY) <= set(summary)
    assert (summary["peak_memory_mb"], summary["wall_s"]) == (1234.6, 100.0)


def test_figures_come_from_the_part_that_knows_them() -> None:
    summary = summary_of(evidence())
    assert (summary["predictions_answered"], summary["predictions_archived"], summary["labels_joined"]) == (1_000, 1_000, 900)
    assert (summary["drift_events"], summary["performance_events"]) == (1, 1)
    assert (summary["retrain_runs"], summary["retrain_runs_started_by_automation"]) == (2, 2)
    assert (summary["promotions"], summary["refusals"]) == (1, 1)


def test_the_first_champion_is_no_promotion() -> None:
    assert summary_of(replace(evidence(), moves=[a_move(1, 1, None)]))["promotions"] == 0


def test_a_rollback_is_no_promotion() -> None:
    back = replace(
        evidence(),
        moves=[*evidence().moves, a_move(3, 1, 2)],
        events=[*evidence().events, an_event(5, MODEL_ROLLED_BACK, version=1, previous=2)],
    )
    assert (summary_of(back)["promotions"], summary_of(back)["rollbacks"]) == (1, 1)


def test_metrics_are_means_over_windows_and_pooled_ones_stand_beside_them() -> None:
    summary = summary_of(evidence())
    assert summary["auc_loop"] == pytest.approx(0.72)
    assert summary["auc_static"] == pytest.approx(0.69)
    assert summary["logloss_loop"] == pytest.approx(0.28)
    assert summary["pooled_auc_loop"] == 0.71


def test_reaction_is_timed_from_the_event_to_the_start_of_its_run() -> None:
    assert summary_of(evidence())["event_to_retrain_start_s"] == {"each": [8.0, 6.0], "median": 7.0}


def test_a_swap_is_timed_from_the_promotion_to_the_last_worker() -> None:
    assert summary_of(evidence())["promotion_to_serving_s"]["each"] == [0.5, 0.3]


def test_each_version_says_why_it_was_trained_and_what_became_of_it() -> None:
    first, second, third = summarise_versions(evidence())
    assert (first.cause, first.decision, first.promoted_at) == ("initial", "first", MARCH)
    assert (second.cause, second.decision, second.promoted_at, second.train_rows) == ("drift", "promoted", MARCH + WEEK, 6_000)
    assert (second.auc_before, second.auc_after) == (0.70, 0.74)
    assert (third.cause, third.decision, third.promoted_at, third.gate) == ("performance", "rejected", None, "no better")


def test_a_good_demo_has_nothing_to_complain_of() -> None:
    assert find_losses(evidence()) == []
    assert unmet_goals(evidence()) == []


def test_what_went_missing_is_said_with_both_figures() -> None:
    short = replace(evidence(), counts=Counts(predictions=999, labels=900, joined=898))
    assert find_losses(short) == [
        "predictions_archived is 999, but 1000 were answered",
        "labels_joined is 898, but 900 were sent",
    ]


def test_a_retraining_by_hand_does_not_pass_for_the_loops_own() -> None:
    by_hand = replace(evidence(), retrains=[a_run(1, "event-1", automated=False)])
    assert find_losses(by_hand) == ["1 of 2 trainings and promotions were started by an automation"]
    assert unmet_goals(by_hand) == ["no retraining was started by an automation"]


def test_a_loop_that_did_not_help_is_said() -> None:
    worse = replace(evidence(), comparisons={window_at(MARCH, WEEK): comparison(0.6, 0.7)})
    assert unmet_goals(worse) == ["auc_loop is 0.6, not above auc_static, 0.7"]


def test_no_window_with_labels_gives_no_metric_rather_than_zero() -> None:
    summary = summary_of(replace(evidence(), comparisons={}, pooled=None))
    assert (summary["auc_loop"], summary["logloss_static"], summary["pooled_auc_loop"]) == (None, None, None)


def test_a_metric_that_one_window_lacks_is_averaged_over_the_others() -> None:
    single_class = Comparison(Metrics(rows=9, values={"log_loss": 0.1}), Metrics(rows=9, values={"log_loss": 0.1}))
    assert mean_of([comparison(0.7, 0.6), single_class], "loop", "auc") == 0.7


METRICS = """# TYPE perennial_predictions_total counter
perennial_predictions_total 1200.0
# TYPE perennial_labels_total counter
perennial_labels_total 34.0
# TYPE perennial_model_version gauge
perennial_model_version{pid="10"} 3.0
perennial_model_version{pid="11"} 2.0
# TYPE perennial_model_swapped_timestamp_seconds gauge
perennial_model_swapped_timestamp_seconds{pid="10"} 1700000001.5
perennial_model_swapped_timestamp_seconds{pid="11"} 1700000000.5
"""


def test_a_version_serves_when_every_worker_answers_with_it() -> None:
    assert read_metrics(METRICS).version == 2
    assert read_metrics(METRICS.replace("} 2.0", "} 3.0")).version == 3


def test_the_last_worker_to_swap_is_the_one_that_counts() -> None:
    assert read_metrics(METRICS).swapped_at == datetime.fromtimestamp(1_700_000_001.5, UTC)


def test_counters_are_read_and_a_service_without_a_model_has_version_0() -> None:
    assert (read_metrics(METRICS).predictions, read_metrics(METRICS).labels) == (1_200, 34)
    assert read_metrics("") == ServiceMetrics()
