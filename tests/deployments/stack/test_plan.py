"""What a stack is planned to consist of."""

import json
import socket
from datetime import UTC, datetime
from pathlib import Path

import pytest

from deployments.stack import plan
from deployments.stack.ports import PortReservations
from deployments.stack.state import HostedModel, Stack, load_stack, save_stack
from perennial.errors import NewerFormat, StackError
from perennial.settings import Settings, load_settings
from perennial.spec import load_spec
from tests.deployments.conftest import FLIGHTS
from tests.support.processes import free_port

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def model(path: Path = FLIGHTS) -> HostedModel:
    return HostedModel(name=load_spec(path).name, spec=path.absolute())


def planned(settings: Settings, before: Stack | None = None) -> Stack:
    with PortReservations() as ports:
        stack = plan.without_models(before, settings, ports, Path.cwd(), NOW)
        return plan.with_models(stack, [model()], settings, ports)


def port(stack: Stack) -> int:
    assert stack.service is not None
    return stack.service.port


def test_a_store_and_api_from_the_environment_are_not_embedded(tmp_path: Path) -> None:
    environ = {"REDIS_URL": "redis://there:6379/2", "PREFECT_API_URL": "https://there/api", "PERENNIAL_HOME": str(tmp_path)}
    stack = planned(load_settings(environ))
    assert (stack.store.url, stack.store.port) == ("redis://there:6379/2", None)
    assert (stack.prefect.url, stack.prefect.port) == ("https://there/api", None)


def test_a_password_of_the_environment_is_in_no_file_and_is_taken_from_there_each_time(tmp_path: Path) -> None:
    environ = {"REDIS_URL": "redis://me:hunter2@there:6379/2", "PREFECT_API_URL": "https://me:hunter2@there/api"}
    settings = load_settings({**environ, "PERENNIAL_HOME": str(tmp_path)})
    stack = planned(settings)
    save_stack(stack)
    assert "hunter2" not in (stack.state_dir / "stack.json").read_text()
    stored = load_stack(tmp_path)
    assert stored is not None
    assert stored.with_passwords(settings) == stack
    assert stored.with_passwords(Settings()).store.url == "redis://***@there:6379/2"
    plan.refuse_other_addresses(stored.with_passwords(settings), settings)
    other = load_settings({**environ, "REDIS_URL": "redis://me:hunter2@elsewhere:6379/2", "PERENNIAL_HOME": str(tmp_path)})
    with pytest.raises(StackError, match="what REDIS_URL points at"):
        plan.refuse_other_addresses(stored.with_passwords(other), other)


def test_ports_are_different_and_remembered(tmp_path: Path) -> None:
    stack = planned(Settings(home=tmp_path))
    save_stack(stack)
    again = planned(Settings(home=tmp_path), load_stack(tmp_path))
    assert len({stack.store.port, stack.prefect.port, port(stack)}) == 3
    assert again == stack


def test_a_port_of_last_time_that_is_taken_is_replaced(tmp_path: Path) -> None:
    stack = planned(Settings(home=tmp_path))
    assert stack.store.port is not None
    with socket.create_server(("127.0.0.1", stack.store.port)):
        assert planned(Settings(home=tmp_path), stack).store.port != stack.store.port


def test_a_taken_port_that_was_asked_for_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = str(server.getsockname()[1])
        with pytest.raises(StackError, match=f"port {taken} .* PERENNIAL_PORT"):
            planned(load_settings({"PERENNIAL_HOME": str(tmp_path), "PERENNIAL_PORT": taken}))


def with_other(stack: Stack, spec: Path, settings: Settings) -> Stack:
    with PortReservations() as ports:
        return plan.with_models(stack, [model(spec)], settings, ports)


def test_a_second_model_is_one_more_of_the_same_service(tmp_path: Path, spec_copy: Path) -> None:
    settings = Settings(home=tmp_path, port=free_port())
    one = planned(settings)
    both = with_other(one, spec_copy, settings)
    assert [model.name for model in both.models] == ["flights", "other"]
    assert both.service == one.service
    assert port(both) == settings.port
    assert with_other(both, spec_copy, settings) == both, "and the same command again changes nothing"
    assert with_other(both, FLIGHTS, settings) == both
    assert (one.url_of("flights"), one.url_of("other")) == (f"http://127.0.0.1:{settings.port}", None)
    assert both.url_of("flights") == f"http://127.0.0.1:{settings.port}/models/flights"


def test_the_last_model_takes_the_service_with_it(tmp_path: Path, spec_copy: Path) -> None:
    settings = Settings(home=tmp_path)
    both = with_other(planned(settings), spec_copy, settings)
    one = plan.without_model(both, "flights")
    assert ([model.name for model in one.models], one.service) == (["other"], both.service)
    assert plan.without_model(one, "other").service is None


def test_the_service_keeps_its_port_over_a_restart_with_whichever_model(tmp_path: Path, spec_copy: Path) -> None:
    settings = Settings(home=tmp_path, port=free_port())
    before = planned(settings)
    with PortReservations() as ports:
        down = plan.without_models(before, settings, ports, Path.cwd(), NOW)
    assert port(with_other(down, spec_copy, Settings(home=tmp_path))) == settings.port


def test_another_port_can_be_asked_for_after_a_restart(tmp_path: Path) -> None:
    stack = planned(Settings(home=tmp_path))
    asked = Settings(home=tmp_path, port=free_port())
    assert port(planned(asked, stack)) == asked.port


def test_the_port_of_the_store_is_not_given_to_a_service(tmp_path: Path) -> None:
    stack = planned(Settings(home=tmp_path))
    asked = Settings(home=tmp_path, port=stack.store.port)
    assert port(planned(asked, stack)) not in (stack.store.port, stack.prefect.port)


def test_one_model_is_not_served_from_two_specs(tmp_path: Path, ports: PortReservations) -> None:
    stack = planned(Settings(home=tmp_path))
    other = HostedModel(name="flights", spec=tmp_path / "flights.toml")
    with pytest.raises(StackError, match=r"serves model flights from .*examples/flights.toml: run `perennial remove flights`"):
        plan.with_models(stack, [other], Settings(home=tmp_path), ports)


def test_a_running_service_does_not_change_its_port(tmp_path: Path, ports: PortReservations) -> None:
    stack = planned(Settings(home=tmp_path))
    other = Settings(home=tmp_path, port=free_port())
    with pytest.raises(StackError, match=f"listens on port {port(stack)}, not {other.port}"):
        plan.with_models(stack, [model()], other, ports)


def test_the_port_of_a_release_with_a_service_for_each_model_is_kept(tmp_path: Path) -> None:
    stack = planned(Settings(home=tmp_path))
    save_stack(stack)
    file = tmp_path / "stack" / "stack.json"
    old = {name: value for name, value in json.loads(file.read_text()).items() if name not in ("service", "models")}
    old["services"] = [{"model": "flights", "spec": "/f.toml", "host": "127.0.0.1", "port": 8123}]
    old["ports"] = {"store": 6380, "service-flights": 8123}
    file.write_text(json.dumps(old))
    kept = load_stack(tmp_path)
    assert kept is not None
    assert (kept.ports, kept.models) == ({"store": 6380, "service": 8123}, ())


def test_a_running_stack_does_not_change_its_store(tmp_path: Path) -> None:
    with pytest.raises(StackError, match=r"REDIS_URL.*perennial down"):
        plan.refuse_other_addresses(planned(Settings(home=tmp_path)), Settings(redis_url="redis://there:6379/0"))


def test_a_damaged_state_file_says_what_to_do(tmp_path: Path) -> None:
    save_stack(planned(Settings(home=tmp_path)))
    file = tmp_path / "stack" / "stack.json"
    file.write_text("{")
    with pytest.raises(StackError, match=r"stack.json cannot be read: run `perennial down`, delete it"):
        load_stack(tmp_path)
    file.write_text('{"format": 2}')
    with pytest.raises(NewerFormat, match=r"stack.json was written by a newer release"):
        load_stack(tmp_path)
