"""API keys as configured: where they come from, which are usable, and that no message quotes one."""

from pathlib import Path

import pytest

from perennial.api_keys import SHORTEST, authorization, configured_keys
from perennial.errors import SettingsError
from perennial.settings import Settings, load_settings

FIRST, SECOND, THIRD = "first-key-of-the-test", "second-key-of-the-test", "third-key-of-the-test"


def settings(keys: str = "", path: Path | None = None) -> Settings:
    return load_settings({"PERENNIAL_API_KEYS": keys, "PERENNIAL_API_KEYS_FILE": str(path or "")})


def test_without_keys_there_are_none() -> None:
    assert configured_keys(settings()) == ()
    assert authorization(settings()) == {}


def test_keys_come_from_the_environment_and_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"# of the other team\n{THIRD}  # until May\n\n{FIRST}\n")
    assert configured_keys(settings(f"{FIRST}, {SECOND},", path)) == (FIRST, SECOND, THIRD)
    assert authorization(settings(path=path)) == {"Authorization": f"Bearer {THIRD}"}


@pytest.mark.parametrize("key", ["short", "x" * 257, "with a blank in the middle", "mit-einem-ümläut-darin"])
def test_an_unusable_key_is_refused_by_its_place_and_not_quoted(key: str, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(f"{FIRST}\n{key}\n")
    for configured in (settings(f"{FIRST},{key}"), settings(path=tmp_path / "keys")):
        with pytest.raises(SettingsError, match=f"key 2 of .* is unusable: expected {SHORTEST} to 256") as caught:
            configured_keys(configured)
        assert key not in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"PERENNIAL_API_KEYS_FILE=.*nowhere cannot be read"):
        configured_keys(settings(path=tmp_path / "nowhere"))


def test_settings_do_not_show_the_keys() -> None:
    assert FIRST not in repr(settings(FIRST))
