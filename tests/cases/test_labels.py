"""Labels of classes that the model does not know: counted, shown, scored as wrong, and learnt only when they are classes."""

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import orjson
import polars as pl
import pytest

import monitoring.closing
from flows.promote import promote
from flows.retrain import retrain
from monitoring.archive import Archive
from monitoring.closing import Judge, close_window
from monitoring.events import ModelEvent
from monitoring.state import MonitorState, WindowResult
from monitoring.window import Window
from perennial.errors import ChecksFailed, RequestError
from perennial.labels import codec_of, similar_class
from perennial.metrics import score
from perennial.model import Model
from perennial.model_loading import load_model
from perennial.spec import load_spec
from service.decoding.label_contract import LabelContract
from tasks.data.ingest import ingest
from tasks.data.retraining_data import find_new_classes
from tasks.data.validate import validate
from tasks.job import Job, load_job
from tasks.promotion.comparison import compare, judged_version
from tasks.reporting.artifacts import window_markdown
from tests.cases.inputs import copy_case, edit_spec, read_rows, write_rows
from tests.cases.loop import ask, rows_since, tell, trained
from tests.flows.asking import artifacts, runs, told
from tests.support.models import small_model
from tests.tasks.making import make_job

SINCE = datetime(2026, 9, 10, tzinfo=UTC)
WINDOW = Window(start=SINCE, end=SINCE + timedelta(days=2))
IMPOSSIBLE = 34.5
"""The loss of a row whose class had probability 0."""


@pytest.fixture
def home(tmp_path: Path, prefect_api: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PERENNIAL_HOME", str(tmp_path / "var"))
    return tmp_path


def close(job: Job, model: Model, archive: Archive, monkeypatch: pytest.MonkeyPatch) -> tuple[WindowResult, list[ModelEvent]]:
    sent: list[ModelEvent] = []
    monkeypatch.setattr(monitoring.closing, "send", sent.append)
    result, *_ = close_window(WINDOW, Judge(model, archive), job.spec, MonitorState(), 0.0, WINDOW.end)
    return result, sent


def test_a_new_class_in_the_labels_is_wrong_for_the_champion_and_learnt_by_its_successor(
    home: Path, prefect_api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Case new-class-in-labels."""
    spec = copy_case("new-class-in-labels", home)
    job, champion = trained(spec, "2026-09-10")
    rows = rows_since(spec, SINCE)
    archive = ask(job, champion, rows)
    tell(archive, champion, rows, rows["y"].to_list())
    inside = rows.filter(pl.col("ts") < WINDOW.end)
    new = inside.filter(pl.col("y") == "brand-new").height
    result, sent = close(job, champion, archive, monkeypatch)
    assert (result.findings.rows, result.findings.labelled, result.findings.unknown_labels) == (48, 48, {"brand-new": new})
    assert result.metrics is not None
    assert result.metrics.values["log_loss"] > IMPOSSIBLE * new / 48
    assert result.metrics.values["log_loss"] == pytest.approx(
        compare(job.spec, judged_version(champion), champion, inside).losses()[1]
    ), "as the gate does"
    assert result.decision.kind == "performance"
    assert f"classes that the champion does not know: 'brand-new' {new}" in result.decision.reason
    assert f"| brand-new | {new} |" in window_markdown(result)
    (unknown,) = [event for event in sent if event.name == "perennial.labels.unknown"]
    assert unknown.payload["classes"] == [{"name": "brand-new", "rows": new, "similar": None}]
    assert retrain(str(spec)) == 2
    successor = load_model(job.registry, job.spec.name, 2, job.base)
    assert successor.card.classes == ("brand-new", *champion.card.classes)
    run = runs(prefect_api, "retrain")[0]
    page = artifacts(prefect_api, run["id"])[f"{job.spec.name}-evaluation"]["data"]
    assert f"| brand-new | {rows.filter(pl.col('y') == 'brand-new').height} | yes |  |" in page
    (event,) = told(prefect_api, "perennial.labels.unknown", run["id"], job.spec.name)["payload"]["classes"]
    assert (event["name"], event["learnt"]) == ("brand-new", True)
    assert promote(str(spec)) == 2
    assert job.registry.aliases(job.spec.name).champion == 2


def test_a_new_spelling_is_no_class_however_often_it_comes(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Case label-spelling."""
    spec = copy_case("label-spelling", home)
    job, champion = trained(spec, "2026-09-10")
    rows = rows_since(spec, SINCE)
    archive = ask(job, champion, rows)
    tell(archive, champion, rows, rows["y"].str.to_uppercase().to_list())
    result, sent = close(job, champion, archive, monkeypatch)
    assert (result.findings.labelled, sum(result.findings.unknown_labels.values())) == (48, 48)
    assert {(one["name"], one["similar"]) for one in sent[-1].payload["classes"]} == {
        (name.upper(), name) for name in champion.card.classes
    }
    assert result.metrics is not None
    assert (result.metrics.values["accuracy"], result.decision.kind) == (0.0, "performance")
    assert retrain(str(spec)) == 2
    assert job.registry.aliases(job.spec.name).champion == 1
    assert load_model(job.registry, job.spec.name, 2, job.base).card.classes == champion.card.classes


def test_a_rare_class_is_named_and_not_learnt_before_it_was_seen_often_enough(home: Path) -> None:
    spec = edit_spec(copy_case("label-spelling", home), label_min_count="label_min_count = 6")
    job, champion = trained(spec, "2026-09-10")
    rows = rows_since(spec, SINCE)
    archive = ask(job, champion, rows)
    rare = [name if place % 12 else ("five" if place < 60 else "six") for place, name in enumerate(rows["y"])]
    assert (rare.count("five"), rare.count("six")) == (5, 11)
    tell(archive, champion, rows, rare)
    retrain(str(spec))
    card = load_model(job.registry, job.spec.name, 2, job.base).card
    assert {*card.classes} == {*champion.card.classes, "six"}


def test_declared_classes_are_the_only_ones(tmp_path: Path) -> None:
    declared = 'classes = ["east", "north", "south", "west", "up"]'
    spec = edit_spec(copy_case("label-spelling", tmp_path), classes=declared)
    contract = LabelContract("m", lambda: codec_of(load_spec(spec)))

    def label(value: object) -> object:
        return contract.decode(orjson.dumps({"labels": [{"id": "a", "label": value}]}), 10, SINCE).labels[0]

    assert (label("north"), label("up")) == ("north", "up")
    for wrong in ("NORTH", "north ", "brand-new", 1, True):
        with pytest.raises(RequestError, match="expected one of the declared classes 'east', 'north', 'south', 'west', 'up'"):
            label(wrong)
    rows = read_rows(spec)
    job = load_job(spec, {"PERENNIAL_HOME": str(tmp_path / "var")}, datetime(2026, 12, 1, tzinfo=UTC))
    write_rows(spec, rows.with_columns(y=pl.Series(["NORTH", "south ", *rows["y"][2:]])))
    good, checks = validate.fn(job, ingest.fn(job, None))
    assert (checks.bad_rows, good.height) == (2, 398)
    assert "y: is not one of the declared classes" in str(checks.problems[0])
    write_rows(spec, rows.with_columns(y=rows["y"].str.to_uppercase()))
    with pytest.raises(ChecksFailed, match=r"is not one of the declared classes .* in 400 rows"):
        validate.fn(job, ingest.fn(job, None))


def test_a_class_that_the_spec_declares_later_is_unknown_to_the_model_and_not_no_label(tmp_path: Path) -> None:
    model = small_model("multiclass")
    spec = model.card.spec.model_copy(update={"classes": model.card.classes})
    model = replace(model, card=model.card.model_copy(update={"spec": spec}))
    sent = pl.Series("outcome", [*model.card.classes, "added", "added", None])
    assert model.label_codec.unknown(sent) == {"added": 2}
    codes = model.label_codec.encode_column(sent)
    assert codes[:-1].tolist() == [*range(len(model.card.classes)), *[len(model.card.classes)] * 2]
    job = make_job(tmp_path, "multiclass")
    frame = pl.DataFrame({"outcome": sent})
    (new,) = find_new_classes.fn(job, frame, model)
    assert (new.rows, new.learnt) == (2, False)
    declared = job.spec.model_copy(update={"classes": (*model.card.classes, "added")})
    (new,) = find_new_classes.fn(replace(job, spec=declared), frame, model)
    assert new.learnt


def test_two_spellings_in_a_table_are_named(tmp_path: Path) -> None:
    spec = copy_case("label-spelling", tmp_path)
    rows = read_rows(spec)
    write_rows(spec, rows.with_columns(y=pl.Series(["North", *rows["y"][1:]])))
    job = load_job(spec, {"PERENNIAL_HOME": str(tmp_path / "var")}, datetime(2026, 12, 1, tzinfo=UTC))
    _, checks = validate.fn(job, ingest.fn(job, None))
    assert "y: has the classes 'North' and 'north': probably one in two spellings" in str(checks.problems[0])


@pytest.mark.parametrize(
    ("name", "similar"), [("NORTH", "north"), (" north ", "north"), ("10.0", "10"), ("nord", None), ("010", None), ("1", None)]
)
def test_a_misspelling_differs_in_case_blanks_or_a_fraction_of_nothing(name: str, similar: str | None) -> None:
    assert similar_class(name, ("north", "10")) == similar


def test_models_of_different_classes_are_compared_on_all_of_them() -> None:
    labels, scores = np.array([0.0, 1.0, 2.0]), np.array([[0.5, 0.5], [0.5, 0.5], [0.5, 0.5]])
    found = score("multiclass", labels, scores).values
    assert found["log_loss"] == pytest.approx((2 * math.log(2) + IMPOSSIBLE) / 3, abs=0.02)
    assert found["accuracy"] == pytest.approx(1 / 3)
