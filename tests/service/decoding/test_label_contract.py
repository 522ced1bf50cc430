"""Labels told by clients: taken as the task asks, in the stored form, or named with row, column, value and expectation."""

import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perennial.errors import RequestError
from perennial.labels import LabelCodec
from perennial.record import LabelBatch
from perennial.spec import Task
from service.decoding.label_contract import LabelContract
from service.errors import ServiceError
from tests.service.decoding.test_json_rows import ANYTHING

NOW = datetime(2024, 3, 1, 12, tzinfo=UTC)


def labels(*given_rows: Any, task: Task = "binary") -> LabelBatch:
    return LabelContract("small", lambda: LabelCodec(task)).decode(json.dumps({"labels": given_rows}).encode(), 10, NOW)


@pytest.mark.parametrize(
    ("task", "good", "stored"),
    [
        ("binary", [True, False, 0, 1, 1.0], [True, False, False, True, True]),
        ("multiclass", ["a", 3, True], ["a", "3", "true"]),
        ("regression", [-1, 2.5], [-1.0, 2.5]),
    ],
)
def test_labels_of_the_task_are_taken(task: Task, good: list[Any], stored: list[Any]) -> None:
    batch = labels(*({"id": number, "label": label} for number, label in enumerate(good)), task=task)
    assert (batch.model, batch.received_at) == ("small", NOW)
    assert batch.ids == tuple(str(number) for number in range(len(good)))
    assert [(type(one), one) for one in batch.labels] == [(type(one), one) for one in stored]
    assert set(batch.event_times) == {None}


def test_the_time_at_which_the_truth_became_known_is_in_utc() -> None:
    batch = labels(
        {"id": "a", "label": 1, "event_time": "2024-02-01T10:00:00+02:00"}, {"id": "b", "label": 0, "event_time": None}
    )
    assert batch.event_times == (datetime(2024, 2, 1, 8, tzinfo=UTC), None)


@pytest.mark.parametrize(
    ("task", "row", "column", "message"),
    [
        ("binary", {"id": "a", "label": 2}, "label", "row 1, column 'label': 2, expected true, false, 1 or 0"),
        ("binary", {"id": "a", "label": "ja"}, "label", "'ja', expected true, false, 1 or 0"),
        ("binary", {"id": "a", "label": 0.5}, "label", "0.5, expected"),
        ("regression", {"id": "a", "label": True}, "label", "True, expected a finite number"),
        ("regression", {"id": "a", "label": "1"}, "label", "'1', expected a finite number"),
        ("multiclass", {"id": "a", "label": ""}, "label", "'', expected the name of a class"),
        ("multiclass", {"id": "a", "label": ["a"]}, "label", "a list of 1, expected the name of a class"),
        ("binary", {"id": "a"}, "label", "column 'label' is missing, expected true, false, 1 or 0"),
        ("binary", {"id": "a", "label": None}, "label", "None, expected true, false, 1 or 0"),
        ("binary", {"label": 1}, "id", "column 'id' is missing, expected a text of 1 to 256 characters"),
        ("binary", {"id": "", "label": 1}, "id", "'', expected a text of 1 to 256 characters"),
        ("binary", {"id": "a", "label": 1, "event_time": "x"}, "event_time", "'x', expected a time in ISO 8601"),
        ("binary", {"id": "a", "lable": 1}, "lable", "unknown column 'lable'; did you mean 'label'?"),
    ],
)
def test_a_wrong_label_is_named(task: Task, row: dict[str, Any], column: str, message: str) -> None:
    with pytest.raises(RequestError) as caught:
        labels({"id": "first", "label": "x" if task == "multiclass" else 1}, row, task=task)
    assert (caught.value.row, caught.value.column) == (1, column)
    assert message in str(caught.value)


@given(ANYTHING, st.sampled_from(["binary", "multiclass", "regression"]))
def test_no_json_label_is_an_error_of_ours(value: Any, task: Any) -> None:
    with suppress(RequestError, ServiceError):
        labels({"id": "a", "label": value, "event_time": value}, task=task)


def test_too_many_labels_are_too_large() -> None:
    with pytest.raises(ServiceError, match="11 rows in one request, expected at most 10"):
        LabelContract("small", lambda: LabelCodec("binary")).decode(
            orjson.dumps({"labels": [{"id": "a", "label": 1}] * 11}), max_rows=10, now=NOW
        )
