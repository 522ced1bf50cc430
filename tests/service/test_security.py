"""Who gets in, and what is refused before anything looks at it; against a real service with keys."""

import hashlib
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from perennial.errors import SettingsError
from perennial.settings import Settings, load_settings
from service.server import _warn_when_open
from service.web.admission import AccessPolicy
from service.web.routes import RouteTable
from tests.service.serving import Serving, registry_of, rows, serving
from tests.service.test_http_contract import error_of
from tests.service.test_lifecycle import run
from tests.support import models
from tests.support.waiting import wait_until

GIVEN, OLD, NEW = "given-key-of-the-test", "old-key-of-the-test", "new-key-of-the-test"
TIMEOUT = 2.0


@dataclass(frozen=True)
class Guarded:
    """A service with keys from both places; its `docs` are closed and its `metrics` open."""

    serving: Serving
    keys: Path

    def status(self, key: str | None, path: str = "/model") -> int:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return self.serving.client.get(path, headers=headers).status_code

    def raw(self, *parts: bytes) -> bytes:
        """What comes back for bytes on a connection of their own, until the service closes it or has answered."""
        host, port = self.serving.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            for part in parts:
                connection.sendall(part)
            return connection.recv(65_536)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, store_url: str) -> Iterator[Guarded]:
    home = tmp_path_factory.mktemp("guarded")
    models.publish_small(registry_of(home), models.small_model())
    keys = home / "keys"
    keys.write_text(f"{OLD}  # of the test\n")
    access = {"perennial_metrics_access": "open", "perennial_docs_access": "closed"}
    given = {"perennial_api_keys": f"{GIVEN},another-key-of-the-test", "perennial_api_keys_file": keys}
    with serving(home, store_url, perennial_timeout=TIMEOUT, **access, **given) as service:
        yield Guarded(service, keys)


@pytest.mark.parametrize("path", ["/predict", "/explain", "/feedback", "/model", "/docs", "/openapi.json", "/nothing"])
def test_without_a_key_nothing_is_told(guarded: Guarded, path: str) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"X-API-Key": ""}, {"Authorization": f"Basic {GIVEN}"}):
        for method in ("GET", "POST", "OPTIONS"):
            response = guarded.serving.client.request(method, path, headers=headers)
            assert (response.status_code, error_of(response)["code"]) == (401, "unauthorized")
            assert response.headers["www-authenticate"] == 'Bearer realm="perennial"'


def test_probes_need_no_key_and_open_pages_neither(guarded: Guarded) -> None:
    assert [guarded.status(None, path) for path in ("/health", "/ready", "/metrics")] == [200, 200, 200]


@pytest.mark.parametrize(
    "headers", [{"Authorization": f"Bearer {GIVEN}"}, {"authorization": f"bearer  {OLD}"}, {"x-api-key": OLD}]
)
def test_any_key_opens_in_either_header(guarded: Guarded, headers: dict[str, str]) -> None:
    response = guarded.serving.client.post("/predict", json={"instances": rows(1)}, headers=headers)
    assert response.status_code == 200
    assert guarded.serving.client.post("/predict", json={"instances": rows(1)}).status_code == 401


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json", "/docs/oauth2-redirect"])
def test_closed_pages_are_not_there(guarded: Guarded, path: str) -> None:
    assert guarded.status(GIVEN, path) == 404


def test_a_browser_shows_the_page_and_its_reports_with_a_key_as_the_password(guarded: Guarded) -> None:
    client, home, url = guarded.serving.client, guarded.keys.parent / "small", "/models/small/ui/"
    (home / "reports").mkdir(parents=True)
    (home / "page.html").write_text("<h1>small</h1>")
    (home / "reports" / "20240101T000000.html").write_text("<h1>report</h1>")
    (home / "secret.html").write_text("not for browsers")
    asked = client.get("/ui")
    assert (asked.status_code, asked.headers["www-authenticate"].split()[0]) == (401, "Basic")
    led = client.get("/ui", auth=("anyone", GIVEN))
    assert (led.status_code, led.headers["location"]) == (307, url[1:])
    page = client.get(url, auth=("anyone", GIVEN))
    assert (page.text, page.headers["content-type"]) == ("<h1>small</h1>", "text/html; charset=utf-8")
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert client.get(url, headers={"X-API-Key": GIVEN}).status_code == 200
    assert client.get(f"{url}reports/20240101T000000.html", auth=("", GIVEN)).text == "<h1>report</h1>"
    for path in (
        "reports/20240201T000000.html",
        "reports/secret.html",
        "secret.html",
        "reports/..%2fsecret.html",
    ):
        assert client.get(url + path, auth=("", GIVEN)).status_code == 404
    for path in (url, f"{url}reports/20240101T000000.html"):
        assert [client.get(path, auth=("", key)).status_code for key in ("wrong", "")] == [401, 401]
    assert client.get("/model", auth=("anyone", GIVEN)).status_code == 401


def test_keys_rotate_without_a_restart(guarded: Guarded) -> None:
    """First both, then the new one only: no client is without a key in between."""
    assert guarded.status(NEW) == 401
    guarded.keys.write_text(f"{OLD}\n{NEW}\n")
    wait_until(lambda: _always(guarded, NEW, 200), 20, "the new key to open in both processes")
    assert _always(guarded, OLD, 200)
    guarded.keys.write_text(f"{NEW}\n")
    wait_until(lambda: _always(guarded, OLD, 401), 20, "the old key to be worth nothing in both processes")
    assert _always(guarded, NEW, 200)
    guarded.keys.write_text(f"{OLD}\n")
    wait_until(lambda: _always(guarded, OLD, 200), 20, "the file as it was")


def _always(guarded: Guarded, key: str, status: int) -> bool:
    """On connections of their own, so that both processes are asked."""
    url, headers = f"{guarded.serving.url}/model", {"X-API-Key": key}
    return {httpx.get(url, headers=headers).status_code for _ in range(12)} == {status}


def test_pages_of_other_sites_get_no_leave_and_cannot_post(guarded: Guarded) -> None:
    key, ask = {"X-API-Key": GIVEN}, {"instances": rows(1)}
    preflight = {**key, "Origin": "https://elsewhere.example", "Access-Control-Request-Method": "POST"}
    asked = guarded.serving.client.options("/predict", headers=preflight)
    posted = guarded.serving.client.post("/predict", json=ask, headers={**key, "Origin": "https://elsewhere.example"})
    own = guarded.serving.client.post("/predict", json=ask, headers={**key, "Origin": guarded.serving.url})
    assert (asked.status_code, posted.status_code, own.status_code) == (403, 403, 200)
    assert not [name for answer in (asked, posted, own) for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("path", ["/health", "/model", "/nothing"])
def test_no_answer_is_guessed_at_or_kept(guarded: Guarded, path: str) -> None:
    answer = guarded.serving.client.get(path)
    assert (answer.headers["x-content-type-options"], answer.headers["cache-control"]) == ("nosniff", "no-store")
    assert "server" not in answer.headers


HEAD = b"GET /health HTTP/1.1\r\nhost: test\r\n"


@pytest.mark.parametrize(
    "parts",
    [
        [HEAD + b"x: y\r\n" * 120 + b"\r\n"],
        [HEAD + b"x: " + b"y" * 40_000 + b"\r\n\r\n"],
        [HEAD, b"x: ", *[b"y" * 10_000] * 20],
        [b"GET /" + b"y" * 60_000 + b" HTTP/1.1\r\n\r\n"],
    ],
    ids=["many", "large", "endless", "address"],
)
def test_a_head_without_measure_is_refused_while_it_comes(guarded: Guarded, parts: list[bytes]) -> None:
    try:
        answer = guarded.raw(*parts)
    except (BrokenPipeError, ConnectionResetError):
        answer = b"HTTP/1.1 431 said already, and hung up\r\n"  # while the test was still sending
    assert answer.startswith(b"HTTP/1.1 431")
    assert guarded.status(None, "/health") == 200


def test_a_large_head_within_measure_is_served(guarded: Guarded) -> None:
    assert guarded.raw(HEAD + b"x: " + b"y" * 30_000 + b"\r\n", b"\r\n").startswith(b"HTTP/1.1 200")


def test_a_body_that_never_comes_is_given_up_in_time(guarded: Guarded) -> None:
    head = f"POST /predict HTTP/1.1\r\nhost: test\r\nx-api-key: {GIVEN}\r\ncontent-length: 100\r\n\r\n".encode()
    began = time.monotonic()
    answer = guarded.raw(head, b'{"instances"')
    assert answer.startswith(b"HTTP/1.1 504")
    assert b'"code":"timeout"' in answer
    assert time.monotonic() - began >= TIMEOUT


def test_what_is_no_http_is_refused(guarded: Guarded) -> None:
    assert guarded.raw(b"\x16\x03\x01 this is TLS\r\n\r\n").startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize(("access", "status"), [("closed", 404), ("key", 401), ("open", None)])
def test_a_page_is_for_everybody_for_keys_or_for_nobody(access: str, status: int | None) -> None:
    policy = AccessPolicy(load_settings({"PERENNIAL_API_KEYS": GIVEN, "PERENNIAL_METRICS_ACCESS": access}))
    scope = {"path": "/metrics", "method": "GET", "headers": []}
    route = RouteTable(["small"], 1).find("/metrics")
    refused = policy.refusal(scope, route)
    assert (refused and refused.status) == (401 if access == "closed" else status), "without a key nobody learns what is closed"
    refused = policy.refusal({**scope, "headers": [(b"x-api-key", GIVEN.encode())]}, route)
    assert (refused and refused.status) == (404 if access == "closed" else None)


@pytest.mark.parametrize(
    ("environ", "warns"),
    [
        ({}, False),
        ({"PERENNIAL_HOST": "::1"}, False),
        ({"PERENNIAL_HOST": "0.0.0.0"}, True),
        ({"PERENNIAL_HOST": "10.0.0.7"}, True),
        ({"PERENNIAL_HOST": "0.0.0.0", "PERENNIAL_API_KEYS": GIVEN}, False),
    ],
)
def test_being_exposed_without_a_key_is_warned_of(environ: dict[str, str], warns: bool, caplog: pytest.LogCaptureFixture) -> None:
    _warn_when_open(load_settings(environ))
    assert ("without an API key" in caplog.text) == warns


def test_a_default_service_is_on_loopback() -> None:
    assert Settings().host == "127.0.0.1"
    with pytest.raises(SettingsError, match="unusable"):
        AccessPolicy(load_settings({"PERENNIAL_API_KEYS": "short"}))


def test_a_start_with_an_unusable_key_is_one_line_without_the_key(tmp_path: Path, store_url: str) -> None:
    spec = str(models.write_small(tmp_path))
    result = run("--spec", spec, REDIS_URL=store_url, PERENNIAL_API_KEYS="s3cret", PERENNIAL_HOME=str(tmp_path))
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert "key 1 of PERENNIAL_API_KEYS is unusable" in result.stderr
    assert "s3cret" not in result.stderr


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory, store_url: str) -> Iterator[Serving]:
    """A service whose keys have rights, and of which each may send five rows a minute."""
    home = tmp_path_factory.mktemp("limited")
    models.publish_small(registry_of(home), models.small_model())
    keys = f"{OLD}@*:predict,{NEW}@small:feedback,{GIVEN}"
    with serving(home, store_url, perennial_api_keys=keys, perennial_key_rows=5) as service:
        yield service


def ask(service: Serving, key: str, path: str, count: int) -> httpx.Response:
    labels = {"labels": [{"id": f"row-{number}", "label": 1} for number in range(count)]}
    body = labels if path == "/feedback" else {"instances": rows(count)}
    return service.client.post(path, json=body, headers={"X-API-Key": key})


def test_a_key_does_what_it_may_and_nothing_else(limited: Serving) -> None:
    refused = ask(limited, OLD, "/feedback", 1)
    assert (refused.status_code, error_of(refused)["message"]) == (403, "this API key may predict only")
    assert [ask(limited, NEW, path, 1).status_code for path in ("/predict", "/explain", "/models/small/predict")] == [403] * 3
    assert ask(limited, OLD, "/predict", 1).status_code == 200
    assert ask(limited, NEW, "/feedback", 1).status_code == 202
    assert [len(batch.ids) for batch in limited.labels()] == [1]


def test_a_key_over_its_quota_is_told_when_to_come_again_and_the_others_are_answered(limited: Serving) -> None:
    limited.client.headers["X-API-Key"] = GIVEN
    before = rows_by_key(limited)
    assert ask(limited, GIVEN, "/predict", 20).status_code == 200
    for path in ("/predict", "/feedback"):
        refused = ask(limited, GIVEN, path, 1)
        assert (refused.status_code, error_of(refused)["code"]) == (429, "quota")
        assert 100 < int(refused.headers["retry-after"]) <= 192
    assert limited.client.get("/model", headers={"X-API-Key": GIVEN}).status_code == 200, "reading has no quota"
    assert ask(limited, OLD, "/predict", 1).status_code == 200
    assert limited.metric("perennial_requests_total", code="429") == 2
    assert {key: sent - before[key] for key, sent in rows_by_key(limited).items()} == {GIVEN: 20, OLD: 1}


def rows_by_key(service: Serving) -> dict[str, float]:
    names = {key: hashlib.sha256(key.encode()).hexdigest()[:8] for key in (GIVEN, OLD)}
    return {key: service.metric("perennial_key_rows_total", key=name) for key, name in names.items()}
