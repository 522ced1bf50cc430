"""prefect.yaml and what is written from it for other models."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments import deploy
from deployments.deploy import POOL
from perennial.errors import StackError
from perennial.spec import ModelSpec, load_spec
from tests.deployments.conftest import FLIGHTS
from tests.support.processes import ROOT


@pytest.fixture
def other(spec_copy: Path) -> ModelSpec:
    return load_spec(spec_copy)


def read(text: str) -> dict[str, dict[str, Any]]:
    """The deployments of a file by the flow they start."""
    return {one["entrypoint"]: one for one in yaml.safe_load(text)["deployments"]}


def test_the_committed_file_is_what_the_flights_example_needs() -> None:
    committed = read(deploy.template())
    assert committed == read(deploy.render(load_spec(FLIGHTS), "examples/flights.toml"))
    assert {name.split(".")[1] for name in committed} == {path.stem for path in (ROOT / "flows").glob("[!_]*.py")}


def test_every_entrypoint_is_a_flow_of_that_name() -> None:
    from prefect.flows import Flow, load_flow_from_entrypoint

    flows: dict[str, Flow[..., Any]] = {name: load_flow_from_entrypoint(name) for name in read(deploy.template())}
    assert [flow.name for flow in flows.values()] == [name.split(".")[2].replace("_", "-") for name in flows]


def test_every_parameter_is_one_of_its_flow() -> None:
    from prefect.flows import load_flow_from_entrypoint

    for entrypoint, deployment in read(deploy.template()).items():
        flow = load_flow_from_entrypoint(entrypoint)
        for trigger in deployment.get("triggers", ()):
            assert set(trigger["parameters"]) <= set(flow.parameters.properties)
        assert set(deployment["parameters"]) <= set(flow.parameters.properties)


def test_another_spec_changes_name_path_and_resource_everywhere(other: ModelSpec) -> None:
    rendered = deploy.render(other, "specs/other.toml")
    assert "flights" not in "".join(line for line in rendered.splitlines() if not line.startswith("#"))
    for deployment in read(rendered).values():
        assert deployment["name"] == "other"
        assert deployment["parameters"]["spec"] == "specs/other.toml"
        assert deployment["tags"] == ["perennial", "other"]
        assert deployment["work_pool"]["name"] == POOL
    (trigger,) = read(rendered)["flows.retrain.retrain"]["triggers"]
    assert trigger["match"] == {"prefect.resource.id": "perennial.model.other"}
    assert trigger["parameters"]["spec"] == "specs/other.toml"


@pytest.mark.parametrize("path", ["with space/o.toml", "it's/o.toml", 'a"b/o.toml', "#1/o: toml", "ü/\\n.toml", r"\1/o.toml"])
def test_any_path_survives_the_writing(other: ModelSpec, path: str) -> None:
    for deployment in read(deploy.render(other, path)).values():
        assert deployment["parameters"]["spec"] == path


def test_the_triggers_listen_to_the_events_that_the_monitor_sends() -> None:
    """Each event starts the flow that the decision says it starts."""
    from monitoring import events
    from monitoring.policy import Decision

    started = {}
    for flow in ("retrain", "promote"):
        deployment = read(deploy.template())[f"flows.{flow}.{flow}"]
        (trigger,) = deployment["triggers"]
        assert trigger["match"]["prefect.resource.id"] == events.resource_id("flights")
        assert deployment["concurrency_limit"] == {"limit": 1, "collision_strategy": "ENQUEUE"}
        started |= dict.fromkeys(trigger["expect"], flow)
    flows = {name: Decision(kind=cause, reason="").flow for cause, name in events.EVENT_NAMES.items()}
    assert started == {name: flow for name, flow in flows.items() if flow is not None}


def test_the_monitor_outlasts_its_interval() -> None:
    monitor = read(deploy.template())["flows.monitor.monitor"]
    (schedule,) = monitor["schedules"]
    assert monitor["parameters"]["minutes"] * 60 > schedule["interval"]
    assert monitor["concurrency_limit"] == {"limit": 2, "collision_strategy": "CANCEL_NEW"}


def test_a_failed_monitor_of_this_model_alone_is_started_again(other: ModelSpec) -> None:
    monitor = read(deploy.render(other, "specs/other.toml"))["flows.monitor.monitor"]
    (trigger,) = monitor["triggers"]
    assert trigger["name"] == "perennial.monitor-restart.other"
    assert set(trigger["expect"]) == {"prefect.flow-run.Crashed", "prefect.flow-run.Failed"}
    assert trigger["match_related"] == [
        {"prefect.resource.role": "flow", "prefect.resource.name": "monitor"},
        {"prefect.resource.role": "deployment", "prefect.resource.name": "other"},
    ]
    assert trigger["within"] == 60
    assert trigger["parameters"] == monitor["parameters"]


def test_a_file_that_prefect_refuses_is_one_clear_error(tmp_path: Path, prefect_api: str) -> None:
    file = tmp_path / "prefect.yaml"
    file.write_text("deployments:\n  - name: x\n    entrypoint: no.such.flow\n")
    own = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PREFECT_HOME": str(tmp_path), "PREFECT_API_URL": prefect_api}
    with pytest.raises(StackError, match=r"`prefect --no-prompt deploy --all .*` failed:\n"):
        deploy.apply(file, tmp_path, own)
