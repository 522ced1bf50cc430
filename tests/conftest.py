"""Fixtures of all tests: real servers, started only when a test asks for one."""

from tests.support.isolation import isolate

isolate()  # before anything below is imported: tools read the environment at import

import shutil  # noqa: E402
import sys  # noqa: E402
from collections.abc import Iterator  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import TYPE_CHECKING, Any  # noqa: E402

import hypothesis  # noqa: E402
import psutil  # noqa: E402
import pytest  # noqa: E402
import redis  # noqa: E402

from tests.support.isolation import leftovers, private_home  # noqa: E402
from tests.support.prefect_server import pointed_at, prefect_server  # noqa: E402
from tests.support.processes import ROOT  # noqa: E402
from tests.support.sentry_receiver import SentryReceiver, forget_sentry, sentry_receiver  # noqa: E402
from tests.support.store import store_server  # noqa: E402
from tests.support.waiting import wait_until  # noqa: E402

if TYPE_CHECKING:
    from perennial.model import Model
    from perennial.registry import Registry


WHOLE_STACKS = ("stories", "parts")
"""The groups of the tests that start a whole stack: two halves of the same length, so that two workers can take them."""

_WITH_STACKS = {
    "cases/test_processes.py": "parts",
    "deployments/demo": "stories",
    "deployments/stack": "parts",
    "faults": "parts",
    "test_examples.py": "stories",
    "test_installed.py": "stories",
    "test_learning_loop.py": "stories",
    "test_readme.py": "stories",
}
_WITHOUT_STACKS = "faults/service"

_LONGEST_FIRST = (*WHOLE_STACKS, "service", _WITHOUT_STACKS, "flows", "monitoring", "cases")
"""Groups in the order in which workers take them; the others are short and come last, so that all workers end together."""

# No deadline: an example may be slow because the other worker starts a stack. The same examples in every run, so that a change is
# judged by what it changes; `make fuzz` draws others, and more.
hypothesis.settings.register_profile("same", deadline=None, derandomize=True, database=None)
hypothesis.settings.register_profile("fuzz", deadline=None, max_examples=1000)
hypothesis.settings.load_profile("same")


def group_of(file: Path) -> str:
    """The group of a test file: of a whole stack, or its directory, so that a session fixture is started by one worker only."""
    path = file.relative_to(ROOT / "tests")
    if path.is_relative_to(_WITHOUT_STACKS):
        return _WITHOUT_STACKS
    return next((group for below, group in _WITH_STACKS.items() if path.is_relative_to(below)), path.parts[0])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A group runs on one worker of pytest-xdist, in its order. Its own groups (3.8.0) get lost with pytest 9.2."""
    from xdist.scheduler import LoadScopeScheduling

    class GroupScheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(ROOT / nodeid.split("::")[0])

    return GroupScheduling(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Workers take the longest groups first; without workers the order is that of the files."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: (*_LONGEST_FIRST, group_of(item.path)).index(group_of(item.path)))


@pytest.fixture(scope="session", autouse=True)
def no_leaks() -> Iterator[None]:
    """After the last test no process that this one started is left; set up first, so torn down last."""
    yield
    if "wandb" in sys.modules:
        sys.modules["wandb"].teardown()  # its service process would live until the interpreter ends
    shutil.rmtree(private_home(), ignore_errors=True)
    try:
        wait_until(lambda: not leftovers(), 10, "started processes to end")
    except AssertionError:
        leaked = leftovers()
        names = [" ".join(process.cmdline())[:200] for process in leaked]
        for process in leaked:
            process.kill()
        psutil.wait_procs(leaked, 5)
        pytest.fail(f"tests left processes behind: {names}")


@pytest.fixture(scope="session")
def store_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of this test process's store, kept for the whole session; see `store` for an empty one."""
    with store_server(tmp_path_factory.mktemp("store")) as url:
        yield url


@pytest.fixture
def store(store_url: str) -> Iterator[redis.Redis]:
    """A client of an empty store."""
    client = redis.Redis.from_url(store_url, socket_timeout=None)
    client.flushdb()
    yield client
    client.close()


@pytest.fixture(scope="session")
def _prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with prefect_server(tmp_path_factory.mktemp("prefect")) as url:
        yield url


@pytest.fixture
def prefect_api(_prefect_server: str) -> Iterator[str]:
    """The URL of this session's Prefect server; this process and its children use it during the test."""
    with pointed_at(_prefect_server) as url:
        yield url


@pytest.fixture
def sentry() -> Iterator[SentryReceiver]:
    """A receiver of Sentry envelopes: `.dsn`, `.events()`, `.wait_for(n)`, `.bodies`."""
    forget_sentry()  # a flow that ran in this process has marked its errors
    with sentry_receiver() as receiver:
        yield receiver
        forget_sentry()


@pytest.fixture
def registry(tmp_path: Path) -> "Registry":
    """An empty registry in a directory of the test."""
    from perennial.registry import Registry

    return Registry(str(tmp_path / "registry"))


@pytest.fixture
def small_model() -> "Model":
    """A small trained binary model that is in no registry; `tests.support.models` makes others."""
    from tests.support import models

    return models.small_model()


@pytest.fixture
def champion(registry: "Registry", small_model: "Model") -> "Model":
    """The small model as version 1 and champion of `small` in `registry`."""
    from tests.support import models

    models.publish_small(registry, small_model)
    return small_model
