"""Doctor: files that the real code wrote are damaged, named with the command that mends them, repaired, and work again."""

import shutil
from pathlib import Path

import pytest
import redis

from deployments.cli import run
from perennial.base import FORMAT
from perennial.model_loading import load_model
from perennial.registry import CHALLENGER
from service.prediction_log.streams import predictions_stream
from tests.deployments.doctor.kinds import (
    KINDS,
    NOW,
    Home,
    aliases_stand,
    cut,
    edit,
    flip,
    newest,
    orphan,
    part,
    spoil,
    state_stands,
)
from tests.support.whole_home import make_home


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which a model has lived three weeks, with a file of every kind."""
    home = tmp_path_factory.mktemp("lived")
    make_home(home)
    return home


@pytest.fixture
def home(lived: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    shutil.copytree(lived, tmp_path / "home")
    monkeypatch.setenv("PERENNIAL_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("REDIS_URL", raising=False)
    return Home(tmp_path / "home")


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


def test_a_home_without_damage_is_well(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor"]) == 0
    assert lines(capsys) == ["nothing is damaged in the files of 1 model (small) and the stack"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_damage_is_named_and_repaired(kind: str, home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    damage, works = KINDS[kind]
    path = damage(home)
    gone = path.read_bytes() if path.is_file() else b""
    assert run(["doctor"]) == 1
    found = lines(capsys)
    assert [line for line in found if line.startswith(f"{path}: ") and line.endswith("--repair")], found
    assert len(found) == 2, "one damage, one line, and what came of it"
    assert run(["doctor", "--repair"]) == 0, lines(capsys)
    repaired = lines(capsys)
    assert repaired[0].startswith(f"{path}: ")
    kept = [one.read_bytes() for one in (home.path / "stack" / "quarantine").rglob("*") if one.is_file()]
    assert not gone or gone in kept or "spool" in kind, "nothing is deleted"
    assert works(home)
    capsys.readouterr()
    assert run(["doctor"]) == 0, lines(capsys)


def test_the_rows_of_a_lost_part_are_told_where_its_footer_knows_them(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    flip(part(home, "predictions"))
    assert run(["doctor", "small", "--repair"]) == 0
    assert "its 24 rows are lost" in capsys.readouterr().out
    cut(part(home, "predictions"))
    assert run(["doctor", "small", "--repair"]) == 0
    assert "how many rows it held is unknown" in capsys.readouterr().out


def test_a_damaged_champion_is_left_to_a_person_and_the_command_mends_it(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    cut(newest(home.versions / "versions/3", "*.txt"))
    assert run(["doctor", "small", "--repair"]) == 1
    first, *_ = lines(capsys)
    assert first.startswith(f"{home.versions / 'versions/3'}: ")
    assert first.endswith("restore it, or perennial rollback SPEC --to 2")
    assert run(["rollback", str(home.path / "small.toml"), "--to", "2"]) == 0
    assert load_model(home.registry, "small", home.registry.aliases("small").champion or 0, home.path).card.version == 2
    assert run(["doctor", "small", "--repair"]) == 0
    assert home.registry.versions("small") == (1, 2)


def test_many_damages_at_once_are_repaired_in_one_run(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    together = ["aliases: garbage", "moves: one is missing", "state: garbage", "archive: a part cut in half", "dataset: base"]
    for kind in together:
        KINDS[kind][0](home)
    assert run(["doctor"]) == 1
    assert len(lines(capsys)) == len(together) + 1
    assert run(["doctor", "--repair"]) == 0
    assert state_stands(home)
    assert aliases_stand(home)


def test_a_rebuilt_rollback_still_keeps_the_version_that_it_withdrew(home: Home) -> None:
    """Its reason is lost, and not that version 3 returns by a person only."""
    home.registry.roll_back("small", 1, expect=3, reason="worse", now=NOW)
    home.registry.promote("small", CHALLENGER, 2, expect=3, reason="test", now=NOW)
    spoil(home.versions / "moves" / "00000006.json")
    assert run(["doctor", "small", "--repair"]) == 0
    assert list(home.registry.withdrawn("small")) == [3]


def test_adopted_rows_go_into_the_stream_where_a_store_answers(
    home: Home, store: redis.Redis, store_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REDIS_URL", store_url)
    orphan(home)
    assert run(["doctor", "small", "--repair"]) == 0
    assert "adopted with 5 rows; 5 rows brought into the stream, 0 lost" in capsys.readouterr().out
    assert store.xlen(predictions_stream("small")) == 5
    assert list(home.spool.iterdir()) == []


def test_what_a_newer_release_wrote_is_not_damaged(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = newest(home.model / "datasets", "*/manifest.json")
    for path in (home.model / "monitor/state.json", newest(home.model / "windows"), manifest):
        edit(path, f'"format": {FORMAT}', f'"format": {FORMAT + 1}')
    assert run(["doctor", "small"]) == 0


@pytest.mark.parametrize("command", [["history", "small"], ["models"], ["status"], ["trace", "small", "row-1"]])
@pytest.mark.parametrize("kind", ["aliases: garbage", "windows", "versions: a file", "archive: a part cut in half"])
def test_a_command_that_meets_a_damaged_file_says_so_without_a_traceback(
    kind: str, command: list[str], home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    KINDS[kind][0](home)
    run(command)
    assert "Traceback" not in capsys.readouterr().err


def test_an_unknown_model_is_named(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "smal"]) == 1
    assert "no model 'smal'" in capsys.readouterr().err
