"""The key ring: rotation by changing a file, and that it locks rather than opens when something is wrong."""

from datetime import timedelta
from pathlib import Path

import pytest

import service.web.auth
from perennial.settings import Settings, load_settings
from service.web.auth import ApiKeyRing

OLD, NEW, GIVEN = b"old-key-of-the-test", b"new-key-of-the-test", b"given-key-of-the-test"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_bytes(OLD + b"\n")
    return path


@pytest.fixture(autouse=True)
def always_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service.web.auth, "CHECK_INTERVAL", timedelta())


def ring(path: Path | None = None, keys: bytes = b"") -> ApiKeyRing:
    return ApiKeyRing(load_settings({"PERENNIAL_API_KEYS": keys.decode(), "PERENNIAL_API_KEYS_FILE": str(path or "")}))


def admitted(keys: ApiKeyRing) -> list[bytes]:
    return [key for key in (OLD, NEW, GIVEN, b"", b"old-key-of-the-tes") if keys.find(key) is not None]


def test_without_keys_none_is_asked_for() -> None:
    assert not ApiKeyRing(Settings()).required
    assert admitted(ApiKeyRing(Settings())) == []


def test_every_key_opens_and_nothing_else(path: Path) -> None:
    keys = ring(path, GIVEN)
    assert keys.required
    assert admitted(keys) == [OLD, GIVEN]


def test_a_changed_file_counts_at_once_and_the_environment_stays(path: Path) -> None:
    keys = ring(path, GIVEN)
    path.write_bytes(OLD + b"\n" + NEW)
    assert admitted(keys) == [OLD, NEW, GIVEN]
    path.write_bytes(NEW)
    assert admitted(keys) == [NEW, GIVEN]


def test_a_file_put_in_its_place_counts(path: Path) -> None:
    """So do Kubernetes and editors write: another file of the same name."""
    keys = ring(path)
    other = path.with_name("other")
    other.write_bytes(NEW + b"\n")
    other.replace(path)
    assert admitted(keys) == [NEW]


def test_an_emptied_file_locks(path: Path) -> None:
    keys = ring(path)
    path.write_bytes(b"# nobody\n")
    assert keys.required
    assert admitted(keys) == []


def test_a_file_that_is_gone_or_unusable_changes_nothing_and_is_logged(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    keys = ring(path)
    path.write_bytes(b"short")
    assert admitted(keys) == [OLD]
    path.unlink()
    assert admitted(keys) == [OLD]
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"], "once per change, not once per request"
    path.write_bytes(NEW)
    assert admitted(keys) == [NEW]


def test_a_key_for_every_model_that_is_served_opens_all(path: Path) -> None:
    path.write_text(f"{OLD.decode()}@bike+taxi\n{NEW.decode()}@bike\n")
    settings = load_settings({"PERENNIAL_API_KEYS_FILE": str(path)})
    keys = ApiKeyRing(settings, ["bike", "taxi"])
    opens = [keys.find(key) for key in (OLD, NEW)]
    assert [[grant is not None and grant.may_ask(name) for name in ("bike", "taxi", "")] for grant in opens] == [
        [True, True, True],
        [True, False, False],
    ]


def test_a_key_for_a_model_that_is_not_served_is_logged(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.write_text(f"{OLD.decode()}@bkie\n")
    ApiKeyRing(load_settings({"PERENNIAL_API_KEYS_FILE": str(path)}), ["bike"])
    assert "an API key is for bkie, which this service does not serve" in caplog.text
    assert OLD.decode() not in caplog.text
