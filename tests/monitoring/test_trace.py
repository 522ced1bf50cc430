"""A prediction is followed to what it came from and to what became of it."""

from pathlib import Path

import pytest

from monitoring.trace import Trace, trace_prediction
from perennial.errors import PredictionNotFound
from perennial.registry import Registry
from perennial.settings import Settings
from tests.monitoring.streams import LABEL_DELAY
from tests.support.lived import FIRST, UNLABELLED, WEEK, live
from tests.support.models import small_frame


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return live(tmp_path_factory.mktemp("lived"))


def traced(settings: Settings, id_: str) -> Trace:
    return trace_prediction(settings.model_home("small"), Registry(settings.registry_url), "small", id_)


def test_a_prediction_leads_to_version_data_gate_label_and_window(settings: Settings) -> None:
    row = small_frame(rows=168, seed=11, start=FIRST).row(5, named=True)
    trace = traced(settings, row["row_id"])
    assert (trace.version, trace.event_time, trace.asked) == (1, row["asked_at"], 1)
    assert trace.inputs == {"amount": row["amount"], "shop": row["shop"]}
    assert (trace.card.data.fingerprint, trace.card.cause.kind) == ("f" * 64, "initial")
    assert [(move.alias, move.version) for move in trace.moves] == [("champion", 1)]
    assert trace.truth is not None
    assert trace.truth.label == bool(row["outcome"])
    assert trace.truth.received_at == FIRST + WEEK - (WEEK / 168) + LABEL_DELAY
    assert (trace.window.start, trace.judged_version) == (FIRST, 1)
    assert trace.decision is not None
    assert trace.decision.kind == "drift"


def test_what_has_not_come_is_not_made_up(settings: Settings) -> None:
    trace = traced(settings, UNLABELLED)
    assert (trace.version, trace.truth) == (3, None)
    assert trace.moves[0].evidence["promised"] == -0.1
    assert trace.decision is not None


def test_the_window_of_a_prediction_may_still_be_open(settings: Settings, tmp_path: Path) -> None:
    home = settings.model_home("small")
    kept = home / "windows" / f"{FIRST + 2 * WEEK:%Y%m%dT%H%M%S}.json"
    moved = kept.rename(tmp_path / "away.json")
    try:
        trace = traced(settings, UNLABELLED)
        assert (trace.window.start, trace.decision, trace.judged_version) == (FIRST + 2 * WEEK, None, None)
    finally:
        moved.rename(kept)


def test_an_unknown_id_says_what_the_log_has(settings: Settings) -> None:
    with pytest.raises(PredictionNotFound, match=r"no prediction of small has the id 'nobody'.* from 2024-02-12 to 2024-03-03"):
        traced(settings, "nobody")


def test_an_id_at_another_time_says_which_times_it_has(settings: Settings) -> None:
    home, registry = settings.model_home("small"), Registry(settings.registry_url)
    with pytest.raises(PredictionNotFound, match=r"but not at .*its event times are 2024-03-03T23:00:00"):
        trace_prediction(home, registry, "small", UNLABELLED, FIRST)


def test_a_model_without_a_version_predicted_nothing(tmp_path: Path) -> None:
    with pytest.raises(PredictionNotFound, match=r"'small' has no version .* run `perennial train SPEC`"):
        trace_prediction(tmp_path, Registry(str(tmp_path / "registry")), "small", "x")
