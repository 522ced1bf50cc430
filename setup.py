"""What pyproject.toml cannot say of the build: copies of prefect.yaml and of the examples go into the wheel.

They stay where they are in the checkout, in one place; an editable installation reads them there.
`deployments.package_data` finds both.
"""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
RESOURCES = Path("deployments", "resources")  # in the wheel
COPIED = ("prefect.yaml", "requirements-triage.lock", "examples/*.toml", "examples/*.py")


class BuildWithResources(build_py):
    """Copies the files beside the packages, but for an editable installation."""

    def run(self) -> None:
        super().run()
        for source, target in self._resources():
            self.mkpath(str(Path(target).parent))
            self.copy_file(source, target)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        return [*super().get_outputs(include_bytecode), *(target for _, target in self._resources())]

    def _resources(self) -> list[tuple[str, str]]:
        if self.editable_mode:
            return []
        missing = [pattern for pattern in COPIED if not any(ROOT.glob(pattern))]
        if missing:
            raise SystemExit(f"{ROOT} has no {', '.join(missing)}: the wheel would be one whose `perennial up` does not work")
        found = sorted(path for pattern in COPIED for path in ROOT.glob(pattern))
        return [(str(path), str(Path(self.build_lib) / RESOURCES / path.relative_to(ROOT))) for path in found]


setup(cmdclass={"build_py": BuildWithResources})
