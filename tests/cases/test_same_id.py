"""An id asked about again: both predictions are kept, a label goes to one of them, and what does not fit is listed."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from deployments.labels import label_report
from monitoring.archive import Archive
from perennial.log_columns import EVENT_TIME, ID, LABEL
from perennial.record import LabelBatch, PredictionBatch
from perennial.schema import Column, Schema
from perennial.settings import load_settings
from tests.cases.inputs import copy_case
from tests.monitoring.streams import add_labels, add_predictions

NAME = "same-id-again"
SCHEMA = Schema(
    columns=(Column(name="x", kind="numeric", dtype="float"), Column(name="c", kind="categorical", dtype="string")),
    target="y",
    event_time="ts",
    id="rid",
)
DAY = datetime(2026, 10, 5, 10, tzinfo=UTC)
WEEKS = timedelta(weeks=3)


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path / "var" / NAME, "binary", SCHEMA)


def asked(at: datetime, x: float, name: str = "cust-1", served: datetime | None = None) -> PredictionBatch:
    return PredictionBatch(NAME, 1, served or at, (name,), (at,), {"x": (x,), "c": ("west",)}, (0.5,))


def told(label: bool, at: datetime, known: datetime | None = None, name: str = "cust-1") -> LabelBatch:
    return LabelBatch(NAME, at, (name,), (label,), (known,))


def labels(archive: Archive) -> list[bool | None]:
    return archive.with_labels().collect().sort(EVENT_TIME)[LABEL].to_list()


@pytest.mark.parametrize("known", [True, False], ids=["with event times", "by receipt"])
def test_each_truth_stays_with_its_own_prediction(archive: Archive, *, known: bool) -> None:
    """Case same-id-again, the first customer."""
    first, second = asked(DAY, 2.0), asked(DAY + WEEKS, 3.0)
    delay = timedelta(hours=2)
    add_predictions(archive, [first])
    add_labels(archive, [told(True, DAY + delay, DAY + delay if known else None)])
    assert labels(archive) == [True]
    add_predictions(archive, [second])
    assert labels(archive) == [True, None]
    add_labels(archive, [told(False, DAY + WEEKS + delay, DAY + WEEKS + delay if known else None)])
    assert labels(archive) == [True, False]
    assert archive.with_labels(DAY, DAY + delay).collect()[LABEL].to_list() == [True]
    assert archive.label_issues().is_empty()


def test_the_same_day_again_with_other_values_is_another_prediction(archive: Archive) -> None:
    """Case same-id-again, the second customer."""
    for at, x in ((DAY, 2.0), (DAY + timedelta(hours=8), 3.0), (DAY + timedelta(days=1), 2.0)):
        assert add_predictions(archive, [asked(at, x, "cust-2")]) == 1
    assert archive.scan().collect().height == 3
    assert archive.asked_again(DAY, DAY + timedelta(hours=9)) == 2
    add_labels(archive, [told(True, DAY + WEEKS, DAY + timedelta(hours=9), "cust-2")])
    assert labels(archive) == [None, True, None]


def test_an_entry_that_is_delivered_again_is_one_row(archive: Archive) -> None:
    batch = asked(DAY, 2.0)
    assert add_predictions(archive, [batch, batch]) == 1
    successor = Archive(archive.home, "binary", SCHEMA)
    assert add_predictions(successor, [batch]) == 0
    assert add_predictions(successor, [replace(batch, served_at=DAY + timedelta(days=40))]) == 0, "from a disk queue"


@pytest.mark.parametrize("later", [timedelta(minutes=5), -timedelta(minutes=5)])
def test_a_client_that_tries_again_with_the_same_values_is_answered_twice_and_kept_once(
    archive: Archive, later: timedelta
) -> None:
    midnight = datetime(2026, 10, 5, tzinfo=UTC)
    assert add_predictions(archive, [asked(midnight, 2.0)]) == 1
    assert add_predictions(Archive(archive.home, "binary", SCHEMA), [asked(midnight + later, 2.0)]) == 0
    assert add_predictions(archive, [asked(midnight + later, 2.5)]) == 1


def test_one_id_on_two_days_never_shares_a_label(archive: Archive) -> None:
    """Fault F15: one label on two rows."""
    add_predictions(archive, [asked(DAY, 2.0)])
    add_predictions(archive, [asked(DAY + timedelta(days=3), 2.0)])
    add_labels(archive, [told(True, DAY + timedelta(days=9), DAY + timedelta(days=1))])
    assert labels(archive) == [True, None]
    assert archive.with_labels(DAY + timedelta(days=2)).collect()[LABEL].to_list() == [None]


def test_a_label_with_the_event_time_of_a_prediction_is_about_that_one(archive: Archive) -> None:
    for hour in range(3):
        add_predictions(archive, [asked(DAY + timedelta(hours=hour), float(hour), served=DAY + WEEKS)])
    for hour, label in ((2, True), (0, False)):
        add_labels(archive, [told(label, DAY + WEEKS, DAY + timedelta(hours=hour))])
    assert labels(archive) == [False, None, True]


@pytest.mark.parametrize("known", [DAY - timedelta(days=400), None])
def test_a_label_told_long_before_its_prediction_is_joined_when_that_comes(archive: Archive, known: datetime | None) -> None:
    add_labels(archive, [told(True, DAY - timedelta(days=400), known)])
    assert archive.label_issues()["issue"].to_list() == ["no prediction has this id"]
    add_predictions(archive, [asked(DAY, 2.0)])
    add_predictions(archive, [asked(DAY + WEEKS, 3.0)])
    assert labels(archive) == [True, None]
    assert archive.label_issues().is_empty()


def test_two_labels_of_one_request_for_one_id_are_both_kept(archive: Archive) -> None:
    add_predictions(archive, [asked(DAY, 2.0), asked(DAY + WEEKS, 3.0)])
    both = LabelBatch(NAME, DAY + 2 * WEEKS, ("cust-1",) * 2, (True, False), (DAY, DAY + WEEKS))
    assert add_labels(archive, [both]) == 2
    assert add_labels(archive, [both]) == 0
    assert labels(archive) == [True, False]


def test_what_joins_nothing_and_what_is_contradicted_is_listed(archive: Archive, tmp_path: Path) -> None:
    add_predictions(archive, [asked(DAY, 2.0), asked(DAY, 2.0, "cust-2")])
    hour = timedelta(hours=1)
    add_labels(archive, [told(True, DAY + hour), told(False, DAY + 2 * hour), told(True, DAY + hour, None, "stranger")])
    add_labels(archive, [told(True, DAY + hour, None, "cust-2"), told(True, DAY + 2 * hour, None, "cust-2")])
    issues = archive.label_issues()
    assert issues.select(ID, LABEL, "issue", "answered").rows() == [
        ("cust-1", True, "a later label says otherwise", DAY),
        ("stranger", True, "no prediction has this id", None),
    ]
    rows = archive.with_labels().collect().sort(ID)
    assert rows.select(ID, LABEL, "_contradicted").rows() == [("cust-1", False, True), ("cust-2", True, False)]
    spec = copy_case(NAME, tmp_path)
    settings = load_settings({"PERENNIAL_HOME": str(tmp_path / "var")})
    report = label_report(spec, settings, unmatched=True)
    assert report == [
        "2 predictions",
        "5 labels of 3 ids: True 4, False 1",
        "1 labels of which no prediction has this id",
        "1 labels of which a later label says otherwise",
        "  cust-1  label True, received 2026-10-05 11:00:00: a later label says otherwise of the prediction of "
        "2026-10-05 10:00:00",
        "  stranger  label True, received 2026-10-05 11:00:00: no prediction has this id",
    ]
    assert len(label_report(spec, settings, unmatched=False)) == 4


def test_many_predictions_of_one_id_cost_no_more_than_others(archive: Archive) -> None:
    """A client that calls every row by the same name."""
    rows = 50_000
    times = tuple(DAY + timedelta(seconds=second) for second in range(rows))
    columns = {"x": tuple(float(number) for number in range(rows)), "c": ("west",) * rows}
    batch = PredictionBatch(NAME, 1, DAY, ("all",) * rows, times, columns, (0.5,) * rows)
    assert add_predictions(archive, [batch]) == rows
    assert add_predictions(archive, [batch]) == 0
    labels = LabelBatch(NAME, DAY, ("all",) * rows, (True,) * rows, times)
    assert add_labels(archive, [labels]) == rows
    assert archive.with_labels().collect()[LABEL].null_count() == 0
