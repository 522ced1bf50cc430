"""Settings: from the environment only, and a misspelt variable is an error."""

from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError

from perennial.errors import SettingsError
from perennial.settings import (
    FOREIGN,
    PREFIX,
    SHORTEST_KEY,
    KeyGrant,
    Settings,
    authorization,
    configured_grants,
    configured_keys,
    load_settings,
    variable,
)


def test_every_setting_has_a_default_and_needs_no_server():
    settings = load_settings({})
    assert settings == Settings()
    assert (settings.redis_url, settings.prefect_api_url, settings.wandb_api_key, settings.sentry_dsn) == (None, None, None, None)


def test_our_variables_have_our_prefix_and_tools_keep_their_names():
    settings = load_settings(
        {"PERENNIAL_PORT": "9000", "PERENNIAL_HOME": "state", "REDIS_URL": "redis://example.org", "WANDB_API_KEY": "k"}
    )
    assert (settings.port, settings.home, settings.redis_url) == (9000, Path("state"), "redis://example.org")
    assert settings.wandb_api_key is not None
    assert settings.wandb_api_key.get_secret_value() == "k"


def test_every_field_has_exactly_one_variable():
    variables = [variable(field) for field in Settings.model_fields]
    assert len(set(variables)) == len(variables)
    assert all(name.startswith(PREFIX) for name in set(variables) - set(FOREIGN.values()))
    assert set(FOREIGN) <= set(Settings.model_fields)


def test_variables_of_others_are_none_of_our_business():
    assert load_settings({"PATH": "/bin", "PERENNIALS": "1", "REDIS_PASSWORD": "x"}) == Settings()


def test_an_empty_variable_is_as_good_as_none():
    assert load_settings({"PERENNIAL_PORT": "", "REDIS_URL": ""}) == Settings()


def test_a_misspelt_variable_is_an_error_that_suggests_the_right_one():
    with pytest.raises(SettingsError, match="PERENNIAL_PROT is not a setting of Perennial; did you mean PERENNIAL_PORT"):
        load_settings({"PERENNIAL_PROT": "9000"})


def test_an_unrecognisable_variable_lists_the_known_ones():
    with pytest.raises(SettingsError, match=r"known: .*PERENNIAL_HOME.*REDIS_URL"):
        load_settings({"PERENNIAL_XYZZYXYZZY": "1"})


@pytest.mark.parametrize(
    ("name", "value"),
    [("PERENNIAL_PORT", "70000"), ("PERENNIAL_WORKERS", "0"), ("PERENNIAL_LOG_LEVEL", "LOUD"), ("PERENNIAL_TIMEOUT", "soon")],
)
def test_a_malformed_value_names_variable_and_value(name: str, value: str):
    with pytest.raises(SettingsError, match=f"{name}='{value}'"):
        load_settings({name: value})


def test_several_malformed_values_are_told_at_once():
    with pytest.raises(SettingsError) as refused:
        load_settings({"PERENNIAL_PORT": "x", "PERENNIAL_WORKERS": "y"})
    assert str(refused.value).count("PERENNIAL_") == 2


def test_secrets_do_not_show():
    settings = load_settings({"WANDB_API_KEY": "hunter2", "SENTRY_DSN": "https://hunter2@example.org/1"})
    assert "hunter2" not in f"{settings!r} {settings} {settings.model_dump_json()}"


def test_settings_are_frozen():
    with pytest.raises(ValidationError):
        Settings().port = 1


def test_the_registry_is_in_the_home_unless_told_otherwise(tmp_path: Path):
    assert Settings(home=tmp_path).registry_url == str(tmp_path / "registry")
    assert Settings(registry="s3://bucket/models").registry_url == "s3://bucket/models"


def test_a_model_has_its_home_and_a_relative_home_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert Settings().model_home("small") == tmp_path / "var" / "small"


@pytest.mark.parametrize(("text", "seconds"), [("30", 30), ("0.5", 0.5), ("90s", 90), ("2m", 120)])
def test_a_time_is_given_in_seconds_or_as_a_spec_writes_it(text: str, seconds: float):
    assert load_settings({"PERENNIAL_TIMEOUT": text}).timeout == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["0", "-1", "soon", "nan", "1e300"])
def test_a_time_that_is_none_is_refused(text: str):
    with pytest.raises(SettingsError, match=f"PERENNIAL_TIMEOUT='{text}'"):
        load_settings({"PERENNIAL_TIMEOUT": text})


FIRST, SECOND, THIRD = "first-key-of-the-test", "second-key-of-the-test", "third-key-of-the-test"


def with_keys(keys: str = "", path: Path | None = None) -> Settings:
    return load_settings({"PERENNIAL_API_KEYS": keys, "PERENNIAL_API_KEYS_FILE": str(path or "")})


def test_without_keys_there_are_none() -> None:
    assert configured_keys(with_keys()) == ()
    assert authorization(with_keys()) == {}


def test_keys_come_from_the_environment_and_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"# of the other team\n{THIRD}  # until May\n\n{FIRST}\n")
    assert configured_keys(with_keys(f"{FIRST}, {SECOND},", path)) == (FIRST, SECOND, THIRD)
    assert authorization(with_keys(path=path)) == {"Authorization": f"Bearer {THIRD}"}


@pytest.mark.parametrize("key", ["short", "x" * 257, "with a blank in the middle", "mit-einem-ümläut-darin"])
def test_an_unusable_key_is_refused_by_its_place_and_not_quoted(key: str, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(f"{FIRST}\n{key}\n")
    for configured in (with_keys(f"{FIRST},{key}"), with_keys(path=tmp_path / "keys")):
        with pytest.raises(SettingsError, match=f"key 2 of .* is unusable: expected {SHORTEST_KEY} to 256") as caught:
            configured_keys(configured)
        assert key not in str(caught.value)


def test_a_key_may_be_limited_to_models(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"{SECOND}@taxi  # the other team\n{FIRST}\n")
    grants = configured_grants(with_keys(f"{THIRD}@flights+bike-2,{SECOND}@flights,{FIRST}@bike", path))
    assert {key: str(grant) for key, grant in grants.items()} == {
        THIRD: "'bike-2' and 'flights'",
        SECOND: "'flights' and 'taxi'",
        FIRST: "all models",
    }
    assert authorization(with_keys(f"{THIRD}@flights,{SECOND}"), "bike") == {"Authorization": f"Bearer {SECOND}"}
    assert authorization(with_keys(f"{THIRD}@flights,{SECOND}"), "flights") == {"Authorization": f"Bearer {THIRD}"}


def test_a_key_may_be_limited_to_what_it_does() -> None:
    written = f"{FIRST}@flights+bike:predict,{SECOND}@*:feedback,{THIRD}@flights:predict+feedback"
    grants = configured_grants(with_keys(written))
    assert grants[FIRST] == KeyGrant(frozenset({"flights", "bike"}), frozenset({"predict"}))
    assert grants[SECOND] == KeyGrant(None, frozenset({"feedback"}))
    assert [(grant.may("predict"), grant.may("feedback")) for grant in grants.values()] == [
        (True, False),
        (False, True),
        (True, True),
    ]
    assert KeyGrant().may("feedback")
    assert authorization(with_keys(f"{FIRST}@flights:predict,{SECOND}"), "flights") == {"Authorization": f"Bearer {SECOND}"}


@pytest.mark.parametrize("grant", ["@flights:tell", "@*", "@:predict", "@flights:", "@*:predict+"])
def test_a_grant_of_another_form_is_part_of_the_key(grant: str) -> None:
    assert configured_grants(with_keys(FIRST + grant)) == {FIRST + grant: KeyGrant()}


def test_a_key_that_is_given_twice_has_what_both_give_or_is_refused() -> None:
    both = configured_grants(with_keys(f"{FIRST}@flights:predict,{FIRST}@flights:feedback,{SECOND}@a:predict,{SECOND}@b:predict"))
    assert both[FIRST].rights == {"predict", "feedback"}
    assert both[SECOND] == KeyGrant(frozenset({"a", "b"}), frozenset({"predict"}))
    with pytest.raises(SettingsError, match="with other rights: give each a key of its own") as refused:
        configured_grants(with_keys(f"{FIRST}@flights:predict,{FIRST}@bike:feedback"))
    assert FIRST not in str(refused.value)


def test_an_at_sign_without_names_of_models_is_part_of_the_key() -> None:
    assert configured_grants(with_keys("key-of@Some-Body!")) == {"key-of@Some-Body!": KeyGrant()}
    with pytest.raises(SettingsError, match=r"key 1 of .* is unusable"):
        configured_grants(with_keys("short@flights"))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"PERENNIAL_API_KEYS_FILE=.*nowhere cannot be read"):
        configured_keys(with_keys(path=tmp_path / "nowhere"))


def test_settings_do_not_show_the_keys() -> None:
    assert FIRST not in repr(with_keys(FIRST))
