"""What is tried again: lost connections; what is not: our own refusals."""

import httpx
import pytest
from sqlalchemy.exc import OperationalError

from perennial.errors import ChecksFailed, SourceError, SpecError, StoreUnreachable
from tasks.task_defaults import RETRIES, remote_step, step, transient


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
    assert transient(error)


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
    assert not transient(error)


def test_a_step_keeps_the_function_and_only_a_remote_one_is_tried_again() -> None:
    def double(number: int) -> int:
        return 2 * number

    near, far = step("double")(double), remote_step("double")(double)
    assert near.fn(4) == far.fn(4) == 8
    assert (near.name, near.retries, far.retries) == ("double", 0, RETRIES)
