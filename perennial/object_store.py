"""Files below any fsspec URL: of a directory as the disk has them, of an object store with what it lacks made up for.

What several processes decide by creating a file (a version's number, a move of an alias, a claim to train) needs a store that
creates an object only where there is none: S3, Google and Azure by a conditional put. Other protocols are refused by name, and
so is a server of one of these that ignores the condition: the first such write of a process tries it, with three requests more.
An object appears whole or not at all, so a connection that is lost leaves the old one or the new one. Listings are never cached.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import fsspec

from perennial.errors import PerennialError, SettingsError, StorageUnreachable

CONDITIONAL = ("memory", "s3", "s3a", "gs", "gcs", "abfs", "abfss", "az")
"""Protocols by which an object is created only where there is none: `If-None-Match: *` or what stands for it there."""

EXTRAS = {"s3": 'pip install "perennial[s3]"', "s3a": 'pip install "perennial[s3]"'}

_CONDITION_FAILED = ("PreconditionFailed", "ConditionalRequestConflict")  # of two at once S3 refuses one by the second
_PROBE = "conditional-put-probe"


def open_files(url: str) -> tuple[Any, str]:
    """The file system of a URL and the path in it; raises SettingsError for a protocol that is unknown, or gives too little."""
    protocol = url.partition("://")[0] if "://" in url else "file"
    if protocol in ("file", "local"):
        fs, root = fsspec.core.url_to_fs(url)
        return fs, str(root).rstrip("/")
    if protocol not in CONDITIONAL:
        wrong = f"{url}: {protocol} has no write that fails where a file is there already, on which versions and aliases rest"
        raise SettingsError(f"{wrong}; use a directory or one of {', '.join(one + '://' for one in CONDITIONAL[1:])}")
    try:
        fs, root = fsspec.core.url_to_fs(url, use_listings_cache=False)
    except (ImportError, ValueError) as error:
        fix = EXTRAS.get(protocol, f"install the fsspec package for {protocol}://")
        raise SettingsError(f"{url} cannot be opened ({error}): {fix}") from error
    root = str(root).rstrip("/")
    return ObjectStore(url, fs, root), root


class ObjectStore:
    """What is used of an fsspec file system that is no disk; a connection that fails raises StorageUnreachable."""

    def __init__(self, url: str, fs: Any, root: str) -> None:
        self.protocol: str | tuple[str, ...] = fs.protocol
        self._url, self._fs, self._root = url, fs, root

    def cat_file(self, path: str) -> bytes:
        with self._reached():
            return bytes(self._fs.cat_file(path))

    def ls(self, path: str, *, detail: bool = False) -> list[Any]:
        with self._reached():
            return list(self._fs.ls(path, detail=detail))

    def find(self, path: str) -> dict[str, Any]:
        """Every object below a path, with what the store tells of it; none where there is no such path."""
        with self._reached():
            try:
                return dict(self._fs.find(path, detail=True))
            except FileNotFoundError:
                return {}

    def exists(self, path: str) -> bool:
        with self._reached():
            try:
                self._fs.info(path)  # `exists` would take a lost connection for a missing object
            except FileNotFoundError:
                return False
            return True

    def pipe_file(self, path: str, content: bytes, mode: str = "overwrite") -> None:
        """Write an object whole; with the mode `create` raises FileExistsError where there is one."""
        if mode == "create" and "memory" not in self.protocol:
            _require_condition(self._url, self._fs, self._root)
        with self._reached():
            _put(self._fs, path, content, mode)

    def rm_file(self, path: str) -> None:
        with self._reached():
            self._fs.rm_file(path)

    def makedirs(self, path: str, *, exist_ok: bool = True) -> None:
        """Nothing: an object store has no directories."""

    def invalidate_cache(self, path: str) -> None:
        """Nothing: no listing is cached."""

    @contextmanager
    def _reached(self) -> Iterator[None]:
        with _naming(self._url):
            yield


_honest: set[str] = set()
"""URLs whose server has refused a conditional put, as it must; a process asks once."""


def _require_condition(url: str, fs: Any, root: str) -> None:
    if url in _honest:
        return
    path = f"{root}/{_PROBE}-{uuid4().hex}"
    with _naming(url):
        _put(fs, path, b"1", "create")
        try:
            _put(fs, path, b"2", "create")
        except FileExistsError:
            _honest.add(url)
        finally:
            fs.rm_file(path)
    if url not in _honest:
        wrong = f"{url}: the server has overwritten an object although it was asked not to (If-None-Match)"
        raise SettingsError(f"{wrong}, so two processes could both win; use another server, or a newer release of it")


def _put(fs: Any, path: str, content: bytes, mode: str) -> None:
    """Raises FileExistsError where the condition failed, also of servers whose answer the library does not know for it."""
    try:
        fs.pipe_file(path, content, mode=mode)
    except OSError as error:
        if mode == "create" and any(code in str(error) for code in _CONDITION_FAILED):
            raise FileExistsError(str(error)) from error
        raise


@contextmanager
def _naming(url: str) -> Iterator[None]:
    """Whatever a store's library raises for a connection that fails is StorageUnreachable."""
    try:
        yield
    except (FileNotFoundError, FileExistsError, PerennialError):
        raise
    except Exception as error:  # every library has its own errors
        what = f"{type(error).__name__}: {error}"
        raise StorageUnreachable(
            f"{url} does not answer as it should ({what}): check address, credentials and network"
        ) from error
