"""The notebooks run from top to bottom, on tables and a model of the tests, and are kept without outputs.

Jupyter is no dependency, so the code cells are run by plain Python in one namespace, in their order; what a cell shows last is
looked at. The cell tagged `parameters` is replaced by the test's own, as papermill does.
"""

import ast
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.support.lived import live
from tests.support.models import TASKS, small_frame
from tests.support.processes import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def cells(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    return [cell for cell in found if cell["cell_type"] == "code"]


def run_notebook(name: str, **parameters: Any) -> dict[str, Any]:
    """The namespace after the last cell; `_shown` in it is what the cells showed last, one for each."""
    space: dict[str, Any] = {"_shown": []}
    for cell in cells(name):
        if "parameters" in cell["metadata"].get("tags", ()) and parameters:
            space |= {"pl": pl, **parameters}
            exec("import perennial", space)
            continue
        tree = ast.parse("".join(cell["source"]))
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, name, "exec"), space)
        if last is not None:
            space["_shown"].append(eval(compile(ast.Expression(last.value), name, "eval"), space))
    return space


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs_and_names_no_machine(path: Path) -> None:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["metadata"]["language_info"]["name"]) == (4, "python")
    assert [cell for cell in notebook["cells"] if cell.get("outputs") or cell.get("execution_count")] == []
    assert str(Path.home()) not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("task", TASKS)
def test_a_table_can_be_explored(task: Any) -> None:
    frame = small_frame(task)
    moved = frame.with_columns(
        amount=pl.when(pl.int_range(pl.len()) > 700).then(pl.col("amount") + 3).otherwise(pl.col("amount"))
    )
    table = moved.with_columns(copy=pl.col("outcome"), constant=pl.lit("x"))
    space = run_notebook("explore_a_table", table=table, TIME="asked_at", TARGET="outcome", ID="row_id")
    assert space["kinds"]["amount"] == "numeric"
    assert space["kinds"]["shop"] == "categorical"
    leaks = dict(space["leaks"].select("column", "explains").iter_rows())
    assert leaks["copy"] > 0.99 > leaks["amount"] > 0.01 > leaks["constant"]
    drift = space["drift"]
    assert drift["week"].is_sorted()
    assert drift["amount"].tail(2).min() > 2 > drift["amount"].head(2).max()
    assert space["windows"].filter(length="7d")["median"].item() == 168
    assert all(shown is not None for shown in space["_shown"])


def test_what_happened_to_a_model_can_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    space = run_notebook("what_happened", MODEL="small", HOME=live(tmp_path).home)
    assert space["versions"].height == 3
    assert space["decisions"].height == 9
    assert space["findings"]["decision"].to_list() == ["drift", "promotion", "none"]
    assert space["calibration"].columns == ["version", "mean score", "mean label"]
    assert "label: has not come" in capsys.readouterr().out
