"""What a stalled loop is told by: its own files first, then the store, then the API; and the service's own words."""

from datetime import UTC, datetime
from pathlib import Path

import redis

from deployments.prefect_client import PrefectClient, PrefectHistory
from deployments.replay.waits import LoopHandles, find_fault, read_metrics, service_root
from monitoring.lease import lease_key
from monitoring.trouble import Trouble, write_trouble
from perennial.registry import Registry

NOW = datetime(2024, 1, 1, tzinfo=UTC)


def a_loop(home: Path, store: redis.Redis, api: PrefectClient) -> LoopHandles:
    history = PrefectHistory(api, "small", NOW, "small.toml")
    return LoopHandles("small", home / "small", "http://127.0.0.1:9", "redis://store", store, Registry(str(home)), history)


def test_what_holds_a_loop_up_is_found_where_its_parts_say_it(tmp_path: Path, store: redis.Redis) -> None:
    with PrefectClient("http://127.0.0.1:9/api", {}) as api:
        loop = a_loop(tmp_path, store, api)
        store.delete(lease_key("small"))
        assert find_fault(loop) == "no monitor follows small: `perennial up SPEC` starts one"
        store.set(lease_key("small"), "a monitor")
        assert "127.0.0.1:9/api does not answer" in find_fault(loop)
        write_trouble(loop.home, Trouble(since=NOW, reason="the disk is full"))
        assert find_fault(loop) == "small is not followed since 2024-01-01 00:00: the disk is full"


def test_of_several_models_the_one_that_is_asked_about_counts() -> None:
    text = """# TYPE perennial_model_version gauge
perennial_model_version{model="a",pid="10"} 3.0
perennial_model_version{model="b",pid="10"} 1.0
perennial_model_version{model="b",pid="11"} 0.0
# TYPE perennial_predictions counter
perennial_predictions_total{model="a"} 5.0
perennial_predictions_total{model="b"} 7.0
"""
    assert (read_metrics(text, "a").version, read_metrics(text, "a").predictions) == (3, 5)
    assert (read_metrics(text, "b").version, read_metrics(text, "b").predictions) == (1, 7)
    assert read_metrics(text).predictions == 12


def test_a_service_is_found_by_the_address_of_any_of_its_models() -> None:
    assert service_root("http://host:8000/models/a") == service_root("http://host:8000") == "http://host:8000"
