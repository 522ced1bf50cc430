"""The one place that opens a store, and the words of its failures."""

import pytest

from perennial.errors import StoreUnreachable
from service.prediction_log.redis_client import ANSWER_TIMEOUT, connect, translate_redis_errors
from tests.support.processes import free_port


def test_a_client_waits_a_bounded_time_and_a_blocking_one_does_not(store_url: str) -> None:
    with connect(store_url) as store, connect(store_url, blocking=True) as reader:
        assert store.connection_pool.connection_kwargs["socket_timeout"] == ANSWER_TIMEOUT.total_seconds()
        assert reader.connection_pool.connection_kwargs["socket_timeout"] is None
        assert store.ping()


def test_a_store_that_is_away_is_named_without_its_password() -> None:
    url = f"redis://user:secret@127.0.0.1:{free_port()}/0"
    with (
        pytest.raises(StoreUnreachable, match=r"redis://\*\*\*@127\.0\.0\.1:\d+/0.*REDIS_URL") as caught,
        translate_redis_errors(url),
    ):
        connect(url).ping()
    assert "secret" not in str(caught.value)


def test_a_store_that_refuses_a_command_is_as_good_as_away(store_url: str) -> None:
    with (
        connect(store_url) as store,
        pytest.raises(StoreUnreachable, match="does not take commands"),
        translate_redis_errors(store_url),
    ):
        store.execute_command("NO-SUCH-COMMAND")
