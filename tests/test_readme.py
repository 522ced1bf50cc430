"""The README is executed: every command in it, in its order, on one real stack. What it should show stands here beside it."""

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from deployments.stack.state import load_stack
from perennial.settings import FOREIGN, PREFIX, Settings, variable
from perennial.spec import load_spec
from tests.support.prefect_database import prepare_home
from tests.support.processes import ROOT, without_wandb_directories
from tests.support.stack import given_store, perennial

README = (ROOT / "README.md").read_text()
COMMANDS = re.findall(r"^\$ (.+)$", README, re.MULTILINE)
WRITTEN = "http://127.0.0.1:8000"
TIMEOUT = 420


@dataclass(frozen=True)
class Shell:
    """A person's shell in the checkout, with a home of its own; `url` is where `up` has put the service."""

    environ: dict[str, str]
    home: Path

    def run(self, command: str) -> str:
        """What a command prints; fails when it fails."""
        done = subprocess.run(
            ["bash", "-c", command.replace(WRITTEN, self.url)],
            cwd=ROOT,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        assert done.returncode == 0, f"{command}\nended with {done.returncode}:\n{done.stdout[-3_000:]}{done.stderr[-3_000:]}"
        return done.stdout

    @property
    def url(self) -> str:
        """The service's address; the README's own before there is one."""
        stack = load_stack(self.home)
        return stack.service.url if stack is not None and stack.service is not None else WRITTEN


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    home = tmp_path_factory.mktemp("readme") / "var"
    prepare_home(home)
    own = {"PERENNIAL_HOME": str(home), **given_store()}
    with _down_afterwards(own):
        path = f"{ROOT / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
        yield Shell({**without_wandb_directories(os.environ), **own, "PATH": path}, home)


@contextmanager
def _down_afterwards(own: dict[str, str]) -> Iterator[None]:
    try:
        yield
    finally:
        perennial("down", **own)


def shows(*texts: str) -> Callable[[str], None]:
    def check(printed: str) -> None:
        assert not [text for text in texts if text not in printed], printed[-3_000:]

    return check


def predicted(printed: str) -> None:
    answer = json.loads(printed)
    assert (answer["model"], answer["version"]) == ("flights", 1)
    [prediction] = answer["predictions"]
    assert prediction["id"] == "UA1545"
    assert 0 < prediction["score"] < 1
    assert prediction["label"] is (prediction["score"] >= 0.5)


def explained(printed: str) -> None:
    [explanation] = json.loads(printed)["explanations"]
    features = load_spec(ROOT / "examples" / "flights.toml").features
    assert set(explanation["contributions"]) == set(features)


EXPECTED: dict[str, Callable[[str], None]] = {
    "perennial check": shows("flights", "binary"),
    "perennial up": shows("Prefect UI", "service"),
    "perennial train": shows("flights version 1", "always the mean", "promoted", "next"),
    "perennial status": shows("store", "prefect", "worker", "service", "running"),
    "/predict": predicted,
    "/feedback": shows("1"),
    "/explain": explained,
    "/model": shows('"version":1', "trained_at"),
    "/health": shows("flights"),
    "/ready": shows("1"),
    "/metrics": shows("perennial_predictions_total", "perennial_model_version"),
    "/docs": shows("<html"),
    "perennial replay": shows("requests"),
    "perennial retrain": shows("flights version 2", "gate"),
    "perennial promote": shows("flights version", "gate"),
    "perennial rollback": shows("flights version 1 (was "),
    "perennial down": shows(),
    "perennial history": shows("training", "promotion", "rollback", "perennial trace flights ID"),
    "perennial trace": shows("UA1545 at 2013-03-01 05:15:00", "flights version 1", "verdict", "data", "label"),
}
"""By the part of a command that tells it from the others: what it should show."""


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: re.sub(r"\W+", "-", command[:40]))
def test_every_command_of_the_readme_does_what_it_says(shell: Shell, command: str) -> None:
    [check] = [check for part, check in EXPECTED.items() if re.search(rf"{part}( |$)", command)]
    check(shell.run(command))


def test_nothing_is_expected_of_a_command_that_the_readme_no_longer_has() -> None:
    assert not [part for part in EXPECTED if not any(re.search(rf"{part}( |$)", command) for command in COMMANDS)]


@pytest.mark.parametrize("chore", sorted(set(re.findall(r"`make ([a-z]+)", README))))
def test_every_chore_of_the_readme_is_one(chore: str) -> None:
    done = subprocess.run(["make", "-n", chore], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_variable_of_the_readme_is_read_by_something() -> None:
    known = {variable(field) for field in Settings.model_fields} | set(FOREIGN.values()) | {"PREFECT_API_KEY"}
    named = set(re.findall(rf"`((?:{PREFIX}|PREFECT_|REDIS_|WANDB_|SENTRY_)[A-Z_]+)`", README))
    assert named <= known | {PREFIX + "*"}


def test_every_file_of_the_readme_exists() -> None:
    files = [target for target in re.findall(r"\]\(([^)#]+)\)", README) if not httpx.URL(target).scheme]
    assert files
    assert not [target for target in files if not (ROOT / target).exists()]
