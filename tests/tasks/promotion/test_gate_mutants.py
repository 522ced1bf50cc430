"""The ways in which a gate goes wrong without a word: each is planted here, and turns the checks below red."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import polars as pl
import pytest

from perennial.log_columns import SCORE
from tasks.job import Job
from tasks.promotion import comparison
from tasks.promotion import gate as gates
from tasks.promotion.comparison import judged_version
from tests.support.models import small_frame, small_model
from tests.support.mutants import mutant
from tests.tasks.making import later_frame, make_job, respecified
from tests.tasks.promotion.test_gate import poor_model

Gate = Callable[..., gates.Verdict]

BOTH = "_score(spec, judge, newer), _score(spec, other, newer)"
MUTANTS: dict[str, tuple[ModuleType, str, str]] = {
    "the models are swapped": (comparison, BOTH, "_score(spec, other, newer), _score(spec, judge, newer)"),
    "the challenger is scored twice": (comparison, BOTH, "_score(spec, judge, newer), _score(spec, judge, newer)"),
    "the champion is scored twice": (comparison, BOTH, "_score(spec, other, newer), _score(spec, other, newer)"),
    "rows that the judge has learnt are judged": (comparison, "max(judge.until, other.until)", "other.until"),
    "rows that the champion has learnt are judged": (comparison, "max(judge.until, other.until)", "judge.until"),
    "a broken guardrail is ignored": (
        gates,
        "for one in verdict.guardrails if one.broken]\n    if",
        "for one in () if one.broken]\n    if",
    ),
    "proof is ignored": (gates, "verdict.probability < least", "verdict.probability > 2"),
    "proof is asked for the other way round": (gates, "verdict.probability < least", "verdict.probability < 1 - least"),
}


def lenient(directory: Path) -> Job:
    """A job whose guardrails leave a poor model to the comparison."""
    return respecified(make_job(directory), gate={"max_calibration_loss": 9, "max_slice_loss": 1_000})


def check(gate: Gate, job: Job) -> None:
    """What the gate must decide about a good, a poor, an equal and a broken challenger, and which rows count."""
    good, poor, rows = small_model(), poor_model(), later_frame("binary", 200)
    assert gate(job, good, judged_version(good), poor, rows).decision == "promote"
    assert gate(job, poor, judged_version(poor), good, rows).decision == "reject"
    assert gate(job, good, judged_version(good), good, rows).decision == "promote"
    old, seen = small_model(rows=900), pl.concat([small_frame().tail(100), rows])
    assert gate(job, good, judged_version(good), old, seen).rows == 200
    assert gate(job, old, judged_version(old), good, seen).rows == 200
    unlike = replace(good, reference=good.reference.with_columns(pl.Series(SCORE, np.zeros(good.reference.height))))
    assert gate(job, unlike, judged_version(good), poor, rows).decision == "reject"


def test_the_gate_passes_its_checks(tmp_path: Path) -> None:
    check(gates.gate.fn, lenient(tmp_path))


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_does_not(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module, old, new = MUTANTS[name]
    altered: Any = mutant(module, old, new)
    if module is comparison:
        monkeypatch.setattr(gates, "compare", altered.compare)
    with pytest.raises(AssertionError):
        check(gates.gate.fn if module is comparison else altered.gate.fn, lenient(tmp_path))
