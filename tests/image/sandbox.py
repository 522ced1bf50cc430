"""An image's files run as its orchestrator would run them: as process 1, without rights, on a read-only root file system.

`unshare` and `chroot` do it without a container engine; the network is that of this machine unless `alone` is asked for.
"""

import json
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

USER = "10001:10001"
PREPARE = """
set -e
mount --bind {root} {root}
mount --bind {var} {root}/app/var
mount -t tmpfs tmpfs {root}/tmp
mount -t proc proc {root}/proc
mount --bind /dev {root}/dev
mount -t tmpfs tmpfs {root}/dev/shm
mount -o remount,ro,bind {root}
{network}
exec chroot --userspec={user} {root} /usr/bin/env -i {command}
"""


@dataclass(frozen=True)
class Image:
    """A built image: its name, its files where they are mounted, and the environment that it sets."""

    name: str
    root: Path
    environ: Mapping[str, str]

    def command(self, var: Path, command: str, *, alone: bool = False, **environ: str) -> list[str]:
        """What runs a shell command (`exec PROGRAM`, so that the program is process 1) with the state in `var`."""
        given = [f"{name}={value}" for name, value in {**self.environ, **environ}.items()]
        words = " ".join(map(shlex.quote, [*given, "/bin/sh", "-c", f"cd /app && {command}"]))
        network = "ip link set lo up" if alone else ""
        script = PREPARE.format(root=self.root, var=var, user=USER, command=words, network=network)
        return ["unshare", "--mount", "--pid", "--fork", "--kill-child", *(["--net"] if alone else []), "sh", "-c", script]


@contextmanager
def mounted(name: str) -> Iterator[Image]:
    """The files of an image, until the block is left."""
    container = buildah("from", "--pull-never", name)
    try:
        config = json.loads(buildah("inspect", container))["OCIv1"]["config"]
        environ = dict(one.split("=", 1) for one in config["Env"])
        yield Image(name, Path(buildah("mount", container)), environ)
    finally:
        buildah("rm", container)


def size_mb(name: str) -> float:
    """Size of an image, unpacked, in millions of bytes, as `du` counts its files."""
    with mounted(name) as image:
        done = subprocess.run(["du", "-s", "-B1", str(image.root)], check=True, capture_output=True, text=True)
    return int(done.stdout.split()[0]) / 1e6


def buildah(*arguments: str) -> str:
    """What a buildah command prints last."""
    return subprocess.run(["buildah", *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
