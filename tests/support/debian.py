"""Programs that Debian packages: installed where this runs as root, and found where the packages put them."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path


def install_packages(package_of: Mapping[str, str]) -> None:
    """Install the packages of programs that are missing; without root or apt nothing is, and who needs one says so.

    Where init runs, apt starts the daemons among them on their usual ports, as it does for everyone.
    """
    missing = [package for program, package in package_of.items() if find_program(program) is None]
    if not missing or os.geteuid() or shutil.which("apt-get") is None:
        return
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    print(f"installing {', '.join(missing)}")  # noqa: T201 - it takes a while
    subprocess.run(["apt-get", "update", "--quiet"], check=False, stdout=subprocess.DEVNULL, env=environ)
    for package in missing:  # one by one: one that this release lacks must not keep the others away
        command = ["apt-get", "install", "--quiet", "--yes", "--no-install-recommends", package]
        subprocess.run(command, check=False, stdout=subprocess.DEVNULL, env=environ)


def find_program(*names: str) -> Path | None:
    """The first of these programs that is here, also where only root has it on the search path, or PostgreSQL keeps it."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True)
    directories = [*os.environ.get("PATH", os.defpath).split(os.pathsep), "/usr/sbin", "/usr/local/sbin", *map(str, versions)]
    path = os.pathsep.join(directories)
    found = next((program for name in names if (program := shutil.which(name, path=path))), None)
    return Path(found) if found else None


def require_program(*names: str) -> Path:
    """The same; fails where there is none."""
    found = find_program(*names)
    assert found, f"{' or '.join(names)} is not here: install it, or run this as root on Debian"
    return found
