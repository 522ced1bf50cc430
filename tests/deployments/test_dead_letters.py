"""`perennial dead-letters`: what was put aside is listed, shown whole, sent again and deleted from the command line."""

from pathlib import Path

import pytest
import redis

from deployments.cli import run
from monitoring.consumer import StreamConsumer
from service.prediction_log.streams import append, labels_stream, predictions_stream
from tests.support.models import write_small

LONG = b'{"format": 1, "model": "small", "row": "' + b"x" * 200 + b'"}'


@pytest.fixture
def spec(tmp_path: Path, store: redis.Redis, store_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The spec of a model of which two entries were put aside."""
    monkeypatch.setenv("PERENNIAL_HOME", str(tmp_path / "var"))
    monkeypatch.setenv("REDIS_URL", store_url)
    consumer = StreamConsumer(store, "small")
    consumer.ensure_groups()
    append(store, predictions_stream("small"), LONG)
    append(store, labels_stream("small"), b"[bold]no labels")
    consumer.read()
    return str(write_small(tmp_path))


def ids(spec: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    assert run(["dead-letters", spec]) == 0
    return [line.split()[0] for line in capsys.readouterr().out.splitlines() if line[:1].isdigit() and "-" in line.split()[0]]


def test_they_are_listed_with_time_reason_and_the_beginning_of_their_text(spec: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["dead-letters", spec]) == 0
    head, first, second, end = capsys.readouterr().out.splitlines()
    assert head.split() == ["id", "put", "aside", "stream", "reason", "text"]
    assert "predictions" in first
    assert "xxx..." in first
    assert "labels" in second
    assert "[bold]no labels" in second
    assert "not a record" in second
    assert end.startswith("2 entries; ")


def test_one_is_shown_whole(spec: str, capsys: pytest.CaptureFixture[str]) -> None:
    first, _ = ids(spec, capsys)
    assert run(["dead-letters", spec, "--show", first]) == 0
    shown = capsys.readouterr().out
    assert LONG.decode() in shown
    assert "no labels" not in shown


def test_they_are_sent_again_and_deleted(spec: str, store: redis.Redis, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = ids(spec, capsys)
    assert run(["dead-letters", spec, "--resend", first]) == 0
    assert "1 sent again" in capsys.readouterr().out
    assert (store.xlen(predictions_stream("small")), ids(spec, capsys)) == (1, [second])
    assert run(["dead-letters", spec, "--delete", "--all"]) == 0
    assert ids(spec, capsys) == []
    assert run(["dead-letters", spec]) == 0
    assert capsys.readouterr().out == "no entry of small was put aside\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--resend"], "say which entries"),
        (["--delete"], "say which entries"),
        (["--resend", "--delete", "--all"], "not both"),
        (["--show", "1-7"], "small has no dead letter 1-7"),
    ],
)
def test_what_is_not_clear_is_asked_for(spec: str, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["dead-letters", spec, *arguments]) == 1
    assert said in capsys.readouterr().err
    assert len(ids(spec, capsys)) == 2


def test_without_a_store_it_is_said(spec: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("REDIS_URL")
    assert run(["dead-letters", spec]) == 1
    assert "set REDIS_URL" in capsys.readouterr().err
