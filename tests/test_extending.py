"""The recipes of docs/extending.md, followed literally in a copy of the repository: files, changes, commands."""

import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.processes import ROOT, run_to_end

PAGE = (ROOT / "docs" / "extending.md").read_text()
COPIED = ("perennial", "service", "monitoring", "tasks", "flows", "deployments", "tests", "docs", "examples")
FILES = ("pyproject.toml", "prefect.yaml", "CHANGELOG.md", "requirements.lock")
TIMEOUT = 240.0
STEP = re.compile(r"^(?:(Write|Change) `([^`]+)`:\n\n)?```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

EXPECTED: dict[str, tuple[str, ...]] = {
    "A new signal": ("2 passed", "gap"),
    "A new learner": ("passed",),
    "A new source": ("shop", "binary"),
    "A new flow": ("passed", "deployed", "versions.csv"),
}
"""By recipe: what its commands print, beside ending well."""


@dataclass(frozen=True)
class Recipe:
    """One section of the page: the files that it writes and changes, in order, and the commands that it ends with."""

    title: str
    text: str

    @property
    def steps(self) -> list[tuple[str, str, str, str]]:
        """(verb, path, language, content) of each code block."""
        return STEP.findall(self.text)

    @property
    def touched(self) -> set[str]:
        return {path for _, path, _, _ in self.steps if path}

    @property
    def claimed(self) -> int:
        (number,) = re.findall(r"\*\*It touches (\d+) files", self.text)
        return int(number)

    @property
    def commands(self) -> list[str]:
        return [line[2:] for _, _, language, content in self.steps if language == "console" for line in content.splitlines()]


RECIPES = [Recipe(*section.split("\n", 1)) for section in PAGE.split("\n## ")[1:]]
EVERY_RECIPE = pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.title.replace(" ", "-"))


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The repository, to be changed."""
    target = tmp_path / "copy"
    for name in COPIED:
        shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(ROOT / name, target / name)
    return target


@pytest.fixture
def shell(copy: Path, tmp_path: Path, prefect_api: str) -> Callable[[str], str]:
    """Runs a command in the copy, as a person does in a checkout, and gives what it prints."""
    path = f"{ROOT / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    own = {"PATH": path, "PYTHONPATH": str(copy), "PERENNIAL_HOME": str(tmp_path / "var"), "PREFECT_API_URL": prefect_api}

    return lambda command: run_to_end(["bash", "-c", command], copy, {**os.environ, **own}, TIMEOUT)


@EVERY_RECIPE
def test_a_recipe_does_what_it_says_when_it_is_followed(recipe: Recipe, copy: Path, shell: Callable[[str], str]) -> None:
    for verb, path, _, content in recipe.steps:
        if verb:
            follow(verb, copy / path, content)
    python = " ".join(sorted(path for path in recipe.touched if path.endswith(".py")))
    shell(f"ruff check {python} && ruff format --check {python}")
    printed = "".join(shell(command) for command in recipe.commands)
    assert not [text for text in EXPECTED[recipe.title] if text not in printed], printed


@EVERY_RECIPE
def test_a_recipe_touches_as_many_files_as_it_says(recipe: Recipe) -> None:
    assert recipe.claimed == len(recipe.touched)


def test_a_signal_is_three_files_at_most() -> None:
    (signal,) = [recipe for recipe in RECIPES if recipe.title == "A new signal"]
    assert signal.claimed <= 3


def test_every_recipe_has_commands_and_something_that_it_must_show() -> None:
    assert [recipe.title for recipe in RECIPES] == list(EXPECTED)
    assert all(recipe.commands for recipe in RECIPES)


def follow(verb: str, file: Path, content: str) -> None:
    """Write a new file, or change one as the diff says."""
    if verb == "Write":
        assert not file.exists(), f"{file} is there already"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    else:
        file.write_text(changed(file.read_text(), content))


def changed(text: str, diff: str) -> str:
    """The text with the diff applied; the lines that the diff shows as they are must stand there once."""
    lines = [line or " " for line in diff.splitlines()]
    before = "".join(f"{line[1:]}\n" for line in lines if line[0] in " -")
    after = "".join(f"{line[1:]}\n" for line in lines if line[0] in " +")
    assert text.count(f"\n{before}") == 1, f"this stands {text.count(before)} times:\n{before}"
    return text.replace(f"\n{before}", f"\n{after}", 1)
