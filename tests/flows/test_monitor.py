"""The monitor as a flow: each closed window is a page in the Prefect UI."""

from pathlib import Path

import pytest
import redis

from flows.monitor import monitor
from perennial.errors import PerennialError
from perennial.registry import Registry
from perennial.settings import load_settings
from tests.flows.asking import artifacts, runs
from tests.monitoring.streams import serve
from tests.support.models import publish_small, small_model, write_small
from tests.tasks.making import later_frame

HOURS = 16 * 24
"""From Sunday evening on: the two weeks that begin on the next Mondays are over, with a day for late labels."""

MINUTES = 0.4
"""Enough for Evidently's import and two reports on busy cores."""


def test_each_window_is_shown_with_what_was_decided(
    home: Path, prefect_api: str, store: redis.Redis, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", store_url)
    spec, model = write_small(home), small_model()
    publish_small(Registry(load_settings({"PERENNIAL_HOME": str(home / "var")}).registry_url), model)
    serve(store, model, later_frame("binary", HOURS))
    monitor(str(spec), MINUTES)
    run = runs(prefect_api, "monitor")[0]
    assert (run["name"], run["state"]["type"]) == ("small", "COMPLETED")
    shown = artifacts(prefect_api, run["id"])
    assert {"small-window-20240212-0000", "small-window-20240219-0000"} <= set(shown)
    page = shown["small-window-20240212-0000"]
    assert "168 rows, 168 labelled, judged for version 1." in page["data"]
    assert page["description"] == "drift: drift 0.1106 is over its bound 0.1; no challenger compared yet"
    assert "## Account" in page["data"]


def test_without_a_store_the_variable_to_set_is_named(home: Path, prefect_api: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REDIS_URL", raising=False)
    with pytest.raises(PerennialError, match="REDIS_URL"):
        monitor(str(write_small(home)), 0.01)
    assert "REDIS_URL" in runs(prefect_api, "monitor")[0]["state"]["message"]
