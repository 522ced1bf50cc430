"""Each guardrail lets an ordinary model through and names what is wrong with one that breaks it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from perennial.arrays import Floats
from perennial.log_columns import SCORE
from perennial.model import Model
from perennial.spec import ModelSpec
from tasks.promotion.comparison import compare, judged_version
from tasks.promotion.guardrails import GUARDRAILS, Guardrail, Inspected, calibration_error, check_guardrails
from tests.support.models import TASKS, small_model, small_spec
from tests.tasks.making import later_frame

ROWS = later_frame("binary", 400)


@dataclass(frozen=True)
class Altered:
    """An estimator whose scores are altered; it scores single rows as `row_scorer` says."""

    plain: Any
    alter: Callable[[Floats, Floats], Floats] = lambda _matrix, scores: scores
    slow: bool = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.plain, name)

    def predict(self, matrix: Floats) -> Floats:
        return self.alter(matrix, self.plain.predict(matrix))

    def row_scorer(self) -> Callable[[Any], Any]:
        score = self.plain.row_scorer()
        return (lambda row: max(score(row) for _ in range(500))) if self.slow else score


def altered(alter: Callable[[Floats, Floats], Floats], *, stored: bool = True) -> Model:
    """The small model with altered scores, which its reference sample has too where they are `stored`."""
    model = small_model()
    changed = replace(model, estimator=Altered(model.estimator, alter))
    scores = changed.predict_frame(model.reference) if stored else model.reference[SCORE].to_numpy()
    return replace(changed, reference=model.reference.with_columns(pl.Series(SCORE, scores)))


def spec_with(**gate: Any) -> ModelSpec:
    raw = small_spec().model_dump()
    return ModelSpec.model_validate({**raw, "gate": {**raw["gate"], **gate}})


def inspect(model: Model, champion: Model | None = None, spec: ModelSpec | None = None) -> dict[str, str]:
    """What is broken, by guardrail."""
    spec, champion = spec or spec_with(), champion or small_model()
    comparison = compare(spec, judged_version(model), champion, ROWS)
    found = check_guardrails(Inspected(spec, model, champion, comparison))
    assert [one.name for one in found] == list(GUARDRAILS)
    return {one.name: one.broken for one in found if one.broken}


@pytest.mark.parametrize("task", TASKS)
def test_an_ordinary_model_keeps_them_all(task: Any) -> None:
    model, spec = small_model(task), small_spec(task)
    comparison = compare(spec, judged_version(model), model, later_frame(task, 400))
    assert [one for one in check_guardrails(Inspected(spec, model, model, comparison)) if one.broken] == []
    assert Guardrail(name="schema") in check_guardrails(Inspected(spec, model)), "without rows too"


def test_another_contract_breaks_the_schema() -> None:
    raw = small_spec().model_dump()
    spec = ModelSpec.model_validate({**raw, "features": {**raw["features"], "hour": {"date_part": "hour"}}})
    assert inspect(small_model(), spec=spec)["schema"] == "feature 'hour' added"


def test_scores_that_are_not_those_stored_break_the_reference() -> None:
    assert "are not those stored with it" in inspect(altered(lambda _, scores: scores * 0.99, stored=False))["reference"]


def test_scores_that_are_all_the_same_break_the_reference_unless_the_champions_are() -> None:
    constant = altered(lambda _, scores: np.full_like(scores, 0.5))
    assert inspect(constant)["reference"] == "the scores of the reference sample are all the same"
    assert "reference" not in inspect(constant, constant)


@pytest.mark.parametrize(("wrong", "said"), [(np.nan, "no finite numbers"), (1.5, "no probabilities")])
def test_scores_that_cannot_be_served_break_the_reference(wrong: float, said: str) -> None:
    poor = altered(lambda _, scores: np.where(scores > 0.9, wrong, scores))
    found = check_guardrails(Inspected(spec_with(), poor, small_model()))
    assert said in str(found[1].broken)


def test_a_model_that_is_sure_of_nothing_breaks_the_calibration_only_beside_a_better_champion() -> None:
    unsure = altered(lambda _, scores: 0.45 + 0.1 * scores)
    assert "over gate.max_calibration_loss" in inspect(unsure)["calibration"]
    assert "calibration" not in inspect(unsure, unsure)


def test_a_slice_that_got_much_worse_is_named() -> None:
    north = small_model().card.features.categories["shop"].index("north")
    poor = altered(lambda matrix, scores: np.where(matrix[:, 1] == north, 1 - scores, scores))
    assert inspect(poor)["slices"].startswith("shop = north: log_loss ")
    assert "shop = east" not in inspect(poor)["slices"]
    assert "slices" not in inspect(poor, spec=spec_with(max_slice_loss=1_000))


def test_a_slice_that_is_a_little_worse_by_chance_is_not() -> None:
    chance = np.random.default_rng(0)
    noisy = altered(lambda _, scores: np.clip(scores + chance.normal(0, 0.01, scores.shape), 1e-6, 1 - 1e-6))
    assert "slices" not in inspect(noisy)


def test_a_slow_model_breaks_the_latency() -> None:
    slow = replace(small_model(), estimator=Altered(small_model().estimator, slow=True))
    assert "ms to score a row: over gate.max_latency_ms = 0.5" in inspect(slow, spec=spec_with(max_latency_ms=0.5))["latency"]


def test_scores_that_hang_on_the_last_digit_break_the_robustness() -> None:
    jumpy = altered(lambda matrix, _: np.where(np.floor(matrix[:, 0] * 1_000) % 2 == 0, 0.1, 0.9))
    assert "over gate.max_noise_change = 0.25" in inspect(jumpy)["robustness"]


def test_a_model_that_fails_without_an_input_breaks_the_robustness() -> None:
    fragile = altered(lambda matrix, scores: np.where(np.isnan(matrix[:, 0]), np.nan, scores))
    assert inspect(fragile)["robustness"] == "without amount some scores are no finite numbers"


def test_the_calibration_error_of_a_regression_is_in_deviations_of_the_labels() -> None:
    model, rows = small_model("regression"), later_frame("regression", 400)
    one = compare(small_spec("regression"), judged_version(model), model, rows).challenger
    shifted = replace(one, scores=one.scores + one.labels.std())
    assert calibration_error(small_spec("regression"), shifted) == pytest.approx(1, abs=0.3)
