"""`make faults ARGS="--episodes 50 --seed 7"`: randomized faults on a living stack, counted from its parts.

Ends with a table and `var/faults/summary.json`; exit code 1 unless every count is zero. The stack lives in `var/faults/home`, a
small disk of its own where that can be mounted, and its logs stay in `var/faults/logs` when something went wrong.
"""

from tests.support.isolation import isolate

isolate()  # before anything below is imported: tools read the environment at import

import argparse  # noqa: E402
import json  # noqa: E402
import secrets  # noqa: E402
import shutil  # noqa: E402
import signal  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from collections import Counter  # noqa: E402
from collections.abc import Sequence  # noqa: E402
from dataclasses import asdict  # noqa: E402
from pathlib import Path  # noqa: E402

from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from tests.faults.conftest import LEASE, OPENING, TIMEOUT  # noqa: E402
from tests.faults.episodes.accounting import Tally  # noqa: E402
from tests.faults.episodes.clients import Clients  # noqa: E402
from tests.faults.episodes.plan import Episode, plan  # noqa: E402
from tests.faults.episodes.room import own_disk  # noqa: E402
from tests.faults.episodes.runner import Ended, Runner, wait_for_service  # noqa: E402
from tests.faults.episodes.stopped import StoppedStack  # noqa: E402
from tests.support.isolation import leftovers, private_home  # noqa: E402
from tests.support.models import small_frame, write_small  # noqa: E402
from tests.support.stack import stage  # noqa: E402
from tests.support.waiting import wait_until  # noqa: E402

WORKERS = 2
ROWS = 24 * 35  # an hour apart, until the opening
EVERY_WINDOW = 'policy.train_on = ["every"]\npolicy.every = 1\npolicy.promote = "always"\n'
"""Each closed window is a cause, each cause a training, each training a verdict: an episode is a week."""

console = Console(soft_wrap=True)


def main() -> int:
    """Run the episodes; the exit code."""
    given = _arguments()
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell's background job, and a container's end, too
        signal.signal(number, signal.default_int_handler)
    folder = Path("var/faults").absolute()
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "home").mkdir(parents=True)
    left_out = _left_out(folder / "home")
    episodes = plan(given.episodes, given.seed, left_out)
    if given.only:
        episodes = [one for one in episodes if one.number in given.only]
    console.print(f"{len(episodes)} episodes of seed {given.seed}; again: make faults ARGS={_again(given)!r}")
    ended, began = list[Ended](), time.monotonic()
    try:
        live(folder, episodes, given.seed, ended)
    except KeyboardInterrupt:
        console.print("interrupted: the stack is down, and what was counted until then follows")
    finally:
        left = _left_behind()
    tally = sum((one.wrong for one in ended), Tally())
    summary = _summary(ended, given.seed, tally)
    (folder / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    console.print(_table(ended))
    console.print(f"{tally}; {len(ended)} episodes in {(time.monotonic() - began) / 60:.1f} minutes; {folder}/summary.json")
    bad = [one for one in ended if not one.clean]
    if bad or left or len(ended) < len(episodes):
        console.print(f"{len(bad)} episodes went wrong, {len(left)} processes were left; logs in {folder}/logs")
        return 1
    return 0


def live(folder: Path, episodes: Sequence[Episode], seed: int, ended: list[Ended]) -> None:
    """One stack for all episodes; `ended` grows by each."""
    home, spec = folder / "home" / "var", _spec(folder / "home")
    environ = {"PERENNIAL_TIMEOUT": TIMEOUT, "PERENNIAL_TRAINING_LEASE": LEASE, "PERENNIAL_WORKERS": str(WORKERS)}
    with stage(spec, home, **environ) as loop:
        try:
            loop.train(until=OPENING)
            wait_for_service(loop, WORKERS)
            stopped = StoppedStack(home, spec, {"PERENNIAL_HOME": str(home), **environ})
            with Clients(loop.loop.service_url, seed, OPENING) as clients:
                runner = Runner(loop, clients, stopped, WORKERS)
                for episode in episodes:
                    ended.append(runner.run(episode))
                    _say(ended[-1], len(episodes), loop.champion)
        finally:
            if not all(one.clean for one in ended) or len(ended) < len(episodes):
                shutil.copytree(home / "stack" / "logs", folder / "logs", dirs_exist_ok=True)
                for name in ("decisions", "windows", "monitor"):
                    if (home / "small" / name).exists():
                        shutil.copytree(home / "small" / name, folder / name, dirs_exist_ok=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--episodes", type=int, default=50, help="how many (default: 50)")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10_000), help="of faults and moments (default: any)")
    parser.add_argument("--only", type=int, nargs="+", help="numbers of episodes: a failure is repeated without the others")
    return parser.parse_args()


def _left_out(home: Path) -> list[str]:
    if (reason := own_disk(home)) is None:
        return []
    console.print(f"left out: disk full ({reason})")
    return ["disk full"]


def _spec(folder: Path) -> Path:
    spec = write_small(folder, frame=small_frame(rows=ROWS, seed=1))
    text = spec.read_text()
    head, _, _ = text.partition("policy.train_on")
    spec.write_text(head + EVERY_WINDOW)
    return spec


def _again(given: argparse.Namespace) -> str:
    return f"--episodes {given.episodes} --seed {given.seed}"


def _say(one: Ended, count: int, champion: int | None) -> None:
    well = "ok" if len(one.done) == len(one.episode.faults) else "ok, without a training to harm: the week rolled back"
    said = well if one.clean else f"WRONG: {one.wrong}; " + "; ".join(one.notes)
    console.print(f"[{one.episode.number}/{count}] {one.seconds:5.1f} s  {one.episode}  version {champion}  {said}", markup=False)


def _table(ended: Sequence[Ended]) -> Table:
    table = Table("fault", "episodes", "wrong", "median s", box=None, pad_edge=False)
    kinds = sorted({fault.kind for one in ended for fault in one.episode.faults})
    for kind in kinds:
        among = [one for one in ended if kind in {fault.kind for fault in one.episode.faults}]
        seconds = sorted(one.seconds for one in among)
        table.add_row(kind, str(len(among)), str(sum(not one.clean for one in among)), f"{seconds[len(seconds) // 2]:.0f}")
    return table


def _summary(ended: Sequence[Ended], seed: int, tally: Tally) -> dict[str, object]:
    faults = Counter(fault.kind for one in ended for fault in one.episode.faults)
    failed = [{"episode": one.episode.number, "faults": str(one.episode), "notes": one.notes} for one in ended if not one.clean]
    return {"episodes": len(ended), "faults": dict(sorted(faults.items())), **asdict(tally), "seed": seed, "went_wrong": failed}


def _left_behind() -> list[int]:
    shutil.rmtree(private_home(), ignore_errors=True)
    try:
        wait_until(lambda: not leftovers(), 15, "the stack's processes to end")
    except AssertionError:
        left = [process.pid for process in leftovers()]
        for process in leftovers():
            process.kill()
        return left
    return []


if __name__ == "__main__":
    sys.exit(main())
