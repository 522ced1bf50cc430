"""Workflows do what a laptop does: chores of the Makefile; the steps that are not are actions, pinned by hash."""

import re
from typing import Any

import pytest

from tests.clusters.check import WORKFLOWS
from tests.clusters.files import FLOWS
from tests.support.processes import ROOT

CHORES = set(re.findall(r"^([a-z0-9-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
STEPS = [(f"{flow}/{name}", step) for flow, text in FLOWS.items() for name, job in text["jobs"].items() for step in job["steps"]]


RAN = [(where.partition("/")[0], step["run"]) for where, step in STEPS if "run" in step]
"""Each workflow with a command of it."""


def test_every_step_of_ours_is_a_chore() -> None:
    assert RAN
    assert [one for one in RAN if one[1].removeprefix("make ") not in CHORES or not one[1].startswith("make ")] == []


def test_the_chores_of_a_change_of_a_night_and_of_a_release_are_run() -> None:
    ran = {flow: {command.removeprefix("make ") for own, command in RAN if own == flow} for flow in FLOWS}
    assert ran["ci"] >= {"lint", "test", "docs-site", "check-deploy", "image"}
    assert ran["security"] == {"security"}
    assert ran["nightly"] == {"bench", "faults"}
    assert ran["release"] == {"push-image", "release-service", "release-flows"}


def test_actions_are_pinned_by_hash_one_for_each() -> None:
    used = re.findall(r"uses: (\S+)@(\S+)", "".join(path.read_text() for path in WORKFLOWS))
    assert [one for one in used if not re.fullmatch(r"[0-9a-f]{40}", one[1])] == []
    assert len({name for name, _ in used}) == len(set(used))


@pytest.mark.parametrize("text", FLOWS.values(), ids=list(FLOWS))
def test_a_workflow_may_read_and_a_job_more_only_where_it_says_so(text: dict[str, Any]) -> None:
    assert text["permissions"] == {"contents": "read"}
    assert all(job["timeout-minutes"] for job in text["jobs"].values())
