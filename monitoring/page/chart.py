"""Charts as inline SVG: strips below each other on one axis of time.

Horizontal places are percentages and vertical ones are pixels, so that a strip is as wide as its page while letters and marks
keep their size; no script is needed. What a colour says a shape, a dash or a word says too.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from html import escape
from typing import Literal, NamedTuple

Shape = Literal["circle", "square", "diamond", "up", "down", "cross", "bar", "step", "none"]
Tone = Literal["plain", "accent", "warn", "good", "other"]

HEIGHT, LANE = 118, 44  # pixels of a strip, and of one kind of happening
MARGIN = 10  # pixels that stay free above and below the values
TICKS = 5  # times named below a strip; a telephone has room for every second one
LABEL_GAP = 0.065  # of a strip's width between two labels of a lane; those that come closer have their text as a title only

PATHS: dict[Shape, str] = {
    "circle": "M0-5a5 5 0 1 0 .01 0z",
    "square": "M-4.5-4.5h9v9h-9z",
    "diamond": "M0-6.5L6.5 0 0 6.5-6.5 0z",
    "up": "M0-6L6 5H-6z",
    "down": "M0 6L6-5H-6z",
    "cross": "M-5-5L5 5M-5 5L5-5",
}


class Point(NamedTuple):
    """A value at a moment, with the error around it; a bar begins at `base` and has its `label` above.

    `alarm` gets a mark of its own.
    """

    at: datetime
    value: float | None
    text: str = ""
    error: float = 0.0
    base: float = 0.0
    alarm: bool = False
    label: str = ""


class Series(NamedTuple):
    """Values of one name; a `step` keeps its value until the next one."""

    name: str
    points: tuple[Point, ...]
    shape: Shape = "none"
    tone: Tone = "plain"
    dashed: bool = False
    line: bool = True


class Strip(NamedTuple):
    """Series on one vertical axis, which begins at zero where `zero` says so."""

    title: str
    series: tuple[Series, ...]
    note: str = ""
    zero: bool = False


class Mark(NamedTuple):
    """Something that happened; `anchor` is the row of the page that says more."""

    at: datetime
    label: str
    text: str
    anchor: str


class Lane(NamedTuple):
    """Happenings of one kind."""

    name: str
    shape: Shape
    tone: Tone
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class TimeAxis:
    """The stretch of event time that all strips of a page share."""

    start: datetime
    end: datetime
    bar: timedelta = timedelta(days=1)

    def place(self, at: datetime) -> str:
        """Where a moment is, as an SVG length."""
        return f"{self.share(at):.2%}"

    def share(self, at: datetime) -> float:
        """The same as a part of the axis; what lies beyond its ends is drawn at them."""
        return min(max((at - self.start) / (self.end - self.start), 0.0), 1.0)

    def ticks(self) -> Iterator[tuple[str, str]]:
        """Where a time is named, and its name: as exact as the axis is short."""
        span = self.end - self.start
        form = "%d %b %Y" if span > timedelta(days=300) else "%d %b" if span > timedelta(days=4) else "%d %b %H:%M"
        for number in range(TICKS):
            at = self.start + span * number / (TICKS - 1)
            yield f"{number / (TICKS - 1):.2%}", at.strftime(form)


class _Scale(NamedTuple):
    low: float
    high: float

    def y(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(HEIGHT - MARGIN - share * (HEIGHT - 2 * MARGIN), 1)


def definitions() -> str:
    """The marks, once for the page."""
    paths = "".join(f'<path id="m-{shape}" d="{path}"/>' for shape, path in PATHS.items())
    return f'<svg class="defs" aria-hidden="true" width="0" height="0"><defs>{paths}</defs></svg>'


def draw_strip(strip: Strip, axis: TimeAxis) -> str:
    """One strip with its title, its legend and its times."""
    scale = _scale(strip)
    drawn = "".join(_grid(scale)) + "".join(_series(one, axis, scale) for one in strip.series)
    legend = "".join(_legend(one) for one in strip.series)
    note = f'<p class="note">{escape(strip.note)}</p>' if strip.note else ""
    head = f"<h3>{escape(strip.title)}</h3>{note}<p class=legend>{legend}</p>"
    return f'<section class="strip">{head}{_plot(drawn, HEIGHT, axis, strip.title)}</section>'


def draw_lanes(title: str, lanes: Sequence[Lane], axis: TimeAxis) -> str:
    """What happened, one lane for each kind; each mark is a link."""
    drawn = "".join(_lane(lane, number, axis) for number, lane in enumerate(lanes))
    return f'<section class="strip"><h3>{escape(title)}</h3>{_plot(drawn, LANE * len(lanes), axis, title)}</section>'


def _plot(drawn: str, height: int, axis: TimeAxis, title: str) -> str:
    times = "".join(_time(number, place, text, height + 16) for number, (place, text) in enumerate(axis.ticks()))
    label = f'role="group" aria-label="{escape(title)}"'
    return f'<div class="plot"><svg {label} width="100%" height="{height + 22}">{drawn}{times}</svg></div>'


def _time(number: int, place: str, text: str, y: int) -> str:
    kind = "time fine" if number % 2 else "time"
    return f'<text class="{kind}" x="{place}" y="{y}" text-anchor="{_anchor(place)}">{escape(text)}</text>'


def _anchor(place: str) -> str:
    return {"0.00%": "start", "100.00%": "end"}.get(place, "middle")


def _grid(scale: _Scale) -> Iterator[str]:
    for value in (scale.low, (scale.low + scale.high) / 2, scale.high):
        y = scale.y(value)
        yield f'<line class="grid" x1="0" x2="100%" y1="{y}" y2="{y}"/>'
        yield f'<text class="value" x="-6" y="{y + 4}" text-anchor="end">{_number(value)}</text>'


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _scale(strip: Strip) -> _Scale:
    points = [point for series in strip.series for point in series.points if point.value is not None]
    ends = [point.value + sign * point.error for point in points for sign in (-1, 1) if point.value is not None]
    if strip.zero or not ends:
        ends.append(0.0)
    low, high = min(ends), max(ends)
    return _Scale(low, high if high > low else low + (abs(low) or 1.0))


def _series(series: Series, axis: TimeAxis, scale: _Scale) -> str:
    style = f"s-{series.tone}{' dashed' if series.dashed else ''}"
    lines = _steps(series, axis, scale) if series.shape == "step" else _lines(series, axis, scale) if series.line else ()
    points = "".join(_point(series, point, axis, scale) for point in series.points if point.value is not None)
    return f'<g class="{style}">{"".join(lines)}{points}</g>'


def _lines(series: Series, axis: TimeAxis, scale: _Scale) -> Iterator[str]:
    if series.shape == "bar":
        return
    for one, other in zip(series.points, series.points[1:], strict=False):
        if one.value is not None and other.value is not None:
            yield _line(axis.place(one.at), scale.y(one.value), axis.place(other.at), scale.y(other.value))


def _steps(series: Series, axis: TimeAxis, scale: _Scale) -> Iterator[str]:
    """A value that holds for half a window on either side of its point."""
    for point in series.points:
        if point.value is not None:
            y = scale.y(point.value)
            yield _line(axis.place(point.at - axis.bar / 2), y, axis.place(point.at + axis.bar / 2), y)


def _line(x1: str, y1: float, x2: str, y2: float) -> str:
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>'


def _point(series: Series, point: Point, axis: TimeAxis, scale: _Scale) -> str:
    assert point.value is not None
    x, y, title = axis.place(point.at), scale.y(point.value), f"<title>{escape(point.text)}</title>" if point.text else ""
    if series.shape == "bar":
        label = _label(x, y - 3, point.label) if point.label else ""
        return f"<g>{title}{_bar(point, axis, scale)}{label}{_alarm(x, y) if point.alarm else ''}</g>"
    error = _line(x, scale.y(point.value - point.error), x, scale.y(point.value + point.error)) if point.error else ""
    mark = f'<use href="#m-{series.shape}" x="{x}" y="{y}"/>' if series.shape in PATHS else ""
    return f"<g>{title}{error}{mark}{_alarm(x, y) if point.alarm else ''}</g>" if mark or error else ""


def _bar(point: Point, axis: TimeAxis, scale: _Scale) -> str:
    assert point.value is not None
    left, right = (axis.share(point.at + side * axis.bar * 0.4) for side in (-1, 1))
    top, bottom = scale.y(point.value), scale.y(max(point.base, scale.low))
    return f'<rect x="{left:.2%}" width="{right - left:.2%}" y="{top}" height="{max(bottom - top, 0.5):.1f}"/>'


def _label(x: str, y: float, text: str) -> str:
    return f'<text class="label" x="{x}" y="{y}" text-anchor="middle">{escape(text)}</text>'


def _alarm(x: str, y: float) -> str:
    return f'<text class="alarm" x="{x}" y="{max(y - 4, 9)}" text-anchor="middle">!</text>'


def _legend(series: Series) -> str:
    style = f"s-{series.tone}{' dashed' if series.dashed else ''}"
    line = _line("0", 7, "26", 7) if series.shape != "bar" and series.line else ""
    mark = f'<use href="#m-{series.shape}" x="13" y="7"/>' if series.shape in PATHS else ""
    mark = '<rect x="8" y="2" width="10" height="10"/>' if series.shape == "bar" else mark
    icon = f'<svg class="{style}" width="26" height="14" aria-hidden="true">{line}{mark}</svg>'
    return f"<span>{icon} {escape(series.name)}</span>"


def _lane(lane: Lane, number: int, axis: TimeAxis) -> str:
    y = number * LANE + 34
    name = f'<text class="lane" x="0" y="{y - 22}">{escape(lane.name)}</text>'
    name += f'<line class="grid" x1="0" x2="100%" y1="{y}" y2="{y}"/>'
    marks, labelled = [], -1.0
    for mark in sorted(lane.marks, key=lambda mark: mark.at):
        x, room = axis.place(mark.at), axis.share(mark.at) - labelled >= LABEL_GAP
        labelled = axis.share(mark.at) if room else labelled
        text = _label(x, y - 9, mark.label) if room else ""
        said, shape = escape(mark.text), f'<use href="#m-{lane.shape}" x="{x}" y="{y}"/>'
        marks.append(f'<a href="#{mark.anchor}" aria-label="{said}"><title>{said}</title>{shape}{text}</a>')
    return f'<g class="s-{lane.tone}">{name}{"".join(marks)}</g>'
