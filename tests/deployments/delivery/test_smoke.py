"""The smoke test on a real service: it says what is wrong, and leaves no prediction behind."""

from pathlib import Path

from deployments.delivery.proxy import _config
from deployments.delivery.smoke import smoke
from perennial.registry import Registry
from tests.service.serving import NAME, registry_of, rows, serving
from tests.support import models


def test_a_service_that_is_well_passes_and_logs_nothing_and_one_of_another_model_does_not(tmp_path: Path, store_url: str) -> None:
    registry = registry_of(tmp_path)
    models.publish_small(registry, models.small_model())
    with serving(tmp_path, store_url) as service:
        assert smoke(service.url, {}, registry) == []
        assert smoke(service.url, {}, Registry(str(tmp_path / "elsewhere"))) == [], "without the registry a row of nulls is asked"
        other = registry_of(tmp_path / "other")
        models.publish_small(other, models.small_model(seed=1))
        (problem,) = smoke(service.url, {}, other)
        assert "row 0 of the reference sample scores" in problem
        service.predict(rows(1))
        assert service.logged_ids(NAME) in ([], ["row-0"]), "only what a client asked"
    (problem,) = smoke(service.url, {}, registry)
    assert "does not answer" in problem


def test_a_replica_without_weight_is_not_among_those_that_the_proxy_asks() -> None:
    config = _config(8100, {8101: 9, 8102: 0})
    assert "server 127.0.0.1:8101 weight=9;" in config
    assert "127.0.0.1:8102" not in config
