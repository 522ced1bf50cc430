"""The tables: Markdown for people and the README. Pure."""

from collections.abc import Iterator, Mapping, Sequence

from benchmarks.serve.aims import judge
from benchmarks.serve.figures import BARE, TUNED, Pick, Round, bulk, contention, over, ratio, rows_per_s, single

RULES = "|---|" + "--:|" * 6


def render(rounds: Sequence[Round], titles: Mapping[str, str], machine: Mapping[str, object]) -> str:
    """All tables of a run; `titles` by server."""
    parts = [_machine_line(rounds, machine)]
    parts += [_singles(rounds, titles, load) for load in sorted(_loads(rounds), reverse=True)]
    parts += [_bulks(rounds, titles)] if rounds[0].bulk else []
    parts += ["\n".join(["| aim | bound | found | |", "|---|--:|--:|---|", *(verdict.line() for verdict in judge(rounds))])]
    return "\n\n".join(parts) + "\n"


def _machine_line(rounds: Sequence[Round], machine: Mapping[str, object]) -> str:
    found = contention(rounds)
    where = f"{machine['cores']} cores ({machine['cpu']}), Python {machine['python']}, {machine['system']}"
    shape = f"Interleaved rounds: {len(rounds)}, each load {machine['seconds']} s; medians, ratios with their spread"
    warning = f" **Contended: others took {found['foreign_cores']} cores meanwhile.**" if found["contended"] else ""
    return f"{where}. {shape}.{warning}"


def _loads(rounds: Sequence[Round]) -> set[int]:
    return {load for found in rounds[0].single.values() for load in found}


def _singles(rounds: Sequence[Round], titles: Mapping[str, str], load: int) -> str:
    title = f"{load} connection{'s' if load > 1 else ''}, one row"
    head = f"| {title} | requests/s | p50 ms | p99 ms | CPU us/request | x bare FastAPI | x tuned, 2 processes |"
    return "\n".join([head, RULES, *_single_lines(rounds, titles, load)])


def _single_lines(rounds: Sequence[Round], titles: Mapping[str, str], load: int) -> Iterator[str]:
    for name in rounds[0].single:
        rps, cpu = single(name, load), single(name, load, "cpu_us_per_request")
        times = [_shown(rounds, single(name, load, what), 1) for what in ("p50_ms", "p99_ms")]
        ratios = [_spread(rounds, ratio(rps, single(other, load))) for other in (BARE, TUNED)]
        yield _line(titles[name], _shown(rounds, rps), *times, _shown(rounds, cpu), *ratios)


def _bulks(rounds: Sequence[Round], titles: Mapping[str, str]) -> str:
    lines = ["| many rows a request, 4 connections | rows | rows/s | p50 ms | p99 ms | CPU us/row | x bare FastAPI |", RULES]
    for name, sizes in rounds[0].bulk.items():
        for rows in sizes:
            times = [_shown(rounds, bulk(name, rows, what), 1) for what in ("p50_ms", "p99_ms")]
            cpu = over(rounds, bulk(name, rows, "cpu_us_per_request"))
            per_row = f"{cpu.middle / rows:.1f}" if cpu else ""
            against = _spread(rounds, ratio(bulk(name, rows), bulk(BARE, rows)))
            lines.append(
                _line(titles.get(name, name), f"{rows:,}", _shown(rounds, rows_per_s(name, rows)), *times, per_row, against)
            )
    return "\n".join(lines)


def _line(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def _shown(rounds: Sequence[Round], pick: Pick, digits: int = 0) -> str:
    found = over(rounds, pick)
    return f"{found.middle:,.{digits}f}" if found else ""


def _spread(rounds: Sequence[Round], pick: Pick) -> str:
    return str(over(rounds, pick) or "")
