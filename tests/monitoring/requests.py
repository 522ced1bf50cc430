"""A request to retrain."""

from datetime import timedelta

from monitoring.events import window_event_id
from monitoring.policy import RetrainRequest
from monitoring.window import window_at
from tests.support.models import START

WINDOW = window_at(START, timedelta(days=7))


def request_for(model: str) -> RetrainRequest:
    return RetrainRequest(
        model=model,
        version=3,
        window_start=WINDOW.start,
        window_end=WINDOW.end,
        cause="drift",
        reason="drift 0.2 is over its bound 0.1",
        evidence={"drift": 0.2, "top_features": "amount 0.2"},
        event_id=window_event_id(model, 3, START, WINDOW, "drift"),
    )
