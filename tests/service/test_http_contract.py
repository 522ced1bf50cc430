"""The HTTP contract of every address, against a real service."""

import gzip
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import polars as pl
import pytest

from perennial.model import Model
from perennial.spec import Task
from service.decoding.responses import ExplainResponse, PredictResponse
from tests.service.serving import Serving, registry_of, rows, serving
from tests.support import models
from tests.support.waiting import wait_until


def frame_of(sent: list[dict[str, Any]]) -> pl.DataFrame:
    """What a client sent, as a table of the model."""
    times = [datetime.fromisoformat(row["event_time"]) for row in sent]
    columns = {"amount": [row["amount"] for row in sent], "shop": [row["shop"] for row in sent]}
    asked = pl.Series("asked_at", times, dtype=pl.Datetime("us")).dt.replace_time_zone("UTC")
    return pl.DataFrame(columns).with_columns(asked)


def error_of(response: httpx.Response) -> dict[str, Any]:
    body = response.json()
    assert set(body) == {"error"}, "every refusal has the same form"
    error: dict[str, Any] = body["error"]
    return error


@pytest.mark.parametrize("count", [1, 20, 300])
def test_predict_answers_what_the_model_says(service: Serving, count: int) -> None:
    sent = rows(count)
    answer = PredictResponse.model_validate_json(service.predict(sent).content)
    model = models.small_model()
    assert (answer.model, answer.version) == ("small", 1)
    assert [one.id for one in answer.predictions] == [row["id"] for row in sent]
    np.testing.assert_allclose([one.score for one in answer.predictions], model.predict_frame(frame_of(sent)), rtol=1e-12)
    assert [one.label for one in answer.predictions] == [one.score >= 0.5 for one in answer.predictions]


def test_predict_has_exactly_the_keys_of_the_contract(service: Serving) -> None:
    body = service.predict(rows(1)).json()
    assert set(body) == {"model", "version", "predictions"}
    assert set(body["predictions"][0]) == {"id", "score", "label"}


def test_every_prediction_is_in_the_log_with_what_was_asked(service: Serving) -> None:
    sent = rows(5, start=10_000)
    scores = [one["score"] for one in service.predict(sent).json()["predictions"]]
    batches = wait_until(lambda: [batch for batch in service.logged() if "row-10000" in batch.ids], 10, "the batch to be logged")
    (batch,) = batches
    places = [batch.ids.index(row["id"]) for row in sent]  # an entry may hold the rows of other requests too
    assert (batch.model, batch.version) == ("small", 1)
    assert [batch.scores[place] for place in places] == scores
    assert set(batch.columns) == {"amount", "shop"}
    for name, cells in batch.columns.items():
        assert [cells[place] for place in places] == [row[name] for row in sent]
    assert batch.event_times[places[1]] == datetime(2024, 1, 1, 1, tzinfo=UTC)


def test_a_row_and_a_label_from_before_1970_are_logged_at_their_time(service: Serving) -> None:
    moment = datetime(1949, 3, 2, 5, 30, 0, 250_000, tzinfo=UTC)
    asked = {"id": "of 1949", "event_time": moment.isoformat(), "amount": 1, "shop": "north"}
    assert service.predict([asked]).status_code == 200
    told = {"labels": [{"id": "of 1949", "label": True, "event_time": moment.isoformat()}]}
    assert service.post("/feedback", orjson.dumps(told)).status_code in (200, 202)
    found = lambda batches: [batch for batch in batches if "of 1949" in batch.ids]  # noqa: E731
    (batch,) = wait_until(lambda: found(service.logged()), 10, "the prediction to be logged")
    (labels,) = wait_until(lambda: found(service.labels()), 10, "the label to be logged")
    assert batch.event_times[batch.ids.index("of 1949")] == moment
    assert labels.event_times[labels.ids.index("of 1949")] == moment


def test_a_row_without_id_and_time_gets_both(service: Serving) -> None:
    before = datetime.now(UTC)
    (one,) = service.predict([{"amount": 1, "shop": "north"}]).json()["predictions"]
    (batch,) = wait_until(lambda: [batch for batch in service.logged() if one["id"] in batch.ids], 10, "the batch to be logged")
    assert before <= batch.event_times[batch.ids.index(one["id"])] <= datetime.now(UTC)


def test_unknown_categories_and_nulls_are_served_and_counted(service: Serving) -> None:
    names = ("perennial_unknown_categories_total", "perennial_nulls_total")
    before = [service.metric(name, feature="shop") for name in names]
    response = service.predict([{"amount": 1, "shop": "mars"}, {"amount": 1, "shop": None}])
    assert response.status_code == 200
    assert [service.metric(name, feature="shop") for name in names] == [count + 1 for count in before]


def test_explanations_sum_to_the_raw_score(service: Serving) -> None:
    sent = rows(3)
    answer = ExplainResponse.model_validate_json(service.post("/explain", orjson.dumps({"instances": sent})).content)
    assert (answer.model, answer.version) == ("small", 1)
    for one in answer.explanations:
        raw = one.base + sum(one.contributions.values())
        assert 1 / (1 + np.exp(-raw)) == pytest.approx(one.score)
        assert set(one.contributions) == {"amount", "shop"}


def test_feedback_is_in_the_labels_stream_when_it_is_accepted(service: Serving) -> None:
    body = {"labels": [{"id": "row-1", "label": 1, "event_time": "2024-01-03T00:00:00Z"}, {"id": 2, "label": False}]}
    response = service.client.post("/feedback", json=body)
    assert (response.status_code, response.json()) == (202, {"accepted": 2})
    batch = service.labels()[-1]
    assert (batch.ids, batch.labels) == (("row-1", "2"), (1, False))
    assert batch.event_times == (datetime(2024, 1, 3, tzinfo=UTC), None)


def test_model_describes_the_champion(service: Serving) -> None:
    info, card = service.client.get("/model").json(), models.small_model().card
    assert (info["model"], info["version"], info["task"]) == ("small", 1, "binary")
    assert datetime.fromisoformat(info["trained_at"]) == card.trained_at
    assert info["data"]["rows"] == card.data.rows
    assert datetime.fromisoformat(info["data"]["until"]) == card.data.until
    assert info["metrics"]["values"] == card.metrics.values
    assert info["cause"]["kind"] == "initial"
    assert info["inputs"] == {"amount": "float", "shop": "string"}


def test_health_and_ready_say_which_version(service: Serving) -> None:
    assert service.client.get("/health").json() == {"status": "ok", "model": "small", "champion": 1}
    assert service.client.get("/ready").json()["version"] == 1


def test_metrics_count_what_a_client_counts(service: Serving) -> None:
    ok = {"route": "/predict", "code": "200"}
    requests, predictions = service.metric("perennial_requests_total", **ok), service.metric("perennial_predictions_total")
    for _ in range(20):  # more than one process answers
        service.predict(rows(3))
    assert service.metric("perennial_requests_total", **ok) == requests + 20
    assert service.metric("perennial_predictions_total") == predictions + 60
    wait_until(lambda: service.versions() == [1, 1], 30, "both workers to answer with version 1")
    assert service.metric("perennial_model_swapped_timestamp_seconds") > 1e9


def test_the_documentation_has_every_body(service: Serving) -> None:
    document = service.client.get("/openapi.json").json()
    forms = document["components"]["schemas"]
    assert {"PredictRequest", "PredictResponse", "ExplainResponse", "FeedbackRequest", "LabelRow", "ModelInfo"} <= set(forms)
    references = set(_references(document))
    assert references <= {f"#/components/schemas/{name}" for name in forms}, "no reference leads nowhere"
    assert set(document["paths"]) == {"/predict", "/explain", "/feedback", "/model", "/health", "/ready", "/metrics"}
    assert service.client.get("/docs").status_code == 200


def _references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if "$ref" in node else []
        return own + [reference for value in node.values() for reference in _references(value)]
    return [reference for value in node for reference in _references(value)] if isinstance(node, list) else []


GOOD = {"amount": 1, "shop": "north"}
MALFORMED: list[tuple[str, bytes, int]] = [
    *[(path, b"", 422) for path in ("/predict", "/explain", "/feedback")],
    *[(path, b'{"instances": [' + b"[" * 50_000, 422) for path in ("/predict", "/explain", "/feedback")],
    ("/predict", b'{"instances": [{"amount": NaN, "shop": "north"}]}', 422),
    ("/predict", b'{"instances": [{"amount": 1e400, "shop": "north"}]}', 422),
    ("/predict", b'{"instances": [{"amount": 123456789012345678901234567890, "shop": 1}]}', 422),
    ("/predict", b"\xff\xfe", 422),
    ("/predict", b'{"rows": []}', 422),
    ("/predict", orjson.dumps({"instances": []}), 422),
    ("/predict", orjson.dumps({"instances": [[1, 2]]}), 422),
    ("/predict", orjson.dumps({"instances": [GOOD, {"amount": "1", "shop": "north"}]}), 422),
    ("/predict", orjson.dumps({"instances": [GOOD, {"amount": 1}]}), 422),
    ("/predict", orjson.dumps({"instances": [{**GOOD, "extra": 1}]}), 422),
    ("/predict", orjson.dumps({"instances": [{**GOOD, "shop": {"deep": []}}]}), 422),
    ("/predict", orjson.dumps({"instances": [{**GOOD, "id": "a"}, {**GOOD, "id": "a"}]}), 422),
    ("/predict", orjson.dumps({"instances": [{**GOOD, "id": "x" * 300}]}), 422),
    ("/predict", orjson.dumps({"instances": [{**GOOD, "event_time": "soon"}]}), 422),
    ("/predict", orjson.dumps({"instances": [{**GOOD, "shop": "x" * 600_000}]}), 413),
    ("/predict", orjson.dumps({"instances": [{}] * 10_001}), 413),
    ("/explain", orjson.dumps({"instances": [{}] * 10_001}), 413),
    ("/feedback", orjson.dumps({"labels": [{}] * 10_001}), 413),
    ("/feedback", orjson.dumps({"labels": [{"id": "a", "label": 3}]}), 422),
    ("/feedback", orjson.dumps({"labels": [{"label": 1}]}), 422),
]


@pytest.mark.parametrize(("path", "body", "status"), MALFORMED)
def test_a_malformed_body_is_refused_and_never_an_error_of_ours(service: Serving, path: str, body: bytes, status: int) -> None:
    response = service.post(path, body)
    assert response.status_code == status, response.text
    assert error_of(response)["message"]
    assert "Traceback" not in response.text
    assert len(response.content) < 1_000, "a refusal does not send the body back"


def test_a_wrong_value_is_named_with_row_column_value_and_expectation(service: Serving) -> None:
    error = error_of(service.predict([GOOD, {"amount": "much", "shop": "north"}]))
    assert (error["code"], error["row"], error["column"]) == ("invalid_request", 1, "amount")
    assert "'much'" in error["message"]
    assert "a finite number" in error["message"]


def test_a_huge_body_is_refused_whether_or_not_its_length_is_announced(service: Serving) -> None:
    def chunks() -> Any:
        for _ in range(20):
            yield b"x" * 100_000

    announced = service.post("/predict", b"x" * 2_000_000)
    streamed = service.client.post("/predict", content=chunks(), headers={"content-type": "application/json"})
    assert (announced.status_code, streamed.status_code) == (413, 413)


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "x" * 500]
)
def test_another_content_type_is_refused(service: Serving, kind: str) -> None:
    response = service.post("/predict", orjson.dumps({"instances": [GOOD]}), kind)
    assert (response.status_code, error_of(response)["code"]) == (415, "not_json")


def test_a_compressed_body_is_refused(service: Serving) -> None:
    body = gzip.compress(orjson.dumps({"instances": [GOOD]}))
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    assert service.client.post("/predict", content=body, headers=headers).status_code == 415


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/predict", 405), ("DELETE", "/model", 405), ("GET", "/nothing", 404)]
)
def test_unknown_addresses_and_methods_have_the_form_of_a_refusal(service: Serving, method: str, path: str, status: int) -> None:
    response = service.client.request(method, path)
    assert (response.status_code, bool(error_of(response)["code"])) == (status, True)


def test_a_refused_request_is_not_logged(service: Serving) -> None:
    service.predict([{**GOOD, "id": "never"}, {"amount": "x", "shop": "north", "id": "never-2"}])
    sent = rows(1, start=20_000)
    service.predict(sent)
    wait_until(lambda: "row-20000" in service.logged_ids(), 10, "a later prediction to be logged")
    assert not {"never", "never-2"} & set(service.logged_ids())


@pytest.mark.parametrize("task", ["regression", "multiclass"])
def test_every_task_is_served_by_the_same_code(task: Task, tmp_path: Path, store_url: str) -> None:
    model = models.small_model(task)
    models.publish_small(registry_of(tmp_path), model)
    sent = rows(3, start=30_000)
    expected = model.predict_frame(frame_of(sent))
    with serving(tmp_path, store_url, task) as service:
        predictions = service.predict(sent).json()["predictions"]
        explained = service.post("/explain", orjson.dumps({"instances": sent})).json()["explanations"]
        assert service.client.post("/feedback", json={"labels": [{"id": "a", "label": _truth(task)}]}).status_code == 202
        wait_until(lambda: "row-30000" in service.logged_ids(), 10, "the predictions to be logged")
        _check(task, model, expected, predictions, explained)


def _truth(task: Task) -> object:
    return 3.5 if task == "regression" else "middle"


def _check(task: Task, model: Model, expected: Any, predictions: list[Any], explained: list[Any]) -> None:
    if task == "regression":
        assert [set(one) for one in predictions] == [{"id", "score"}] * 3
        np.testing.assert_allclose([one["score"] for one in predictions], expected)
        sums = [one["base"] + sum(one["contributions"].values()) for one in explained]
        np.testing.assert_allclose(sums, expected)
        return
    assert [set(one) for one in predictions] == [{"id", "score", "label", "scores"}] * 3
    np.testing.assert_allclose([list(one["scores"].values()) for one in predictions], expected)
    assert [one["label"] for one in predictions] == [model.card.classes[index] for index in expected.argmax(axis=1)]
    assert [one["label"] for one in explained] == [one["label"] for one in predictions]
