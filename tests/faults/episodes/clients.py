"""Live traffic: clients that ask and tell all the time, and remember what they were told.

Two threads ask, one tells the labels of what was answered. A week is swept in a few seconds of requests whose event times are an
hour apart; then rows of the week that has just passed follow slowly, until the next one begins. A client whose request fails asks
the same again until it is answered, as real ones do.
"""

import threading
import time
from collections import deque
from contextlib import ExitStack
from datetime import datetime, timedelta
from random import Random
from typing import Any

import httpx
import orjson

from tests.faults.episodes.accounting import Answer, Failure

HOUR = timedelta(hours=1)
WEEK = timedelta(weeks=1)
LATE = timedelta(hours=27)
"""How far past its week a sweep goes: the lateness, and the rows that must lie beyond it."""

ASKERS = 2
SWEEP, IDLE, RETRY = 0.02, 0.2, 0.1
"""Seconds between two requests of an asker in a sweep, after it, and before a request that failed is sent again."""

TIMEOUT = 30.0
MOST_LABELS = 500
SHOPS = ("north", "east", "south")

Row = dict[str, Any]


class Clients(ExitStack):
    """What was answered and accepted is read while they run: `answered` by id, `accepted` ids, `failures`."""

    def __init__(self, url: str, seed: int, opening: datetime) -> None:
        super().__init__()
        self.answered: dict[str, Answer] = {}
        self.accepted: set[str] = set()
        self.failures: list[Failure] = []
        self._url, self._chance, self._opening = url, Random(seed), opening
        self._lock, self._over = threading.Lock(), threading.Event()
        self._clock = self._sweep_end = opening
        self._count = 0
        self._untold: deque[tuple[str, int]] = deque()
        self._threads = [threading.Thread(target=self._ask, name=f"asker-{number}") for number in range(ASKERS)]
        self._threads.append(threading.Thread(target=self._tell, name="teller"))

    def __enter__(self) -> "Clients":
        for thread in self._threads:
            thread.start()
        self.callback(self._end)
        return self

    def sweep(self, start: datetime) -> None:
        """Ask the week that starts then, from where the sweep before has ended."""
        with self._lock:
            self._sweep_end = start + WEEK + LATE

    @property
    def sweeping(self) -> bool:
        """Whether rows of the week are still to be asked."""
        return self._clock < self._sweep_end

    def _end(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        with httpx.Client(base_url=self._url, timeout=TIMEOUT, trust_env=False) as http:
            while not self._over.is_set():
                if not (rows := self._next_rows()):
                    self._over.wait(IDLE)
                    continue
                self._ask_until_answered(http, rows)
                self._over.wait(SWEEP if self.sweeping else IDLE)

    def _ask_until_answered(self, http: httpx.Client, rows: list[tuple[Row, int]]) -> None:
        again, body = False, {"instances": [row for row, _ in rows]}
        while not self._over.is_set():
            if (reply := self._post(http, "/predict", body)) is not None:
                for (row, label), told in zip(rows, reply["predictions"], strict=True):
                    self.answered[row["id"]] = Answer(reply["version"], told["score"], again)
                    self._untold.append((row["id"], label))
                return
            again = True
            self._over.wait(RETRY)

    def _tell(self) -> None:
        with httpx.Client(base_url=self._url, timeout=TIMEOUT, trust_env=False) as http:
            while not self._over.wait(IDLE):
                labels = [self._untold.popleft() for _ in range(min(len(self._untold), MOST_LABELS))]
                body = {"labels": [{"id": one, "label": label} for one, label in labels]}
                if labels and self._post(http, "/feedback", body) is None:
                    self._untold.extendleft(reversed(labels))
                    continue
                self.accepted.update(one for one, _ in labels)

    def _post(self, http: httpx.Client, path: str, body: Row) -> Any:
        since = time.monotonic()
        try:
            reply = http.post(path, content=orjson.dumps(body), headers={"content-type": "application/json"})
            if reply.is_success:
                return orjson.loads(reply.content)
            reason = f"{reply.status_code} {reply.text[:200]}"
        except httpx.HTTPError as error:
            reason = f"{type(error).__name__}: {error}"
        self.failures.append(Failure(since, time.monotonic(), path, reason))
        return None

    def _next_rows(self) -> list[tuple[Row, int]]:
        """One to three rows with their labels: the sweep's next hours, or late rows of the week that it has ended."""
        with self._lock:
            if self._sweep_end == self._opening:
                return []
            found = []
            for _ in range(self._chance.randint(1, 3)):
                if self.sweeping:
                    found.append(self._row(self._clock))
                    self._clock += HOUR
                else:
                    found.append(self._row(self._sweep_end - LATE - HOUR * self._chance.uniform(0.1, 20)))
            return found

    def _row(self, at: datetime) -> tuple[Row, int]:
        """A row of the world; what is true in it turns a little every week, so that each has something new to learn."""
        self._count += 1
        turn = ((at - self._opening) // WEEK % 5 - 2) * 0.2
        amount, shop = self._chance.gauss(turn, 1), self._chance.randrange(len(SHOPS))
        row = {"id": f"live-{self._count}", "event_time": at.isoformat(), "amount": round(amount, 6), "shop": SHOPS[shop]}
        return row, int(amount + (shop - 1.0) + self._chance.gauss(0, 0.5) > turn)
