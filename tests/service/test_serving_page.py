"""docs/serving.md says what the service does: its addresses, metrics, limits, codes and variables, all of them and no others."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest

from perennial.api_keys import LONGEST as LONGEST_KEY
from perennial.api_keys import SHORTEST
from perennial.settings import Settings, variable
from service import heads, shape
from service.guard import DOCS, MEASURED
from service.inference import EXPLAIN_ROWS
from service.requests import MAX_ID
from tests.service.serving import Serving, rows
from tests.support import models
from tests.support.processes import ROOT

PAGE = (ROOT / "docs" / "serving.md").read_text()


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def quoted(pattern: str, text: str = PAGE) -> set[str]:
    return set(re.findall(f"`({pattern})`", text))


def test_every_address_is_there() -> None:
    assert {word.split()[-1] for word in quoted("(?:GET|POST) /[a-z]+", section("Addresses"))} == MEASURED | (DOCS & {"/docs"})


def test_every_metric_is_there(service: Serving) -> None:
    service.predict([*rows(1), {"amount": None, "shop": "mars"}])
    service.client.post("/feedback", json={"labels": [{"id": "a", "label": 1}]})
    shown = set(re.findall(r"^# TYPE (\S+)", service.client.get("/metrics").text, re.MULTILINE))
    assert quoted("perennial_[a-z_]+", section("Metrics")) == shown


def test_every_variable_is_one() -> None:
    assert quoted("PERENNIAL_[A-Z_]+") <= {variable(name) for name in Settings.model_fields}


def test_limits_are_those_of_the_code() -> None:
    limits, defaults = section("Limits"), Settings()
    for number in (defaults.max_rows, defaults.max_in_flight, shape.LONGEST, MAX_ID, shape.DEEPEST, heads.MOST):
        assert f" {number:,}" in limits, number
    assert f"{defaults.max_body_mb:g} MB" in limits
    assert f"| {defaults.timeout:g} s |" in limits
    assert f"{heads.LARGEST // 1024} KB" in limits
    assert f"{heads.PATIENCE:g} s to come" in limits
    assert f"bodies up to {shape.SMALL // 1024} KB" in limits
    assert f"up to {EXPLAIN_ROWS:,} rows" in section("Addresses")
    assert f"has {SHORTEST} to {LONGEST_KEY} characters" in section("Keys")


def test_the_example_of_many_rows_runs(service: Serving, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [example] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    models.small_frame(rows=2_000).select("amount", "shop").write_parquet(tmp_path / "rows.parquet")
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}
    exec(example.replace("http://127.0.0.1:8000", service.url), found)
    assert found["scores"].columns == ["id", "score", "label", "model", "version"]
    assert found["scores"].height == 2_000


@pytest.mark.parametrize("path", sorted((ROOT / "service").glob("*.py")), ids=lambda path: path.stem)
def test_every_code_of_an_error_is_there(path: Path) -> None:
    codes = {code for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call) for code in _codes(node)}
    # `gone` is told to a client that is not there, `not_found` and its like are HTTP's own words.
    assert path.stem != "guard" or codes >= {"unauthorized", "cross_origin"}
    assert codes - {"gone", "not_found"} <= quoted("[a-z_]+", section("Addresses"))


def _codes(call: ast.Call) -> list[str]:
    """The word for programs in `Refused(status, code, ...)`, `unavailable(code, ...)` and `Problem(code=...)`."""
    name = call.func.id if isinstance(call.func, ast.Name) else ""
    place = {
        "Refused": call.args[1:2],
        "unavailable": call.args[:1],
        "Problem": [one.value for one in call.keywords if one.arg == "code"],
    }
    return [str(one.value) for one in place.get(name, []) if isinstance(one, ast.Constant)]
