"""The secrets of the compose file: made once, all that are asked for, and rights in the store that are enough and no more."""

import os
import subprocess
from pathlib import Path

import pytest
import redis
import yaml

from service.prediction_log import streams
from tests.clusters.check import COMPOSE, COMPOSE_FILES
from tests.support.processes import free_port, running, wait_ready
from tests.support.store import valkey_binary


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("secrets")
    make(directory)
    return directory


def make(directory: Path) -> str:
    command = [str(COMPOSE_FILES / "make-secrets"), str(directory)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_every_secret_that_is_asked_for_is_made_and_what_is_there_stays(secrets: Path) -> None:
    asked = {Path(one["file"]).name for one in yaml.safe_load(COMPOSE.read_text())["secrets"].values()}
    before = {path.name: path.read_text() for path in secrets.iterdir()}
    assert asked <= set(before)
    assert make(secrets).startswith("0 made")
    assert {path.name: path.read_text() for path in secrets.iterdir()} == before
    assert secrets.stat().st_mode & 0o077 == 0


def test_a_file_with_a_variables_name_becomes_the_variable(secrets: Path) -> None:
    command = ["/bin/sh", str(COMPOSE_FILES / "with-secrets"), "env"]
    environ = {"PATH": os.environ["PATH"], "SECRETS": str(secrets)}
    done = subprocess.run(command, env=environ, check=True, capture_output=True, text=True)
    given = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert given["REDIS_URL"] == (secrets / "REDIS_URL").read_text()
    assert "SENTRY_DSN" not in given, "an empty file is no variable"
    assert "redis_password" not in given


def test_the_stores_user_may_do_what_the_streams_need_and_sees_nothing_else(secrets: Path, tmp_path: Path) -> None:
    port = free_port()
    command = [valkey_binary(), "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--aclfile", str(secrets / "redis_acl")]

    def of(user: str, password: str) -> redis.Redis:
        return redis.Redis(port=port, username=user, password=(secrets / password).read_text(), protocol=2)

    def answers() -> bool:
        try:
            return bool(of("perennial", "redis_password").ping())
        except redis.ConnectionError:
            return False

    with running(command, tmp_path / "log") as process:
        wait_ready(process, answers, tmp_path / "log", 20, "valkey")
        store = of("perennial", "redis_password")
        name = streams.predictions_stream("flights")
        store.xadd(name, {"v": 1})
        store.xgroup_create(name, "monitor", id="0")
        assert store.xreadgroup("monitor", "one", {name: ">"})
        assert (store.xlen(name), bool(store.info("server"))) == (1, True)
        assert list(store.scan_iter(match="perennial:*")) == [name.encode()]
        assert store.eval("return redis.call('XLEN', KEYS[1])", 1, name) == 1
        for refused in (["SET", "other", "1"], ["FLUSHALL"], ["CONFIG", "GET", "*"], ["KEYS", "*"]):
            with pytest.raises(redis.exceptions.NoPermissionError):
                store.execute_command(*refused)
        with pytest.raises(redis.AuthenticationError):
            redis.Redis(port=port, protocol=2).ping()
