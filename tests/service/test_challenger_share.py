"""Over HTTP: champion and challenger both answer, each its ids, and what answered is in the response, the log and the counts."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from deployments.alias_moves import roll_back
from perennial.registry import CHALLENGER, CHAMPION
from perennial.settings import Settings
from service.inference.challenger_share import ChallengerShare
from tests.service.serving import NAME, Serving, registry_of, rows, serving
from tests.support import models
from tests.support.waiting import wait_until

NOW = datetime(2024, 3, 1, tzinfo=UTC)
SHARE = ChallengerShare(30, NAME, 2)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, store_url: str) -> Iterator[Serving]:
    """Two workers with version 1 as champion and version 2 as challenger, which is to answer 30 % of the rows."""
    home: Path = tmp_path_factory.mktemp("shared")
    registry = registry_of(home)
    models.publish_small(registry, models.small_model())
    second = models.publish_small(registry, models.small_model(seed=1), promote=False)
    registry.promote(NAME, CHALLENGER, second, expect=None, reason="published", now=NOW)
    with serving(home, store_url, perennial_workers=2, perennial_challenger_share=30) as service:
        yield service


def answered(service: Serving, sent: list[dict[str, object]]) -> dict[str, tuple[int, float]]:
    body = service.predict(sent).json()
    return {one["id"]: (one.get("version", body["version"]), one["score"]) for one in body["predictions"]}


def test_an_id_is_answered_by_one_version_in_whatever_request_and_by_whichever_worker(shared: Serving) -> None:
    sent = rows(60)
    together = answered(shared, sent)
    alone = {id_: one for row in sent for id_, one in answered(shared, [row]).items()}
    assert {id_: version for id_, (version, _) in together.items()} == {row["id"]: 1 + SHARE.has(row["id"]) for row in sent}
    assert {id_: version for id_, (version, _) in alone.items()} == {id_: version for id_, (version, _) in together.items()}
    assert [score for _, score in together.values()] == pytest.approx([alone[id_][1] for id_ in together])
    wait_until(lambda: len(shared.logged_ids()) == 120, 20, "every row to be in the log")
    for batch in shared.logged():
        assert all(together[id_][0] == batch.version for id_ in batch.ids)
    by_challenger = 2 * sum(SHARE.has(row["id"]) for row in sent)
    assert shared.metric("perennial_predictions_total", model=NAME, version="2") == by_challenger > 0
    assert shared.metric("perennial_predictions_total", model=NAME, version="1") == 120 - by_challenger
    wait_until(lambda: shared.metric("perennial_challenger_share", model=NAME) == 2 * 0.3, 20, "the gauge of each of two workers")
    info = shared.client.get("/model").json()
    assert info["challenger"] == {"version": 2, "share": 30.0, "withheld": None}
    assert info["answered"] == {"1": 120 - by_challenger, "2": by_challenger}


def test_a_promoted_challenger_answers_all_and_one_that_was_rolled_back_none(shared: Serving) -> None:
    home = Path(shared.registry.url).parent
    shared.registry.promote(NAME, CHAMPION, 2, expect=1, reason="by hand", now=NOW, by_person=True)
    wait_until(lambda: shared.versions() == [2, 2], 20, "both workers to answer with version 2")
    assert {version for version, _ in answered(shared, rows(60)).values()} == {2}
    roll_back(home / "small.toml", None, Settings(home=home), NOW)
    wait_until(lambda: shared.versions() == [1, 1], 20, "both workers to answer with version 1")
    assert {version for version, _ in answered(shared, rows(60)).values()} == {1}
    info = shared.client.get("/model").json()["challenger"]
    assert info == {"version": None, "share": 30.0, "withheld": "version 2 was champion before"}
    newest, before, *_ = shared.registry.moves(NAME)
    assert (newest.rollback, newest.by_person, newest.version, newest.previous) == (True, True, 1, 2)
    assert (before.by_person, before.version, before.previous, before.reason) == (True, 2, 1, "by hand")
