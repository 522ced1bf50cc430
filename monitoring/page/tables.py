"""The tables of a page: windows, versions and moves, newest first, every cell with the name of its column for narrow screens."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from html import escape

from monitoring.ledger import LedgerEntry
from monitoring.page.story import ModelStory
from monitoring.page.strips import anchor_of, moves
from monitoring.state import WindowResult
from perennial.model_card import ModelCard
from perennial.registry import CHALLENGER, CHAMPION, Move

Row = tuple[str, Sequence[str]]
"""The anchor of a row, and its cells, which are HTML."""

WINDOWS = ("window", "rows", "versions", "signals", "diagnosis", "account", "decision")
VERSIONS = ("version", "why", "learnt from", "its judge's metrics", "promised and came true", "state", "W&B run")
STAGES = {"decided": "not begun yet", "sent": "not begun yet", "started": "has begun", "died": "its run died, it is sent again"}
"""What the page calls a decision without an outcome."""
MOVES = ("when (wall time)", "what", "version", "reason", "rests on")


def table(head: Sequence[str], rows: Iterable[Row]) -> str:
    """An HTML table that becomes a list of cards where it does not fit."""
    titles = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = "".join(_row(head, anchor, cells) for anchor, cells in rows)
    return f"<table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>"


def _row(head: Sequence[str], anchor: str, cells: Sequence[str]) -> str:
    shown = "".join(f'<td data-name="{escape(name)}">{cell}</td>' for name, cell in zip(head, cells, strict=True))
    return f'<tr id="{escape(anchor)}" tabindex="-1">{shown}</tr>'


def window_rows(story: ModelStory) -> Iterator[Row]:
    """Windows with what was found, thought and done about them."""
    for result in reversed(story.windows):
        yield (
            anchor_of(result),
            (
                _period(result),
                _whole(f"{result.findings.rows:,}", f"{result.findings.labelled:,} labelled"),
                _whole(*(f"v{version}: {rows:,}" for version, rows in result.rows_by_version.items())),
                _signals(result),
                escape(str(result.diagnosis)) if result.diagnosis else "-",
                _account(result),
                _decision(result, story),
            ),
        )


def _period(result: WindowResult) -> str:
    times = f"{_time(result.window.start)} to<br>{_time(result.window.end)}"
    return times + f"<br>judged for v{result.version}"


def _signals(result: WindowResult) -> str:
    findings, lines = result.findings, []
    for signal in findings.shown:
        value, bound = findings.values.get(signal.name), findings.bounds.get(signal.name)
        said = signal.label if value is None else signal.describe(value, bound)
        lines.append(f"<strong>! {escape(said)}</strong>" if findings.alarms(signal) else escape(said))
    if findings.expected_loss is not None:
        lines.append(f"expected loss {findings.expected_loss:.4g}")
    return _whole(*lines)


def _whole(*lines: str) -> str:
    """Lines that are not broken."""
    return "<br>".join(f'<span class="whole">{line}</span>' for line in lines)


def _account(result: WindowResult) -> str:
    account = result.account
    if account is None:
        return "-"
    return "<br>".join(escape(text) for text in (str(account), account.beside(), account.truth()) if text)


def _decision(result: WindowResult, story: ModelStory) -> str:
    decision = result.decision
    kind = escape(decision.kind) if decision.kind == "none" else f"<strong>{escape(decision.kind)}</strong>"
    parts = [f"{kind}: {escape(decision.reason)}", *_outcome(result, story)]
    if result.window.key in story.reports:
        parts.append(f'<a href="{escape(story.reports_at)}{result.window.key}.html">Evidently report</a>')
    return "<br>".join(parts)


def _outcome(result: WindowResult, story: ModelStory) -> Iterator[str]:
    """What became of the request that a window sent."""
    decision = result.decision
    if decision.event_id is None or (decision.flow is None and decision.kind != "rollback"):
        return
    entry, made = story.decisions.get(decision.event_id), story.versions_asked_by(decision.event_id)
    versions = ", ".join(f'<a href="#v-{version}">version {version}</a>' for version in made)
    said = STAGES.get(entry.stage, entry.stage) if entry else "sent" if decision.kind == "rollback" else "not begun yet"
    yield f"&rarr; {escape(said)}{f': {versions}' if versions else ''}{_flow_link(entry, story)}"


def _flow_link(entry: LedgerEntry | None, story: ModelStory) -> str:
    if entry is None or entry.flow_run is None or story.prefect_ui is None:
        return ""
    return f' (<a href="{escape(story.prefect_ui)}/runs/flow-run/{escape(entry.flow_run)}">Prefect run</a>)'


def version_rows(story: ModelStory) -> Iterator[Row]:
    """Versions with what was promised of them and what came true."""
    for card in reversed(story.cards):
        data = f"{card.data.rows:,} rows until {_time(card.until)}<br>trained {_time(card.trained_at)} (wall time)"
        metrics = "<br>".join(f"{escape(name)} {value:.4g}" for name, value in card.metrics.values.items())
        why = f"{escape(card.cause.kind)}<br>{escape(card.cause.detail)}"
        states, run = "<br>".join(escape(one) for one in states_of(card.version, story)), escape(card.wandb_run or "-")
        yield f"v-{card.version}", (f"v{card.version}", why, data, metrics, promise(card, story), states, run)


def promise(card: ModelCard, story: ModelStory) -> str:
    """What the gate measured at the promotion, and what the windows of the probation have found so far."""
    found = [one.account for one in story.windows if one.account and one.account.champion == card.version and one.account.truth()]
    if found:
        return escape(found[-1].truth())
    move = next((one for one in reversed(story.moves) if one.alias == CHAMPION and one.version == card.version), None)
    promised = move.evidence.get("promised") if move else None
    return f"promised {promised:+.1%} of the loss" if isinstance(promised, float) else "-"


def states_of(version: int, story: ModelStory) -> list[str]:
    """What a version is and was: champion now, or when it was promoted, refused or rolled back."""
    standing = story.moves[-1].positions if story.moves else {}
    now = [name for name in (CHAMPION, CHALLENGER) if standing.get(name) == version]
    past = [f"{kind} {_time(move.at)}" for kind, move in moves(story) if move.version == version]
    return [*(f"{name} now" for name in now), *past] or ["challenger once"]


def move_rows(story: ModelStory) -> Iterator[Row]:
    """Promotions, refusals, rollbacks and versions that wait for a person, with their reasons."""
    for kind, move in reversed(list(moves(story))):
        who = ", by a person" if move.by_person else ""
        version = f'<a href="#v-{move.version}">v{move.version}</a>'
        yield f"m-{move.generation}", (_time(move.at), f"{escape(kind)}{who}", version, escape(move.reason), _evidence(move))


def _evidence(move: Move) -> str:
    shown = ((name, f"{value:.4g}" if isinstance(value, float) else str(value)) for name, value in move.evidence.items())
    return "<br>".join(f"{escape(name)} {escape(value[:80])}" for name, value in shown) or "-"


def _time(at: datetime) -> str:
    return f'<time datetime="{at.isoformat()}">{at:%Y-%m-%d %H:%M}</time>'
