"""The document: strips and tables of a story in one HTML file that needs neither network nor script.

It is written where a window closes, as PAGE in the model's home. It is about a kilobyte for each window and strip, follows the
reader's light or dark setting, and can be used with the keyboard alone: marks are links to the rows that say more.
"""

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

import fsspec

from monitoring.page.chart import Strip, definitions, draw_lanes, draw_strip
from monitoring.page.story import ModelStory, read_story
from monitoring.page.strips import lanes, strips, time_axis
from monitoring.page.style import STYLE
from monitoring.page.tables import MOVES, VERSIONS, WINDOWS, Row, move_rows, table, version_rows, window_rows
from perennial.atomic_files import replace
from perennial.registry import Registry
from perennial.settings import PAGE

PLAIN_ROWS = 12
"""Windows that are listed at once; those before them are folded away."""


def write_page(home: Path, registry: Registry, name: str, prefect_api: str | None = None) -> Path:
    """Read the model's files and write its page; raises ArchiveError, NewerFormat, OSError. A page is whole or as it was."""
    path = home / PAGE
    page = draw_page(read_story(home, registry, name, prefect_api))
    replace(fsspec.filesystem("file"), str(path), page.encode())
    return path


def draw_page(story: ModelStory, title: str = "", subtitle: str = "", more: Sequence[Strip] = ()) -> str:
    """The page of a story; `more` are strips beyond those that are drawn from the model's files."""
    axis = time_axis(story, [point.at for strip in more for series in strip.series for point in series.points])
    shown = [draw_lanes("What happened", happened, axis)] if (happened := lanes(story)) else []
    shown += [draw_strip(strip, axis) for strip in (*strips(story), *more)]
    parts = {
        "Timeline (event time, UTC)": "".join(shown) or "<p>No window has closed yet.</p>",
        "Windows": "".join(_windows(story)),
        "Versions": table(VERSIONS, version_rows(story)),
        "Promotions, refusals and rollbacks": table(MOVES, move_rows(story)),
    }
    body = "".join(f'<h2 id="part-{number}">{escape(name)}</h2>{part}' for number, (name, part) in enumerate(parts.items()))
    return _html(title or story.model, f"{_summary(story)}{_links(parts, story)}", subtitle, definitions() + body)


def _windows(story: ModelStory) -> Iterator[str]:
    rows: list[Row] = list(window_rows(story))
    yield table(WINDOWS, rows[:PLAIN_ROWS])
    if rows[PLAIN_ROWS:]:
        more = table(WINDOWS, rows[PLAIN_ROWS:])
        yield f"<details><summary>{len(rows) - PLAIN_ROWS} windows before them</summary>{more}</details>"
    if story.earlier:
        yield f"<p>{story.earlier} earlier windows are in <code>windows/</code> and not shown here.</p>"


def _summary(story: ModelStory) -> str:
    """Where the model stands, in the words of its newest window."""
    champion = "no champion yet" if story.champion is None else f"version {story.champion} is champion"
    if not story.windows:
        return f"<p>{champion}; no window has closed yet.</p>"
    newest = story.windows[-1]
    facts = {
        "champion": champion,
        "newest window": f"{newest.window}: {newest.findings.rows:,} rows, {newest.findings.labelled:,} labelled",
        "diagnosis": str(newest.diagnosis) if newest.diagnosis else "nothing can be said about it",
        "account": "; ".join(filter(None, (str(newest.account), newest.account.truth()))) if newest.account else "",
        "decision": f"{newest.decision.kind}: {newest.decision.reason}",
        "windows": f"{len(story.windows) + story.earlier}, the newest one closed {newest.closed_at:%Y-%m-%d %H:%M} (wall time)",
    }
    return f"<dl>{''.join(f'<dt>{name}</dt><dd>{escape(text)}</dd>' for name, text in facts.items() if text)}</dl>"


def _links(parts: Sequence[str] | dict[str, str], story: ModelStory) -> str:
    links = [f'<a href="#part-{number}">{escape(name)}</a>' for number, name in enumerate(parts)]
    if story.prefect_ui:
        feed = f"{escape(story.prefect_ui)}/events?resource=perennial.model.{escape(story.model)}&amp;events=perennial.*"
        links += [f'<a href="{escape(story.prefect_ui)}/runs">Prefect runs</a>', f'<a href="{feed}">its events in Prefect</a>']
    return f'<nav aria-label="On this page">{" ".join(links)}</nav>'


def _html(title: str, head: str, subtitle: str, body: str) -> str:
    said = f"<p>{escape(subtitle)}</p>" if subtitle else ""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">'
        f"<style>{STYLE}</style></head><body><header><h1>{escape(title)}</h1>{said}{head}</header>\n<main>{body}</main></body></html>\n"
    )
