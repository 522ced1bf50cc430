"""What is tried again: lost connections; what is not: our own refusals."""

import importlib.util

import httpx
import pytest
from prefect.task_runners import ThreadPoolTaskRunner
from sqlalchemy.exc import OperationalError

from perennial.errors import ChecksFailed, SettingsError, SourceError, SpecError, StoreUnreachable
from tasks.task_defaults import BACKOFF, core_or_cluster, is_transient, local_task, remote_task, spread


def caused(by: BaseException) -> SourceError:
    try:
        raise SourceError("source 'rows': cannot read it") from by
    except SourceError as error:
        return error


def answer(status: int) -> httpx.HTTPStatusError:
    request = httpx.Request("GET", "http://example.com")
    return httpx.HTTPStatusError("no", request=request, response=httpx.Response(status, request=request))


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError(),
        TimeoutError(),
        StoreUnreachable("gone"),
        caused(httpx.ConnectError("refused")),
        caused(OperationalError("select 1", {}, Exception("gone away"))),
        caused(answer(503)),
    ],
)
def test_connections_are_worth_another_try(error: BaseException) -> None:
    assert is_transient(error)


@pytest.mark.parametrize(
    "error",
    [
        SourceError("no file"),
        SpecError("typo"),
        ChecksFailed("bad"),
        caused(answer(404)),
        caused(FileNotFoundError()),
        ValueError(),
    ],
)
def test_what_waiting_does_not_heal_is_not(error: BaseException) -> None:
    assert not is_transient(error)


def test_a_task_keeps_the_function_and_only_a_remote_one_is_tried_again() -> None:
    def double(number: int) -> int:
        return 2 * number

    near, far = local_task("double")(double), remote_task("double")(double)
    assert near.fn(4) == far.fn(4) == 8
    assert (near.name, near.retries, far.retries) == ("double", 0, len(BACKOFF))


def test_where_a_flow_trains_is_asked_of_the_settings_when_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    declared = core_or_cluster()
    assert isinstance(declared.duplicate(), ThreadPoolTaskRunner)
    monkeypatch.setenv("PERENNIAL_DASK_SCHEDULER", "tcp://nowhere:8786")
    if importlib.util.find_spec("prefect_dask") is None:
        with pytest.raises(SettingsError, match=r'pip install "perennial\[dask\]"'):
            declared.duplicate()
    else:
        assert declared.duplicate().address == "tcp://nowhere:8786"  # type: ignore[attr-defined]


def test_a_value_for_many_tasks_is_itself_without_a_cluster() -> None:
    value = object()
    assert spread(value) is value
