"""The peers' environments: one each below benchmarks/.envs, from a list pinned by version and hash, made on first use."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.serve.errors import BenchError

ENVIRONMENTS = Path(__file__).resolve().parents[1] / ".envs"
REQUIREMENTS = Path(__file__).with_name("requirements")
"""<name>.in says what is wanted; <name>.txt, made from it by `uv pip compile`, says exactly what is installed."""

PIP = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes", "-r")


def ensure(name: str) -> Path:
    """The directory of an environment's commands; raises BenchError when it cannot be made."""
    home, wanted = ENVIRONMENTS / name, REQUIREMENTS / f"{name}.txt"
    stamp, digest = home / ".installed", _digest(wanted)
    if not stamp.exists() or stamp.read_text() != digest:
        sys.stderr.write(f"making {home.name}'s environment\n")
        _make(home, wanted)
        stamp.write_text(digest)  # last, so that a broken environment is made again
    return home / "bin"


def _make(home: Path, wanted: Path) -> None:
    shutil.rmtree(home, ignore_errors=True)
    for command in ([sys.executable, "-m", "venv", str(home)], [str(home / "bin" / "python"), *PIP, str(wanted)]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            why = done.stderr.strip()[-1_500:]
            raise BenchError(f"the environment {home.name!r} cannot be made; leave it out with --servers:\n{why}")


def _digest(wanted: Path) -> str:
    return f"{sys.version_info[:2]} {hashlib.sha256(wanted.read_bytes()).hexdigest()}"
