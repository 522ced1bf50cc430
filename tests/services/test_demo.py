"""The quick demo on these roles, of which one of each is lost for good while it runs; what is counted is printed."""

import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import pytest

from deployments.prefect_client import FLEET, FlowRun, PrefectClient
from deployments.replay.waits import scrape
from monitoring.state import load_results
from tests.deployments.test_dashboards import ALERTS, QUERIES, RECORDED
from tests.services.cluster import PERENNIAL, Cluster, kill, kill_over_request, running_cluster
from tests.services.debian_services import PACKAGE_OF
from tests.services.roles import Process
from tests.support.debian import install_packages
from tests.support.processes import tail
from tests.support.waiting import wait_until

T = TypeVar("T")
TIMEOUT = 1_800.0
"""Seconds: a demo of two minutes, and what the dead cost until others take over: a training three minutes, a monitor five."""

TAKEN_OVER = re.compile(r"while reading response header from upstream.*POST /(predict|feedback)")
"""What nginx says of a request whose replica died over it; the client hears nothing of it."""

COUNTS = (
    *("requests_sent", "requests_failed", "predictions_answered", "predictions_archived", "labels_sent", "labels_joined"),
    *("windows", "retrain_runs", "promotions", "wall_s"),
)

ABSENT = ('code=~"5.."', "missing_columns", "ignored_columns", "age_limit")
"""What a query need not find after a demo: errors of the service, odd requests, an age that its spec does not limit."""

pytestmark = [
    pytest.mark.skipif("TEST_SERVICES" not in os.environ, reason="it needs PostgreSQL, Redis, nginx: make check-services"),
    pytest.mark.timeout(TIMEOUT),
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    install_packages(PACKAGE_OF)
    with running_cluster(tmp_path_factory.mktemp("services")) as found:
        yield found


class Demo:
    """The running `perennial demo --quick --on URL`."""

    def __init__(self, cluster: Cluster, process: Process) -> None:
        self._cluster, self._process = cluster, process

    def wait(self, look: Callable[[], T | None], what: str) -> T:
        """What `look` finds while the demo runs; fails with the demo's words when it has ended before."""

        def look_again() -> T | None:
            assert self._process.poll() is None, f"the demo ended before {what}:\n{self.said}"
            return look()

        return wait_until(look_again, TIMEOUT, what)

    def end(self) -> int:
        wait_until(lambda: self._process.poll() is not None, TIMEOUT, "the demo to end")
        return self._process.returncode

    @property
    def said(self) -> str:
        return tail(self._cluster.roles.log("demo"))


@pytest.fixture
def demo(cluster: Cluster) -> Iterator[Demo]:
    command, environ = [*PERENNIAL, "demo", "--quick", "--on", cluster.service_url], cluster.roles.client()
    with cluster.roles.run("worker", "demo", command, **environ) as process:
        yield Demo(cluster, process)


def test_the_quick_demo_passes_and_survives_the_loss_of_one_of_each(
    cluster: Cluster, demo: Demo, capsys: pytest.CaptureFixture[str]
) -> None:
    (first, second), home = cluster.replica_ports, cluster.roles.home / "flights"
    demo.wait(lambda: answered(first) >= 1_000, "a thousand predictions of one replica")
    kill_over_request(cluster.replicas[0], first)
    demo.wait(lambda: load_results(home), "the first window to be closed")
    kill(cluster.servers[0])
    with cluster.api() as api:
        lost = demo.wait(lambda: a_retraining(api), "a retraining to run")
        worker = cluster.worker_of(int(lost.process or 0))
        assert worker, f"no worker has started {lost}"
        kill(worker)
        killed_at = datetime.now(UTC)
        code = demo.end()
        summary = json.loads((cluster.roles.home / "summary.json").read_bytes())
        with capsys.disabled():
            sys.stdout.write(f"\n{demo.said}\n{', '.join(f'{name} {summary[name]}' for name in COUNTS)}\n")
        assert code == 0, demo.said
        assert summary["requests_failed"] == 0
        assert summary["predictions_archived"] == summary["predictions_answered"] > 10_000
        assert summary["labels_joined"] == summary["labels_sent"] > 10_000
        assert answered(second) > 10_000
        assert TAKEN_OVER.search(cluster.roles.log("nginx").read_text()), "no request was put to the other replica"
        wait_until(lambda: trained_since(api, killed_at), 300, "the other worker to train what the dead one did not")


def test_a_second_demo_is_refused(cluster: Cluster) -> None:
    """It would begin with a first version, and there is one."""
    with pytest.raises(AssertionError, match="flights has versions"):
        cluster.roles.command(*PERENNIAL, "demo", "--quick", "--on", cluster.service_url)


def test_panels_and_rules_find_their_figures_in_the_live_stack(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    """Every query of the dashboard over the time of the demo, at every scrape; what is empty counts what did not happen in it."""
    rules = [rule for group in cluster.prometheus("rules")["groups"] for rule in group["rules"]]
    assert {rule["health"] for rule in rules} == {"ok"}, rules
    assert len(rules) == len(ALERTS) + len(RECORDED)
    now = datetime.now(UTC)
    times = {"start": (now - timedelta(hours=1)).isoformat(), "end": now.isoformat(), "step": "2"}
    empty = []
    for _, expression in QUERIES:
        query = expression.replace("$model", ".*").replace("$__rate_interval", "1m")
        if not cluster.prometheus("query_range", query=query, **times)["result"]:
            empty.append(expression)
    with capsys.disabled():
        sys.stdout.write(
            f"\n{len(QUERIES) - len(empty)} of {len(QUERIES)} queries of panels have figures, {len(rules)} rules are ok\n"
        )
    assert [query for query in empty if not any(absent in query for absent in ABSENT)] == []


def answered(port: int) -> int:
    """How many predictions a replica has answered."""
    return scrape(f"http://127.0.0.1:{port}").predictions


def a_retraining(api: PrefectClient) -> FlowRun | None:
    """One that is at work."""
    return next((run for run in api.deployment_runs("retrain", FLEET) if run.state == "RUNNING" and run.process), None)


def trained_since(api: PrefectClient, moment: datetime) -> list[FlowRun]:
    """Retrainings that have ended well since."""
    runs = api.deployment_runs("retrain", FLEET)
    return [run for run in runs if run.state == "COMPLETED" and run.ended is not None and run.ended > moment]
