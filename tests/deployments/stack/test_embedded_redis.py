"""The embedded store: which server is chosen."""

from pathlib import Path

import pytest

from deployments.stack.embedded_redis import MIN_VERSION, find_server, server_version, store_command, store_is_up
from tests.support.processes import free_port, running, wait_ready


def program(directory: Path, name: str, version: str) -> Path:
    """A program that says it is a server of that version."""
    path = directory / name
    path.write_text(f"#!/bin/sh\necho 'Redis server v={version}.5 sha=00000000:0'\n")
    path.chmod(0o755)
    return path


def test_a_new_enough_server_on_path_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    redis = program(tmp_path, "redis-server", "7.2")
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert find_server() == redis or find_server().name == "valkey-server"


def test_an_old_server_on_path_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, "redis-server", "5.0")
    program(tmp_path, "valkey-server", "6.0")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert tmp_path not in find_server().parents
    assert server_version(find_server()) >= MIN_VERSION


def test_a_program_that_does_not_say_its_version_is_not_trusted(tmp_path: Path) -> None:
    silent = tmp_path / "redis-server"
    silent.write_text("#!/bin/sh\nexit 0\n")
    silent.chmod(0o755)
    assert server_version(silent) == (0, 0)


def test_the_store_keeps_what_it_was_told_over_a_kill(tmp_path: Path) -> None:
    import redis

    port, log = free_port(), tmp_path / "store.log"
    url, command = f"redis://127.0.0.1:{port}/0", store_command(tmp_path, port)
    with running(command, log) as process:
        wait_ready(process, lambda: store_is_up(url), log, 20, "store")
        with redis.Redis.from_url(url) as client:
            client.xadd("s", {"b": b"1"})
        process.kill()
        process.wait()
    with running(command, log) as process:
        wait_ready(process, lambda: store_is_up(url), log, 20, "store")
        with redis.Redis.from_url(url) as client:
            assert client.xlen("s") == 1


def test_a_store_that_is_not_there_does_not_answer() -> None:
    assert not store_is_up(f"redis://127.0.0.1:{free_port()}/0")
