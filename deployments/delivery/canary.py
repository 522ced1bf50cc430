"""The cycle of a release: one replica runs it, is tested, gets a tenth of the requests and is watched; then the others follow.

Whatever goes wrong, a failed start, smoke test or watch, or an interruption, every replica that was changed runs the release
before again. A replica gets no requests while it is changed: the others have them all.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus

import httpx
from prometheus_client.parser import text_string_to_metric_families

from deployments.delivery import proxy, replicas
from deployments.delivery.replicas import Delivery, Replica
from deployments.delivery.smoke import smoke
from deployments.stack import supervisord
from perennial.errors import StackError
from perennial.registry import Registry

CANARY_WEIGHT, WEIGHT = 1, 9  # of the requests that canary and the others get while it is watched
READY_TIMEOUT = timedelta(seconds=180)  # for a replica to answer after it was started; it takes seconds, longer on a busy machine
TURN = 0.2  # seconds between two looks


@dataclass(frozen=True)
class Outcome:
    """What became of a release; without problems it runs on every replica."""

    release: str
    problems: tuple[str, ...]
    requests: int = 0


@dataclass(frozen=True)
class Rollout:
    """Moves replicas from release to release; `report` is called with each step."""

    registry: Registry
    headers: Mapping[str, str]
    watch: timedelta
    report: Callable[[str], None]

    def deliver(self, delivery: Delivery, release: str) -> tuple[Delivery, Outcome]:
        """Bring a release to every replica, the last one first, or to none; the delivery afterwards."""
        before, outcome, changed = delivery, Outcome(release, ()), list[str]()
        try:
            for replica in reversed(delivery.replicas):
                changed.append(replica.name)
                delivery, problems = self._change(delivery, replica.name, release)
                if not problems and len(changed) == 1:
                    outcome = self._watch_canary(delivery, replica.name, release)
                if problems or outcome.problems:
                    outcome = Outcome(release, (*problems, *outcome.problems), outcome.requests)
                    break
        except BaseException:
            self._roll_back(delivery, before, changed)
            raise
        if outcome.problems:
            return self._roll_back(delivery, before, changed), outcome
        delivery = delivery.model_copy(update={"previous": before.replicas[0].release})
        replicas.apply(delivery)
        return delivery, outcome

    def await_ready(self, replica: Replica, delivery: Delivery) -> list[str]:
        """What keeps a replica from answering; nothing once it does."""
        deadline = time.monotonic() + READY_TIMEOUT.total_seconds()
        while time.monotonic() < deadline:
            if self._get(replica, "/ready") is not None:
                return []
            if supervisord.states(delivery.socket)[replica.name].state in supervisord.DEAD_STATES:
                return [f"{replica.name} does not start: see {supervisord.log_file(delivery.directory, replica.name)}"]
            time.sleep(TURN)
        return [f"{replica.name} is not ready after {READY_TIMEOUT.total_seconds():g} s"]

    def balance(self, delivery: Delivery, weights: Mapping[str, int]) -> None:
        """Give replicas these shares of the requests, and those that are not named the usual one."""
        if delivery.proxy_port is not None:
            by_port = {one.port: weights.get(one.name, WEIGHT) for one in delivery.replicas}
            proxy.set_weights(delivery.directory, delivery.proxy_port, by_port)

    def _change(self, delivery: Delivery, name: str, release: str) -> tuple[Delivery, list[str]]:
        """One replica at another release, tested; it still gets no requests when something is wrong with it."""
        self.report(f"{name} is changed to {release}")
        self.balance(delivery, {name: 0})
        delivery = delivery.running(name, release)
        replicas.apply(delivery)
        replica = _named(delivery, name)
        problems = self.await_ready(replica, delivery) or smoke(replica.url, self.headers, self.registry)
        if not problems:
            self.report(f"{name} passes the smoke test")
            self.balance(delivery, {})
        return delivery, problems

    def _watch_canary(self, delivery: Delivery, name: str, release: str) -> Outcome:
        """Let the canary answer its part of the requests for a while; it must fail no more of them than the others do."""
        self.balance(delivery, {name: CANARY_WEIGHT})
        self.report(f"{name} is watched for {self.watch.total_seconds():g} s")
        canary, others = _named(delivery, name), [one for one in delivery.replicas if one.name != name]
        first, deadline = self._counts(canary), time.monotonic() + self.watch.total_seconds()
        stable = sum((self._counts(one) for one in others), Counts())
        while (now := self._counts(canary)).failed == first.failed and time.monotonic() < deadline:
            time.sleep(TURN)
        found, other = now - first, sum((self._counts(one) for one in others), Counts()) - stable
        if found.share <= 2 * other.share:
            return Outcome(release, (), found.requests)
        said = f"{name} failed {found.failed} of {found.requests} requests, the others {other.failed} of {other.requests}"
        return Outcome(release, (said,), found.requests)

    def _roll_back(self, delivery: Delivery, before: Delivery, changed: list[str]) -> Delivery:
        for name in changed:
            release = _named(before, name).release
            self.report(f"{name} is rolled back to {release}")
            self.balance(delivery, {name: 0})
            delivery = delivery.running(name, release)
            replicas.apply(delivery)
            if problems := self.await_ready(_named(delivery, name), delivery):
                raise StackError(f"the rollback of {name} failed, the others answer: {'; '.join(problems)}")
            self.balance(delivery, {})
        return delivery

    def _counts(self, replica: Replica) -> "Counts":
        text = self._get(replica, "/metrics") or ""
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        asked = [one for one in samples if one.name == "perennial_requests_total" and one.labels["model"]]
        failed = sum(one.value for one in asked if one.labels["code"].startswith("5") and one.labels["code"] != "503")
        return Counts(int(sum(one.value for one in asked)), int(failed))

    def _get(self, replica: Replica, path: str) -> str | None:
        try:
            response = httpx.get(f"{replica.url}{path}", headers=dict(self.headers), timeout=5)
        except httpx.HTTPError:
            return None
        return response.text if response.status_code == HTTPStatus.OK else None


@dataclass(frozen=True)
class Counts:
    """Requests about models, and those of them that failed by the service's own fault."""

    requests: int = 0
    failed: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.requests + other.requests, self.failed + other.failed)

    def __sub__(self, other: "Counts") -> "Counts":
        return Counts(self.requests - other.requests, self.failed - other.failed)

    @property
    def share(self) -> float:
        return self.failed / self.requests if self.requests else 0.0


def _named(delivery: Delivery, name: str) -> Replica:
    return next(one for one in delivery.replicas if one.name == name)
