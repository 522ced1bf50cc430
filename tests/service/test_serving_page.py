"""docs/serving.md says what the service does: its addresses, metrics, limits, codes and variables, all of them and no others."""

import ast
import re
from pathlib import Path

import pytest

from perennial.settings import LONGEST_KEY, SHORTEST_KEY, Settings, variable
from service.decoding.json_rows import MAX_TEXT
from service.decoding.row_contract import MAX_ID
from service.inference.batcher import SMALL
from service.inference.predictor import EXPLAIN_ROWS
from service.metrics import IGNORED, MISSING
from service.web import http_server, in_flight
from service.web.routes import DOCS, MEASURED, UI
from tests.service.serving import Serving, rows
from tests.support.processes import ROOT

PAGE = (ROOT / "docs" / "serving.md").read_text()


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def quoted(pattern: str, text: str = PAGE) -> set[str]:
    return set(re.findall(f"`({pattern})`", text))


def test_every_address_is_there() -> None:
    assert {word.split()[-1] for word in quoted("(?:GET|POST) /[a-z]+", section("Addresses"))} == MEASURED | {UI} | (
        DOCS & {"/docs"}
    )


def test_every_metric_is_there(service: Serving) -> None:
    service.predict([*rows(1), {"amount": None, "shop": "mars"}])
    service.client.post("/feedback", json={"labels": [{"id": "a", "label": 1}]})
    shown = set(re.findall(r"^# TYPE (\S+)", service.client.get("/metrics").text, re.MULTILINE))
    by_contract = {f"{name}_total" for name in (MISSING, IGNORED)}  # they are shown once a version with another contract serves
    by_key = {"perennial_key_rows_total"}  # where there are API keys: see test_security.py
    assert quoted("perennial_[a-z_]+", section("Metrics")) == shown | by_contract | by_key


def test_every_variable_is_one() -> None:
    assert quoted("PERENNIAL_[A-Z_]+") <= {variable(name) for name in Settings.model_fields}


def test_limits_are_those_of_the_code() -> None:
    limits, defaults = section("Limits"), Settings()
    for number in (defaults.max_rows, defaults.max_in_flight, MAX_TEXT, MAX_ID, http_server.MAX_HEADERS):
        assert f" {number:,}" in limits, number
    assert f"{defaults.max_body_mb:g} MB" in limits
    assert f"| {defaults.timeout.total_seconds():g} s |" in limits
    assert f"{http_server.MAX_HEAD // 1024} KB" in limits
    assert f"{http_server.HEAD_TIMEOUT.total_seconds():g} s to come" in limits
    assert f"{in_flight.MAX_BYTES // 1024**2} MB, then 503" in limits
    assert f"beyond {SMALL // 1024} KB" in section("Scale")
    assert f"up to {EXPLAIN_ROWS:,} rows" in section("Addresses")
    assert f"has {SHORTEST_KEY} to {LONGEST_KEY} characters" in section("Keys")


@pytest.mark.parametrize("path", sorted((ROOT / "service").rglob("*.py")), ids=lambda path: path.stem)
def test_every_code_of_an_error_is_there(path: Path) -> None:
    codes = {code for node in ast.walk(ast.parse(path.read_text())) for code in _codes(node)}
    # `gone` is told to a client that is not there, `not_found` and its like are HTTP's own words.
    assert path.stem != "admission" or codes >= {"unauthorized", "cross_origin"}
    assert path.stem != "errors" or codes >= {"too_large", "invalid_request", "unavailable", "internal"}
    assert codes - {"gone", "not_found"} <= quoted("[a-z_]+", section("Addresses"))


def _codes(node: ast.AST) -> list[str]:
    """The word for programs in `ServiceError(status, code, ...)`, `unavailable(code, ...)` and `return status, code`."""
    found: list[ast.expr] = []
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        found = {"ServiceError": node.args[1:2], "unavailable": node.args[:1]}.get(node.func.id, [])
    elif isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple):
        found = node.value.elts[1:]
    return [one.value for one in found if isinstance(one, ast.Constant) and isinstance(one.value, str)]
