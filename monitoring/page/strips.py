"""What the strips of a page show: a story in, strips and lanes out.

A window stands at its middle. What happened in wall time (a training, a move of an alias) stands at the event time that the
model had come to by then: the end of the window that was closed last before it, and its lateness.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import cycle
from typing import get_args

from monitoring.champion_account import AccountStatement, PairedLoss
from monitoring.page.chart import Lane, Mark, Point, Series, Shape, Strip, TimeAxis, Tone
from monitoring.page.story import ModelStory
from monitoring.policy import Cause
from monitoring.state import WindowResult
from monitoring.window import Window
from perennial.registry import APPROVAL, CHAMPION, REJECTED, Move
from perennial.signals import SIGNALS, Signal

EVENT = "event: {kind}"
LANES: Mapping[str, tuple[Shape, Tone]] = {
    **{EVENT.format(kind=kind): ("diamond", "warn") for kind in get_args(Cause)},
    "training": ("circle", "plain"),
    "promotion": ("up", "good"),
    "waits for approval": ("square", "other"),
    "refusal": ("cross", "plain"),
    "rollback": ("down", "warn"),
}
"""Kinds of happenings from the highest lane down, each with a shape of its own."""

VERSION_TONES: tuple[Tone, ...] = ("accent", "other", "plain")


def time_axis(story: ModelStory, more: Sequence[datetime] = ()) -> TimeAxis:
    """From the first window to the last happening; an axis of a day where nothing has happened yet."""
    starts = [*(one.window.start for one in story.windows), *more]
    ends = [*(one.window.end + lateness(story) for one in story.windows), *more]
    if not starts:
        newest = story.cards[-1].trained_at if story.cards else datetime.fromisoformat("1970-01-05T00:00:00+00:00")
        return TimeAxis(newest, newest + timedelta(days=1))
    bar = story.windows[-1].window.end - story.windows[-1].window.start if story.windows else timedelta(days=1)
    return TimeAxis(min(starts), max(*ends, min(starts) + bar), bar)


def lateness(story: ModelStory) -> timedelta:
    """How long after its end a window was closed, by the newest version's spec."""
    return story.cards[-1].spec.window.lateness if story.cards else timedelta()


def middle(window: Window) -> datetime:
    """Where a window is drawn."""
    return window.start + (window.end - window.start) / 2


def strips(story: ModelStory) -> Iterator[Strip]:
    """Everything that is drawn from window results; a strip without a value is left out."""
    for strip in (_account(story.windows), *_signals(story.windows), _losses(story.windows), _traffic(story.windows)):
        if any(point.value is not None for series in strip.series for point in series.points):
            yield strip


def lanes(story: ModelStory) -> list[Lane]:
    """What happened, by kind; kinds that did not happen are left out."""
    found: dict[str, list[Mark]] = {kind: [] for kind in LANES}
    for result in story.windows:
        if result.decision.event_id:
            text = f"{result.decision.kind}: {result.decision.reason}"
            lane = EVENT.format(kind=result.decision.kind)
            if lane in found:  # a rollback is shown as the move that it was
                found[lane].append(Mark(closed_at(result, story), f"v{result.version}", text, anchor_of(result)))
    for card in story.cards:
        text = f"version {card.version} trained: {card.cause.kind} {card.cause.detail}".rstrip()
        found["training"].append(Mark(event_time(card.trained_at, story), f"v{card.version}", text, f"v-{card.version}"))
    for kind, move in moves(story):
        text = f"{kind} of version {move.version}: {move.reason}"
        found[kind].append(Mark(event_time(move.at, story), f"v{move.version}", text, f"m-{move.generation}"))
    return [Lane(kind, *LANES[kind], tuple(marks)) for kind, marks in found.items() if marks]


def moves(story: ModelStory) -> Iterator[tuple[str, Move]]:
    """The moves that people ask about, each with its kind."""
    kinds = {CHAMPION: "promotion", APPROVAL: "waits for approval", REJECTED: "refusal"}
    for move in story.moves:
        if move.alias in kinds and move.version is not None:
            yield "rollback" if move.rollback else kinds[move.alias], move


def event_time(at: datetime, story: ModelStory) -> datetime:
    """The event time that the model had come to at a moment of wall time."""
    before = story.closed_before(at)
    if before is not None:
        return closed_at(before, story)
    return story.windows[0].window.start if story.windows else at


def closed_at(result: WindowResult, story: ModelStory) -> datetime:
    """The event time at which a window was closed."""
    return result.window.end + lateness(story)


def anchor_of(result: WindowResult) -> str:
    """The row of the page that tells of a window."""
    return f"w-{result.window.key}"


def _account(results: Sequence[WindowResult]) -> Strip:
    stated = [(middle(one.window), one.account) for one in results if one.account is not None]
    saved = tuple(_account_point(at, account) for at, account in stated)
    costs = tuple(Point(at, account.cost, f"cost {account.cost:g}") for at, account in stated)
    return Strip(
        "Account: avoidable loss of the champion against the cost of a new version",
        (Series("avoidable loss ± its error", saved, "circle", "accent"), Series("cost", costs, "step", "warn", dashed=True)),
        "1 is the loss of one window; the account begins anew with each champion",
        zero=True,
    )


def _account_point(at: datetime, account: AccountStatement) -> Point:
    value = account.avoidable if account.windows else None
    text = ", ".join(part for part in (f"version {account.champion}: {account}", account.beside()) if part)
    return Point(at, value, text, error=account.error, alarm=account.due)


def _signals(results: Sequence[WindowResult]) -> Iterator[Strip]:
    for signal in SIGNALS:
        better = "lower" if signal.alarms_when == "above" else "higher"
        values = tuple(_signal_point(one, signal) for one in results)
        bounds = tuple(Point(middle(one.window), one.findings.bounds.get(signal.name), "bound") for one in results)
        tones: tuple[Tone, Tone] = ("plain", "warn")
        shown = (
            Series(signal.label, values, "bar", tones[0]) if signal.name == "drift" else Series(signal.label, values, "circle")
        )
        bound = Series("its bound", bounds, "step", tones[1], dashed=True)
        title = f"{signal.label[:1].upper()}{signal.label[1:]} of each window and its bound"
        yield Strip(title, (shown, bound), f"{better} is better; ! is beyond the bound", zero=signal.name == "drift")


def _signal_point(result: WindowResult, signal: Signal) -> Point:
    findings = result.findings
    value, bound = findings.values.get(signal.name), findings.bounds.get(signal.name)
    text = f"{result.window}: {signal.describe(value, bound)}" if value is not None else ""
    return Point(middle(result.window), value, text, alarm=findings.alarms(signal))


def _losses(results: Sequence[WindowResult]) -> Strip:
    """Each comparison at its own window, which may be older than the one at whose close it was made."""
    newest = _comparisons(one.account.newest for one in results if one.account)
    before = _comparisons(one.account.predecessor for one in results if one.account)
    newest_named = [(one, one.other) for one in newest.values()]
    before_named = [(one, f"predecessor {one.version}") for one in before.values()]
    champion = {one.window: (one, other) for one, other in (*before_named, *newest_named)}
    points = (_loss(one.champion_loss, one, f"the champion, beside {other}") for one, other in champion.values())
    shown = (
        Series("champion", tuple(sorted(points, key=lambda point: point.at)), "circle", "accent"),
        Series("challenger", _others(one for one in newest_named if not one[0].probe), "diamond", "other", dashed=True),
        Series("probe", _others(one for one in newest_named if one[0].probe), "diamond", "other", dashed=True),
        Series("predecessor", _others(before_named), "square", "plain", dashed=True),
    )
    title = "Loss of champion, challenger and predecessor on the same labelled rows"
    return Strip(title, tuple(one for one in shown if one.points), "lower is better")


def _comparisons(found: Iterator[PairedLoss | None]) -> dict[Window, PairedLoss]:
    return {one.window: one for one in found if one is not None}


def _others(found: Iterable[tuple[PairedLoss, str]]) -> tuple[Point, ...]:
    return tuple(_loss(one.other_loss, one, name) for one, name in found)


def _loss(value: float, compared: PairedLoss, who: str) -> Point:
    return Point(middle(compared.window), value, f"{compared.window}: {who}: {value:.4g} on {compared.rows:,} rows")


def _traffic(results: Sequence[WindowResult]) -> Strip:
    """Rows of each window, those of older versions below."""
    versions = sorted({version for one in results for version in one.rows_by_version})
    tones = cycle(VERSION_TONES)
    shown = [_rows_of(version, results, tone) for version, tone in zip(versions, tones, strict=False)]
    labelled = tuple(
        Point(middle(one.window), float(one.findings.labelled), f"{one.findings.labelled:,} labelled") for one in results
    )
    return Strip(
        "Traffic: rows of each window, by the version that answered, and how many of them have their label",
        (*shown, Series("labelled", labelled, "circle", "good", line=False)),
        zero=True,
    )


def _rows_of(version: int, results: Sequence[WindowResult], tone: Tone) -> Series:
    points: list[Point] = []
    for one in results:
        rows, older = one.rows_by_version.get(version, 0), sum(n for v, n in one.rows_by_version.items() if v < version)
        if rows:
            text = f"{one.window}: version {version} answered {rows:,} rows"
            points.append(
                Point(middle(one.window), float(older + rows), text, base=float(older), label="" if points else f"v{version}")
            )
    return Series(f"version {version}", tuple(points), "bar", tone)
