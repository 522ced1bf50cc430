"""Three kinds of failures in live parts are three issues in a real Bugsink: `make check-triage`, which installs it."""

import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from deployments.stack import triage
from perennial.registry import CHAMPION
from tests.service.serving import NAME, rows, serving
from tests.support import models
from tests.support.processes import ROOT, free_port, python, running
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif("TEST_TRIAGE" not in os.environ, reason="it installs Bugsink: make check-triage")

SECRET = "Quill Street 7041776"


class Bugsink:
    """A running one, made as `perennial up --triage` makes it."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.dsn = directory, triage.read_dsn(directory)

    def issues(self) -> list[str]:
        """What was raised, one for each issue."""
        with closing(sqlite3.connect(self.directory / "db.sqlite3")) as database:
            found = database.execute("SELECT calculated_type FROM issues_issue").fetchall()
        return [kind for (kind,) in found]

    def everything(self) -> bytes:
        return b"".join(path.read_bytes() for path in self.directory.glob("db.sqlite3*"))


@pytest.fixture(scope="module")
def bugsink(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bugsink]:
    directory, port = Path(os.environ.get("TRIAGE_DIRECTORY") or tmp_path_factory.mktemp("triage")), free_port()
    triage.prepare(directory, port)
    program = triage.program(directory, "triage", port)
    with running(program.command, directory / "triage.log", program.environment, directory):
        wait_until(lambda: triage.answers(port), 180, "Bugsink to answer")
        yield Bugsink(directory)


def test_three_kinds_of_failures_are_three_issues(bugsink: Bugsink, tmp_path: Path, store_url: str) -> None:
    """The service meets a damaged version, then a registry that it cannot read; so does the monitor, and can follow nothing."""
    with serving(tmp_path, store_url, sentry_dsn=bugsink.dsn) as service:
        registry = service.registry
        models.publish_small(registry, models.small_model())
        wait_until(lambda: service.predict(rows(1)).status_code == 200, 60, "the champion to answer")
        bad = models.publish_small(registry, models.small_model(seed=1), promote=False)
        trees = Path(registry.url, "models", NAME, "versions", str(bad), "model.txt")
        trees.write_bytes(trees.read_bytes()[:-100])
        registry.promote(NAME, CHAMPION, bad, expect=1, reason=SECRET, now=models.small_model().card.trained_at)
        wait_until(lambda: "CorruptVersion" in bugsink.issues(), 120, "the damaged version to be an issue")
        newest = max(Path(registry.url, "models", NAME, "moves").iterdir())
        newest.write_text("{")
        Path(registry.url, "models", NAME, "aliases.json").unlink()
        wait_until(lambda: len(bugsink.issues()) == 2, 120, "the registry that cannot be read to be an issue")
    environment = {**os.environ, "SENTRY_DSN": bugsink.dsn, "REDIS_URL": store_url, "PERENNIAL_HOME": str(tmp_path)}
    subprocess.run(python("-c", MONITOR), check=True, env=environment, cwd=ROOT)
    wait_until(lambda: len(bugsink.issues()) == 3, 120, f"three issues, not {bugsink.issues()}")
    assert SECRET.encode() not in bugsink.everything()


MONITOR = """
import os
from perennial.error_reporting import flush, init_error_reporting
from perennial.settings import load_settings
from tests.monitoring.running import run

settings = load_settings({name: os.environ[name] for name in ("SENTRY_DSN", "REDIS_URL", "PERENNIAL_HOME")})
init_error_reporting(settings, "monitoring")
run(settings)
flush(30)
"""
