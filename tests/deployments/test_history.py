"""`perennial history` and `perennial trace`: what a person reads of a model that has lived, and what a program does."""

import json
from pathlib import Path

import pytest

from deployments.cli import run
from tests.support.lived import DECLINED, FIRST, UNLABELLED, live
from tests.support.models import small_frame, write_small


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return live(tmp_path_factory.mktemp("lived")).home


@pytest.fixture(autouse=True)
def home(lived: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERENNIAL_HOME", str(lived))


def test_history_tells_it_in_order_with_the_newest_last(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["history", "small"]) == 0
    lines = capsys.readouterr().out.splitlines()
    told = [next(i for i, line in enumerate(lines) if text in line) for text in ("initial", "refused", DECLINED, "within bounds")]
    assert told == sorted(told)
    assert "2024-02-12 00:00 to 2024-02-19 00:00: drift 0.3 is over its bound 0.1" in lines[told[0] + 2]
    assert lines[-1] == "window 3, training 3, promotion 2, refusal 1; one prediction in all detail: perennial trace small ID"


def test_history_as_json_has_every_entry(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["history", "small", "--json"]) == 0
    entries = json.loads(capsys.readouterr().out)
    assert len(entries) == 10
    assert entries[2]["decision"] == "drift"
    assert entries[2]["window"]["start"] == "2024-02-12T00:00:00Z"


def test_a_spec_that_was_never_trained_has_no_history(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = write_small(tmp_path)
    spec.write_text(spec.read_text().replace('name = "small"', 'name = "fresh"'))
    assert run(["history", str(spec)]) == 0
    assert capsys.readouterr().out.strip() == f"nothing has happened yet: run `perennial train {spec}`"


def test_trace_shows_origin_and_truth(capsys: pytest.CaptureFixture[str]) -> None:
    row = small_frame(rows=168, seed=11, start=FIRST).row(5, named=True)
    assert run(["trace", "small", row["row_id"]]) == 0
    shown = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert shown["inputs"] == f"amount {row['amount']!r}, shop {row['shop']!r}"
    assert shown["version"].startswith("small version 1, trained 2024-02-11 16:00")
    assert shown["data"].startswith("f" * 16 + ": 1,000 rows")
    assert shown["verdict"] == "champion on 2024-02-11 16:00: test"
    assert shown["label"].startswith(f"{bool(row['outcome'])}, received 2024-02-19 11:00:00")
    assert "drift: drift 0.3 is over its bound 0.1 (event " in shown["window"]
    assert shown["next"].startswith("perennial history small")


def test_trace_as_json_has_the_card(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["trace", "small", UNLABELLED, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["card"]["version"], found["truth"]) == (3, None)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["history", "nothing"], "error: no model 'nothing' in "),
        (["trace", "small", "nobody"], "error: no prediction of small has the id 'nobody'"),
        (["trace", "small", UNLABELLED, "--event-time", "noon"], "error: --event-time 'noon' is not a time"),
    ],
)
def test_what_is_not_there_is_one_line(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 1
    assert capsys.readouterr().err.startswith(said)
