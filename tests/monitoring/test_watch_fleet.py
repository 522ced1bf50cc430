"""The watch of several models: isolation, leases shared by runs, and models that come and go."""

from dataclasses import replace
from pathlib import Path

import redis

from monitoring.fleet import Fleet, FollowedModel
from monitoring.lease import Lease, lease_key
from monitoring.state import STATE, load_results
from monitoring.trouble import read_trouble
from perennial.model import Model
from perennial.registry import Registry
from perennial.settings import Settings
from service.prediction_log.streams import labels_stream
from tests.monitoring.running import MODEL, WEEK, following, home, run, weeks
from tests.monitoring.streams import serve
from tests.monitoring.test_watch import settings
from tests.support.models import publish_small, small_spec

__all__ = ["settings"]  # the fixture


def followed(name: str) -> FollowedModel:
    """The small spec under another name."""
    return FollowedModel(small_spec().model_copy(update={"name": name}), Path(), f"specs/{name}.toml")


def named(name: str) -> Model:
    """The small model under another name."""
    return replace(MODEL, card=MODEL.card.model_copy(update={"name": name}))


def test_what_one_model_does_wrong_concerns_no_other_and_a_second_run_takes_the_rest(
    store: redis.Redis, settings: Settings
) -> None:
    for name in (names := ("first", "damaged", "taken", "last", "foreign")):
        publish_small(Registry(settings.registry_url), named(name))
        serve(store, named(name), weeks(1), size=WEEK)
    damage = settings.model_home("damaged") / STATE
    damage.parent.mkdir(parents=True)
    damage.write_text("{")
    store.set(labels_stream("foreign"), "no stream")
    lease = Lease(store, lease_key("taken"))
    assert lease.acquire()
    fleet = Fleet(tuple(map(followed, (*names, "unborn"))), {"bad.toml": "no spec"})
    summary = run(settings, lambda: fleet)
    assert sorted(summary.failing) == ["bad.toml", "damaged", "foreign"]
    assert {name for name in names if load_results(settings.model_home(name))} == {"first", "last"}
    assert [name for name in names if read_trouble(settings.model_home(name))] == ["damaged", "foreign"]
    lease.release()
    damage.unlink()
    store.delete(labels_stream("foreign"))
    again = run(settings, lambda: fleet)
    assert (again.windows, again.failing) == (3, {"bad.toml": "no spec"})
    assert not [name for name in names if read_trouble(settings.model_home(name))]


def test_a_model_that_is_added_is_followed_by_the_run_that_goes_on(store: redis.Redis, settings: Settings) -> None:
    models = [followed("small")]
    with following(settings, fleet=lambda: Fleet(tuple(models))) as wait:
        serve(store, MODEL, weeks(1))
        wait(lambda: load_results(home(settings)))
        models.append(followed("late"))
        publish_small(Registry(settings.registry_url), named("late"))
        serve(store, named("late"), weeks(1))
        wait(lambda: load_results(settings.model_home("late")))
        models.pop(0)
        wait(lambda: not store.exists("perennial:small:monitor"))
        assert store.exists("perennial:late:monitor")
