"""A binary target in whatever form a table has it: never inverted, and one rule for training, feedback, replay and retraining."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pytest

from flows.retrain import retrain
from perennial.errors import ChecksFailed, PerennialError, RequestError, SpecError, TrainingError
from perennial.labels import codec_of
from perennial.log_columns import EVENT_TIME, LABEL
from perennial.model_loading import load_model
from perennial.spec import load_spec
from service.decoding.label_contract import LabelContract
from tasks.data.ingest import ingest
from tasks.data.validate import Checks, validate
from tasks.job import load_job
from tasks.serving.replay import prepare
from tests.cases.inputs import copy_case, edit_spec, read_rows, write_rows
from tests.cases.loop import ask, rows_since, tell, trained
from tests.service.serving import registry_of, serving
from tests.support import models

NOW = datetime(2026, 12, 1, tzinfo=UTC)

STANDARD: dict[str, Callable[[pl.Series], pl.Series]] = {
    "texts of 0 and 1": lambda y: y.cast(pl.Int8).cast(pl.String),
    "numbers": lambda y: y.cast(pl.Int64),
    "unsigned": lambda y: y.cast(pl.UInt64),
    "small numbers": lambda y: y.cast(pl.UInt8),
    "whole floats": lambda y: y.cast(pl.Float32),
    "texts of whole floats": lambda y: y.cast(pl.Float64).cast(pl.String),
    "decimals": lambda y: y.cast(pl.Int8).cast(pl.Decimal(10, 2)),
    "Booleans": lambda y: y,
    "true and false": lambda y: y.replace_strict([True, False], ["True", "false"], return_dtype=pl.String),
    "yes and no": lambda y: y.replace_strict([True, False], ["Yes", "no"], return_dtype=pl.String),
    "an Enum": lambda y: y.replace_strict([True, False], ["no", "yes"][::-1], return_dtype=pl.Enum(["yes", "no"])),
    "a Categorical": lambda y: y.cast(pl.Int8).cast(pl.String).cast(pl.Categorical),
}

NAMED: dict[str, tuple[object, object, object]] = {
    "two texts": ("churned", "stayed", "churned"),
    "the rarer word comes later in the alphabet": ("zahlt", "aus", "zahlt"),
    "true in capitals is another text": ("JA", "NEIN", "JA"),
    "numbers beside 0 and 1": (2, 1, 2),
    "minus one": (1, -1, 1),
    "no means true": ("no", "yes", "no"),
    "blanks": (" a", "b ", " a"),
    "decimals": (Decimal("2.00"), Decimal("3.00"), 2),
}


def truth(spec: Path) -> pl.Series:
    return read_rows(spec)["y"].cast(pl.Int8).cast(pl.Boolean)


def case(tmp_path: Path, target: Callable[[pl.Series], pl.Series], **keys: str) -> tuple[Path, pl.Series]:
    """The case with its target in another form, and the truth by row id."""
    spec = copy_case("target-text-01", tmp_path)
    rows, expected = read_rows(spec), truth(spec)
    write_rows(spec, rows.with_columns(target(expected).alias("y")))
    return edit_spec(spec, **keys), rows.select("rid", expected.alias("y"))


def checked(spec: Path) -> tuple[pl.DataFrame, Checks]:
    job = load_job(spec, {"PERENNIAL_HOME": str(spec.parent / "var")}, NOW)
    return validate.fn(job, ingest.fn(job, None))


def feedback(spec: Path, checks: Checks, value: object) -> object:
    body = orjson.dumps({"labels": [{"id": "a", "label": value}]}, default=float)
    return LabelContract("m", lambda: codec_of(load_spec(spec), checks.label_texts)).decode(body, 10, NOW).labels[0]


@pytest.mark.parametrize("positive", [None, "churned"])
def test_a_target_of_texts_is_trained_answered_for_and_retrained(
    tmp_path: Path, prefect_api: str, monkeypatch: pytest.MonkeyPatch, positive: str | None
) -> None:
    """Case target-text-01: the labels were refused, and as numbers they ended a retraining in a traceback."""
    monkeypatch.setenv("PERENNIAL_HOME", str(tmp_path / "var"))
    texts = ["1", "0"] if positive is None else [positive, "stayed"]
    form = lambda y: y.replace_strict([True, False], texts, return_dtype=pl.String)  # noqa: E731
    spec, expected = case(tmp_path, form, **({"positive": f'positive = "{positive}"'} if positive else {}))
    job, champion = trained(spec, "2026-09-10")
    assert champion.card.label_texts == (("stayed", positive) if positive else ())
    rows = rows_since(spec, datetime(2026, 9, 10, tzinfo=UTC))
    archive = ask(job, champion, rows)
    tell(archive, champion, rows, rows["y"].to_list())
    logged = archive.labelled().sort(EVENT_TIME).collect()
    assert logged[LABEL].to_list() == expected["y"].tail(rows.height).to_list()
    assert retrain(str(spec)) == 2
    card = load_model(job.registry, job.spec.name, 2, job.base).card
    assert card.metrics.values["auc"] > 0.9, "not inverted"
    assert card.label_texts == champion.card.label_texts


def test_a_service_takes_the_two_values_that_its_model_was_trained_on(
    tmp_path: Path, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The spec names the value that means true; the other one is known from the training."""
    written = models.write_small

    def with_positive(*given: Any, **named: Any) -> Path:
        path = written(*given, **named)
        path.write_text('positive = "churned"\n' + path.read_text())
        return path

    monkeypatch.setattr(models, "write_small", with_positive)
    model = models.small_model()
    spec = model.card.spec.model_copy(update={"positive": "churned"})
    card = model.card.model_copy(update={"spec": spec, "label_texts": ("stayed", "churned")})
    models.publish_small(registry_of(tmp_path), replace(model, card=card))
    with serving(tmp_path, store_url) as service:
        told = ["churned", "stayed", True, False]
        accepted = service.client.post("/feedback", json={"labels": [{"id": "a", "label": label} for label in told]})
        refused = [
            service.client.post("/feedback", json={"labels": [{"id": "a", "label": label}]}) for label in ("Churned", "1", 1)
        ]
        assert service.labels()[-1].labels == (True, False, True, False)
    assert accepted.status_code == 202
    assert {answer.status_code for answer in refused} == {422}
    assert "expected true, false, 'churned' or 'stayed'" in refused[0].json()["error"]["message"]


@pytest.mark.parametrize("form", STANDARD)
def test_a_truth_is_read_alike_in_every_form(tmp_path: Path, form: str) -> None:
    spec, expected = case(tmp_path, STANDARD[form])
    rows, checks = checked(spec)
    assert rows.select("rid", "y").sort("rid").equals(expected.sort("rid"))
    assert checks.label_texts == ()
    replayed = prepare(ingest.fn(load_job(spec, {"PERENNIAL_HOME": str(tmp_path / "var")}, NOW), None).frame, load_spec(spec))
    assert replayed[LABEL].to_list() == expected["y"].to_list()
    for value, label in zip(read_rows(spec)["y"].head(20).to_list(), expected["y"].head(20), strict=True):
        assert feedback(spec, checks, value) is label


@pytest.mark.parametrize("form", NAMED)
def test_two_other_values_are_read_as_positive_says(tmp_path: Path, form: str) -> None:
    positive, negative, named = NAMED[form]
    values = pl.Series([positive, negative])
    form_of = lambda y: y.replace_strict(pl.Series([True, False]), values, return_dtype=values.dtype)  # noqa: E731
    spec, expected = case(tmp_path, form_of, positive=f"positive = {orjson.dumps(named).decode()}")
    rows, checks = checked(spec)
    assert rows.select("rid", "y").sort("rid").equals(expected.sort("rid"))
    assert feedback(spec, checks, positive) is feedback(spec, checks, True) is True
    assert feedback(spec, checks, negative) is feedback(spec, checks, False) is False
    with pytest.raises(RequestError, match="expected true, false"):
        feedback(spec, checks, "another")


@pytest.mark.parametrize(
    ("values", "shown"), [(["ja", "nein"], "'ja' and 'nein'|'nein' and 'ja'"), ([2, 1], "'1' and '2'|'2' and '1'")]
)
def test_two_values_of_which_nothing_says_what_is_true_are_refused_with_both_and_the_key(
    tmp_path: Path, values: list[object], shown: str
) -> None:
    spec, _ = case(tmp_path, lambda y: y.replace_strict(pl.Series([True, False]), pl.Series(values)))
    with pytest.raises(TrainingError, match=rf"target 'y' has the values ({shown}), .* add positive = .* or positive = "):
        checked(spec)
    with pytest.raises(TrainingError, match="positive"):
        prepare(read_rows(spec), load_spec(spec))


def test_one_odd_value_among_truths_is_quarantined_and_three_texts_are_not_two(tmp_path: Path) -> None:
    spec, expected = case(tmp_path / "a", lambda y: y.cast(pl.Int8).cast(pl.String).scatter(7, "n/a"))
    rows, checks = checked(spec)
    assert (checks.bad_rows, checks.problems[0].examples) == (1, ("'n/a'",))
    assert rows.height == expected.height - 1
    spec, _ = case(tmp_path / "b", lambda y: pl.Series(["a", "b", "c"] * y.len()).head(y.len()))
    with pytest.raises(ChecksFailed, match=r"y: is not true, false, 1 or 0 .*`positive` names the true one"):
        checked(spec)
    with pytest.raises(TrainingError, match=r"has 3 values .* add classes = \["):
        checked(edit_spec(spec, positive='positive = "a"'))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"positive": 'positive = "maybe"'},
            "target 'y' never has the value 'maybe' that `positive` names; it has '[01]' and '[01]'",
        ),
        ({"classes": 'classes = ["0", "1"]'}, "the classes of a binary model are two"),
        ({"task": 'task = "regression"', "positive": 'positive = "1"'}, "a regression model has none"),
    ],
)
def test_a_spec_that_does_not_go_with_its_target_is_refused(tmp_path: Path, keys: dict[str, str], message: str) -> None:
    spec, _ = case(tmp_path, lambda y: y.cast(pl.Int8).cast(pl.String), **keys)
    with pytest.raises((SpecError, PerennialError), match=message):
        checked(spec)
