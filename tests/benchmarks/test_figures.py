"""Medians, ratios round by round, the results file, and what the aims make of them."""

import json

import pytest

from benchmarks.serve.aims import OURS, judge
from benchmarks.serve.figures import BARE, TUNED, Measured, Round, bulk, document, over, ratio, single, spread
from benchmarks.serve.table import render

FACTS = {"cores": 2, "cpu": "a processor", "python": "3.11", "system": "Linux", "seconds": 5}
TITLES = {OURS: "ours", BARE: "bare", TUNED: "tuned"}
KEYS = {"rps", "p50_ms", "p99_ms", "cpu_us_per_request", "ratio_to_fastapi", "ratio_to_fastapi_tuned"}


def measured(rps: float, foreign: float = 0.0) -> Measured:
    return Measured(rps=rps, p50_ms=1.5, p99_ms=9.0, cpu_us_per_request=1e6 / rps, foreign_cores=foreign)


def made(ours: float, bare: float, tuned: float, foreign: float = 0.0) -> Round:
    """One round: the same figures at 1 and 64 connections, and at 10,000 rows a request."""
    rates = {OURS: ours, BARE: bare, TUNED: tuned}
    loads = {name: {1: measured(rate, foreign), 64: measured(rate, foreign)} for name, rate in rates.items()}
    many = {name: {10_000: measured(rate / 100)} for name, rate in {OURS: ours, TUNED: 4 * ours, BARE: bare}.items()}
    return Round(single=loads, bulk=many, idle={OURS: 0.4})


ROUNDS = [made(3_000, 1_000, 2_000), made(2_000, 1_000, 2_500), made(1_000, 250, 500)]


def test_a_ratio_is_taken_within_each_round_before_the_median():
    found = over(ROUNDS, ratio(single(OURS, 64), single(BARE, 64)))
    assert found is not None
    assert (found.low, found.middle, found.high) == (2.0, 3.0, 4.0)
    assert str(found) == "3.00 (2.00 to 4.00)"


def test_what_was_not_measured_has_no_figure():
    assert over(ROUNDS, single("mlflow", 64)) is None
    assert over(ROUNDS, ratio(single(OURS, 64), single(OURS, 16))) is None
    assert over(ROUNDS, bulk("mlflow", 10_000)) is None
    assert spread([]) is None


def test_the_results_file_has_the_form_that_others_read():
    results = json.loads(json.dumps(document(ROUNDS, FACTS)))
    assert set(results["median"]) == {OURS, BARE, TUNED}
    assert set(results["median"][OURS]) == {"1", "64"}
    assert set(results["median"][OURS]["64"]) == KEYS
    assert results["median"][OURS]["64"]["rps"] == 2_000
    assert results["median"][OURS]["64"]["ratio_to_fastapi_tuned"] == pytest.approx(1.5)
    assert len(results["rounds"]) == 3
    assert results["rounds"][2][BARE]["1"].items() >= {"rps": 250, "ratio_to_fastapi": 1.0}.items()
    assert results["bulk"][TUNED]["10000"]["rows_per_s"] == 800_000
    assert results["idle_cpu_percent"] == {OURS: 0.4}
    assert results["machine"].items() >= {"cores": 2, "contended": False}.items()


def test_a_machine_that_works_for_others_is_said_to():
    rounds = [made(3_000, 1_000, 2_000, foreign=0.9)]
    assert document(rounds, FACTS)["machine"] == {**FACTS, "foreign_cores": 0.9, "contended": True}
    assert "Contended" in render(rounds, TITLES, FACTS)
    assert "Contended" not in render(ROUNDS, TITLES, FACTS)


def test_an_aim_is_judged_by_the_median_on_its_own_side():
    met = {verdict.aim.text: verdict.met for verdict in judge(ROUNDS)}
    assert met["64 connections: requests/s over tuned FastAPI, 2 processes each"]
    assert met["1 connection: requests/s over tuned FastAPI"]
    assert met["idle: per cent of a core"]
    assert not any("LitServe" in text or "16 connections" in text or "log on" in text for text in met), "not measured"
    slower = {verdict.aim.text: verdict.met for verdict in judge([made(1_000, 1_000, 2_000)])}
    assert not slower["64 connections: requests/s over tuned FastAPI, 2 processes each"]


def test_a_verdict_goes_into_the_results_with_its_spread():
    (found,) = (verdict.record() for verdict in judge(ROUNDS) if "tuned FastAPI, 2" in verdict.aim.text)
    assert found.items() >= {"bound": ">= 1.35", "median": 1.5, "low": 0.8, "high": 2.0, "met": True}.items()


def test_the_tables_show_every_server_under_every_load():
    shown = render(ROUNDS, TITLES, FACTS)
    assert "| ours | 2,000 | 1.5 | 9.0 | 500 | 3.00 (2.00 to 4.00) | 1.50 (0.80 to 2.00) |" in shown
    assert shown.count("| tuned |") == 3
    assert "| tuned | 10,000 | 800,000 |" in shown
    assert "| met |" in shown
