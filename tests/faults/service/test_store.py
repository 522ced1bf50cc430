"""The store goes away under load: nobody notices, and every answer is in the archive, once."""

import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from service.prediction_log.log import PredictionLogs
from tests.faults.service.load import asking
from tests.faults.service.mortal import Store
from tests.service.serving import Serving, rows
from tests.support.waiting import wait_until

PATIENCE = 10.0


@pytest.mark.parametrize(("leave", "back"), [(Store.kill, Store.start), (Store.freeze, Store.thaw)], ids=["killed", "frozen"])
def test_a_store_that_goes_away_under_load_costs_no_answer(
    service: Serving,
    own_store: Store,
    tmp_path: Path,
    away: float,
    say: Callable[[str], None],
    leave: Callable[[Store], None],
    back: Callable[[Store], None],
) -> None:
    with asking(service.url, rows(50), PATIENCE) as load:
        before = load.flow(min(away, 3))
        leave(own_store)
        during = load.flow(away)
        wait_until(lambda: ready_and_spooling(service), 10, "a worker under load to say that its rows go to disk")
        back(own_store)
        since = time.monotonic()
        wait_until(lambda: service.metric("perennial_log_spool_waiting") == 0, 60, "the spool to be brought in")
        caught_up = time.monotonic() - since
        load.flow(0.5)
    answered = [answer.id for answer in load.answers]
    wait_until(lambda: service.metric("perennial_log_waiting") == 0, 30, "the log to be written")
    wait_until(lambda: len(own_store.streamed()) >= len(answered), 30, "the stream to be complete")
    streamed = own_store.streamed()
    archived = own_store.archived(tmp_path / "archive")
    doubled, missing = len(streamed) - len(set(streamed)), set(answered) - set(archived)
    spooled, replayed = (service.metric(f"perennial_log_{name}_total") for name in ("spooled", "replayed"))
    say(
        f"away {away:g} s, {len(answered)} answers, {load.failed} failed, {spooled:.0f} rows spooled, {replayed:.0f} brought in "
        f"{caught_up:.1f} s after, {doubled} doubled in the stream, {len(archived) - len(set(archived))} in the archive, "
        f"{len(missing)} missing\n    before: {before}\n    away:   {during}"
    )
    assert (load.failed, missing) == (0, set())
    assert doubled <= len(streamed) / 1000
    assert len(archived) == len(set(archived))
    assert service.metric("perennial_log_dropped_total") == service.metric("perennial_log_lost_total") == 0


def ready_and_spooling(service: Serving) -> bool:
    """Each worker speaks for itself, and a new connection may reach one that has had no request since the store went away."""
    response = httpx.get(f"{service.url}/ready")
    assert response.status_code == 200
    return bool(response.json()["log"] == "spool")


def test_a_store_that_is_away_at_the_end_gets_everything_from_the_next_start(
    service: Serving, own_store: Store, tmp_path: Path, say: Callable[[str], None]
) -> None:
    with asking(service.url, rows(50), PATIENCE) as load:
        load.flow(0.5)
        own_store.kill()
        load.flow(1)
    service.process.terminate()
    assert service.process.wait(10) == 0
    own_store.start()
    spool = tmp_path / "home" / "small" / "service" / "spool"
    assert list(spool.glob("*.db"))
    logs = PredictionLogs(own_store.url)
    successor = logs.add("small", spool)
    logs.start()
    wait_until(lambda: not list(spool.glob("*.db")), 30, "the spools to be taken over")
    logs.close(timedelta(seconds=3))
    streamed = own_store.streamed()
    replayed = successor.state().replayed
    say(f"{len(load.answers)} answers, {load.failed} failed, {len(streamed)} in the stream, {replayed} from spools")
    assert sorted(streamed) == sorted(answer.id for answer in load.answers)
    assert successor.state().lost == 0


def test_without_store_and_disk_the_service_says_that_it_is_not_ready(service: Serving, own_store: Store, tmp_path: Path) -> None:
    spool = tmp_path / "home" / "small" / "service" / "spool"
    spool.rename(spool.with_name("aside"))
    spool.write_bytes(b"")
    own_store.kill()
    assert service.predict(rows(1)).status_code == 200
    wait_until(lambda: service.metric("perennial_log_spoolable") == 1, 20, "one of the two workers to miss its disk")
    wait_until(lambda: service.client.get("/ready").status_code == 503, 20, "a worker to say so")
    assert service.metric("perennial_log_dropped_total") == 0
    spool.unlink()
    spool.with_name("aside").rename(spool)
    wait_until(lambda: service.metric("perennial_log_spoolable") == 2, 20, "the disk to be found again")
    assert service.client.get("/ready").json()["log"] in {"spool", "store"}
