"""`python -m benchmarks.chain [--rounds N]`: how long the loop takes from a record that closes a window to the next champion.

Brings a local stack up with two small models. Windows of one of them close, one after another, and each makes the monitor ask for
a training whose version serves at once (`refit`). Windows of the other one do so for a challenger, which a second event promotes
(`shadow`). Every moment is read where it was written down: files of the ledger, the Prefect API, the registry, and answers
of the service. Writes benchmarks/results/chain.json.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import polars as pl

from benchmarks.fleet import say
from benchmarks.fleet_stack import running, url_of
from benchmarks.measure import machine, write_results
from deployments.prefect_client import FLEET, PrefectClient
from deployments.stack.state import Stack
from monitoring.events import deterministic_id, request_event, send
from monitoring.ledger import Ledger, LedgerEntry, read_entry
from monitoring.policy import RetrainRequest
from monitoring.window import Window
from perennial.registry import CHAMPION, Registry
from tests.support import models
from tests.support.prefect_server import pointed_at
from tests.support.waiting import wait_until

RESULTS = Path(__file__).resolve().parent / "results" / "chain.json"
WEEKS = 6  # of rows that the first versions have learnt
WEEK = timedelta(weeks=1)
TIMEOUT = 300.0  # seconds for what takes a few
LOOK = 0.01  # seconds between two questions which version answers
PAUSE = 6.5  # seconds between two rounds: windows do not close faster, and a standby process is ready by then

REFIT, CHALLENGER, SHADOW = "refit", "challenger", "shadow"
PROMOTE = {REFIT: "always", SHADOW: "manual"}
"""`policy.promote` of the two models; the second one is promoted by events of the benchmark, sent as the monitor sends them."""

STEPS: Mapping[str, tuple[str, str]] = {
    "last record to decision": ("record", "decided"),
    "decision to event confirmed": ("decided", "sent"),
    "event to run created": ("sent", "created"),
    "run created to a worker": ("created", "pending"),
    "a worker to running": ("pending", "running"),
    "running to first line": ("running", "started"),
    "event to first line": ("sent", "started"),
    "first line to champion": ("started", "promoted"),
    "champion to serving": ("promoted", "serving"),
    "decision to serving": ("decided", "serving"),
}
"""What is measured, from one moment to another."""

Moments = dict[str, float]


@dataclass(frozen=True)
class Lab:
    """The stack, and where its parts write down what they did."""

    stack: Stack
    api: PrefectClient
    registry: Registry

    def home(self, name: str) -> Path:
        """The state of a model."""
        return self.stack.home / name

    def post(self, name: str, path: str, body: Mapping[str, object]) -> None:
        """Ask the service."""
        httpx.post(f"{url_of(self.stack)}/models/{name}/{path}", json=body, timeout=60).raise_for_status()

    def spec_path(self, name: str) -> str:
        """A model's spec as flows open it."""
        return str(next(model.spec for model in self.stack.models if model.name == name))

    def run_states(self, request: RetrainRequest) -> Moments:
        """When the run that a request started was created, taken by a worker, and began."""
        runs = (self.api.deployment_runs(flow, FLEET) for flow in ("retrain", "promote"))
        run = next(run for found in runs for run in found if run.event_id == request.event_id)
        states = self.api.request("GET", f"/flow_run_states/?flow_run_id={run.id}")
        first = {row["type"].lower(): datetime.fromisoformat(row["timestamp"]).timestamp() for row in reversed(states)}
        return {"created": run.created.timestamp(), "pending": first["pending"], "running": first["running"]}

    def serving(self, name: str) -> int:
        """The version that answers."""
        found: int = httpx.get(f"{url_of(self.stack)}/models/{name}/model", timeout=60).json().get("version", 0)
        return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=6, help="two trainings and a promotion in each (default: 6)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rounds = measure(Path(folder), given.rounds)
    summaries = {kind: summarize(found) for kind, found in rounds.items()}
    for kind, summary in summaries.items():
        say(f"{kind}, {len(rounds[kind])} times: median (least to most), seconds")
        for step, (low, middle, high) in summary.items():
            say(f"  {step:<28} {middle:6.2f}  ({low:.2f} to {high:.2f})")
    write_results(RESULTS, {"machine": machine(), "median": summaries, "rounds": rounds})


def measure(folder: Path, rounds: int) -> dict[str, list[Moments]]:
    specs = prepare(folder)
    found: dict[str, list[Moments]] = {REFIT: [], CHALLENGER: [], SHADOW: []}
    with (
        running(folder, specs) as (stack, settings),
        PrefectClient(stack.prefect.url, {}) as api,
        pointed_at(stack.prefect.url),
    ):
        for spec in specs:
            api.start_run(api.deployment_id(f"train/{FLEET}"), {"spec": str(spec)})
        lab = Lab(stack, api, Registry(settings.registry_url))
        wait_until(lambda: all(lab.serving(name) == 1 for name in PROMOTE), TIMEOUT, "both models to serve")
        for number in range(rounds):
            found[REFIT].append(say(refit(lab, number)))
            trained, asked = challenger(lab, number)
            found[CHALLENGER].append(say(trained))
            found[SHADOW].append(say(shadow(lab, asked, number)))
    return found


def prepare(folder: Path) -> list[Path]:
    """Two specs with a table of their own: a version is due after each window, whatever is found in it."""
    specs = folder / "specs"
    specs.mkdir()
    paths = [models.write_named(specs, name) for name in PROMOTE]
    models.small_frame(rows=24 * 7 * WEEKS, seed=1).write_parquet(specs / "rows.parquet")
    for path, promote in zip(paths, PROMOTE.values(), strict=True):
        text = path.read_text().replace('["drift", "performance", "age"]', '["every"]')
        path.write_text(f'{text}policy.every = 1\npolicy.promote = "{promote}"\n')
    return paths


def refit(lab: Lab, number: int) -> Moments:
    """The window that asks for a version which serves at once."""
    before = lab.serving(REFIT)
    closed, request = close_window(lab, REFIT, number)
    return {**closed, **follow(lab, request, before)}


def challenger(lab: Lab, number: int) -> tuple[Moments, RetrainRequest]:
    """The window that asks for a challenger, until that is published."""
    closed, asked = close_window(lab, SHADOW, number)
    trained = wait_until(lambda: ended(lab, asked), TIMEOUT, "the challenger")
    assert trained.outcome == "challenger", trained
    return {**closed, **lab.run_states(asked), "started": steps(lab.home(SHADOW), asked.event_id)["started"]}, asked


def shadow(lab: Lab, asked: RetrainRequest, number: int) -> Moments:
    """The event that promotes the challenger that was asked for."""
    before = lab.serving(SHADOW)
    time.sleep(PAUSE)
    request = asked.model_copy(update={"cause": "promotion", "event_id": deterministic_id("benchmark", number)})
    decided = time.time()
    send(request_event(request, datetime.now(UTC), lab.spec_path(SHADOW)))
    return {"decided": decided, "sent": time.time(), **follow(lab, request, before)}


def close_window(lab: Lab, name: str, number: int) -> tuple[Moments, RetrainRequest]:
    """Predictions and labels of a week, then the rows that close it; what the monitor asks for, and when it did."""
    time.sleep(PAUSE)
    start = models.START + (WEEKS + number) * WEEK
    week = models.small_frame(rows=24 * 7, seed=number, start=start)
    lab.post(name, "predict", {"instances": models.instances(week)})
    labels = [{"id": row, "label": label} for row, label in week.select("row_id", "outcome").iter_rows()]
    lab.post(name, "feedback", {"labels": labels})
    time.sleep(1)  # so that what is measured is the last record
    later = models.small_frame(rows=3, seed=number, start=start + WEEK + timedelta(days=1, hours=1))
    lab.post(name, "predict", {"instances": models.instances(later.with_columns(pl.col("row_id") + "-later"))})
    record = time.time()
    entry = wait_until(lambda: decided_about(lab, name, start), TIMEOUT, f"a decision about the week of {start:%Y-%m-%d}")
    assert entry.request is not None
    moments = steps(lab.home(name), entry.event_id)
    return {"record": record, "decided": moments["decided"], "sent": moments["sent"]}, entry.request


def decided_about(lab: Lab, name: str, start: datetime) -> LedgerEntry | None:
    """What was decided about a window, once its event is confirmed."""
    window = Window(start=start, end=start + WEEK)
    entry = Ledger(lab.home(name)).about(window)
    return entry if entry is not None and entry.count("sent") else None


def ended(lab: Lab, request: RetrainRequest) -> LedgerEntry | None:
    """The decision, once it has its outcome."""
    entry = read_entry(lab.home(request.model), request.event_id)
    return entry if entry is not None and entry.outcome else None


def follow(lab: Lab, request: RetrainRequest, before: int) -> Moments:
    """When each step came that an event leads to, until another version answers."""
    while lab.serving(request.model) == before:
        time.sleep(LOOK)
    serving = time.time()
    wait_until(lambda: ended(lab, request), TIMEOUT, "the outcome")
    move = lab.registry.last_move(request.model, CHAMPION)
    assert move is not None
    started = steps(lab.home(request.model), request.event_id)["started"]
    return {**lab.run_states(request), "started": started, "promoted": move.at.timestamp(), "serving": serving}


def steps(home: Path, event_id: str) -> Moments:
    """When each step of a decision was written, by its file: what a step says of itself was read from the clock before."""
    entry, files = read_entry(home, event_id), sorted((home / "decisions" / event_id).glob("*.json"))
    assert entry is not None
    return {step.stage: file.stat().st_mtime for step, file in zip(entry.steps, files, strict=False)}


def summarize(rounds: Sequence[Moments]) -> dict[str, tuple[float, float, float]]:
    """Least, median and most seconds of each step that the rounds have."""
    known = {name: ends for name, ends in STEPS.items() if set(ends) <= set(rounds[0])}
    found = {name: [one[end] - one[begin] for one in rounds] for name, (begin, end) in known.items()}
    return {name: (min(took), statistics.median(took), max(took)) for name, took in found.items()}


if __name__ == "__main__":
    main()
