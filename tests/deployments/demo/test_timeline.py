"""The timeline page: whole in one file, and everything that happened is on it."""

from datetime import UTC, datetime, timedelta

from deployments.demo.timeline import TimelineMark, TimelineWindow, draw

MONDAY = datetime(2013, 3, 4, tzinfo=UTC)
TABLE = [["version", "cause"], ["1", "initial"], ["2", "<drift>"]]


def weeks(metrics: tuple[str, ...] = ("auc", "log_loss")) -> list[TimelineWindow]:
    return [
        TimelineWindow(
            start=MONDAY + timedelta(days=7 * number),
            end=MONDAY + timedelta(days=7 * number + 7),
            version=1,
            rows=6_000,
            labelled=5_900,
            drift=0.1 * number,
            bound=0.15,
            decision="drift" if number == 2 else "none",
            loop=dict.fromkeys(metrics, 0.7),
            static=dict.fromkeys(metrics, 0.6),
        )
        for number in range(3)
    ]


def marks() -> list[TimelineMark]:
    kinds = ("event", "retraining", "promotion", "refusal")
    return [TimelineMark(at=MONDAY + timedelta(days=20), kind=kind, text=f"a {kind} of note") for kind in kinds]  # type: ignore[arg-type]


def test_the_page_needs_no_network() -> None:
    page = draw("A year of flights", "what happened", weeks(), marks(), TABLE)
    assert "<script src=" not in page
    assert "<link" not in page
    assert "Plotly.newPlot" in page


def test_drift_its_bound_both_sides_and_every_happening_are_drawn() -> None:
    page = draw("A year of flights", "what happened", weeks(), marks(), TABLE)
    for text in (
        "AUC (higher is better)",
        "Log loss (lower is better)",
        "frozen first model",
        '"name":"bound"',
        '"name":"drift"',
    ):
        assert text in page
    for mark in marks():
        assert mark.text in page


def test_what_came_from_outside_is_escaped() -> None:
    page = draw("<b>A year</b>", "what happened", weeks(), marks(), TABLE)
    assert "<td>&lt;drift&gt;</td>" in page
    assert "<b>A year</b>" not in page


def test_a_regression_gets_its_own_metrics() -> None:
    page = draw("Bikes", "", weeks(("rmse", "mae")), marks(), TABLE)
    assert "RMSE (lower is better)" in page
    assert "AUC (higher is better)" not in page


def test_a_replay_without_windows_still_has_a_page() -> None:
    assert "Plotly.newPlot" in draw("Nothing yet", "", [], [], TABLE)
