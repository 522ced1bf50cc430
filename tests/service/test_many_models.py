"""One service for several models: each has its addresses, versions, log, keys and places, and none touches another's."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from perennial.registry import Registry
from service.prediction_log.streams import labels_stream
from tests.service.serving import Serving, registry_of, rows, serving_specs
from tests.support import models
from tests.support.waiting import wait_until

WHOLE, OF_BIKE, OF_TWO = "key-of-the-whole-service", "key-of-bike-and-no-other", "key-of-flights-and-taxi"
NAMES = ("bike", "flights", "taxi")
MAX_IN_FLIGHT = 8
EVERYTHING = {"authorization": f"Bearer {WHOLE}"}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, store_url: str) -> Iterator[Serving]:
    """Three models; taxi has no version yet."""
    home = tmp_path_factory.mktemp("many")
    for name in ("bike", "flights"):
        models.publish_small(registry_of(home), models.named_model(name))
    specs = [models.write_named(home, name) for name in NAMES]
    keys = f"{WHOLE},{OF_BIKE}@bike,{OF_TWO}@flights+taxi"
    with serving_specs(
        home, store_url, specs, perennial_api_keys=keys, perennial_max_in_flight=MAX_IN_FLIGHT, perennial_max_body_mb=0.2
    ) as running:
        running.client.headers.update(EVERYTHING)
        yield running


def predict(service: Serving, model: str, count: int = 1, start: int = 0, key: str = WHOLE) -> httpx.Response:
    headers = {"authorization": f"Bearer {key}"}
    return service.client.post(f"/models/{model}/predict", json={"instances": rows(count, start)}, headers=headers)


def test_each_model_answers_at_its_own_address_and_logs_to_its_own_stream(service: Serving) -> None:
    for start, name in ((100, "bike"), (200, "flights")):
        answer = predict(service, name, 2, start).json()
        assert (answer["model"], answer["version"]) == (name, 1)
        wait_until(lambda name=name, start=start: f"row-{start}" in service.logged_ids(name), 20, "the log to be written")
    assert not {"row-200"} & set(service.logged_ids("bike"))
    explained = service.client.post("/models/bike/explain", json={"instances": rows(1)})
    assert explained.json()["model"] == "bike"
    told = service.client.post("/models/bike/feedback", json={"labels": [{"id": "row-100", "label": 1}]})
    assert (told.status_code, told.json()) == (202, {"accepted": 1})
    assert [batch.ids for batch in service.labels("bike")] == [("row-100",)]
    assert not service.store.exists(labels_stream("flights"))
    assert [service.client.get(f"/models/bike{path}").json()["model"] for path in ("", "/model")] == ["bike", "bike"]


def test_what_has_no_version_says_so_and_takes_nothing_from_the_others(service: Serving) -> None:
    assert predict(service, "taxi").json()["error"]["code"] == "no_model"
    assert service.client.get("/models/taxi/ready").status_code == 503
    assert service.client.get("/models/bike/ready").json()["version"] == 1
    ready = service.client.get("/ready").json()
    assert set(ready["ready"]) >= {"bike"}
    assert "no version of 'taxi'" in ready["not_ready"]["taxi"]
    assert service.client.get("/health").json()["champions"]["taxi"] is None


def test_short_addresses_and_unknown_names_are_told_where_to_ask(service: Serving) -> None:
    for path in ("/predict", "/feedback"):
        answer = service.client.post(path, json={"instances": rows(1)})
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
        assert f"/models/bike{path}, /models/flights{path}" in answer.json()["error"]["message"]
    for answer in (predict(service, "none"), service.client.get("/models/none"), service.client.get("/models/none/ready")):
        assert answer.status_code == 404
        assert "no model is called 'none'; this service has bike, flights, taxi" in answer.json()["error"]["message"]
    assert service.client.get("/models/bike/predict").status_code == 405


def test_the_list_says_what_each_is_and_how_much_it_was_asked(service: Serving) -> None:
    def listed() -> dict[str, dict[str, object]]:
        return {one["name"]: one for one in service.client.get("/models").json()["models"]}

    before = listed()
    predict(service, "bike")
    after = listed()
    assert after["bike"] == {"name": "bike", "version": 1, "ready": True, "requests": int(str(before["bike"]["requests"])) + 1}
    assert after["flights"]["requests"] == before["flights"]["requests"]
    assert (after["taxi"]["version"], after["taxi"]["ready"]) == (None, False)


def test_metrics_are_labelled_by_model(service: Serving) -> None:
    before = service.metric("perennial_predictions_total", model="flights")
    predict(service, "flights", 7)
    assert service.metric("perennial_predictions_total", model="flights") == before + 7
    assert service.metric("perennial_requests_total", model="flights", route="/predict", code="200") > 0
    assert service.metric("perennial_model_version", model="bike") == 1


def test_a_key_opens_the_models_that_it_names(service: Serving) -> None:
    assert predict(service, "bike", key=OF_BIKE).status_code == 200
    refused = predict(service, "flights", key=OF_BIKE)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "forbidden")
    assert refused.json()["error"]["message"] == "this API key is for 'bike' only"
    assert [predict(service, name, key=OF_TWO).status_code for name in NAMES] == [403, 200, 503]
    limited = {"authorization": f"Bearer {OF_TWO}"}
    assert [one["name"] for one in service.client.get("/models", headers=limited).json()["models"]] == ["flights", "taxi"]
    assert [service.client.get(path, headers=limited).status_code for path in ("/metrics", "/docs", "/ready")] == [403, 403, 200]
    assert predict(service, "bike", key="key-that-nobody-was-given").status_code == 401


def test_a_bad_version_of_one_model_leaves_the_others_as_they_are(service: Serving) -> None:
    registry: Registry = service.registry
    models.publish_small(registry, models.named_model("bike", seed=1))
    wait_until(lambda: predict(service, "bike").json()["version"] == 2, 30, "bike's next version to answer")
    third = models.publish_small(registry, models.named_model("bike", seed=2), promote=False)
    (Path(registry.url) / "models" / "bike" / "versions" / str(third) / "model.json").write_text("{")
    now = models.small_model().card.trained_at
    registry.promote("bike", "champion", third, expect=2, reason="test", now=now)
    wait_until(lambda: service.client.get("/models/bike").json()["refused"], 30, "the damaged version to be refused")
    assert predict(service, "bike").json()["version"] == 2, "the one before answers on"
    assert predict(service, "flights").json()["version"] == 1
    assert service.client.get("/models/flights").json()["refused"] is None
    assert service.metric("perennial_versions_refused_total", model="flights") == 0


def test_a_flood_of_one_model_leaves_places_to_the_others(service: Serving) -> None:
    with ExitStack() as held:
        for _ in range(MAX_IN_FLIGHT):
            held.enter_context(unfinished(service.url, "flights"))
        wait_until(lambda: predict(service, "flights").status_code == 503, 20, "flights to be full")
        busy = predict(service, "flights")
        assert (busy.json()["error"]["code"], busy.headers["retry-after"]) == ("busy", "1")
        assert "'flights' are in flight; the other models keep their share" in busy.json()["error"]["message"]
        assert predict(service, "bike").status_code == 200
    wait_until(lambda: predict(service, "flights").status_code == 200, 20, "the flood to be over")


def test_each_model_has_a_description_of_its_own(service: Serving) -> None:
    document = service.client.get("/models/bike/openapi.json").json()
    assert document["servers"] == [{"url": "/models/bike"}]
    assert set(document["paths"]) == {"/predict", "/explain", "/feedback", "/model", "/ready"}
    assert set(document["components"]["schemas"]["Row"]["required"]) == {"amount", "shop"}
    whole = service.client.get("/openapi.json").json()
    assert set(whole["paths"]) == {
        *(f"/models/{{name}}{path}" for path in document["paths"]),
        *("/models", "/health", "/ready", "/metrics"),
    }
    (name,) = whole["paths"]["/models/{name}/predict"]["post"]["parameters"]
    assert name["schema"]["enum"] == list(NAMES)
    assert "/models/bike/openapi.json" in service.client.get("/models/bike/docs").text


@contextmanager
def unfinished(url: str, model: str) -> Iterator[None]:
    """A request whose body lacks its last byte; one that finds no place is answered, and its connection is left alone."""
    host, port = url.removeprefix("http://").split(":")
    head = f"POST /models/{model}/predict HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {WHOLE}\r\ncontent-length: 2\r\n"
    with socket.create_connection((host, int(port)), timeout=20) as client:
        client.sendall(f"{head}content-type: application/json\r\n\r\n{{".encode())
        yield
