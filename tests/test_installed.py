"""Perennial installed and not cloned: the wheel in an environment of its own, its commands run where there is no checkout.

The directory of the commands is empty but for a table.
"""

import re
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from deployments.stack.state import load_stack
from perennial import __version__
from tests.support.installation import Installation, build_wheel, install
from tests.support.models import instances, small_frame
from tests.support.processes import ROOT
from tests.support.stack import given_store

RESOURCES = "deployments/resources/"
READ_DEMO = """
import deployments
from deployments.demo.loop import SPEC
from perennial.spec import load_spec
from perennial.user_functions import load_function
sources = load_spec(SPEC).sources
print(deployments.__file__, load_function(sources["weather"].loader, SPEC.parent)().height)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    return install(wheel, tmp_path_factory.mktemp("installed") / "venv", **given_store())


@pytest.fixture
def here(tmp_path: Path, installed: Installation) -> Iterator[Path]:
    """A person's directory; whatever stack was started in it is ended."""
    small_frame("binary", rows=600).write_csv(tmp_path / "sales.csv")
    yield tmp_path
    installed.run("perennial", "down", cwd=tmp_path)


def test_the_wheel_has_the_resources_as_the_checkout_has_them(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name.removeprefix(RESOURCES): archive.read(name) for name in archive.namelist() if name.startswith(RESOURCES)}
    examples = [path for path in (ROOT / "examples").iterdir() if path.is_file()]
    assert packed == {
        str(path.relative_to(ROOT)): path.read_bytes()
        for path in (ROOT / "prefect.yaml", ROOT / "requirements-triage.lock", *examples)
    }
    assert not (ROOT / RESOURCES).exists()  # it would be preferred to the files of the checkout, and age


def test_the_version_is_that_of_the_changelog(wheel: Path) -> None:
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert newest[1] == __version__
    assert wheel.name == f"perennial-{__version__}-py3-none-any.whl"
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dynamic"] == ["version"]


def test_the_demo_finds_its_spec_and_the_table_of_it(installed: Installation, here: Path) -> None:
    package, rows = installed.run("python", "-P", "-c", READ_DEMO, cwd=here).split()[-2:]
    assert Path(package).is_relative_to(installed.packages)
    assert rows == "26115"


def test_a_table_becomes_a_served_model_where_there_is_no_checkout(installed: Installation, here: Path) -> None:
    def perennial(*arguments: str) -> str:
        return installed.run("perennial", *arguments, cwd=here)

    assert "examples" in perennial("--help")
    assert perennial("version").strip() == __version__
    assert "perennial check examples/flights.toml" in perennial("examples")
    assert "outcome" in perennial("init", "sales.csv", "--target", "outcome")
    spec = here / "sales.toml"
    spec.write_text(f"{spec.read_text()}\n[search]\ntrials = 1\nmax_rounds = 20\n")
    assert "perennial up sales.toml" in perennial("check", "sales.toml")
    assert "perennial train sales.toml" in perennial("up", "sales.toml")
    assert "version 1" in perennial("train", "sales.toml")
    stack = load_stack(here / "var")
    assert stack is not None
    assert stack.service is not None
    row = instances(small_frame("binary", rows=600))[:1]
    answer = httpx.post(f"{stack.service.url}/predict", json={"instances": row}, timeout=30)
    assert answer.json()["version"] == 1, answer.text
    assert "monitor" in perennial("status")
    assert "sales" in perennial("ui", "sales.toml")
