"""The challenger's share: which ids it gets is fixed, as many as were asked for, and no version that must not answers any."""

import zlib
from datetime import UTC, datetime
from types import ModuleType
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perennial.record import PredictionBatch
from perennial.registry import CHALLENGER, CHAMPION, REJECTED, TRAINING, Aliases, Move
from service.inference import challenger_share
from service.inference.challenger_share import ChallengerShare
from service.inference.litapi import PredictionAPI
from service.inference.model_watcher import AnsweringChallenger, CompiledModel
from service.inference.predictor import InferenceRequest, Operation, Predictor
from tests.support import models
from tests.support.mutants import mutant

IDS = [f"row-{number}" for number in range(5_000)]
SHOPS = ("north", "east", "south")

percents = st.floats(0, 50)
versions = st.integers(1, 10_000)


@given(percents, percents, versions, st.text(min_size=1, max_size=50))
def test_an_id_stays_where_it_is_and_a_larger_share_takes_none_away(one: float, other: float, version: int, id_: str) -> None:
    small, large = (ChallengerShare(percent, "flights", version) for percent in sorted((one, other)))
    assert small.has(id_) == ChallengerShare(small.percent, "flights", version).has(id_), "wherever it is asked"
    assert small.has(id_) <= large.has(id_)


@given(percents, versions, st.sampled_from(["flights", "bike"]))
def test_the_share_of_the_ids_is_what_was_asked_for(percent: float, version: int, model: str) -> None:
    check_share(challenger_share, percent, version, model)


def check_share(module: ModuleType, percent: float, version: int = 2, model: str = "flights") -> None:
    """Within five standard deviations of as many tosses of a coin that falls so."""
    ids = IDS[:500]
    taken = sum(module.ChallengerShare(percent, model, version).chosen(ids)) / len(ids)
    share = percent / 100
    assert abs(taken - share) <= 5 * (share * (1 - share) / len(ids)) ** 0.5 + 1 / len(ids)


def check_independence(module: ModuleType) -> None:
    """The next challenger gets other ids, and so does another model's; a tenth of a tenth is both's by chance."""
    first = {id_ for id_ in IDS if module.ChallengerShare(10, "flights", 2).has(id_)}
    for other in (module.ChallengerShare(10, "flights", 3), module.ChallengerShare(10, "bike", 2)):
        assert 20 < sum(other.has(id_) for id_ in first) < 90


def check_stickiness(module: ModuleType) -> None:
    """What a release decided, the next one decides: the digest of the decisions on 5,000 ids is written down."""
    decided = bytes(module.ChallengerShare(10, "flights", 2).chosen(IDS))
    assert zlib.crc32(decided) == 2016890757


def check_withheld(module: ModuleType) -> None:
    moves = [move(3, TRAINING, None), move(2, CHALLENGER, 2), move(1, CHAMPION, 1)]
    assert module.withheld(Aliases(positions={CHAMPION: 1, CHALLENGER: 2}), moves) is None
    assert "no challenger" in module.withheld(Aliases(positions={CHAMPION: 1}), moves)
    promoted = Aliases(positions={CHAMPION: 2, CHALLENGER: 2})
    assert "not newer" in module.withheld(promoted, [move(4, CHAMPION, 2), *moves])
    rolled_back = [move(5, CHAMPION, 1), move(4, CHAMPION, 2), *moves]
    assert "was champion" in module.withheld(Aliases(positions={CHAMPION: 1, CHALLENGER: 2}), rolled_back)
    refused = [move(4, REJECTED, 2), *moves]
    assert "refused" in module.withheld(Aliases(positions={CHAMPION: 1, CHALLENGER: 2, REJECTED: 2}), refused)
    succeeded = [move(6, CHALLENGER, 3), move(5, REJECTED, 2), *moves]
    assert module.withheld(Aliases(positions={CHAMPION: 1, CHALLENGER: 3, REJECTED: 2}), succeeded) is None


def move(generation: int, alias: str, version: int | None) -> Move:
    now = datetime(2024, 1, 1, tzinfo=UTC)
    return Move(generation=generation, alias=alias, version=version, previous=None, at=now, reason="test", positions={})


CHECKS = (
    lambda module: check_share(module, 10),
    lambda module: check_share(module, 50),
    check_independence,
    check_stickiness,
    check_withheld,
)


def test_every_check_passes() -> None:
    for check in CHECKS:
        check(challenger_share)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"big") < self._below', '"big") > self._below'),
        ("percent / 100 * 2", "percent / 200 * 2"),
        ('f"{model}:{version}"', 'f"{model}"'),
        ('f"{model}:{version}"', 'f"{version}"'),
        ("id_.encode()", "id_[-1].encode()"),
        ('"big") <', '"little") <'),
        ("or challenger <= champion", "or challenger < champion"),
        ("if move.version != challenger:", "if move.version == challenger:"),
        ("move.alias == CHAMPION:", "move.alias == TRAINING:"),
        ("move.alias == REJECTED:", "move.alias == TRAINING:"),
    ],
)
def test_a_planted_fault_turns_a_check_red(old: str, new: str) -> None:
    with pytest.raises((AssertionError, NameError, TypeError)):  # noqa: PT012
        broken = mutant(challenger_share, old, new)
        for check in CHECKS:
            check(broken)


class Recorder:
    """In the place of log and metrics, which have tests of their own."""

    has_room = True

    def __init__(self) -> None:
        self.batches: list[PredictionBatch] = []
        self.failures = 0

    def append(self, batch: PredictionBatch, size: int) -> None:
        self.batches.append(batch)

    def predicted(self, version: int, rows: int, *_by_column: object) -> None:
        return None

    def challenger_failed(self) -> None:
        self.failures += 1


def divided(share: float = 50) -> CompiledModel:
    """Version 1, beside which version 2, which knows its categories in another order, answers a share."""
    champion = CompiledModel(models.small_model())
    challenger = CompiledModel(models.small_model(version=2, seed=1))
    return champion.beside(AnsweringChallenger(challenger, ChallengerShare(share, "small", 2)))


def rows(count: int) -> list[dict[str, object]]:
    return [{"id": f"p-{n}", "amount": n / count, "shop": SHOPS[n % 3]} for n in range(count)]


def ask(
    model: CompiledModel, recorder: Recorder, sent: list[dict[str, object]], operation: Operation = "predict"
) -> InferenceRequest:
    stand_in: Any = recorder
    return InferenceRequest(operation, orjson.dumps({"instances": sent}), model, Predictor(10_000, stand_in, stand_in))


@pytest.mark.parametrize("count", [1, 6, 300])
@pytest.mark.parametrize("operation", ["predict", "explain"])
def test_each_row_has_the_score_of_the_version_that_it_names(count: int, operation: Operation) -> None:
    recorder, model, api = Recorder(), divided(), PredictionAPI(lambda: None)  # type: ignore[arg-type, return-value]
    sent = rows(count)
    (response,) = api.handle_batch([ask(model, recorder, sent, operation)])
    body = orjson.loads(response.body)
    found = body["predictions" if operation == "predict" else "explanations"]
    assert [one["id"] for one in found] == [row["id"] for row in sent], "in the order in which they were sent"
    assert model.challenger is not None
    asked_alone = {}
    for row in sent:
        (alone,) = api.handle_batch([ask(model, Recorder(), [row])])
        one = orjson.loads(alone.body)
        asked_alone[row["id"]] = one["version"], one["predictions"][0]["score"]
        assert "version" not in one["predictions"][0]
    answered = {one["id"]: (one.get("version", body["version"]), one["score"]) for one in found}
    assert answered.keys() == asked_alone.keys()
    for id_, (version, score) in answered.items():
        assert version == (2 if model.challenger.share.has(id_) else 1) == asked_alone[id_][0]
        assert score == pytest.approx(asked_alone[id_][1], rel=1e-12)
    if count > 1:
        assert {version for version, _ in answered.values()} == {1, 2}
    if operation == "predict":
        logged = {id_: batch.version for batch in recorder.batches for id_ in batch.ids}
        assert logged == {id_: version for id_, (version, _) in answered.items()}


def test_requests_that_wait_together_are_divided_each_by_itself() -> None:
    recorder, model, api = Recorder(), divided(), PredictionAPI(lambda: None)  # type: ignore[arg-type, return-value]
    stand_in: Any = recorder
    predictor = Predictor(10_000, stand_in, stand_in)
    waiting = [InferenceRequest("predict", orjson.dumps({"instances": [row]}), model, predictor) for row in rows(20)]
    bodies = [orjson.loads(response.body) for response in api.handle_batch(waiting)]
    assert [body["predictions"][0]["id"] for body in bodies] == [row["id"] for row in rows(20)]
    assert [batch.version for batch in recorder.batches] in ([1, 2], [2, 1]), "an entry of the log for each version"
    for body in bodies:
        (batch,) = (batch for batch in recorder.batches if body["predictions"][0]["id"] in batch.ids)
        assert batch.version == body["version"]


@pytest.mark.parametrize("part", ["_score", "contract"])
def test_where_the_challenger_fails_the_champion_answers_and_logs_each_row_once(part: str) -> None:
    recorder, model, api = Recorder(), divided(), PredictionAPI(lambda: None)  # type: ignore[arg-type, return-value]
    assert model.challenger is not None
    setattr(model.challenger.model, part, None)
    (response,) = api.handle_batch([ask(model, recorder, rows(6))])
    body = orjson.loads(response.body)
    assert (response.status, body["version"], recorder.failures) == (200, 1, 1)
    assert not any("version" in one for one in body["predictions"])
    (batch,) = recorder.batches
    assert (batch.version, batch.ids) == (1, tuple(f"p-{n}" for n in range(6)))
