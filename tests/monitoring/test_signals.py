"""The table of signals: one more entry is one more signal, from the spec's keys to what people see."""

import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from monitoring.policy import decide
from perennial.arrays import Floats
from perennial.metrics import score
from perennial.signals import SIGNALS, Signal, SignalInput, SignalValues, measure_signals
from perennial.spec import SignalsSpec, Task
from tests.monitoring.test_policy import BOUNDS, SPEC, VALUES, findings, spec_with

ONE_MORE = """
import numpy as np
from perennial import signals

signals.SIGNALS = (
    *signals.SIGNALS,
    signals.Signal(
        name="gap",
        label="calibration gap",
        measure=lambda rows: float(abs(np.nanmean(rows.labels - rows.scores))) if rows.metrics else None,
        alarms_when="above",
        cause="performance",
        needs_labels=True,
        about="how far the mean score is from the share of true labels",
        about_bound="largest gap taken as ordinary",
        limits={"ge": 0},
        tasks=frozenset({"binary"}),
    ),
)

from datetime import timedelta
from pathlib import Path

from deployments.check import _account
from docs.generate import table
from monitoring.archive import Archive
from monitoring.calibration import Calibration, calibrate, measure_block, missing_bounds_warning
from monitoring.closing import Judge, close_window
from monitoring.state import MonitorState
from monitoring.window import window_at
from perennial.spec import SignalsSpec
from tasks.reporting.artifacts import window_markdown
from tests.monitoring.streams import add_labels, add_predictions, predicted, told
from tests.support.models import START, small_frame, small_model, small_spec

home = Path("HOME")
model, spec, week = small_model(), small_spec(), timedelta(days=7)
later = START + timedelta(days=56)

assert "| `gap_bound` | number, ≥ 0 |  | largest gap taken as ordinary |" in table(SignalsSpec)
assert "loss, auc, gap" in dict(_account(spec))["signals"]

frames = [small_frame(rows=168, seed=number, start=later - number * week) for number in range(1, 4)]
blocks = [measure_block(model, frame).values for frame in frames]
bounds = calibrate(spec, blocks)
assert 0 < bounds["gap"] < 1, bounds
assert "gap_bound" in missing_bounds_warning(spec, Calibration(bounds={}, blocks=0))

named = spec.model_copy(update={"signals": SignalsSpec.model_validate({"gap_bound": 0.0, "loss": False, "auc": False})})
archive, frame = Archive(home, "binary", model.card.schema_), small_frame(rows=168, seed=9, start=later)
add_predictions(archive, [predicted(model, frame)])
add_labels(archive, [told(model, frame)])

import monitoring.closing
sent = []
monitoring.closing.send = sent.append
result, *_ = close_window(window_at(later, week), Judge(model, archive), named, MonitorState(), 0.0, later + week)
(event,) = sent
assert event.name == "perennial.performance.degraded"
assert event.payload["evidence"]["gap"] > event.payload["evidence"]["gap_bound"] == 0.0
assert event.payload["reason"].startswith("calibration gap ")
assert "| calibration gap | " in window_markdown(result)
print("followed")
"""


def test_one_more_entry_is_a_signal_everywhere(tmp_path: Path) -> None:
    """In a process of its own: the table is complete before anything that goes through it is imported, as after an edit."""
    script = ONE_MORE.replace("HOME", str(tmp_path))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout.splitlines()[-1:] == ["followed"], done.stderr


@pytest.mark.parametrize("signal", SIGNALS, ids=lambda signal: signal.name)
def test_every_signal_has_its_keys_and_known_tasks(signal: Signal) -> None:
    assert {signal.name, signal.bound_key} <= SignalsSpec.model_fields.keys()
    assert signal.tasks <= set(get_args(Task))


@pytest.mark.parametrize(("name", "inside", "outside"), [("drift", 0.1, 0.2), ("loss", 0.1, 0.2), ("auc", 0.1, 0.05)])
def test_a_signal_alarms_beyond_its_bound_and_not_at_it(name: str, inside: float, outside: float) -> None:
    signal = next(signal for signal in SIGNALS if signal.name == name)
    assert signal.alarms(outside, inside)
    assert not signal.alarms(inside, inside)
    assert not signal.alarms(inside, outside)


@pytest.mark.parametrize("task", get_args(Task))
def test_calibration_and_base_rate_see_scores_that_are_off(task: Task) -> None:
    """Labels drawn from the scores lie near them; labels that have moved away from them do not, and absent ones do not count."""
    labels, scores = drawn(task)
    moved = {"regression": labels + 0.3, "binary": np.ones_like(labels), "multiclass": np.where(labels == 0, 3, labels)}[task]
    for codes in (labels, moved):
        codes[::7] = np.nan
    for name in ("calibration", "base_rate"):
        assert measured(task, labels, scores)[name] < 0.05
        assert measured(task, moved, scores)[name] > 0.1


def drawn(task: Task, rows: int = 4_000) -> tuple[Floats, Floats]:
    """Scores, and labels as often true as the scores say."""
    chance = np.random.default_rng(0)
    if task == "multiclass":
        weights = chance.random((rows, 3))
        scores = weights / weights.sum(axis=1, keepdims=True)
        return (chance.random((rows, 1)) > scores.cumsum(axis=1)).sum(axis=1).astype(float), scores
    scores = chance.random(rows)
    labels = scores + chance.normal(size=rows) / 10 if task == "regression" else (chance.random(rows) < scores).astype(float)
    return labels, scores


def test_without_a_label_neither_is_measured() -> None:
    assert {"calibration", "base_rate"}.isdisjoint(measured("binary", np.full(9, np.nan), np.full(9, 0.5)))


def measured(task: Task, labels: Floats, scores: Floats) -> SignalValues:
    values = score(task, labels, scores).values
    return measure_signals(task, SignalInput("log_loss", None, {}, values, labels, scores))


def test_they_are_shown_beside_their_bounds_and_ask_only_where_the_spec_says_so() -> None:
    found = findings(values=VALUES | {"base_rate": 0.2}, bounds=BOUNDS | {"base_rate": 0.1})
    assert "base_rate" in [signal.name for signal in found.shown]
    assert decide(found, None, SPEC).kind == "none"
    asked = decide(found, None, spec_with(base_rate=True))
    assert (asked.kind, asked.reason) == ("performance", "base rate shift 0.2 is over its bound 0.1")
