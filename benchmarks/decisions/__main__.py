"""`python -m benchmarks.decisions`: prints a table per set and writes decisions.json, later.json and findings.json.

The sets are those of `sets.py`, and any spec that `--spec` names. A set's results are written when it is done, beside those of
sets that were measured before; its trained models are kept, so that what was stopped goes on from there.
"""

import argparse
import json
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.decisions.gates import gate_values
from benchmarks.decisions.sets import ROOT, SETS, Set, matrix_of
from perennial.errors import PerennialError
from perennial.learners.declarations import PASSIVE_OPENMP
from tasks.backtest.policies import Priced
from tasks.backtest.study import COSTS, PolicyResult, Study

RESULTS = ROOT / "benchmarks" / "results"
DATA = ROOT.parent / "shared" / "data"

SHOWN = (
    "trainings",
    "promotions",
    "possible",
    "gain_share",
    "percentile",
    "calendars_beaten",
    "regret_mean",
    "promotion_rate_after_promotion",
)


def main() -> int:
    """Measure the chosen sets; one whose data is not here is named and left out."""
    given = _arguments()
    os.environ.setdefault(*PASSIVE_OPENMP)
    os.environ.setdefault("BIKE_SHARING_CSV", str(given.data / "bike_sharing_hour.csv"))
    os.environ.setdefault("ELECTRICITY_CSV", str(given.data / "electricity.csv"))
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(message)s")
    logging.getLogger("tasks.backtest").setLevel(logging.INFO)
    sets = [*SETS, *(Set(spec.stem, spec.absolute()) for spec in given.spec)]
    failed = 0
    for one in (one for one in sets if not given.sets or one.name in given.sets):
        try:
            _measure(one, null=not given.no_null)
        except (PerennialError, OSError) as error:
            failed += 1
            sys.stderr.write(f"{one.name} is left out: {error}\n")
    sys.stdout.write(f"written to {RESULTS}; {failed} sets left out\n")
    return 1 if failed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", nargs="*", default=[], help=f"of {', '.join(one.name for one in SETS)} (default: all)")
    parser.add_argument("--spec", nargs="*", type=Path, default=[], help="further sets, by their specs")
    parser.add_argument("--data", type=Path, default=DATA, help="directory of bike_sharing_hour.csv and electricity.csv")
    parser.add_argument("--no-null", action="store_true", help="leave out the shuffled tables")
    return parser.parse_args()


def _measure(one: Set, *, null: bool) -> None:
    began = time.monotonic()
    job, matrix = matrix_of(one, shuffled=False)
    study = Study(matrix, job.spec)
    results = {result.name: result for result in study.results()}
    found: dict[str, Any] = {
        "policies": {name: record(result) for name, result in results.items()},
        "gate": gate_values(matrix),
    }
    sys.stdout.write(f"{one.name}: {len(matrix.judged)} windows, {time.monotonic() - began:.0f} s\n")
    for name, result in results.items():
        sys.stdout.write(f"  {name:<34} {line(result)}\n")
    _keep("decisions", one.name, found)
    _keep("later", one.name, later(study))
    _keep("findings", one.name, {name: rate.model_dump() for name, rate in study.finding_rates().items()})
    if null:
        found["null"] = second_half(Study(matrix_of(one, shuffled=True)[1], job.spec))
        sys.stdout.write(f"  shuffled: {found['null']['perennial']}\n")
        _keep("decisions", one.name, found)


def record(result: PolicyResult) -> dict[str, Any]:
    """A policy's figures as the results file has them."""
    values = {**result.model_dump(), "regret_mean": result.regret}
    return {name: values[name] for name in SHOWN}


def later(study: Study) -> dict[str, dict[str, float | None]]:
    """By policy: what a life of its own is worth on the windows on which nothing was fitted."""
    fresh = study.later()
    return {name: _worth(fresh, policy) for name, policy in fresh.policies().items()}


def _worth(study: Study, policy: Priced) -> dict[str, float | None]:
    life = policy(study.spec.policy.cost)
    return {
        "trainings": life.trainings,
        "promotions": len(life.promotions),
        "possible": len(study.matrix.boundaries),
        "gain_share": study.gain_share(study.losses(life), slice(None)),
        "regret_mean": study.regret({cost: policy(cost) for cost in COSTS}),
    }


def second_half(study: Study) -> dict[str, dict[str, int]]:
    """By policy: promotions in the later half of a life at the spec's cost, where nothing but the number of rows changes."""
    boundaries = study.matrix.boundaries
    middle = boundaries[len(boundaries) // 2]
    lives = {name: policy(study.spec.policy.cost) for name, policy in study.policies().items()}
    later = {name: sum(boundary >= middle for boundary in life.promotions) for name, life in lives.items()}
    possible = sum(boundary >= middle for boundary in boundaries)
    return {name: {"promotions_second_half": count, "possible": possible} for name, count in later.items()}


def line(result: PolicyResult) -> str:
    """A policy's figures for people."""
    shares = (result.gain_share, result.percentile, result.calendars_beaten, result.regret)
    texts = " ".join(f"{'-' if share is None else f'{share:.2f}':>7}" for share in shares)
    return f"{result.trainings:>4} trained {result.promotions:>4} promoted {texts}"


def _keep(file: str, name: str, found: dict[str, Any]) -> None:
    """Put a set's figures into a results file, beside those of other sets."""
    path = RESULTS / f"{file}.json"
    path.parent.mkdir(exist_ok=True)
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**known, name: found}, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
