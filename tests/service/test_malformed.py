"""What clients get wrong: each is a 4xx that names the field where there is one, and the workers that said so live on."""

import gzip
import io
import random
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import orjson
import polars as pl
import pytest

from service.bodies import ARROW, JSON
from tests.service.conftest import TRANSPORTS
from tests.service.serving import Serving, registry_of, rows, serving
from tests.service.test_contract import error_of
from tests.support import models

GOOD = {"amount": 1.5, "shop": "north"}
DEEP = b"[" * 100_000
TEN_MB = "x" * 10_000_000
MUTATIONS = 200
"""Arrow streams with bytes changed at random; SEED makes them the same in every run."""
SEED = 5


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


def arrow(columns: dict[str, Any], **how: Any) -> bytes:
    stream = io.BytesIO()
    pl.DataFrame(columns).write_ipc_stream(stream, **{"compression": "uncompressed", **how})
    return stream.getvalue()


def as_arrow(body: bytes, status: int, column: str | None = None, row: int | None = None) -> Wrong:
    return Wrong(body, status, column, row, headers=(("content-type", ARROW),))


TABLE = arrow({"amount": [1.0, 2.0], "shop": ["north", "east"]})
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
    "unknown key": Wrong(b'{"instances": [{}], "options": 1}', 422, "options"),
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
    "1e400": Wrong(cell(b"1e400"), 422, "amount"),
    "10^400": Wrong(cell(b"1" + b"0" * 400), 422, "amount"),
    "10^1,000,000": Wrong(cell(b"1" + b"0" * 1_000_000), 422, "amount"),
    "half a surrogate": Wrong(cell(b'"\\ud800"', "shop"), 422, "shop"),
    "10 MB text": Wrong(ask(GOOD, {**GOOD, "shop": TEN_MB}), 422, "shop", 1),
    "10 MB id": Wrong(ask({**GOOD, "id": TEN_MB}), 422, "id", 0),
    "10 MB name": Wrong(ask({**GOOD, TEN_MB: 1}), 422, TEN_MB[:80], 0),
    "long name": Wrong(ask({**GOOD, "amout" * 5_000: 1}), 422, ("amout" * 16), 0),
    "20 MB": Wrong(b" " * 20_000_000, 413),
    "deep lists": Wrong(b'{"instances": [{"amount": 1, "shop": ' + DEEP, 422, "shop"),
    "deep objects": Wrong(b'{"instances":' * 100_000, 422),
    "millions of rows": Wrong(b'{"instances": [' + b"{}," * 4_000_000 + b"{}]}", 413),
    "millions of lists": Wrong(b'{"instances": [' + b"[]," * 4_000_000 + b"[]]}", 413),
    "too many rows": Wrong(ask(*[GOOD] * 10_001), 413),
    "too many to explain": Wrong(ask(*[GOOD] * 1_001), 413, path="/explain"),
    "same id twice": Wrong(ask({**GOOD, "id": "a"}, {**GOOD, "id": "b"}, {**GOOD, "id": "a"}), 422, "id", 2),
    "same id as text and number": Wrong(ask({**GOOD, "id": 7}, {**GOOD, "id": "7"}), 422, "id", 1),
    "same key twice": Wrong(b'{"instances": [{"amount": 1, "shop": "north", "amount": 2}]}', 422, "amount"),
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
    "label twice": Wrong(b'{"labels": [{"id": "a", "label": 0, "label": 1}]}', 422, "label", path="/feedback"),
    "arrow: nothing": as_arrow(b"", 422),
    "arrow: JSON": as_arrow(ask(GOOD), 422),
    "arrow: cut": as_arrow(TABLE[:-60], 422),
    "arrow: file": as_arrow(b"ARROW1\0\0" + TABLE, 422),
    "arrow: compressed": as_arrow(arrow({"amount": [1.0] * 9_000, "shop": ["north"] * 9_000}, compression="zstd"), 422),
    "arrow: no rows": as_arrow(arrow({"amount": [], "shop": []}), 422),
    "arrow: too many rows": as_arrow(arrow({"amount": [1.0] * 10_001, "shop": ["north"] * 10_001}), 413),
    "arrow: missing column": as_arrow(arrow({"amount": [1.0]}), 422, "shop", 0),
    "arrow: unknown column": as_arrow(arrow({"amount": [1.0], "shop": ["north"], "amout": [1]}), 422, "amout", 0),
    "arrow: NaN": as_arrow(arrow({"amount": [1.0, float("nan")], "shop": ["north"] * 2}), 422, "amount", 1),
    "arrow: infinity": as_arrow(arrow({"amount": [1.0, float("inf")], "shop": ["north"] * 2}), 422, "amount", 1),
    "arrow: texts": as_arrow(arrow({"amount": ["1"], "shop": ["north"]}), 422, "amount", 0),
    "arrow: lists": as_arrow(arrow({"amount": [[1.0]], "shop": ["north"]}), 422),
    "arrow: same id twice": as_arrow(arrow({"amount": [1.0] * 2, "shop": ["north"] * 2, "id": ["a", "a"]}), 422, "id", 1),
    "arrow: 10 MB text": as_arrow(arrow({"amount": [1.0], "shop": [TEN_MB]}), 422, "shop", 0),
    "arrow: 10 MB category": as_arrow(
        arrow({"amount": [1.0, 2.0], "shop": pl.Series(["a", TEN_MB], dtype=pl.Categorical)}), 422, "shop", 1
    ),
    "arrow: 10 MB id": as_arrow(arrow({"amount": [1.0], "shop": ["north"], "id": [TEN_MB]}), 422, "id", 0),
    "arrow: to explain": Wrong(TABLE, 415, path="/explain", headers=(("content-type", ARROW),)),
}


@pytest.fixture(scope="module", params=TRANSPORTS)
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, store_url: str) -> Iterator[Serving]:
    """With the limits that a service has by default."""
    home = tmp_path_factory.mktemp("malformed")
    models.publish_small(registry_of(home), models.small_model())
    with serving(home, store_url, perennial_api_servers=2, perennial_transport=request.param) as running:
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


def test_no_change_of_an_arrow_stream_is_an_error_of_ours(service: Serving) -> None:
    chance, seen, worker = random.Random(SEED), set(), service.worker().pid
    for _ in range(MUTATIONS):
        body = bytearray(TABLE)
        for _ in range(chance.randint(1, 4)):
            body[chance.randrange(len(body))] = chance.randrange(256)
        seen.add(service.client.post("/predict", content=bytes(body), headers=(("content-type", ARROW),)).status_code)
    assert seen <= {200, 413, 422}
    assert seen >= {200, 422}
    assert service.worker().pid == worker
    assert service.predict(rows(1)).status_code == 200
