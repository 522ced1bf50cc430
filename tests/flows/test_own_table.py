"""The page about a person's own table is executed: its commands, in its order, by the command line and the real flows."""

import re
import shlex
from pathlib import Path

import polars as pl
import pytest

from deployments.cli import app, run
from flows.batch_predict import batch_predict
from flows.train import train
from perennial.spec import load_spec
from tests.support.models import small_frame
from tests.support.processes import ROOT

PAGE = (ROOT / "docs" / "own-table.md").read_text()
COMMANDS = [shlex.split(command)[1:] for command in re.findall(r"^\$ (.+)$", PAGE, re.MULTILINE)]


def test_every_command_of_the_page_does_what_it_says(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    table = small_frame("regression", rows=600).rename({"outcome": "amount", "amount": "size"})
    table.write_csv("sales.csv")
    small_frame("multiclass", rows=600).drop("asked_at").rename({"outcome": "answer"}).write_csv("survey.csv")
    for name, *arguments in COMMANDS:
        match name:
            case "init" | "check":
                assert run([name, *arguments]) == 0
                if name == "init":  # few trials: what is told here is that it trains, not how well
                    spec = home / f"{Path(arguments[0]).stem}.toml"
                    spec.write_text(f"{spec.read_text()}\n[search]\ntrials = 1\nmax_rounds = 20\n")
            case "train":
                assert train(str(home / arguments[0])) == 1
            case "predict":
                assert batch_predict(str(home / arguments[0])).file == home / "sales-scores.parquet"
                assert pl.read_parquet("sales-scores.parquet").height == table.height
            case _:
                app.parse_args([name, *arguments])
    survey = load_spec(home / "survey.toml").sources["rows"]
    assert survey.time_from_rows == "1000/day"
    assert {name for name, *_ in COMMANDS} == {"init", "check", "up", "train", "predict", "down"}
