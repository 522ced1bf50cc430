"""What clients get wrong: each is a 4xx that names the field where there is one, and the workers that said so live on."""

import gzip
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import orjson
import pytest

from service.web.admission import JSON
from tests.service.serving import Serving, registry_of, rows, serving
from tests.service.test_http_contract import error_of
from tests.support import models

GOOD = {"amount": 1.5, "shop": "north"}
DEEP = b"[" * 100_000
TEN_MB = "x" * 10_000_000


class Wrong(NamedTuple):
    """A request, and what it is told."""

    body: bytes
    status: int
    column: str | None = None
    row: int | None = None
    path: str = "/predict"
    headers: tuple[tuple[str, str], ...] = ()


def ask(*given_rows: object) -> bytes:
    return orjson.dumps({"instances": given_rows})


def cell(text: bytes, column: str = "amount") -> bytes:
    """A second row whose cell is these bytes."""
    other = b'"shop": "north"' if column == "amount" else b'"amount": 1'
    return b'{"instances": [{"amount": 1, "shop": "north"}, {%b, "%b": %b}]}' % (other, column.encode(), text)


WRONG = {
    "nothing": Wrong(b"", 422),
    "cut": Wrong(ask(GOOD)[:-8], 422, "shop"),
    "not text": Wrong(b"\xff\xfe\x00", 422),
    "byte order mark": Wrong(b"\xef\xbb\xbf" + ask(GOOD), 422),
    "two documents": Wrong(ask(GOOD) * 2, 422, "shop"),
    "trailing comma": Wrong(b'{"instances": [{"amount": 1, "shop": "north",}]}', 422, "shop"),
    "no object": Wrong(b"17", 422, "instances"),
    "no instances": Wrong(b'{"rows": []}', 422, "instances"),
    "no rows": Wrong(b'{"instances": []}', 422, "instances"),
    "rows no list": Wrong(b'{"instances": {"amount": 1}}', 422, "instances"),
    "a row no object": Wrong(ask(GOOD, [1, "north"]), 422, None, 1),
    "unknown key": Wrong(ask(GOOD)[:-1] + b', "options": 1}', 422, "options"),
    "unknown column": Wrong(ask(GOOD, {**GOOD, "amout": 1}), 422, "amout", 1),
    "missing column": Wrong(ask(GOOD, {"amount": 1}), 422, "shop", 1),
    "text for number": Wrong(ask(GOOD, {**GOOD, "amount": "1.5"}), 422, "amount", 1),
    "boolean for number": Wrong(ask(GOOD, {**GOOD, "amount": True}), 422, "amount", 1),
    "list for number": Wrong(ask(GOOD, {**GOOD, "amount": [1.5]}), 422, "amount", 1),
    "number for text": Wrong(ask(GOOD, {**GOOD, "shop": 7}), 422, "shop", 1),
    "object for text": Wrong(ask(GOOD, {**GOOD, "shop": {"name": "north"}}), 422, "shop", 1),
    "NaN": Wrong(cell(b"NaN"), 422, "amount"),
    "Infinity": Wrong(cell(b"Infinity"), 422, "amount"),
    "-Infinity": Wrong(cell(b"-Infinity"), 422, "amount"),
    "1e400": Wrong(cell(b"1e400"), 422, "amount", 1),
    "10^400": Wrong(cell(b"1" + b"0" * 400), 422, "amount", 1),
    "10^1,000,000": Wrong(cell(b"1" + b"0" * 1_000_000), 422, "amount", 1),
    "half a surrogate": Wrong(cell(b'"\\ud800"', "shop"), 422, "shop"),
    "10 MB text": Wrong(ask(GOOD, {**GOOD, "shop": TEN_MB}), 422, "shop", 1),
    "10 MB id": Wrong(ask({**GOOD, "id": TEN_MB}), 422, "id", 0),
    "10 MB name": Wrong(ask({**GOOD, TEN_MB: 1}), 422, TEN_MB[:80], 0),
    "long name": Wrong(ask({**GOOD, "amout" * 5_000: 1}), 422, ("amout" * 16), 0),
    "20 MB": Wrong(b" " * 20_000_000, 413),
    "deep lists": Wrong(b'{"instances": [{"amount": 1, "shop": ' + DEEP, 422, "shop", 0),
    "deep objects": Wrong(b'{"instances":' * 100_000, 422, "instances"),
    "millions of rows": Wrong(b'{"instances": [' + b"{}," * 4_000_000 + b"{}]}", 413),
    "millions of lists": Wrong(b'{"instances": [' + b"[]," * 4_000_000 + b"[]]}", 422, None, 0),
    "too many rows": Wrong(ask(*[GOOD] * 10_001), 413),
    "too many to explain": Wrong(ask(*[GOOD] * 1_001), 413, path="/explain"),
    "same id twice": Wrong(ask({**GOOD, "id": "a"}, {**GOOD, "id": "b"}, {**GOOD, "id": "a"}), 422, "id", 2),
    "same id as text and number": Wrong(ask({**GOOD, "id": 7}, {**GOOD, "id": "7"}), 422, "id", 1),
    "wrong time": Wrong(ask({**GOOD, "event_time": "yesterday"}), 422, "event_time", 0),
    "time before time": Wrong(ask({**GOOD, "event_time": "0001-01-01T00:00:00+23:00"}), 422, "event_time", 0),
    "form": Wrong(b"amount=1", 415, headers=(("content-type", "application/x-www-form-urlencoded"),)),
    "two types": Wrong(ask(GOOD), 415, headers=(("content-type", "application/json, text/plain"),)),
    "gzip": Wrong(gzip.compress(ask(GOOD)), 415, headers=(("content-encoding", "gzip"),)),
    "gzip cut": Wrong(gzip.compress(ask(GOOD))[:20], 415, headers=(("content-encoding", "gzip"),)),
    "gzip unnamed": Wrong(gzip.compress(ask(GOOD))[:20], 422),
    "deflate bomb": Wrong(zlib.compress(b" " * 10_000_000), 415, headers=(("content-encoding", "deflate"),)),
    "no labels": Wrong(b'{"labels": []}', 422, "labels", path="/feedback"),
    "label without id": Wrong(b'{"labels": [{"label": 1}]}', 422, "id", 0, path="/feedback"),
    "label of no class": Wrong(b'{"labels": [{"id": "a", "label": 7}]}', 422, "label", 0, path="/feedback"),
    "label NaN": Wrong(b'{"labels": [{"id": "a", "label": NaN}]}', 422, "label", path="/feedback"),
}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, store_url: str) -> Iterator[Serving]:
    """With the limits that a service has by default."""
    home = tmp_path_factory.mktemp("malformed")
    models.publish_small(registry_of(home), models.small_model())
    with serving(home, store_url, perennial_workers=2) as running:
        yield running
        assert "starting it again" not in running.log.read_text(), "no process has died of it"
        assert "Traceback" not in running.log.read_text()


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named_and_never_an_error_of_ours(service: Serving, name: str) -> None:
    wrong = WRONG[name]
    response = service.client.post(wrong.path, content=wrong.body, headers={"content-type": JSON, **dict(wrong.headers)})
    error = error_of(response)
    assert (response.status_code, error.get("column"), error.get("row")) == (wrong.status, wrong.column, wrong.row), error
    assert error["message"]
    assert len(response.content) < 1_000, "a refusal does not send the body back"
    assert service.predict(rows(1)).status_code == 200
