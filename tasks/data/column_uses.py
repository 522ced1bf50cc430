"""Column uses: what a spec needs a column of its sources for, which decides how the text of the column is read."""

from typing import Literal

from perennial.spec import FeatureSpec, Kind, ModelSpec, Task, feature_columns

Use = Literal["event time", "label", "number", "time", "text", "undeclared", "none"]
"""In order of precedence. `undeclared`: a feature that leaves its kind out; `none`: whatever the values are will do."""

_OF_KIND: dict[Kind | None, Use] = {"categorical": "text", "numeric": "number", None: "undeclared"}
_OF_OPERATION: dict[str, Use] = {
    "ratio": "number",
    "bins": "number",
    "log": "number",
    "difference": "undeclared",
    "date_part": "time",
    "cross": "none",
    "function": "none",
}
_OF_TARGET: dict[Task, Use] = {"multiclass": "text", "regression": "number", "binary": "label"}
_PRECEDENCE: tuple[Use, ...] = ("event time", "label", "number", "time", "text", "undeclared", "none")


def column_uses(spec: ModelSpec) -> dict[str, Use]:
    """The use of each column that the spec names."""
    uses: dict[str, set[Use]] = {}
    for name, feature in spec.features.items():
        for column in feature_columns(name, feature, spec.event_time):
            uses.setdefault(column, set()).add(_feature_use(feature))
    for column, check in spec.checks.columns.items():
        if check.min is not None or check.max is not None:
            uses.setdefault(column, {"number"})
    found = {column: _strongest(several) for column, several in uses.items()}
    identity: dict[str, Use] = {spec.id: "text"} if spec.id else {}
    return {**found, **identity, spec.target: _OF_TARGET[spec.task], spec.event_time: "event time"}


def _feature_use(feature: FeatureSpec) -> Use:
    return _OF_KIND[feature.kind] if feature.operation == "column" else _OF_OPERATION[feature.operation]


def _strongest(uses: set[Use]) -> Use:
    """A number that is a category too is neither text nor forced: its values decide."""
    return "none" if {"text", "number"} <= uses else min(uses, key=_PRECEDENCE.index)
