"""The report of a backtest: all figures as one stored value, the verdict in sentences, and the table for the terminal."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import AwareDatetime
from rich.table import Table

from perennial.base import FrozenModel, StoredModel, read_stored
from tasks.backtest.loss_matrix import LossMatrix
from tasks.backtest.policies import calendar, calendar_name
from tasks.backtest.study import DEFAULT, FindingRate, PolicyResult, Study
from tasks.backtest.verdict import AgePoint, Decay, Recommendation, cheapest, decay_curve, decay_kind, policy_section, recommend
from tasks.job import Job
from tasks.reporting.artifacts import markdown_table

HEAD = ("policy", "trained", "promoted", "loss", "gain", "random", "calendars", "regret", "again at once", "delay")

NARROW = {"policy", "trained", "promoted", "loss", "gain", "random", "regret"}
"""Columns of the terminal's table."""

MEANINGS: dict[Decay, str] = {
    "none": "no decay: older models lose no more than the newest one on the same rows, so a new version brings nothing but risk",
    "growth": "more data helps: what older models lose follows how few rows they know, more than how old they are",
    "gradual": "gradual decay: what age costs comes window by window",
    "abrupt": "abrupt decay: few windows bring most of what age costs, so that a calendar is mostly too early or too late",
}


class ModeResult(FrozenModel):
    """Mean losses under the default policy, learning from these rows: on the windows that choose, and on the later ones."""

    data: str
    early_loss: float
    later_loss: float
    promotions: int


class BacktestReport(StoredModel):
    """What a backtest found. `sections` are the keys to set in the spec, by table, as TOML writes their values.

    `losses` are those of the windows that begin at `starts`, by what served them.
    """

    model: str
    metric: str
    data: str
    rows: int
    cost: float
    starts: tuple[AwareDatetime, ...]
    losses: dict[str, tuple[float, ...]]
    policies: tuple[PolicyResult, ...]
    findings: dict[str, FindingRate]
    decay: tuple[AgePoint, ...]
    kind: Decay
    modes: tuple[ModeResult, ...]
    recommendation: Recommendation
    sentences: tuple[str, ...]
    sections: dict[str, dict[str, str]]


def build_report(job: Job, matrices: Mapping[str, LossMatrix]) -> BacktestReport:
    """Study the spec's own data mode, which comes first, and compare the others with it."""
    spec, data = job.spec, next(iter(matrices))
    studies = {mode: Study(matrix, spec) for mode, matrix in matrices.items()}
    study = studies[data]
    matrix, found, modes, chosen = study.matrix, recommend(study), tuple(_modes(study, studies)), best_mode(study, studies)
    sections = {"policy": policy_section(found)} | ({"retrain": {"data": f'"{chosen}"'}} if chosen != data else {})
    policies, decay, kind = study.results(), decay_curve(matrix), decay_kind(matrix, grows=data == "all")
    series = {"never": study.never, "every window": study.always, DEFAULT: study.losses(study.default)}
    return BacktestReport(
        model=spec.name,
        metric=matrix.metric,
        data=data,
        rows=sum(matrix.counts),
        cost=spec.policy.cost,
        starts=tuple(matrix.windows[window].start for window in matrix.judged.tolist()),
        losses={name: tuple(values.tolist()) for name, values in series.items()},
        policies=policies,
        findings=study.finding_rates(),
        decay=decay,
        kind=kind,
        modes=modes,
        recommendation=found,
        sentences=tuple(_sentences(study, kind, decay, found, modes, chosen)),
        sections=sections,
    )


def best_mode(study: Study, studies: Mapping[str, Study]) -> str:
    """The data mode under which the default policy cost least on the first windows, or the spec's own."""
    lives = {data: one.losses(one.default) / study.unit for data, one in studies.items()}
    return cheapest({data: losses[: study.early] for data, losses in lives.items()}, next(iter(studies)))


def _modes(study: Study, studies: Mapping[str, Study]) -> Iterator[ModeResult]:
    for data, one in studies.items():
        losses = one.losses(one.default)
        early, later = float(losses[: study.early].mean()), float(losses[study.early :].mean())
        yield ModeResult(data=data, early_loss=early, later_loss=later, promotions=len(one.default.promotions))


def _sentences(
    study: Study, kind: Decay, decay: Sequence[AgePoint], found: Recommendation, modes: Sequence[ModeResult], chosen: str
) -> Iterator[str]:
    """The verdict, a sentence for each thing that was asked."""
    cost = study.spec.policy.cost
    yield MEANINGS[kind]
    if decay and decay[0].excess >= cost:
        yield f"one window of age costs {decay[0].excess:.2f} of a window's loss, a new version {cost:g}: retrain every window"
    if (rival := _calendar_as_good(study)) is not None:
        yield f"a calendar does as well: a promotion {rival} cost no more on the windows on which it was not chosen"
    if len(modes) > 1:
        losses = ", ".join(f"{one.data} {one.later_loss:.4g}" for one in modes)
        yield f"which rows are learnt from: {losses} (mean loss of the later windows); chosen beforehand: {chosen}"
    yield f"recommended: {found.name}; on the {found.windows} later windows {found.promotions} promotions, {_gain(found)}"


def _gain(found: Recommendation) -> str:
    if found.gain_share is None or found.default_gain_share is None:
        return "and nothing to gain"
    default = "" if found.name == DEFAULT else f" (the default: {found.default_gain_share:.0%})"
    return f"{found.gain_share:.0%} of what a promotion every window gains{default}"


def _calendar_as_good(study: Study) -> str | None:
    """The calendar that cost least on the first windows, where it cost no more than the default on the later ones."""
    cost, early = study.spec.policy.cost, study.early
    lives = {every: calendar(study.matrix, every) for every in range(1, early + 1)}
    expenses = {every: study.expenses(life, cost) for every, life in lives.items()}
    best = min(expenses, key=lambda every: float(expenses[every][:early].sum()))
    ours = study.expenses(study.default, cost)
    return calendar_name(best) if expenses[best][early:].sum() <= ours[early:].sum() else None


def policy_table(report: BacktestReport) -> Table:
    """The policies, one in a row, in as many columns as 80 characters hold; the page has all."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for name in HEAD:
        if name in NARROW:
            table.add_column(name, no_wrap=True)
    for one in report.policies:
        table.add_row(*(cell for name, cell in zip(HEAD, policy_cells(one), strict=True) if name in NARROW))
    return table


def policy_cells(one: PolicyResult) -> tuple[str, ...]:
    return (
        one.name,
        str(one.trainings),
        f"{one.promotions} of {one.possible}",
        f"{one.mean_loss:.4g}",
        _number(one.gain_share),
        _number(one.percentile, 0),
        _number(one.calendars_beaten),
        _number(one.regret),
        _number(one.promotion_rate_after_promotion),
        _number(one.delay, 1),
    )


def _number(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def report_markdown(report: BacktestReport) -> str:
    """The report as an artifact of Prefect has it."""
    verdict = "\n".join(f"- {sentence}" for sentence in report.sentences)
    section = f"```toml\n{section_text(report.sections)}\n```"
    parts = [
        f"# Backtest of {report.model}",
        verdict,
        section,
        markdown_table(HEAD, [policy_cells(one) for one in report.policies]),
    ]
    return "\n\n".join(parts)


def section_text(sections: Mapping[str, Mapping[str, str]]) -> str:
    """The tables of a spec to paste."""
    tables = ([f"[{name}]", *(f"{key} = {value}" for key, value in keys.items())] for name, keys in sections.items())
    return "\n\n".join("\n".join(lines) for lines in tables)


def report_path(home: Path) -> Path:
    return home / "backtest" / "report.json"


def read_report(path: Path) -> BacktestReport:
    """The report that a backtest has written."""
    return read_stored(BacktestReport, path.read_bytes(), str(path))
