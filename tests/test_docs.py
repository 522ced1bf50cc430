"""The reference in docs/ is what the code says, and the code says something about everything."""

import re
import subprocess
from pathlib import Path

import pytest

from perennial import errors
from perennial.settings import Settings, variable
from perennial.spec import ModelSpec
from tests.support.processes import ROOT, python

REFERENCE = ROOT / "docs" / "reference"
PAGES = [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]


def rows(page: str) -> list[list[str]]:
    """Cells of each table row that documents a key."""
    lines = (REFERENCE / page).read_text().splitlines()
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("| `")]


def test_the_reference_is_current():
    done = subprocess.run(python("docs/generate.py", "--check"), cwd=ROOT, capture_output=True, check=False, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@pytest.mark.parametrize("page", ["spec.md", "settings.md"])
def test_every_key_says_what_it_takes_and_means(page: str):
    assert rows(page)
    assert not [key for key, takes, *_, meaning in rows(page) if not takes or not meaning]


def test_every_variable_is_documented_once():
    documented = [key.strip("`") for key, *_ in rows("settings.md")]
    assert documented == [variable(name) for name in Settings.model_fields]


def test_every_key_of_a_spec_is_documented():
    text = (REFERENCE / "spec.md").read_text()
    assert not [key for key in keys(ModelSpec.model_json_schema()) if f"| `{key}` |" not in text]


def test_every_command_and_option_says_what_it_does():
    from deployments.cli import app

    commands = [name for name in app if not name.startswith("-")]
    page = (REFERENCE / "cli.md").read_text()
    assert not [name for name in commands if f"## perennial {name}\n" not in page or not app[name].help]
    assert not [line for line in page.splitlines() if line.startswith("* `") and ": " not in line.replace("`: [", "")]


def test_the_tree_of_errors_is_drawn_as_it_is():
    drawn = [line.strip("│├└─ ").split()[0] for line in (errors.__doc__ or "").splitlines() if "─ " in line]
    defined = [name for name, kind in vars(errors).items() if isinstance(kind, type) and name != "PerennialError"]
    assert sorted(drawn) == sorted(defined)
    assert all(issubclass(getattr(errors, name), errors.PerennialError) for name in drawn)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_a_page_names_exist(page: Path):
    lines = [line for line in page.read_text().splitlines() if not line.startswith("Write `")]  # what a recipe is about to make
    words = [word for line in lines for word in line.split("`")[1::2]]
    paths = [word for word in words if "/" in word and " " not in word and word.split("/")[0] in ROOMS]
    assert not [path for path in paths if not (ROOT / path).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_of_a_page_lead_to_files_and_headings(page: Path):
    targets = re.findall(r"\]\((?!https?://)([^)]+)\)", page.read_text())
    assert not [target for target in targets if not leads_somewhere(page, target)]


def leads_somewhere(page: Path, target: str) -> bool:
    """Whether a relative link names a file, and a heading that the file has."""
    name, _, anchor = target.partition("#")
    file = (page.parent / name).resolve() if name else page
    if not file.exists() or not anchor:
        return file.exists()
    headings = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
    return anchor in {re.sub(r"[^a-z0-9 _-]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_architecture_names_every_package_and_room():
    page = (ROOT / "docs" / "architecture.md").read_text()
    rooms = [init.parent.relative_to(ROOT) for room in PACKAGES for init in (ROOT / room).rglob("__init__.py")]
    assert not [room for room in rooms if f"`{room}/`" not in page]


def test_a_term_of_the_glossary_has_one_meaning():
    lines = (ROOT / "docs" / "glossary.md").read_text().splitlines()
    terms = [
        line.split("|")[1].strip() for line in lines if line.startswith("| ") and not line.startswith(("| term |", "| word |"))
    ]
    assert terms
    assert sorted(terms) == sorted(set(terms))


def test_the_chores_of_contributing_are_those_of_the_makefile():
    chores = set(re.findall(r"`make ([a-z0-9-]+)", (ROOT / "CONTRIBUTING.md").read_text()))
    assert chores == set(re.findall(r"^([a-z0-9-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE)) - {"help"}


DECISIONS = (ROOT / "docs" / "decisions.md").read_text().split("\n## Traps")[0].split("\n### ")[1:]


@pytest.mark.parametrize("entry", DECISIONS, ids=lambda entry: entry.splitlines()[0])
def test_a_decision_says_whether_it_is_in_force_why_what_follows_and_where(entry: str):
    body = entry.partition("\n\n")[2]
    assert re.match(r"\*\*(In force|Decided, not built)", body)
    assert re.findall(r"^- (\w+):", body, re.MULTILINE) == ["Why", "Consequence", "Where"]


def test_figures_of_the_readme_are_those_of_the_benchmarks():
    measured = (ROOT / "docs" / "benchmarks.md").read_text().splitlines()
    section = (ROOT / "README.md").read_text().split("### How fast")[1].split("\n## ")[0]
    shown = [line for line in section.splitlines() if line.startswith("|")]
    assert shown
    assert not [line for line in shown if line not in measured]


PACKAGES = {"perennial", "service", "monitoring", "tasks", "flows", "deployments"}
ROOMS = {*PACKAGES, "tests", "docs", "examples", "notebooks"}


def keys(schema: dict[str, object]) -> set[str]:
    """Every property name in a JSON schema."""
    found = set(schema["properties"]) if isinstance(schema.get("properties"), dict) else set()
    inner = schema.get("$defs", {})
    return found.union(*(keys(part) for part in inner.values())) if isinstance(inner, dict) else found
