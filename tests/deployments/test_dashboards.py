"""Rules, panels and runbooks: the metrics and labels that they name are those of a running service; each alert has its page."""

import json
import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from monitoring.ledger import start, write_decision
from monitoring.loop_figures import LoopRecorder
from perennial.spec import parse_spec
from tests.monitoring.requests import request_for
from tests.service.serving import Serving, registry_of, rows, serving
from tests.support import models
from tests.support.lived import live
from tests.support.processes import ROOT
from tests.support.waiting import wait_until

DIRECTORY = ROOT / "deployments" / "monitoring"
RULES = yaml.safe_load((DIRECTORY / "rules.yml").read_text())
DASHBOARD = json.loads((DIRECTORY / "grafana" / "perennial.json").read_text())
ALERTS = [rule for group in RULES["groups"] for rule in group["rules"] if "alert" in rule]
RECORDED = {rule["record"]: rule["expr"] for group in RULES["groups"] for rule in group["rules"] if "record" in rule}
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [(panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]]

METRIC = re.compile(r"\b(perennial_\w+)(?:\{([^}]*)\})?")
RUNBOOKS = ROOT / "docs" / "runbooks"
PROMETHEUS_OWN = {"instance", "job"}  # labels that the scraper adds

Labels = dict[str, set[str]]


def with_one_column_more(home: Path) -> None:
    """Promote a version that has a column more and a column less than those before."""
    raw = models.small_spec().model_dump(mode="json", exclude_unset=True)
    spec = parse_spec({**raw, "features": {"amount": "numeric", "z": "numeric"}}, "a later spec")
    frame = models.small_frame().with_columns(z=pl.col("amount") * 2)
    models.publish_small(registry_of(home), models.train_small(frame, spec=spec))


def record_loop(home: Path) -> None:
    """The figures as the monitor writes them while a retraining is under way."""
    now = datetime.now(UTC)
    request, raw = request_for("small"), models.small_spec().model_dump(mode="json", exclude_unset=True)
    spec = parse_spec({**raw, "signals": {"max_age": "90d"}}, "a spec with an age")
    write_decision(home / "small", request, now)
    start(home / "small", request.event_id, now)
    LoopRecorder(spec, home / "small").turn_ended(now, unconfirmed=False)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, store_url: str) -> Iterator[Serving]:
    home = tmp_path_factory.mktemp("dashboards")
    live(home)
    record_loop(home)
    with serving(home, store_url) as running:
        wait_until(lambda: running.versions() == [3], 30, "version 3 to answer")
        running.predict([*rows(2), {"amount": None, "shop": "mars"}])
        running.client.post("/feedback", json={"labels": [{"id": "row-0", "label": 1}]})
        with_one_column_more(home)
        wait_until(lambda: running.versions() == [4], 30, "version 4 to answer")
        running.predict([{"amount": 1.0, "shop": "north"}])
        yield running


@pytest.fixture(scope="module")
def scraped(service: Serving) -> Labels:
    """The labels of each sample that the service shows, by its name."""
    found: Labels = defaultdict(set)
    for family in text_string_to_metric_families(service.client.get("/metrics").text):
        for sample in family.samples:
            found[sample.name] |= sample.labels.keys()
    return found


def unknown(expression: str, scraped: Labels) -> list[str]:
    """What an expression names and the service does not show."""
    for name, definition in RECORDED.items():
        expression = expression.replace(name, f"({definition})")
    wrong, known = [], set(PROMETHEUS_OWN)
    for name, matchers in METRIC.findall(expression):
        known |= scraped.get(name, set())
        if name not in scraped:
            wrong.append(name)
        wrong += [f"{name}{{{label}}}" for label in re.findall(r"(\w+)\s*=", matchers) if label not in scraped.get(name, set())]
    grouped = [label.strip() for inside in re.findall(r"\bby \(([^)]*)\)", expression) for label in inside.split(",")]
    return wrong + [f"by ({label})" for label in grouped if label not in known]


@pytest.mark.parametrize("rule", [*ALERTS, *RULES["groups"][0]["rules"]], ids=lambda rule: rule.get("alert") or rule["record"])
def test_a_rule_names_what_the_service_shows(rule: dict[str, Any], scraped: Labels) -> None:
    assert unknown(rule["expr"], scraped) == []


@pytest.mark.parametrize(("title", "expression"), QUERIES, ids=[title for title, _ in QUERIES])
def test_a_panel_names_what_the_service_shows(title: str, expression: str, scraped: Labels) -> None:
    assert unknown(expression, scraped) == []
    assert METRIC.search(expression), f"{title} shows nothing of ours"


def test_a_metric_or_label_that_is_not_there_is_found(scraped: Labels) -> None:
    assert unknown("rate(perennial_nothing_total[5m])", scraped) == ["perennial_nothing_total"]
    assert unknown('sum by (route, shop) (perennial_requests_total{colour="red"})', scraped) == [
        "perennial_requests_total{colour}",
        "by (shop)",
    ]


def test_legends_use_labels_that_their_query_keeps() -> None:
    shown = [(t["expr"], label) for p in PANELS for t in p["targets"] for label in re.findall(r"{{(\w+)}}", t["legendFormat"])]
    lost = [(expr, label) for expr, label in shown if not any(label in one for one in re.findall(r"\bby \(([^)]*)\)", expr))]
    assert lost == []


def test_the_loop_shows_what_the_monitor_has_counted(service: Serving) -> None:
    shown = {
        "perennial_loop_windows_total": 3,
        "perennial_loop_requests_total": 2,
        "perennial_loop_champion_version": 3,
        "perennial_loop_avoidable_loss": 0.02,
        "perennial_loop_promotion_cost": 0.2,
        "perennial_loop_window_rows": 168,
        "perennial_loop_window_labelled": 167,
        "perennial_loop_failing": 0,
    }
    assert {name: service.metric(name, model="small") for name in shown} == shown
    assert service.metric("perennial_loop_outcomes", outcome="declined") == 1


def test_every_alert_has_a_page_that_says_what_to_do() -> None:
    pages = {rule["alert"]: RUNBOOKS / rule["annotations"]["runbook_url"].rpartition("/")[2] for rule in ALERTS}
    for alert, page in pages.items():
        text = page.read_text()
        assert f"`{alert}`" in text
        assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["What it means", "How to look", "What to do"]
    assert set(pages.values()) == set(RUNBOOKS.glob("*.md"))


def test_commands_of_the_pages_exist() -> None:
    from deployments.cli import app

    named = {word for page in RUNBOOKS.glob("*.md") for word in re.findall(r"`perennial ([a-z]+)[ `]", page.read_text())}
    assert named
    assert named <= {name for name in app if not name.startswith("-")}


def test_metrics_of_the_pages_exist(scraped: Labels) -> None:
    text = "".join(page.read_text() for page in RUNBOOKS.glob("*.md"))
    assert unknown(" ".join(re.findall(r"`([^`]*perennial_[^`]*)`", text)), scraped) == []


def test_every_alert_is_tried_on_made_series() -> None:
    tests = yaml.safe_load((DIRECTORY / "rules_test.yml").read_text())["tests"]
    tried = [(one["alertname"], bool(one["exp_alerts"])) for test in tests for one in test["alert_rule_test"]]
    assert {(rule["alert"], fires) for rule in ALERTS for fires in (True, False)} == set(tried)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool here: apt install prometheus")
@pytest.mark.parametrize("command", [("check", "rules", "rules.yml"), ("test", "rules", "rules_test.yml")], ids=" ".join)
def test_promtool_has_nothing_against_the_rules(command: tuple[str, ...]) -> None:
    done = subprocess.run(["promtool", *command], cwd=DIRECTORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_panels_do_not_lie_upon_each_other() -> None:
    cells = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
