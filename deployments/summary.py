"""The tables at the end of commands: what was read, learnt and decided, where it serves, and what to do next."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rich.table import Table

from deployments.alias_moves import RolledBack
from deployments.replay.replay import Replayed
from deployments.stack.stack import running_service
from perennial.metrics import higher_is_better
from perennial.model_card import ModelCard
from perennial.model_loading import load_card
from perennial.registry import Registry
from perennial.settings import Settings
from perennial.spec import Task, load_spec
from tasks.backtest.report import BacktestReport, section_text
from tasks.data.columns import column_table
from tasks.reporting.training_report import read_training_report

MOST_NAMES = 8  # columns, or classes, named in one line; the rest is counted


def format_rows(rows: Mapping[str, str]) -> str:
    """The name of each row beside what there is to say of it, line by line; empty ones are left out."""
    shown = {name: text.splitlines() for name, text in rows.items() if text}
    width = max(map(len, shown), default=0) + 2
    return "\n".join(f"{'' if i else name:<{width}}{line}" for name, lines in shown.items() for i, line in enumerate(lines))


def training_rows(version: int, spec: Path, settings: Settings) -> dict[str, str]:
    """What the training of a version found and decided, row by row."""
    name = load_spec(spec).name
    report = read_training_report(settings.model_home(name), version)
    card, checks, verdict = report.card, report.checks, report.verdict
    quarantined = f"{checks.bad_rows:,} quarantined, " if checks.bad_rows else ""
    repeated = f"{checks.repeated:,} as another in every column (no id tells them apart), " if checks.repeated else ""
    tested = f"{card.metrics.rows:,} newest rows, by the same recipe fitted without them"
    champion = Registry(settings.registry_url).aliases(name).champion
    return {
        "model": f"{card.name} version {card.version} ({card.task}, {card.learner})",
        "rows": f"{checks.rows:,} read, {quarantined}{repeated}{checks.unlabelled:,} without a label",
        "quarantined": _lines(checks.problems, checks.quarantine),
        "read as null": _lines(checks.odd, checks.odd_values),
        "joins": _lines(checks.joins),
        "learners": _learners(card),
        "learnt from": f"{card.data.rows:,} rows from {card.data.since:%Y-%m-%d %H:%M} to {card.until:%Y-%m-%d %H:%M}",
        "kinds": "\n".join(_kinds({column.name: column.kind for column in card.schema_.columns})),
        "base rate": f"{card.spec.target}: {', '.join(_base_rate(card.task, report.base_rate))}",
        "label texts": " is false, ".join(map(repr, checks.label_texts)) + " is true" if checks.label_texts else "",
        "new classes": _lines(report.new_classes),
        "test": "\n".join([tested, *_metrics(card.metrics.values, report.baseline)]),
        "gate": f"{verdict.outcome}: {verdict.reason}" if verdict else "not asked: a challenger, until a promotion is due",
        "warning": "\n".join(filter(None, (_no_better(card, report.baseline), report.warning))),
        "serves": _serves(champion, spec, settings),
        "next": _after_training(champion, spec, settings),
    }


def training_columns(version: int, spec: Path, settings: Settings) -> Table:
    """What each column of the table held from which a version was trained."""
    return column_table(read_training_report(settings.model_home(load_spec(spec).name), version).checks.columns)


def backtest_rows(report: BacktestReport, path: Path, spec: Path, *, written: bool) -> dict[str, str]:
    """What a backtest found and recommends, row by row."""
    rates = report.findings.items()
    false_alarms = [f"{name} {rate.alarms_after_training:.0%}" for name, rate in rates if rate.alarms_after_training is not None]
    todo = f"perennial up {spec}   (runs by the new sections)" if written else f"perennial backtest {spec} --write"
    return {
        "windows": f"{len(report.starts)} from {report.starts[0]:%Y-%m-%d} on, learning from {report.data}",
        "findings": f"in first windows after a training: {', '.join(false_alarms)}" if false_alarms else "",
        "verdict": "\n".join(report.sentences),
        "sections": section_text(report.sections),
        "report": f"{path}\n{path.with_suffix('.html')}",
        "next": f"{'written into' if written else 'not yet in'} {spec}: {todo}",
    }


def rollback_rows(move: RolledBack, spec: Path, settings: Settings) -> dict[str, str]:
    """A champion replaced by hand, row by row."""
    card = load_card(Registry(settings.registry_url), move.model, move.version)
    return {
        "champion": f"{move.model} version {move.version} (was {move.previous})",
        "learnt from": f"{card.data.rows:,} rows until {card.until:%Y-%m-%d %H:%M}",
        "test": ", ".join(f"{name} {value:.5g}" for name, value in card.metrics.values.items()),
        "serves": _serves(move.version, spec, settings),
        "next": f"perennial rollback {spec} --to {move.previous}   (takes it back)",
    }


def replay_rows(replayed: Replayed, spec: Path, *, over: bool = True) -> dict[str, str]:
    """What a replay sent and the loop did of it, row by row; `over` says whether it came to its end."""
    sent, progress = replayed.sent, replayed.progress
    on, name = f"perennial replay {spec} --start {replayed.resume:%Y-%m-%dT%H:%M}", load_spec(spec).name
    asked = sum(result.decision.flow is not None for result, _ in progress.windows)
    loop = f"{len(progress.windows)} windows closed, {asked} events, {progress.runs} trainings and promotions"
    return {
        "sent": f"{sent.requests:,} requests to {replayed.url}, {sent.failed:,} failed",
        "confirmed": f"{sent.predictions:,} predictions and {sent.labels:,} labels",
        "loop": f"{loop}; version {progress.version} answers" if progress.paced else "",
        "until": f"{progress.clock:%Y-%m-%d %H:%M} in event time" if not over else "",
        "next": (f"perennial history {name}" if progress.paced else "perennial status") if over else on,
    }


def _lines(found: Sequence[object], file: str | None = None) -> str:
    return "\n".join([*map(str, found), *([f"listed in {file}"] if file else [])])


def _learners(card: ModelCard) -> str:
    """The learners that were compared, the best first; empty where the spec names one."""
    found = ", ".join(f"{name} {value:.5g}" for name, value in card.learner_scores.items())
    return f"{card.spec.objective_metric} over the folds: {found}" if found else ""


def _serves(version: int | None, spec: Path, settings: Settings) -> str:
    if version is None:
        return "nothing: no version has passed the gate"
    service = running_service(spec, settings)
    where = f"at {service}/predict" if service else f"once its service runs: perennial up {spec}"
    return f"version {version} {where}"


def _after_training(champion: int | None, spec: Path, settings: Settings) -> str:
    if champion is None:
        return f"mend in {spec} what the gate names, then perennial train {spec}"
    return "perennial status" if running_service(spec, settings) else f"perennial up {spec}"


def _kinds(kinds: Mapping[str, str]) -> Iterator[str]:
    for kind in sorted(set(kinds.values()), reverse=True):
        names = [name for name, one in kinds.items() if one == kind]
        more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
        yield f"{len(names)} {kind}: {', '.join(names[:MOST_NAMES])}{more}"


def _base_rate(task: Task, rate: Mapping[str, float]) -> Iterator[str]:
    if task == "regression":
        yield f"mean {rate['mean']:.5g}, deviation {rate['deviation']:.5g}"
    elif task == "binary":
        yield f"true in {rate['true']:.2%}"
    else:
        shares = sorted(rate.items(), key=lambda one: -one[1])
        yield from (f"{name} {share:.2%}" for name, share in shares[:MOST_NAMES])
        if len(shares) > MOST_NAMES:
            yield f"and {len(shares) - MOST_NAMES} more classes"


def _no_better(card: ModelCard, baseline: Mapping[str, float]) -> str:
    """A warning where the model loses to the mean of what it has learnt from."""
    metric = card.spec.objective_metric
    ours, mean = card.metrics.values.get(metric), baseline.get(metric)
    if ours is None or mean is None or (ours > mean if higher_is_better(metric) else ours < mean):
        return ""
    return f"by {metric} it is no better than always the mean: what it has learnt does not hold on the newest rows"


def _metrics(metrics: Mapping[str, float], baseline: Mapping[str, float]) -> Iterator[str]:
    for name, value in metrics.items():
        yield f"{name} {value:.5g}" + (f" (always the mean: {baseline[name]:.5g})" if name in baseline else "")
