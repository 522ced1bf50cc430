"""Storage that is no disk: what it must give is asked for, and what it cannot give is said by name."""

from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from perennial.atomic_files import create_exclusively
from perennial.errors import SettingsError, StorageUnreachable
from perennial.object_store import CONDITIONAL, ObjectStore, open_files


class Served(MemoryFileSystem):  # type: ignore[misc]
    """An object store behind a connection: what is done to each write is asked of the test."""

    protocol = "s3"
    honest, lost = True, 0
    store: dict[str, Any] = {}  # noqa: RUF012 - of this class alone, as MemoryFileSystem has one
    pseudo_dirs = [""]  # noqa: RUF012

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **options: Any) -> None:
        super().pipe_file(path, value, mode=mode if self.honest else "overwrite", **options)
        if self.lost:
            self.lost -= 1
            if self.lost == 0:
                self.pipe_file(path, value, mode=mode)  # as the library asks again when no answer has come


@pytest.fixture
def served() -> Served:
    Served.store.clear()
    return Served(skip_instance_cache=True)


def store_of(fs: Served, name: str) -> ObjectStore:
    return ObjectStore(f"s3://{name}", fs, f"/{name}")


def test_an_object_is_created_once(served: Served) -> None:
    store = store_of(served, "once")
    assert create_exclusively(store, "/once/a", b"first")
    assert not create_exclusively(store, "/once/a", b"second")
    assert store.cat_file("/once/a") == b"first"
    assert list(store.find("/once")) == ["/once/a"]  # nothing is left of what was tried


def test_a_server_that_ignores_the_condition_is_refused(served: Served) -> None:
    served.honest = False
    with pytest.raises(SettingsError, match="s3://liar: the server has overwritten an object although"):
        create_exclusively(store_of(served, "liar"), "/liar/a", b"1")
    assert not served.exists("/liar/a")


def test_a_write_whose_answer_was_lost_is_ours(served: Served) -> None:
    store = store_of(served, "lost")
    assert create_exclusively(store, "/lost/a", b"1")
    served.lost = 1
    assert create_exclusively(store, "/lost/b", b"by this run")
    served.lost = 1
    assert not create_exclusively(store, "/lost/c", b"")  # an empty one could be anybody's


def test_other_protocols_and_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="ftp has no write that fails where a file is there already"):
        open_files("ftp://host/models")
    monkeypatch.setattr("perennial.object_store.CONDITIONAL", (*CONDITIONAL, "nowhere"))
    with pytest.raises(SettingsError, match="install the fsspec package for nowhere://"):
        open_files("nowhere://bucket/models")


def test_a_failing_connection_is_named(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise TimeoutError("no answer")

    monkeypatch.setattr(served, "info", fail)
    with pytest.raises(StorageUnreachable, match=r"s3://dark does not answer as it should \(TimeoutError: no answer\)"):
        store_of(served, "dark").exists("/dark/a")
