"""The list of models, and the removal of one of them: real files, registry and store, and no process."""

import json
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import redis

from deployments.cli import run
from deployments.models import model_rows, models_table
from deployments.removal import plan_removal
from deployments.stack.given_specs import read_specs, unreadable
from deployments.stack.state import Address, HostedModel, Service, Stack, save_stack
from monitoring.state import save_result
from monitoring.trouble import Trouble, write_trouble
from perennial.errors import SpecError
from perennial.registry import Registry
from perennial.settings import Settings
from tests.deployments.replay.test_driver import a_result
from tests.monitoring.streams import serve
from tests.support.models import publish_small, small_frame, small_model, write_small

NOW = small_model().card.trained_at + timedelta(days=3, hours=5)


@pytest.fixture
def settings(tmp_path: Path, store_url: str) -> Settings:
    return Settings(home=tmp_path / "var", redis_url=store_url)


@pytest.fixture
def planned(settings: Settings, tmp_path: Path) -> Stack:
    """A stack of three models that is down: one with a champion and a window, one that is in trouble, one that is new."""
    models = tuple(HostedModel(name=name, spec=tmp_path / f"{name}.toml") for name in ("small", "sick", "new"))
    planned = Stack(
        home=settings.home.absolute(),
        directory=tmp_path,
        socket=tmp_path / "s",
        started_at=NOW,
        store=Address(url=settings.redis_url or ""),
        prefect=Address(url="http://127.0.0.1:9/api"),
        service=Service(host="127.0.0.1", port=9),
        models=models,
    )
    for name in ("small", "sick"):
        named = replace(small_model(), card=small_model().card.model_copy(update={"name": name}))
        publish_small(Registry(settings.registry_url), named)
    save_result(settings.model_home("small"), a_result(reason="within bounds"))
    write_trouble(settings.model_home("sick"), Trouble(since=NOW, reason="the archive is damaged"))
    save_stack(planned)
    return planned


def test_each_model_is_a_row(planned: Stack, settings: Settings) -> None:
    small, sick, new = model_rows(planned, settings, running=False)
    assert (small.champion, small.decision, small.reason) == (1, "none", "within bounds")
    assert (small.window_rows, small.requests, small.url) == (a_result(reason="").findings.rows, None, None)
    assert (sick.champion, sick.trouble) == (1, "the archive is damaged")
    assert (new.champion, new.decision, new.trouble) == (None, "", "")
    shown = [list(column.cells) for column in models_table((small, sick, new), NOW).columns]
    assert shown[:3] == [["small", "sick", "new"], ["version 1", "version 1", "none yet"], ["3d ago", "3d ago", ""]]
    assert shown[4] == ["none: within bounds", "the archive is damaged", "no window yet"]


@pytest.mark.usefixtures("planned")
def test_programs_read_them_as_json(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PERENNIAL_HOME", str(settings.home))
    assert run(["models", "--json"]) == 1, "one of them is in trouble"
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == ["small", "sick", "new"]
    assert datetime.fromisoformat(rows[0]["trained_at"]) == small_model().card.trained_at


@pytest.mark.usefixtures("planned")
def test_a_model_is_removed_with_all_it_has_and_no_other(
    monkeypatch: pytest.MonkeyPatch,
    settings: Settings,
    store: redis.Redis,
    store_url: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PERENNIAL_HOME", str(settings.home))
    monkeypatch.setenv("REDIS_URL", store_url)
    small = small_model()
    serve(store, small, small_frame(rows=24))
    serve(store, replace(small, card=small.card.model_copy(update={"name": "sick"})), small_frame(rows=24))
    monkeypatch.setattr("builtins.input", lambda _question: "n")
    assert run(["remove", "small"]) == 1
    said = capsys.readouterr().out
    assert settings.model_home("small").exists()
    assert "perennial:small:predictions  1 entries" in said
    assert str(settings.model_home("small").absolute()) in said
    assert run(["remove", "small", "--yes"]) == 0
    assert not settings.model_home("small").exists()
    registry = Registry(settings.registry_url)
    assert (registry.aliases("small").champion, registry.aliases("sick").champion) == (None, 1)
    assert settings.model_home("sick").exists()
    assert sorted(store.keys("perennial:*")) == [b"perennial:sick:labels", b"perennial:sick:predictions"]
    assert run(["remove", "small", "--yes"]) == 1
    assert "there is no model 'small'" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["..", ".", "../x", "stack", "registry", "*", "small/..", "Small", ""])
def test_what_is_no_name_of_a_model_removes_nothing(name: str, settings: Settings) -> None:
    (settings.home / "x").mkdir(parents=True)
    (settings.home.parent / "x").mkdir()
    with pytest.raises(SpecError, match="no name of a model"):
        plan_removal(name, settings)


def test_a_directory_gives_its_good_specs_and_names_the_others(tmp_path: Path, settings: Settings) -> None:
    specs = tmp_path / "specs"
    specs.mkdir()
    good = write_small(specs)
    (specs / "twin.toml").write_text(good.read_text())
    (specs / "wrong.toml").write_text("name = 1")
    given = read_specs([specs], settings)
    assert given.models == (HostedModel(name="small", spec=good.absolute()),)
    assert "a second spec of model small" in given.broken[str(specs / "twin.toml")]
    assert "is not a model spec" in given.broken[str(specs / "wrong.toml")]
    assert read_specs([good, good], settings).broken == {}
    with pytest.raises(SpecError, match="is not a model spec"):
        read_specs([good, specs / "wrong.toml"], settings)
    good.unlink()
    assert list(unreadable(given.models, settings)) == ["small"]
    for name in ("twin", "wrong"):
        (specs / f"{name}.toml").unlink()
    with pytest.raises(SpecError, match="holds no spec"):
        read_specs([specs], settings)
