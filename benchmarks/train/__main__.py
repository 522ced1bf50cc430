"""`python -m benchmarks.train [--rows N] [--rounds N]`: a first training by the flow, beside one fit by hand on the same rows.

Each subject has a process of its own; rounds are interleaved. The flow talks to a Prefect server in a process apart, which is not
measured. Prints seconds, processor seconds and the highest memory of each step, and writes benchmarks/results/train.json.
"""

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.measure import machine, write_results
from benchmarks.train.table import write_table
from benchmarks.train.watch import Course, watch
from tests.support.prefect_server import prefect_server

RESULTS = Path(__file__).resolve().parent.parent / "results" / "train.json"
SUBJECTS = ("ours", "plain")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the table (default: 1,000,000)")
    parser.add_argument("--rounds", type=int, default=1, help="measured rounds (default: 1)")
    parser.add_argument("--folder", type=Path, help="where table and state are kept; a table that is there is used again")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        courses = measure(folder, given.rows, given.rounds)
    found = {"rows": given.rows, "machine": machine(), "ratios": ratios(courses), "courses": [asdict(one) for one in courses]}
    write_results(RESULTS, found)


def measure(folder: Path, rows: int, rounds: int) -> list[Course]:
    """Ours, plain, ours, plain, ...; each training is the first of its model."""
    if not (folder / f"table-{rows}").exists():
        write_table(folder / f"table-{rows}", rows)
    courses: list[Course] = []
    with tempfile.TemporaryDirectory(dir=folder) as state, prefect_server(Path(state)) as url:
        for number in range(rounds):
            own = {"PERENNIAL_HOME": f"{state}/{number}", "PREFECT_HOME": state, "PREFECT_API_URL": url, "WANDB_MODE": "offline"}
            courses += [say(watch(subject, folder / f"table-{rows}", {**os.environ, **own})) for subject in SUBJECTS]
    sys.stdout.write(f"ours against plain: {ratios(courses)}\n")
    return courses


def ratios(courses: Sequence[Course]) -> dict[str, float]:
    """Medians of ours over those of plain."""
    found = {}
    for what in ("seconds", "cpu_seconds", "peak_mb"):
        ours, plain = (statistics.median(getattr(one, what) for one in courses if one.subject == name) for name in SUBJECTS)
        found[what] = round(ours / plain, 2)
    return found


def say(course: Course) -> Course:
    """Print a subject and its steps."""
    for name, one in ((course.subject, course), *((f"  {step.name}", step) for step in course.steps)):
        figures = f"{one.seconds:9.1f} s {one.cpu_seconds:9.1f} s of a core {one.peak_mb:9,.0f} MB"
        sys.stdout.write(f"{name:<24}{figures}\n")
    sys.stdout.flush()
    return course


if __name__ == "__main__":
    main()
