"""The model spec: everything a person says about one model, read from one TOML file.

This module holds declarations only; what one means is defined by the module that uses it.
"""

import tomllib
from datetime import date, timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, create_model, field_validator, model_validator

from perennial.base import MODEL_NAME, FrozenModel
from perennial.durations import Duration
from perennial.errors import SpecError
from perennial.learners.declarations import AUTO, LEARNERS, Params, Range, declaration, refuse_foreign
from perennial.log_columns import PREFIX
from perennial.signals import SIGNALS, Bounds, Signal, signals_of, spec_fields
from perennial.spec_policy import PolicySpec, RetrainSpec
from perennial.spec_sources import JoinSpec, LabelsSpec, SourceSpec, refuse_times_of_others

Task = Literal["binary", "multiclass", "regression"]
Kind = Literal["numeric", "categorical"]
DatePart = Literal["minute_of_day", "hour", "weekday", "day", "week", "month", "year"]
Fraction = Annotated[float, Field(ge=0, le=1)]

RESERVED = frozenset({"stack", "registry", "wandb", "demo"})  # directories beside those of the models in the home directory

_LEARNERS = "; ".join(f"`{name}`: {one.what}" for name, one in LEARNERS.items()) + (
    f"; `{AUTO}`: a training compares all of them within `search.trials`, and retrainings keep the champion's"
)
_SPACES = "; ".join(f"for `{name}` {one.space_in_words}" for name, one in LEARNERS.items())

METRICS: dict[Task, tuple[str, ...]] = {
    "binary": ("log_loss", "auc", "brier"),
    "multiclass": ("log_loss",),
    "regression": ("rmse", "mae"),
}
"""What a model of each task may be tuned and judged by; the first is the default."""

OPERATIONS = ("date_part", "difference", "ratio", "bins", "log", "cross", "function")


class FeatureSpec(FrozenModel):
    """One model input: a column as it is, or at most one operation on columns.

    Numbers, texts, truths, dates and times can be read. A whole number or decimal that a float does not hold to its last digit is
    refused as a number, and is exact as a category. Durations, times of day, lists, structs and bytes are refused with what to
    derive from them. Columns that no feature reads may be of any type.
    """

    kind: Kind | None = Field(None, description="inferred from the data where left out")
    of: str | tuple[str, ...] | None = Field(None, description="column(s) the operation reads")
    date_part: DatePart | None = Field(None, description="a part of the time in `of` (default: the event time)")
    time_zone: str | None = Field(None, description="zone in which a date part is read (default: UTC)")
    difference: tuple[str, str] | None = Field(None, description="first column minus second")
    ratio: tuple[str, str] | None = Field(None, description="first column over second; null where the second is 0")
    bins: tuple[float, ...] | None = Field(None, description="ascending edges; the feature is the index of the bin of `of`")
    log: str | None = Field(None, description="log(1 + column); null below -1")
    cross: tuple[str, ...] | None = Field(None, description="categorical columns combined into one")
    function: str | None = Field(None, description="`file.py:function` beside the spec, given `of` as polars expressions")

    @property
    def operation(self) -> str:
        """The one operation asked for, `column` where there is none."""
        return next((name for name in OPERATIONS if getattr(self, name) is not None), "column")

    @property
    def of_columns(self) -> tuple[str, ...]:
        return (self.of,) if isinstance(self.of, str) else tuple(self.of or ())

    @model_validator(mode="after")
    def _one_operation(self) -> Self:
        given = [name for name in OPERATIONS if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"a feature has at most one operation; got {', '.join(given)}")
        if self.bins is not None and list(self.bins) != sorted(set(self.bins)):
            raise ValueError(f"bins must ascend without repeats; got {list(self.bins)}")
        if self.operation in ("bins", "function") and not self.of_columns:
            raise ValueError(f"{self.operation} needs `of`: the column(s) it reads")
        return self


class ColumnCheck(FrozenModel):
    """What must hold for one column of the source table."""

    min: float | None = Field(None, description="least value let through")
    max: float | None = Field(None, description="greatest value let through")
    max_null_rate: Fraction = Field(1.0, description="largest share of nulls let through")
    allowed: tuple[str, ...] | None = Field(None, description="the only values let through; null is judged by max_null_rate")


class ChecksSpec(FrozenModel):
    """Data checks before training; rows that fail go to quarantine."""

    columns: dict[str, ColumnCheck] = Field(default_factory=dict)
    max_bad_rows: Fraction = Field(0.01, description="share of rows that may be quarantined before training stops")
    max_odd_values: Fraction = Field(0.01, description="share of rows whose text among numbers or times is read as null")
    min_join_match: Fraction = Field(0.01, description="least share of rows that find a partner in a join")
    min_rows: int = Field(100, ge=1, description="fewest good rows worth training on")


class SplitSpec(FrozenModel):
    """The split by time: the newest part is the test, never touched by fitting or tuning."""

    test: Duration = Field(timedelta(days=7), description="length of the newest part, held out for evaluation")
    folds: int = Field(3, ge=1, le=20, description="forward-chaining folds for tuning")


class SearchSpec(FrozenModel):
    """The hyperparameter search: TPE over `space`, time-ordered cross-validation, early stopping."""

    trials: int = Field(20, ge=1, description="trials for a first training")
    retrain_trials: int = Field(0, ge=0, description="trials for a retraining; 0 keeps the champion's parameters")
    max_rows: int = Field(250_000, ge=100, description="most rows to search on, the newest; the model learns all of them")
    seed: int = Field(0, description="the same seed and data give the same model")
    max_rounds: int = Field(600, ge=1, description="most boosting rounds; a learner without rounds ignores it")
    patience: int = Field(30, ge=1, description="rounds without improvement before early stopping")
    space: dict[str, Range] = Field(default_factory=dict, description=f"default: {_SPACES}; see below")
    params: Params = Field(default_factory=dict, description="parameters of the learner held fixed")


class GateSpec(FrozenModel):
    """What keeps a challenger from replacing the champion: proof that it is worse, or a guardrail."""

    holdout: Duration | None = Field(None, description="newest labelled rows on which both are compared (default: one window)")
    min_rows: int = Field(200, ge=2, description="fewest rows to judge on; with fewer the guardrails alone decide")
    min_probability: Fraction = Field(0.2, description="refuse when the challenger is better with a smaller probability")
    require_approval: bool = Field(False, description="what the gate lets through waits for `perennial approve`")
    max_calibration_loss: float = Field(0.1, ge=0, description="largest rise of the calibration error over the champion's")
    max_slice_loss: float = Field(0.1, ge=0, description="largest proven relative rise of the loss in a value of `slices`")
    max_latency_ms: float = Field(50, gt=0, description="longest median time to score one row, in milliseconds")
    max_noise_change: float = Field(0.25, gt=0, description="largest change of scores under small noise, in their deviations")


class WindowSpec(FrozenModel):
    """Monitoring windows in event time: half-open, aligned to a Monday (UTC), closed by the watermark."""

    length: Duration = Field(timedelta(days=7), description="length of a window")
    lateness: Duration = Field(timedelta(days=1), description="how far the watermark must pass a window's end to close it")
    min_rows: int = Field(200, ge=1, description="fewer rows than this are reported but not judged")
    label_share: Fraction = Field(0.5, description="least labelled share to judge performance")


if TYPE_CHECKING:
    _SignalKeys = FrozenModel
else:
    _SignalKeys = create_model("_SignalKeys", __base__=FrozenModel, **spec_fields())


class SignalsSpec(_SignalKeys):
    """Which signals may ask for a retraining, and their bounds; a bound left out is calibrated."""

    confidence: float = Field(0.95, gt=0.5, lt=1, description="with which an ordinary window keeps all calibrated bounds")
    blocks: int = Field(8, ge=3, description="newest training windows used for calibration")
    max_null_increase: Fraction = Field(0.3, description="rise of a column's null share that counts as broken data")
    max_unseen_increase: Fraction = Field(
        0.3, description="rise of the share of categories that the training never had that counts as broken data"
    )
    max_outside_increase: Fraction = Field(
        0.3, description="rise of the share of numbers far outside the training's range (4 sd) that counts as broken data"
    )
    cooldown: Duration | None = Field(None, description="quiet time after a request to retrain (default: one window)")
    max_age: Duration | None = Field(None, description="retrain when the champion's newest training row is older")

    @property
    def named_bounds(self) -> Bounds:
        named = {signal.name: getattr(self, signal.bound_key) for signal in SIGNALS}
        return {name: bound for name, bound in named.items() if bound is not None}


class ModelSpec(FrozenModel):
    """Everything a person says about one model."""

    name: str = Field(pattern=f"^{MODEL_NAME}$", description="lower case letters, digits and hyphens")
    task: Task = Field(description="what kind of answer the model gives")
    target: str = Field(description="column with the truth; null where it is not known yet")
    event_time: str = Field(description="column with the time at which the prediction is asked")
    id: str | None = Field(None, description="column that names a row; checked for duplicates")
    contract_until: date | None = Field(
        None,
        description="last day (UTC) on which rows in the form of earlier champions are accepted (default: until closed)",
    )
    label_threshold: Fraction = Field(0.5, description="binary models: score from which the label is true")
    classes: tuple[str, ...] = Field((), description="the only classes of the target; any other label is refused with 422")
    positive: str | None = Field(None, description="binary models: the value of the target that means true, such as `yes`")
    label_min_count: int = Field(20, ge=1, description="times a class must be seen before a retraining may learn it")
    metric: Literal["log_loss", "auc", "brier", "rmse", "mae"] | None = Field(None, description="default: log_loss, or rmse")
    learner: str = Field("lightgbm", description=_LEARNERS)
    sources: dict[str, SourceSpec] = Field(min_length=1, description="the first one is the base that others join")
    joins: tuple[JoinSpec, ...] = ()
    labels: LabelsSpec | None = None
    derive: dict[str, str] = Field(default_factory=dict, description="column = polars SQL expression, after the joins")
    features: dict[str, FeatureSpec] = Field(min_length=1)
    slices: tuple[str, ...] = Field((), description="columns by which the evaluation is broken down")
    checks: ChecksSpec = Field(default_factory=ChecksSpec)
    split: SplitSpec = Field(default_factory=SplitSpec)
    search: SearchSpec = Field(default_factory=SearchSpec)
    gate: GateSpec = Field(default_factory=GateSpec)
    window: WindowSpec = Field(default_factory=WindowSpec)
    signals: SignalsSpec = Field(default_factory=SignalsSpec)
    retrain: RetrainSpec = Field(default_factory=RetrainSpec)
    policy: PolicySpec = Field(default_factory=PolicySpec)

    @field_validator("features", mode="before")
    @classmethod
    def _kind_alone(cls, features: Any) -> Any:
        """`carrier = "categorical"` is short for `carrier = {kind = "categorical"}`."""
        if not isinstance(features, dict):
            return features
        return {name: {"kind": value} if isinstance(value, str) else value for name, value in features.items()}

    @field_validator("classes", "positive", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        """A class may be written as it stands in the table: 1, 1.0 and true are short for their texts."""
        if isinstance(value, (list, tuple)):
            return [cls._as_text(one) for one in value]
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        return str(value).lower() if isinstance(value, bool) else str(value) if isinstance(value, int) else value

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.name in RESERVED:
            raise ValueError(f"a model cannot be called {self.name!r}: the home directory keeps that name for itself")
        for name in (*self.features, *self.inputs, self.target, self.event_time, self.id or self.target):
            if name.startswith(PREFIX):
                raise ValueError(f"column {name!r} starts with {PREFIX!r}, which the prediction log keeps for itself; rename it")
            if name == "*" or (name.startswith("^") and name.endswith("$")):
                raise ValueError(f"polars reads the column name {name!r} as a pattern of names; have a query or loader rename it")
        refuse_times_of_others(self.sources)
        for join in self.joins:
            if join.source not in self.sources:
                raise ValueError(f"join names source {join.source!r}, but the sources are {', '.join(self.sources)}")
        if self.target in self.inputs:
            raise ValueError(f"target {self.target!r} is also an input of a feature: it would leak the answer")
        if self.retrain.known_at in self.inputs:
            raise ValueError(f"retrain.known_at {self.retrain.known_at!r} is an input of a feature: it comes with the answer")
        known = METRICS[self.task]
        if self.metric not in (None, *known):
            raise ValueError(f"metric {self.metric!r} does not suit a {self.task} model; choose from {', '.join(known)}")
        _refuse_foreign_classes(self.task, self.classes, self.positive)
        refuse_foreign(self.learner, {*self.search.space, *self.search.params})
        return self

    @property
    def inputs(self) -> tuple[str, ...]:
        """Columns a client sends, in order of first use; the event time travels apart from them."""
        used = (column for name, feature in self.features.items() for column in feature_columns(name, feature, self.event_time))
        return tuple(dict.fromkeys(column for column in used if column != self.event_time))

    @property
    def objective_metric(self) -> str:
        """The metric that tuning and the gate use."""
        return self.metric or METRICS[self.task][0]

    @property
    def search_space(self) -> dict[str, Range]:
        """What a search tries: the spec's ranges, or those that the learner declares, which is a named one by then."""
        return self.search.space or declaration(self.learner).space

    @property
    def enabled_signals(self) -> tuple[Signal, ...]:
        return tuple(signal for signal in signals_of(self.task) if getattr(self.signals, signal.name))

    @property
    def judged_length(self) -> timedelta:
        """The newest labelled rows that a retraining's judge does not learn."""
        return self.gate.holdout or self.window.length

    @property
    def cooldown(self) -> timedelta:
        return self.signals.cooldown if self.signals.cooldown is not None else self.window.length


def feature_columns(name: str, feature: FeatureSpec, event_time: str) -> tuple[str, ...]:
    match feature.operation:
        case "column":
            return feature.of_columns or (name,)
        case "date_part":
            return feature.of_columns or (event_time,)
        case "bins" | "function":
            return feature.of_columns
        case "log":
            return (str(feature.log),)
        case operation:
            return tuple(getattr(feature, operation))


def load_spec(path: Path) -> ModelSpec:
    """Read a spec file; raises SpecError naming the file, the key and, for a typo, the nearest known key."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SpecError(f"no spec at {path}: give the path of a model spec such as examples/flights.toml") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SpecError(f"{path} cannot be read as TOML: {error}") from error
    return parse_spec(raw, str(path))


def parse_spec(raw: dict[str, Any], origin: str) -> ModelSpec:
    """Check a decoded spec; `origin` is what messages call it."""
    try:
        # TOML has arrays, not tuples: lax mode turns one into the other and still refuses unknown keys.
        return ModelSpec.model_validate(raw)
    except ValidationError as error:
        lines = [_explain(detail) for detail in error.errors()]
        raise SpecError(f"{origin} is not a model spec:\n" + "\n".join(lines)) from error


def _explain(detail: Any) -> str:
    where = ".".join(str(part) for part in detail["loc"]) or "spec"
    if detail["type"] == "extra_forbidden":
        near = get_close_matches(str(detail["loc"][-1]), _keys_at(detail["loc"][:-1]), n=1)
        return f"  {where}: unknown key" + (f"; did you mean {near[0]!r}?" if near else "")
    if detail["type"] == "missing":
        return f"  {where}: required, but left out"
    return f"  {where}: {detail['msg'].removeprefix('Value error, ')} (got {detail['input']!r:.80})"


def _keys_at(location: tuple[Any, ...]) -> list[str]:
    model: Any = ModelSpec
    for part in location:
        if (field := getattr(model, "model_fields", {}).get(part)) is not None:
            annotation = field.annotation  # the value class inside `dict[str, X]`, `tuple[X, ...]`, or X itself
            inner = [one for one in getattr(annotation, "__args__", ()) if hasattr(one, "model_fields")]
            model = inner[0] if inner else annotation
    return list(getattr(model, "model_fields", {}))


def _refuse_foreign_classes(task: Task, classes: tuple[str, ...], positive: str | None) -> None:
    if positive is not None and task != "binary":
        raise ValueError(f"`positive` says which of two values is true: a {task} model has none")
    if classes and (task == "regression" or len(set(classes)) < max(2, len(classes))):
        raise ValueError(f"`classes` are the two or more different classes of a target; got {list(classes)} for a {task} model")
    if classes and task == "binary" and (positive not in classes or len(classes) > 2):
        raise ValueError(
            f"the classes of a binary model are two, and `positive` is one of them; got {list(classes)}, {positive!r}"
        )
