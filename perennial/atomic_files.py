"""Two writes that fsspec does not give on every backend: create-if-absent and atomic replace.

Local paths use hard links and renames, which POSIX makes atomic; object stores are asked for a
conditional put (`mode="create"`) and replace whole objects atomically by themselves.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from fsspec.implementations.local import LocalFileSystem

from perennial.base import StoredModel


def create_exclusively(fs: Any, path: str, content: bytes) -> bool:
    """Create a whole file if there is none; False when there is one already.

    An object that is there with this very content is one of ours: the store had written it when the connection was lost, and its
    library asked again. Empty ones tell nothing, and count as another's.
    """
    staged = _stage(Path(path), content) if _is_local(fs) else None
    try:
        if staged is None:
            fs.pipe_file(path, content, mode="create")
        else:
            os.link(staged, path)
    except FileExistsError:
        return staged is None and bool(content) and _has(fs, path, content)
    finally:
        if staged is not None:
            staged.unlink()
    return True


def _has(fs: Any, path: str, content: bytes) -> bool:
    try:
        return bytes(fs.cat_file(path)) == content
    except FileNotFoundError:
        return False


def replace(fs: Any, path: str, content: bytes) -> None:
    """Replace a file in one step: a reader sees the old content or the new, never a part."""
    if _is_local(fs):
        _stage(Path(path), content).replace(path)
    else:
        fs.pipe_file(path, content)


def replace_stored(path: Path, value: StoredModel, indent: int = 1) -> None:
    """Replace a local file by a value in JSON, or create it, in one step."""
    replace(LocalFileSystem(), str(path), value.model_dump_json(indent=indent).encode())


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One process of this machine at a time is in the block, of those that name the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _is_local(fs: Any) -> bool:
    return "file" in (fs.protocol if isinstance(fs.protocol, tuple) else (fs.protocol,))


def _stage(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not mkstemp: its files are for one user only, and a registry is shared.
    staged = path.parent / f".staged-{uuid4().hex}"
    try:
        with staged.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        # On a full disk the part that was written would keep it full.
        staged.unlink(missing_ok=True)
        raise
    return staged
