"""A proxy in the environment: never between us and this machine, and named where something else is not reached."""

import os
import sys
import urllib.request

import httpx
import pytest

from deployments.proxies import describe_proxies, direct_loopback, named_proxy
from perennial.errors import SettingsError
from tests.support.http_server import QuietHandler, http_server

DEAD = "http://user:secret@127.0.0.1:9"


@pytest.fixture
def proxied(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HTTPS_PROXY", DEAD)
    monkeypatch.setenv("NO_PROXY", "inside.example")


def test_proxies_are_told_without_their_passwords() -> None:
    assert describe_proxies({"HTTP_PROXY": DEAD, "NO_PROXY": "x"}) == (
        "HTTP_PROXY=http://***@127.0.0.1:9, but not for this machine"
    )
    assert describe_proxies({"PATH": "/bin"}) == ""


def test_without_a_proxy_nothing_is_changed() -> None:
    assert direct_loopback({"NO_PROXY": "x", "PATH": "/bin", "HTTP_PROXY": ""}) == {}


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "https_proxy", "ALL_PROXY"])
def test_this_machine_is_added_to_what_is_not_proxied(variable: str) -> None:
    direct = direct_loopback({variable: DEAD, "NO_PROXY": "a.example, b.example", "no_proxy": "localhost"})
    assert direct["NO_PROXY"] == direct["no_proxy"] == "localhost,a.example,b.example,127.0.0.1,::1"
    assert direct_loopback({variable: DEAD, "no_proxy": "*"})["NO_PROXY"] == "*"


class Answer(QuietHandler):
    def do_GET(self) -> None:  # noqa: N802 - the base class's name
        self.send_response(204)
        self.end_headers()


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_clients_reach_this_machine_past_a_proxy_that_is_away(
    variable: str, proxied: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, DEAD)
    with http_server(Answer) as url:
        with pytest.raises(httpx.ConnectError):
            httpx.get(url)
        for name, value in direct_loopback(os.environ).items():
            monkeypatch.setenv(name, value)
        assert httpx.get(url).status_code == httpx.get(url.replace("127.0.0.1", "localhost")).status_code == 204
        opener = urllib.request.build_opener()  # urlopen would keep the proxies of its first call for the whole process
        assert opener.open(url).status == 204


def test_the_proxy_of_an_address_that_is_not_reached_is_named_without_its_password(proxied: None) -> None:
    said = named_proxy("the Prefect API at https://api.example/api does not answer (timed out)")
    assert said == " (through the proxy http://***@127.0.0.1:9 of HTTPS_PROXY; NO_PROXY=api.example goes around it)"


@pytest.mark.parametrize(
    "message",
    [
        "nothing is wrong",
        "http://127.0.0.1:4200/api",
        "https://localhost/x",
        "https://inside.example/rows.csv",
        "redis://there:6379",
    ],
)
def test_no_proxy_is_named_where_none_is_used(message: str, proxied: None) -> None:
    assert named_proxy(message) == ""


@pytest.mark.parametrize("value", ["socks://127.0.0.1:1080", "socks5://127.0.0.1:1080", "ftp://user:secret@there"])
def test_a_proxy_that_no_client_can_use_is_named_at_once(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "socksio", None)
    with pytest.raises(
        SettingsError, match=r"^ALL_PROXY=\S+ cannot be used as a proxy \(.+\): correct it, or unset it"
    ) as refused:
        direct_loopback({"ALL_PROXY": value})
    assert "secret" not in str(refused.value)
