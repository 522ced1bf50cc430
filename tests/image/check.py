"""`make check-image`: builds both images, counts megabytes, serves with one, and runs the whole stack in the other.

Needs root, and buildah and debootstrap from apt. The base is a Debian with Python, whose name is given to the Dockerfile;
`BASE_ROOT` names a directory with such a Debian to save making one, `BUD` has more options for `buildah bud`.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import psutil

from perennial.registry import Registry
from tests.image.sandbox import USER, Image, buildah, mounted, size_mb
from tests.support import models
from tests.support.processes import ROOT, free_port, running, wait_ready
from tests.support.store import store_server

BASE, SUITE = "localhost/perennial-base", "trixie"
PACKAGES = "ca-certificates,python3,python3-venv"
TARGETS = ("serve", "full")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
START_TIMEOUT, END_TIMEOUT, STACK_TIMEOUT = 120.0, 20.0, 900.0


def main() -> int:
    """Raises what goes wrong; prints what was measured."""
    make_base()
    for target in TARGETS:
        build(target)
        print(f"{target}: {size_mb(name_of(target)) - size_mb(BASE):,.0f} MB over its base")
    with tempfile.TemporaryDirectory() as directory, mounted(name_of("serve")) as image:
        check_serve(image, Path(directory))
    with tempfile.TemporaryDirectory() as directory, mounted(name_of("full")) as image:
        check_stack(image, Path(directory))
    return 0


def name_of(target: str) -> str:
    return f"localhost/perennial:{target}"


def make_base() -> None:
    """A Debian with `python`, in place of the official image, which a machine without a way to its registry does not have."""
    with tempfile.TemporaryDirectory() as directory:
        root = Path(os.environ.get("BASE_ROOT") or directory)
        if not (root / "usr/bin/python3").exists():
            subprocess.run(["debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(root)], check=True)
        container = buildah("from", "scratch")
        buildah("add", "--quiet", container, str(root), "/")
        buildah("config", "--env", f"PATH={PATH}", container)
        # As the official image is: without what apt keeps, which our own layers take away.
        finish = "ln -sf python3 /usr/bin/python && rm -rf /var/lib/apt/lists/* /var/cache/apt/*"
        buildah("run", "--isolation", "chroot", container, "sh", "-c", finish)
        buildah("commit", "--quiet", "--rm", container, BASE)


def build(target: str) -> None:
    """Build a target of the Dockerfile on that base."""
    options = ["--isolation", "chroot", "--pull-never", "--layers", *os.environ.get("BUD", "").split()]
    began = time.monotonic()
    subprocess.run(
        ["buildah", "bud", "--quiet", *options, "--build-arg", f"BASE={BASE}", "--target", target, "--tag", name_of(target), "."],
        cwd=ROOT,
        check=True,
    )
    print(f"{target}: built in {time.monotonic() - began:.0f} s")


def check_serve(image: Image, directory: Path) -> None:
    """It answers as process 1 on a read-only root file system, and ends in order on SIGTERM."""
    var, port = directory / "var", free_port()
    var.mkdir()
    spec = models.write_small(var)
    models.publish_small(Registry(str(var / "registry")), models.small_model())
    give_away(directory)
    (directory / "store").mkdir()
    command = f"exec python -m service --spec /app/var/{spec.name}"
    with store_server(directory / "store") as store:
        program = image.command(var, command, PERENNIAL_PORT=str(port), REDIS_URL=store)
        began, log = time.monotonic(), directory / "service.log"
        with running(program, log) as process:
            url = f"http://127.0.0.1:{port}"
            wait_ready(process, lambda: is_ready(url), log, START_TIMEOUT, "the service")
            print(f"serve: ready {time.monotonic() - began:.1f} s after its start, {memory_mb(process.pid):,.0f} MB of memory")
            row = models.instances(models.small_frame(rows=1))
            assert httpx.post(f"{url}/predict", json={"instances": row}).json()["version"] == 1
            first = next(one for one in psutil.Process(process.pid).children(recursive=True) if "service" in one.cmdline())
            assert first.uids().effective == int(USER.partition(":")[0])
            began = time.monotonic()
            first.send_signal(signal.SIGTERM)
            assert process.wait(END_TIMEOUT) == 0, log.read_text()
            print(f"serve: ended in order {time.monotonic() - began:.1f} s after SIGTERM to process 1")


def check_stack(image: Image, directory: Path) -> None:
    """Every part of the stack starts, trains a model and ends, with nothing but /app/var and /tmp to write to."""
    var = directory / "var"
    var.mkdir()
    spec = f"/app/var/{models.write_small(var).name}"
    give_away(directory)
    steps = ("version", "examples /tmp/examples", f"up {spec}", f"train {spec}", "status", "down")
    program = image.command(var, " && ".join(f"perennial {step}" for step in steps), alone=True)
    began = time.monotonic()
    subprocess.run(program, check=True, timeout=STACK_TIMEOUT)
    print(f"full: the stack came up, trained and ended in {time.monotonic() - began:.0f} s")


def give_away(directory: Path) -> None:
    """To the image's user."""
    subprocess.run(["chown", "--recursive", USER, str(directory / "var")], check=True)
    directory.chmod(0o755)


def is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/ready", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def memory_mb(pid: int) -> float:
    """Of a process and all below it; what they share is counted once for each."""
    return sum(one.memory_info().rss for one in psutil.Process(pid).children(recursive=True)) / 1e6


if __name__ == "__main__":
    sys.exit(main())
