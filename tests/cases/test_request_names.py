"""A request's id and event time never meet a feature that happens to bear such a name."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perennial.features import compile_features, fit_features
from perennial.log_columns import ID
from perennial.row_encoder import compile_row_encoder
from perennial.schema import Column, Schema, infer_schema
from perennial.spec import ModelSpec, load_spec, parse_spec
from service.decoding.row_contract import DecodedRows, RowContract, row_keys
from tasks.data.ingest import assemble
from tasks.job import load_job
from tasks.serving.batch_predict import score_table
from tasks.serving.replay import Client, prepare, ticks
from tests.cases.inputs import copy_case
from tests.support import models
from tests.tasks.serving.test_replay import Received, service

NOW = datetime(2026, 3, 1, tzinfo=UTC)
NAMES = ("id", "event_time", "label", "score", "version", "instances", "predictions", "model", "rid", "ts")


def spec_of(*features: str, id: str | None = "rid", event_time: str = "ts") -> ModelSpec:  # noqa: A002 - the spec's key
    raw = {"name": "m", "task": "binary", "target": "y", "event_time": event_time, "id": id}
    return parse_spec({**raw, "sources": {"rows": {"path": "r"}}, "features": {name: {} for name in features}}, "the test")


def contract_of(spec: ModelSpec, frame: pl.DataFrame) -> RowContract:
    fitted = fit_features(spec, frame)
    card = SimpleNamespace(schema_=infer_schema(spec, frame), features=fitted)
    compiled, encoder = compile_features(fitted, Path()), compile_row_encoder(fitted, Path())
    model: Any = SimpleNamespace(card=card, compiled=compiled, encoder=encoder)
    return RowContract(model)


def decode(contract: RowContract, *rows: dict[str, Any]) -> DecodedRows:
    return contract.decode(orjson.dumps({"instances": rows}), 100, NOW)


def table(spec: ModelSpec, **columns: list[Any]) -> pl.DataFrame:
    return pl.DataFrame({**columns, spec.event_time: [NOW, NOW], "y": [0, 1]})


def test_the_case_a_feature_called_id(tmp_path: Path) -> None:
    """The spec's id is `rid`; the feature `id` is west, north..., and says nothing about which row it is."""
    spec = copy_case("feature-called-id", tmp_path)
    parsed, job = load_spec(spec), load_job(spec, {}, NOW)
    rows = assemble(parsed, job.base, job.environ).frame
    contract = contract_of(parsed, rows)
    west, also_west = {"rid": "order-1", "x": 1.0, "id": "west"}, {"rid": "order-2", "x": 2.0, "id": "west"}
    decoded = decode(contract, {**west, "ts": "2026-10-05T10:00:00"}, also_west, {"x": 1.0, "id": "west"})
    assert list(decoded.ids[:2]) == ["order-1", "order-2"]
    assert decoded.ids[2] != "west"
    assert decoded.event_times[0] == datetime(2026, 10, 5, 10, tzinfo=UTC)
    assert contract.log_columns(decoded.cells)["id"] == ("west", "west", "west")
    tick = next(ticks(prepare(rows, parsed), datetime(2026, 9, 10, tzinfo=UTC), None, timedelta(days=1)))
    received = Received()
    with service(received) as url, Client(url) as client:
        client.send(tick)
    (_, body), first = received.calls[0], tick.rows[0]
    assert {key: body["instances"][0][key] for key in ("rid", "id", "x")} == {key: first[key] for key in ("rid", "id", "x")}
    assert decode(contract, *body["instances"]).ids == [row[ID] for row in tick.rows]


@pytest.mark.parametrize("name", NAMES)
def test_a_feature_may_bear_any_name_that_a_request_an_answer_or_a_spec_uses(name: str) -> None:
    spec = spec_of(name, id="order" if name == "rid" else "rid", event_time="at" if name == "ts" else "ts")
    contract = contract_of(spec, table(spec, **{name: ["west", "north"]}))
    rows = [{str(spec.id): number, spec.event_time: "2026-02-01T00:00:00Z", name: "west"} for number in (7, 8)]
    decoded = decode(contract, *rows)
    assert (list(decoded.ids), {*decoded.event_times}) == (["7", "8"], {datetime(2026, 2, 1, tzinfo=UTC)})
    assert contract.log_columns(decoded.cells) == {name: ("west", "west")}


@pytest.mark.parametrize(
    ("features", "id", "ids", "times"),
    [
        (["x"], "rid", ["rid", "id"], ["ts", "event_time"]),
        (["x"], None, ["id"], ["ts", "event_time"]),
        (["x"], "id", ["id"], ["ts", "event_time"]),
        (["x", "id"], "rid", ["rid"], ["ts", "event_time"]),
        (["x", "id"], None, [], ["ts", "event_time"]),
        (["x", "id"], "id", ["id"], ["ts", "event_time"]),
        (["id", "event_time"], "rid", ["rid"], ["ts"]),
        (["x"], "event_time", ["event_time", "id"], ["ts"]),
    ],
)
def test_the_general_names_count_only_where_no_column_bears_them(
    features: list[str],
    id: str | None,  # noqa: A002 - the spec's key
    ids: list[str],
    times: list[str],
) -> None:
    spec = spec_of(*features, id=id)
    keys = row_keys(infer_schema(spec, table(spec, **{name: [1.0, 2.0] for name in features})))
    assert (list(keys.ids), list(keys.times)) == (ids, times)


def test_without_any_key_for_ids_a_replay_tells_labels_by_the_ids_it_was_given(tmp_path: Path) -> None:
    spec = spec_of("id", id=None)
    rows = prepare(table(spec, id=["west", "west"]), spec)
    told: list[Any] = []

    class Given(Received):
        def answer(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
            told.extend(label["id"] for label in body.get("labels", ()))
            assert [row.get("id") for row in body.get("instances", ())] in ([], ["west", "west"])
            return {"predictions": [{"id": f"given-{number}"} for number, _ in enumerate(body.get("instances", ()))]}

    with service(Given()) as url, Client(url) as client:
        for tick in ticks(rows, NOW, None, timedelta(days=1)):
            client.send(tick)
    assert told == ["given-0", "given-1"]


def test_a_table_whose_id_is_called_score_is_scored_in_batch(tmp_path: Path) -> None:
    path = models.write_small(tmp_path)
    path.write_text(path.read_text().replace('id = "row_id"', 'id = "score"'))
    rows = models.small_frame(rows=5).rename({"row_id": "score"})
    rows.write_parquet(tmp_path / "asked.parquet")
    job = load_job(path, {}, NOW)
    scored = pl.read_parquet(
        score_table.fn(job, models.small_model(), str(tmp_path / "asked.parquet"), str(tmp_path / "out.parquet")).file
    )
    assert scored.columns == ["score", "asked_at", "_score", "label", "version"]
    assert scored["score"].to_list() == rows["score"].to_list()


COLUMNS = st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True)


@given(COLUMNS, COLUMNS, st.sampled_from([None, *NAMES]), st.sampled_from([None, *NAMES]))
def test_every_key_of_a_row_means_one_thing(own: list[str], other: list[str], id: str | None, other_id: str | None) -> None:  # noqa: A002
    """Also where another version's contract is accepted: no key is a column and names the row, unless the spec says both."""

    def schema(names: list[str], id: str | None) -> Schema:  # noqa: A002
        columns = tuple(Column(name=name, kind="numeric", dtype="float") for name in names)
        return Schema(columns=columns, target="y", event_time="at", id=id)

    keys = row_keys(schema(own, id), [schema(other, other_id)])
    groups = [set(keys.required), set(keys.optional), set(keys.ignored), set(keys.ids) - {id}, set(keys.times)]
    assert sum(map(len, groups)) == len(set().union(*groups))
    assert set(keys.required) | set(keys.optional) == set(own)
    assert set(keys.ids).union(*groups) >= {*own, *other, "at"}
