"""Diagnosis: the kind of a change follows from what was measured, in a fixed order."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.avoidable_loss import ExcessLoss
from monitoring.diagnosis import DRIVERS, diagnose
from monitoring.measurement import error_structure, measure
from monitoring.policy import Findings
from monitoring.window import window_at
from perennial.estimates import Recalibration
from perennial.model import Model
from perennial.profile import fit_profile
from tests.support.models import START, small_frame, small_model, small_spec

SPEC = small_spec()
BOUNDS = {"drift": 0.1, "loss": 0.5, "auc": 0.7}
WITHIN = {"drift": 0.05, "loss": 0.4, "auc": 0.75}
MOVED, ERRING = {"amount": 0.3, "shop": 0.1}, {"shop": 9.0, "amount": 1.0}
BETTER, EVEN = ExcessLoss(excess=0.1, error=0.02), ExcessLoss(excess=0.03, error=0.02)


def findings(**fields: Any) -> Findings:
    window = window_at(datetime(2024, 3, 4, tzinfo=UTC), timedelta(days=7))
    return Findings(**{"window": window, "rows": 500, "labelled": 500, "values": WITHIN, "bounds": BOUNDS, **fields})


@pytest.mark.parametrize(
    ("fields", "excess", "kind", "features"),
    [
        ({}, None, "noise", ()),
        ({}, EVEN, "noise", ()),
        ({}, BETTER, "growth of data", ()),
        ({"bounds": {}, "values": {"drift": 9.0, "loss": 9.0}}, None, "noise", ()),
        ({"values": WITHIN | {"drift": 0.2}}, BETTER, "covariate drift", ("amount", "shop")),
        (
            {"values": WITHIN | {"loss": 0.6}, "expected_loss": 0.4, "moved_loss": 0.58},
            BETTER,
            "concept drift",
            ("shop", "amount"),
        ),
        ({"values": WITHIN | {"loss": 0.6}, "expected_loss": 0.4, "moved_loss": 0.45}, BETTER, "prior shift", ("outcome",)),
        (
            {"values": WITHIN | {"loss": 0.6}, "expected_loss": 0.58, "moved_loss": 0.45},
            None,
            "covariate drift",
            ("amount", "shop"),
        ),
        ({"values": WITHIN | {"auc": 0.6}, "expected_loss": 0.4, "moved_loss": 0.4}, None, "concept drift", ("shop", "amount")),
        ({"values": WITHIN | {"loss": 0.6, "drift": 0.2}, "moved_loss": 0.58}, None, "covariate drift", ("amount", "shop")),
        ({"values": WITHIN | {"loss": 0.6}, "labelled": 3}, None, "noise", ()),
        ({"values": WITHIN | {"loss": 0.6}, "null_increases": {"shop": 0.9}}, BETTER, "broken data", ("shop",)),
        ({"unreadable_share": 0.9}, BETTER, "broken data", ()),
    ],
)
def test_each_change_has_its_name_and_its_features(
    fields: dict[str, Any], excess: ExcessLoss | None, kind: str, features: tuple[str, ...]
) -> None:
    found = diagnose(findings(**fields), SPEC, MOVED, ERRING, excess)
    assert (found.kind, found.features) == (kind, features)
    assert found.reason
    assert str(found).startswith(f"{kind}: ")


VALUE = st.floats(0, 1)


@given(
    st.fixed_dictionaries({"drift": VALUE, "loss": VALUE, "auc": VALUE}),
    st.none() | VALUE,
    st.none() | VALUE,
    st.booleans(),
    st.sampled_from([None, EVEN, BETTER]),
)
def test_the_order_of_the_kinds_holds(
    values: dict[str, float], expected: float | None, moved: float | None, broken: bool, excess: ExcessLoss | None
) -> None:
    rises = {"amount": 0.9} if broken else {}
    found = findings(values=values, expected_loss=expected, moved_loss=moved, null_increases=rises)
    diagnosis, alarmed = diagnose(found, SPEC, MOVED, ERRING, excess), found.alarmed(SPEC)
    assert (diagnosis.kind == "broken data") == broken
    if not broken:
        assert (diagnosis.kind in ("noise", "growth of data")) == (not alarmed)
    assert len(diagnosis.features) <= DRIVERS


def test_errors_that_depend_on_a_feature_name_it() -> None:
    chance = np.random.default_rng(0)
    table = pl.DataFrame({"a": chance.normal(size=2_000), "b": chance.choice(list("xyz"), 2_000)})
    profile = fit_profile(table, {"a": "numeric", "b": "categorical"}, {})
    errors = chance.normal(size=2_000)
    plain = error_structure(table, profile, errors)
    turned = error_structure(table, profile, errors + (table["b"] == "x").to_numpy())
    assert plain == {"a": pytest.approx(1, abs=0.5), "b": pytest.approx(1, abs=3)}
    assert turned["b"] > 100
    assert turned["a"] < 3


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_few_errors_have_no_structure_that_breaks_the_arithmetic(rows: int) -> None:
    table = pl.DataFrame({"a": [1.0, None][:rows], "b": ["x", "y"][:rows]}, schema={"a": pl.Float64, "b": pl.String})
    profile = fit_profile(table, {"a": "numeric", "b": "categorical"}, {})
    assert all(np.isfinite(value) for value in error_structure(table, profile, np.ones(rows)).values())


def measured(model: Model, frame: pl.DataFrame) -> tuple[Findings, dict[str, float], dict[str, float]]:
    found = measure(model, model.compiled.table(frame), frame["outcome"])
    calm = measure(model, model.compiled.table(LATER), LATER["outcome"]).values
    bounds = {"drift": calm["drift"] * 3, "loss": calm["loss"] + 0.1}
    window = window_at(START + timedelta(days=60), timedelta(days=7))
    seen = Findings(
        window=window,
        rows=frame.height,
        labelled=found.labelled,
        values=found.values,
        bounds=bounds,
        expected_loss=found.expected_loss,
        moved_loss=found.moved_loss,
    )
    return seen, {name: one.total for name, one in found.drift.distances.items()}, found.error_structure


LATER = small_frame(rows=1_000, seed=5, start=START + timedelta(days=60))


def test_planted_changes_are_told_apart() -> None:
    """Rows of the model's own world, of a shifted one, and of one in which the south behaves as the north did."""
    plain = small_model()
    model = type(plain)(**{**vars(plain), "card": plain.card.model_copy(update={"recalibration": Recalibration()})})
    shifted = small_frame(rows=1_000, seed=6, start=START + timedelta(days=60), shift=1.5)
    turned = LATER.with_columns(outcome=pl.when(pl.col("shop") == "south").then(1 - pl.col("outcome")).otherwise("outcome"))
    kinds = {
        name: diagnose(seen, SPEC, moved, erring)
        for name, (seen, moved, erring) in (
            ("calm", measured(model, LATER)),
            ("shifted", measured(model, shifted)),
            ("turned", measured(model, turned)),
        )
    }
    assert {name: one.kind for name, one in kinds.items()} == {
        "calm": "noise",
        "shifted": "covariate drift",
        "turned": "concept drift",
    }
    assert kinds["shifted"].features[0] == "amount"
    assert kinds["turned"].features[0] == "shop"
