"""prefect.yaml and what is written from it for other models."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments import deploy
from deployments.deploy import POOL, TAG
from deployments.prefect_client import FLEET
from perennial.errors import StackError
from perennial.spec import load_spec
from tests.support.models import write_small
from tests.support.processes import ROOT


def read(text: str) -> dict[str, dict[str, Any]]:
    """The deployments of a file by the flow they start."""
    return {one["entrypoint"]: one for one in yaml.safe_load(text)["deployments"]}


def test_the_committed_file_is_what_the_flights_example_needs() -> None:
    committed = read(deploy.template())
    assert committed == read(deploy.render(["examples/flights.toml"]))
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
        assert set(deployment.get("parameters", ())) <= set(flow.parameters.properties)


def test_other_specs_change_what_the_monitor_follows_and_nothing_else() -> None:
    committed, rendered = read(deploy.template()), read(deploy.render(["specs", "more/o.toml"]))
    monitor = rendered.pop("flows.monitor.monitor")
    assert {
        **committed.pop("flows.monitor.monitor"),
        "parameters": monitor["parameters"],
        "triggers": monitor["triggers"],
    } == monitor
    assert monitor["parameters"]["specs"] == monitor["triggers"][0]["parameters"]["specs"] == ["specs", "more/o.toml"]
    assert rendered == committed
    assert {one["name"] for one in rendered.values()} == {FLEET}
    assert all((one["tags"], one["work_pool"]["name"]) == ([TAG], POOL) for one in rendered.values())


@pytest.mark.parametrize("path", ["with space/o.toml", "it's/o.toml", 'a"b/o.toml', "#1/o: toml", "ü/\\n.toml", r"\1/o.toml"])
def test_any_path_survives_the_writing(path: str) -> None:
    assert read(deploy.render([path]))["flows.monitor.monitor"]["parameters"]["specs"] == [path]


def test_a_spec_with_a_schedule_is_trained_by_the_clock(tmp_path: Path) -> None:
    asked = {"daily": "1d", "mondays": "0 4 * * 1", "never": ""}
    specs = {}
    for name, schedule in asked.items():
        policy = f'policy.schedule = "{schedule}"\n' if schedule else ""
        path = write_small(tmp_path)
        path.write_text(path.read_text().replace('name = "small"', f'name = "{name}"') + policy)
        specs[f"specs/{name}.toml"] = load_spec(path)
    rendered = read(deploy.render(["specs"], schedules=deploy.schedules_of(specs)))
    assert rendered["flows.retrain.retrain"]["schedules"] == [
        {
            "interval": 86_400,
            "anchor_date": "1970-01-05T00:00:00+00:00",
            "timezone": "UTC",
            "slug": "daily",
            "parameters": {"spec": "specs/daily.toml", "scheduled": True},
        },
        {
            "cron": "0 4 * * 1",
            "timezone": "UTC",
            "slug": "mondays",
            "parameters": {"spec": "specs/mondays.toml", "scheduled": True},
        },
    ]
    assert read(deploy.render(["specs"]))["flows.retrain.retrain"]["schedules"] == []


def test_a_file_is_written_once(tmp_path: Path) -> None:
    assert [deploy.write(specs, tmp_path / "d" / "prefect.yaml") for specs in (["a"], ["a"], ["b"])] == [True, False, True]


def test_the_triggers_listen_to_the_events_that_the_monitor_sends() -> None:
    """Each event starts the flow that the decision says it starts."""
    from monitoring import events
    from monitoring.policy import Decision

    started = {}
    for flow in ("retrain", "promote"):
        deployment = read(deploy.template())[f"flows.{flow}.{flow}"]
        (trigger,) = deployment["triggers"]
        assert trigger["match"]["prefect.resource.id"] == events.resource_id("*")
        assert trigger["for_each"] == ["prefect.resource.id"]
        assert events.SPEC_LABEL in trigger["parameters"]["spec"]["template"]
        assert deployment["concurrency_limit"] == {"limit": 1, "collision_strategy": "ENQUEUE"}
        started |= dict.fromkeys(trigger["expect"], flow)
    flows = {name: Decision(kind=cause, reason="").flow for cause, name in events.EVENT_NAMES.items()}
    assert started == {name: flow for name, flow in flows.items() if flow is not None}


def test_the_monitor_outlasts_its_interval() -> None:
    monitor = read(deploy.template())["flows.monitor.monitor"]
    (schedule,) = monitor["schedules"]
    lasts, interval, limit = monitor["parameters"]["minutes"] * 60, schedule["interval"], monitor["concurrency_limit"]
    assert limit["collision_strategy"] == "CANCEL_NEW"
    kills = range(interval, 2 * interval)
    assert [kill for kill in kills if is_followed(kill, lasts, interval, limit["limit"])] == list(kills)
    missed, overlap = [kill for kill in kills if not is_followed(kill, lasts, interval, 2)], lasts - interval
    near = [kill for kill in kills if kill - kills.start < overlap or kills.stop - kill < overlap]
    assert missed == near, "the third run is for these"


def is_followed(killed: int, lasts: float, interval: int, limit: int) -> bool:
    """Whether a monitor runs at each second of six intervals, where the elder one is killed and started again at one of them."""
    ends: list[float] = []
    for now in range(6 * interval):
        ends = [end for end in ends if end > now]
        if now == killed:
            ends = [*sorted(ends)[1:], now + lasts]
        if now % interval == 0 and len(ends) < limit:
            ends.append(now + lasts)
        if not ends:
            return False
    return True


def test_a_monitor_that_was_killed_or_has_failed_is_started_again_and_no_other_flow() -> None:
    monitor = read(deploy.render(["specs"]))["flows.monitor.monitor"]
    brakes = {tuple(trigger["expect"]): trigger["within"] for trigger in monitor["triggers"]}
    assert brakes == {("prefect.flow-run.Crashed",): 5, ("prefect.flow-run.Failed",): 60}
    for trigger in monitor["triggers"]:
        assert trigger["match_related"] == [
            {"prefect.resource.role": "flow", "prefect.resource.name": "monitor"},
            {"prefect.resource.role": "deployment", "prefect.resource.name": FLEET},
        ]
        assert trigger["parameters"] == monitor["parameters"]


def test_a_file_that_prefect_refuses_is_one_clear_error(tmp_path: Path, prefect_api: str) -> None:
    file = tmp_path / "prefect.yaml"
    file.write_text("deployments:\n  - name: x\n    entrypoint: no.such.flow\n")
    own = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PREFECT_HOME": str(tmp_path), "PREFECT_API_URL": prefect_api}
    with pytest.raises(StackError, match=r"`prefect --no-prompt deploy --all .*` failed:\n"):
        deploy.apply(file, tmp_path, own)
