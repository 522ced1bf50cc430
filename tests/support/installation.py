"""The product as people install it: a wheel built from its source distribution, in a virtual environment of its own.

Nothing is downloaded: the environment borrows the dependencies of the one that runs the tests. The checkout is not among them: a
path file names a directory of packages, and the path file of an editable installation in that directory is not followed.
"""

import os
import shutil
import sysconfig
import tarfile
import venv
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from tests.support.processes import ROOT, python, run_to_end, without_wandb_directories

SOURCES = ("perennial", "service", "monitoring", "tasks", "flows", "deployments", "examples")
FILES = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "CHANGELOG.md", "prefect.yaml", "requirements.lock")
LOCKS = ("requirements-triage.lock",)
TIMEOUT = 240.0


@dataclass(frozen=True)
class Installation:
    """A virtual environment, and the environment variables that its commands get."""

    path: Path
    environ: dict[str, str]

    @property
    def packages(self) -> Path:
        """Its directory of installed packages."""
        return Path(sysconfig.get_path("purelib", "venv", {"base": str(self.path), "platbase": str(self.path)}))

    def run(self, *command: str, cwd: Path) -> str:
        """What one of its programs prints; fails when it fails."""
        program = [str(self.path / "bin" / command[0]), *command[1:]]
        environ = {**self.environ, "PATH": f"{self.path / 'bin'}{os.pathsep}{os.environ['PATH']}"}
        return run_to_end(program, cwd, environ, TIMEOUT)


def build_wheel(directory: Path) -> Path:
    """Build the source distribution of a copy of the checkout, and the wheel of what that holds."""
    source, built = directory / "source", directory / "built"
    for name in SOURCES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in (*FILES, *LOCKS):
        shutil.copy(ROOT / name, source / name)
    with tarfile.open(_build("sdist", source, built)) as archive:
        archive.extractall(directory / "unpacked", filter="data")
    (unpacked,) = (directory / "unpacked").iterdir()
    return _build("wheel", unpacked, built)


def install(wheel: Path, path: Path, dependencies: Path | None = None, **environ: str) -> Installation:
    """Make a virtual environment and install the wheel into it; `dependencies` are by default all of this environment."""
    venv.EnvBuilder(symlinks=True).create(path)
    kept = without_wandb_directories(os.environ)
    kept.pop("PYTHONPATH", None)
    made = Installation(path, {**kept, **environ})
    (made.packages / "dependencies.pth").write_text(f"{dependencies or sysconfig.get_path('purelib')}\n")
    pip = ("-m", "pip", "--python", str(path), "install", "--quiet", "--no-deps", "--no-index", str(wheel))
    run_to_end(python(*pip), path, os.environ, TIMEOUT)
    return made


def only(names: Iterable[str], directory: Path) -> Path:
    """A directory, to be the dependencies of `install`, of links to what these distributions have installed here, if at all."""
    directory.mkdir()
    for name in names:
        with suppress(PackageNotFoundError):
            _link(distribution(name), directory)
    return directory


def _link(installed: Distribution, directory: Path) -> None:
    tops = {file.parts[0] for file in installed.files or ()} - {"..", "__pycache__"}
    for top in tops:
        link = directory / top
        if not link.exists():
            link.symlink_to(Path(str(installed.locate_file(top))))


def _build(kind: str, source: Path, target: Path) -> Path:
    code = f"import setuptools.build_meta as b; print(b.build_{kind}({str(target)!r}))"
    return target / run_to_end(python("-W", "ignore", "-c", code), source, os.environ, TIMEOUT).splitlines()[-1]
