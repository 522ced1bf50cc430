"""What clients, load balancers and people see of the service while versions come and go."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from deployments.cli import run
from perennial.model import Model
from perennial.registry import CHALLENGER, CHAMPION, CONTRACT, Move
from perennial.spec import ModelSpec, parse_spec
from service.inference.champion_history import read_moves
from service.web.routes import DOCS, MEASURED
from tests.service.serving import NAME, Serving, registry_of, serving
from tests.service.test_swap import traffic
from tests.support import models
from tests.support.waiting import wait_until

OLD = {"amount": 1.5, "shop": "north"}
NEW = {"amount": 1.5, "z": 2.0}
DAY = timedelta(days=1)


def spec_of(**features: str) -> ModelSpec:
    raw = models.small_spec().model_dump(mode="json", exclude_unset=True)
    return parse_spec({**raw, "features": features}, "the spec of a later version")


def model_of(frame: pl.DataFrame | None = None, **features: str) -> Model:
    """A small model of these features; the table has `amount`, `shop` and, as new columns, `z` and `code`."""
    table = models.small_frame().with_columns(z=pl.col("amount") * 2, code=pl.col("amount").round().cast(pl.Int64))
    return models.train_small(table if frame is None else frame, spec=spec_of(**features))


@pytest.fixture(scope="module")
def successor() -> Model:
    """It has a column more and a column less than the small model."""
    return model_of(amount="numeric", z="numeric")


@pytest.fixture
def service(tmp_path: Path, store_url: str) -> Iterator[Serving]:
    models.publish_small(registry_of(tmp_path), models.small_model())
    with serving(tmp_path, store_url) as running:
        wait_until(lambda: running.predict([OLD]).status_code == 200, 30, "the first champion to answer")
        yield running


def promote(service: Serving, model: Model) -> int:
    version = models.publish_small(service.registry, model)
    wait_until(lambda: service.versions() == [version], 30, f"version {version} to be live")
    return version


def refused(service: Serving, row: dict[str, Any]) -> str:
    response = service.predict([row])
    assert response.status_code == 422, response.text
    return str(response.json()["error"]["message"])


def logged_cells(service: Serving, column: str) -> dict[str, Any]:
    batches = [batch for batch in service.logged() if column in batch.columns]
    return {name: cell for batch in batches for name, cell in zip(batch.ids, batch.columns[column], strict=True)}


def test_clients_keep_their_form_through_a_promotion_that_adds_a_column_and_removes_another(
    service: Serving, successor: Model
) -> None:
    with traffic(service, [OLD, OLD]) as got:
        wait_until(lambda: len(got.answers) > 20, 30, "answers of version 1")
        promote(service, successor)
        wait_until(lambda: got.answers[-1][0] == 2, 30, "an answer of version 2")
        promote(service, successor)  # a second one, by which the old form is no longer that of the champion before
        wait_until(lambda: got.answers[-1][0] == 3, 30, "an answer of version 3")
    assert got.failures == []
    nothing_of_z = successor.predict_frame(pl.DataFrame({"amount": [1.5], "z": [None]}, schema={"amount": float, "z": float}))
    assert {scores for version, scores in got.answers if version == 2} == {(nothing_of_z[0], nothing_of_z[0])}
    rows = service.client.get("/model").json()["rows"]
    assert (rows["required"], rows["optional"], rows["ignored"]) == ({"amount": "float"}, {"z": "float"}, {"shop": "string"})
    later = sum(2 for version, _ in got.answers if version > 1)
    assert rows["missing_rows"] == {"z": later}
    assert rows["ignored_rows"] == {"shop": later}
    assert service.metric("perennial_missing_columns_total", column="z") == later
    assert service.metric("perennial_ignored_columns_total", column="shop") == later


def test_what_no_accepted_version_takes_is_refused_as_before(service: Serving, successor: Model) -> None:
    promote(service, successor)
    assert "unknown column 'shoe'; did you mean 'shop'?" in refused(service, {**OLD, "shoe": 1})
    assert "column 'amount' is missing" in refused(service, {"z": 1, "shop": "north"})
    assert "'z': 'much', expected a finite number or null" in refused(service, {"amount": 1, "z": "much"})
    assert "'shop': 7, expected a text" in refused(service, {"amount": 1, "shop": 7})
    assert service.predict([{**OLD, **NEW}, NEW, {"amount": None}]).status_code == 200


def test_a_closed_contract_is_the_champion_s_alone(service: Serving, successor: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    promote(service, successor)
    home = service.log.parent
    monkeypatch.setenv("PERENNIAL_HOME", str(home))
    assert run(["contract", "close", str(home / "small.toml")]) == 0
    wait_until(lambda: service.predict([OLD]).status_code == 422, 30, "the old form to be refused")
    assert "unknown column 'shop'" in refused(service, OLD)
    assert "column 'z' is missing" in refused(service, {"amount": 1})
    assert service.client.get("/model").json()["rows"]["optional"] == {}
    promoted_at = service.client.get("/model").json()["promoted_at"]
    assert datetime.fromisoformat(promoted_at) == successor.card.trained_at, "closing is no promotion"
    promote(service, model_of(amount="numeric", shop="categorical", z="numeric"))
    assert service.predict([NEW, {**NEW, **OLD}]).status_code == 200, "what was the contract since the close is accepted on"


def test_a_rollback_breaks_no_client_either(service: Serving, successor: Model) -> None:
    promote(service, successor)
    now = successor.card.trained_at
    with traffic(service, [NEW]) as got:
        wait_until(lambda: len(got.answers) > 20, 30, "answers of version 2")
        service.registry.promote(NAME, CHAMPION, 1, expect=2, reason="rolled back by hand", now=now)
        wait_until(lambda: got.answers[-1][0] == 1, 30, "an answer of version 1")
    assert got.failures == []
    assert service.client.get("/model").json()["rows"]["missing_rows"] == {"shop": sum(one == 1 for one, _ in got.answers)}


def test_clients_may_write_rows_as_a_challenger_takes_them_before_it_serves(service: Serving, successor: Model) -> None:
    assert service.predict([NEW]).status_code == 422
    version = models.publish_small(service.registry, successor, promote=False)
    service.registry.promote(NAME, CHALLENGER, version, expect=None, reason="test", now=successor.card.trained_at)
    wait_until(lambda: service.predict([NEW]).status_code == 200, 30, "the challenger's form to be accepted")
    assert service.predict([NEW]).json()["version"] == 1


def test_a_column_of_another_type_is_taken_from_clients_of_the_type_before(service: Serving) -> None:
    promote(service, model_of(amount="numeric", code="categorical"))
    texts = models.small_frame().with_columns(code=pl.col("amount").round().cast(pl.Int64).cast(pl.String))
    promote(service, model_of(texts, amount="numeric", code="categorical"))
    sent = [{"amount": 1, "code": code, "id": f"code-{code!r}"} for code in (1, 1.5, "01", "1", "north", None)]
    scores = [one["score"] for one in service.predict(sent).json()["predictions"]]
    assert scores[0] == scores[3], "a number is its text"
    expected = "a whole number or a text of at most 65536 characters or null"
    assert f"'code': True, expected {expected}" in refused(service, {"amount": 1, "code": True})
    assert service.client.get("/model").json()["rows"]["missing_rows"] == {"code": 2}
    wait_until(lambda: "code-None" in service.logged_ids(), 20, "the rows to be logged")
    cells = logged_cells(service, "code")
    assert [cells[str(row["id"])] for row in sent] == ["1", "1.5", "01", "1", "north", None]


def test_a_column_that_became_a_number_is_read_from_texts_that_are_one(service: Serving) -> None:
    promote(service, model_of(amount="numeric", shop="categorical", code="categorical"))
    numbers = models.small_frame().with_columns(shop=pl.col("amount") * 2, code=pl.col("amount"))
    promote(service, model_of(numbers, amount="numeric", shop="numeric", code="numeric"))
    sent = [{"amount": 1, "code": 1, "shop": shop, "id": f"shop-{shop}"} for shop in ("north", "7", "nan", "1e999", 2.5)]
    assert service.predict(sent).status_code == 200
    wait_until(lambda: "shop-2.5" in service.logged_ids(), 20, "the rows to be logged")
    cells = logged_cells(service, "shop")
    assert [cells[str(row["id"])] for row in sent] == [None, 7.0, None, None, 2.5]


def move(generation: int, alias: str, champion: int, day: int) -> Move:
    at = datetime(2026, 1, day, 12, tzinfo=UTC)
    positions = {"champion": champion}
    return Move(generation=generation, alias=alias, version=champion, previous=None, at=at, reason="", positions=positions)


MOVES = [move(1, CHAMPION, 1, 1), move(2, CHAMPION, 2, 5), move(3, CHALLENGER, 2, 6), move(4, CHAMPION, 3, 9)]


@pytest.mark.parametrize(
    ("moves", "until", "versions"),
    [
        (MOVES, None, [3, 2, 2, 1]),
        (MOVES, date(2026, 1, 4), [3, 2, 2, 1]),
        (MOVES, date(2026, 1, 5), [3, 2, 2]),
        (MOVES, date(2026, 1, 8), [3, 2]),
        (MOVES, date(2026, 1, 9), [3]),
        ([*MOVES, move(5, CONTRACT, 3, 10)], None, [3]),
        ([*MOVES, move(5, CONTRACT, 3, 10), move(6, CHAMPION, 4, 11)], None, [4, 3]),
    ],
)
def test_the_versions_whose_rows_are_accepted_are_the_champions_since_the_close(
    moves: list[Move], until: date | None, versions: list[int]
) -> None:
    promoted_at, found = read_moves(reversed(moves), until)
    assert found == versions
    assert promoted_at[versions[0]] == [one.at for one in moves if one.alias == CHAMPION][-1]


def test_a_former_champion_that_is_damaged_stops_no_promotion(tmp_path: Path, store_url: str, successor: Model) -> None:
    registry = registry_of(tmp_path)
    models.publish_small(registry, models.small_model())
    models.publish_small(registry, successor)
    (Path(registry.url) / "models" / NAME / "versions/1/model.json").write_text("{")
    with serving(tmp_path, store_url) as service:
        assert service.predict([NEW]).json()["version"] == 2
        assert "unknown column 'shop'" in refused(service, OLD)
        assert "rows in the form of version 1 of small are not accepted" in service.log.read_text()


def test_head_is_answered_wherever_get_is(service: Serving) -> None:
    for path in sorted({*MEASURED, *DOCS, "/nothing"}):
        got, head = service.client.get(path), service.client.head(path)
        assert (head.status_code, head.content) == (got.status_code, b""), path
        assert head.headers["content-type"] == got.headers["content-type"]
    assert service.client.head("/health").headers["content-length"] == str(len(service.client.get("/health").content))
    assert service.metric("perennial_requests_total", route="/health", code="200") >= 3


def test_promoted_at_is_when_this_version_became_champion(service: Serving, successor: Model) -> None:
    first, now = service.client.get("/model").json()["promoted_at"], successor.card.trained_at
    assert datetime.fromisoformat(first) == models.small_model().card.trained_at
    second = models.publish_small(service.registry, successor, promote=False)
    service.registry.promote(NAME, CHALLENGER, second, expect=None, reason="held", now=now + DAY)
    wait_until(lambda: service.predict([NEW]).status_code == 200, 30, "the challenger to be seen")
    assert service.client.get("/model").json()["promoted_at"] == first
    for number, version in enumerate((2, 1), start=2):
        service.registry.promote(NAME, CHAMPION, version, expect=3 - version, reason="test", now=now + number * DAY)
        wait_until(lambda live=[version]: service.versions() == live, 30, "the swap")
        assert datetime.fromisoformat(service.client.get("/model").json()["promoted_at"]) == now + number * DAY


@pytest.mark.parametrize("damage", ["trees", "card", "folder", "aliases"])
def test_the_503_repeats_why_there_is_no_model(damage: str, tmp_path: Path, store_url: str) -> None:
    registry = registry_of(tmp_path)
    models.publish_small(registry, models.small_model())
    home = Path(registry.url) / "models" / NAME
    expected = {
        "trees": "model.txt does not match",
        "card": "model.json of 'small' version 1 is missing",
        "folder": "has no version 1",
        "aliases": "aliases.json cannot be read",
    }
    match damage:
        case "trees":
            (home / "versions/1/model.txt").write_text("tree")
        case "card":
            (home / "versions/1/model.json").unlink()
        case "folder":
            (home / "versions/1").rename(home / "away")
        case _:
            (home / "aliases.json").write_text("[]")
    with serving(tmp_path, store_url) as service:
        answers = [service.predict([OLD]), service.client.get("/model"), service.client.get("/ready")]
        for answer in answers:
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_model")
            assert expected[damage] in answer.json()["error"]["message"]
            assert "promoted yet" not in answer.text
        assert service.client.get("/health").json()["champion"] == (None if damage == "aliases" else 1)


def test_the_openapi_names_the_keys_that_a_row_may_have(service: Serving, successor: Model) -> None:
    def row() -> Any:
        return service.client.get("/openapi.json").json()["components"]["schemas"]["Row"]

    assert list(row()["properties"]) == ["row_id", "id", "asked_at", "event_time", "amount", "shop"]
    assert (row()["required"], row()["additionalProperties"]) == (["amount", "shop"], False)
    promote(service, successor)
    assert set(row()["properties"]) == {"row_id", "id", "asked_at", "event_time", "amount", "z", "shop"}
    assert row()["required"] == ["amount"]
    every = {"row_id": "a", "asked_at": "2026-01-01", **OLD, **NEW}
    assert service.predict([every]).json()["predictions"][0]["id"] == "a"
