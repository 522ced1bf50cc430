"""The `[policy]` and `[retrain]` sections of a spec: what trains a challenger, on which rows, and what promotes one.

Declarations only, as in `perennial.spec`: `monitoring.policy` decides by them, and `tasks.data` reads the rows.
"""

from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from perennial.base import FrozenModel
from perennial.durations import Duration, parse_duration

Training = Literal["drift", "performance", "every", "age"]
Promotion = Literal["avoidable", "always", "manual"]
Evidence = Literal["challenger", "probe"]

TRAINED_ON_WITH_PROBES: tuple[Training, ...] = ("age",)
"""What asks for a training where a spec has `evidence = "probe"` and says nothing of it: no challenger is needed then."""

MAX_CHALLENGER_SHARE = 50
"""Percent of the rows at most that a challenger answers: what answers more than half is the champion, and takes a promotion."""

LEAST_INTERVAL = timedelta(minutes=1)
"""Shortest interval of a schedule; a training takes longer than that on any table worth one."""


class PolicySpec(FrozenModel):
    """Two decisions: when a challenger is trained, and when one replaces the champion."""

    train_on: tuple[Training, ...] = Field(
        ("drift", "performance", "every", "age"),
        description="what asks for a training: a finding of that kind, `every` so many windows without one, the champion's age "
        'over `signals.max_age` (which also promotes); `age` alone by default with `evidence = "probe"`',
    )
    schedule: str | None = Field(
        None,
        description="trains a challenger by the clock, whatever was found: an interval such as `4w`, or five fields of cron in "
        "UTC such as `0 4 * * 1`",
    )
    every: int = Field(
        4,
        ge=1,
        description='windows after which a version is trained though nothing was found; with `promote = "avoidable"` the waits '
        "after a promotion are 1, 1, 2, 4, ... windows, up to this many",
    )
    promote: Promotion = Field(
        "avoidable",
        description="`avoidable`: when the loss that challengers would have saved reaches `cost`; `always`: whatever the gate "
        "lets pass, right after its training; `manual`: when a person runs `perennial promote`",
    )
    evidence: Evidence = Field(
        "challenger",
        description="what the champion is compared with: `challenger`, the newest version; `probe`, twenty small trees on top of "
        "its own scores, which needs no version and no training until a promotion is due",
    )
    cost: float = Field(0.2, gt=0, description="what a new version may cost, in losses of one window: 0.2 is a fifth of one")
    z: float = Field(1.0, ge=0, description="standard errors by which the avoidable loss must differ from nothing")
    unlabelled_windows: int = Field(
        4, ge=1, description="windows in a row without enough labels (`window.label_share`) after which drift promotes"
    )

    challenger_share: float | None = Field(
        None,
        ge=0,
        le=MAX_CHALLENGER_SHARE,
        description="percent of the rows that the newest challenger answers in the champion's place, chosen by their ids "
        "(default: `PERENNIAL_CHALLENGER_SHARE`); a service reads it when it starts",
    )

    @model_validator(mode="before")
    @classmethod
    def _without_challengers(cls, given: Any) -> Any:
        """With a probe nothing trains challengers, unless the spec says so."""
        if isinstance(given, dict) and given.get("evidence") == "probe":
            return {"train_on": TRAINED_ON_WITH_PROBES, **given}
        return given

    @model_validator(mode="after")
    def _compares(self) -> Self:
        if self.evidence == "probe" and self.promote == "always":
            raise ValueError('promote = "always" promotes each training without a comparison: evidence = "probe" has no use then')
        return self

    @property
    def interval(self) -> timedelta | None:
        """The interval of the schedule; None where it is none or cron."""
        return None if self.schedule is None or " " in self.schedule else parse_duration(self.schedule)

    @field_validator("schedule")
    @classmethod
    def _known_schedule(cls, schedule: str | None) -> str | None:
        if schedule is None:
            return None
        schedule = " ".join(schedule.split())
        if " " in schedule:
            _refuse_cron(schedule)
        elif _interval(schedule) < LEAST_INTERVAL:
            raise ValueError(f"{schedule!r} is no interval to train at; write one of a minute or more, such as 1d or 4w")
        return schedule


class RetrainSpec(FrozenModel):
    """Where the rows of a retraining are, and which it uses: all so far, the trailing windows, all weighted by recency, or what
    lost least of these."""

    rows: Literal["log", "sources"] = Field(
        "log",
        description="`log`: the base dataset and what the service was asked and told; `sources`: the sources, read anew up to "
        "the moment that the retraining is about",
    )
    label_delay: Duration | None = Field(
        None, description='with `rows = "sources"`: how long after its event a label is known (default: `window.lateness`)'
    )
    known_at: str | None = Field(
        None, description='with `rows = "sources"`: the column with the time at which a row\'s label became known'
    )
    data: Literal["all", "trailing", "weighted", "auto"] = Field(
        "all", description="rows a retraining uses; `auto` compares the others at each training, for three more fits"
    )
    windows: int = Field(8, ge=1, description="how many windows `trailing` keeps")
    half_life: Duration = Field(timedelta(days=56), description="age at which `weighted` halves a row's weight")

    @model_validator(mode="after")
    def _about_sources(self) -> Self:
        given = [name for name in ("label_delay", "known_at") if getattr(self, name) is not None]
        if given and self.rows != "sources":
            raise ValueError(
                f'{given[0]} says when the sources know a label: it needs rows = "sources", and rows is {self.rows!r}'
            )
        if len(given) > 1:
            raise ValueError("label_delay and known_at both say when a label is known; keep one of them")
        return self


def _interval(text: str) -> timedelta:
    try:
        return parse_duration(text)
    except ValueError:
        raise ValueError(f"{text!r} is neither an interval such as 4w nor five fields of cron such as `0 4 * * 1`") from None


def _refuse_cron(text: str) -> None:
    """Raise ValueError for what is not five fields of cron."""
    from cronsim import CronSim, CronSimError  # what Prefect reads a schedule with

    try:
        next(CronSim(text, datetime(2024, 1, 1, tzinfo=UTC)))
    except (CronSimError, StopIteration) as error:
        fields = "minute, hour, day of the month, month and day of the week, such as `0 4 * * 1`"
        raise ValueError(f"{text!r} is no cron schedule ({str(error) or 'it names no day that comes'}): write {fields}") from None
