"""What a stack is planned to consist of."""

import socket
from datetime import UTC, datetime
from pathlib import Path

import pytest

from deployments.stack import plan
from deployments.stack.ports import PortReservations
from deployments.stack.state import Stack, load_stack, save_stack
from perennial.errors import NewerFormat, StackError
from perennial.settings import Settings, load_settings
from perennial.spec import load_spec
from tests.deployments.conftest import FLIGHTS
from tests.support.processes import free_port

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def planned(settings: Settings, before: Stack | None = None) -> Stack:
    with PortReservations() as ports:
        stack = plan.without_services(before, settings, ports, Path.cwd(), NOW)
        return plan.with_service(stack, load_spec(FLIGHTS), FLIGHTS, settings, ports)


def test_a_store_and_api_from_the_environment_are_not_embedded(tmp_path: Path) -> None:
    environ = {"REDIS_URL": "redis://there:6379/2", "PREFECT_API_URL": "https://there/api", "PERENNIAL_HOME": str(tmp_path)}
    stack = planned(load_settings(environ))
    assert (stack.store.url, stack.store.port) == ("redis://there:6379/2", None)
    assert (stack.prefect.url, stack.prefect.port) == ("https://there/api", None)


def test_ports_are_different_and_remembered(tmp_path: Path) -> None:
    stack = planned(Settings(home=tmp_path))
    save_stack(stack)
    again = planned(Settings(home=tmp_path), load_stack(tmp_path))
    assert len({stack.store.port, stack.prefect.port, stack.services[0].port}) == 3
    assert again == stack


def test_a_port_of_last_time_that_is_taken_is_replaced(tmp_path: Path) -> None:
    stack = planned(Settings(home=tmp_path))
    assert stack.store.port is not None
    with socket.create_server(("127.0.0.1", stack.store.port)):
        assert planned(Settings(home=tmp_path), stack).store.port != stack.store.port


def test_a_taken_port_that_was_asked_for_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        with pytest.raises(StackError, match=f"port {port} .* PERENNIAL_PORT"):
            planned(load_settings({"PERENNIAL_HOME": str(tmp_path), "PERENNIAL_PORT": port}))


def with_other(stack: Stack, spec: Path, settings: Settings) -> Stack:
    with PortReservations() as ports:
        return plan.with_service(stack, load_spec(spec), spec, settings, ports)


def services(stack: Stack) -> dict[str, int]:
    return {service.model: service.port for service in stack.services}


def test_a_second_model_gets_the_next_port_when_the_first_has_the_one_asked_for(tmp_path: Path, spec_copy: Path) -> None:
    settings = Settings(home=tmp_path, port=free_port())
    both = with_other(planned(settings), spec_copy, settings)
    assert services(both)["flights"] == settings.port
    assert services(both)["other"] > settings.port
    assert with_other(both, spec_copy, settings) == both, "and the same command again changes nothing"
    assert with_other(both, FLIGHTS, settings) == both


def test_both_models_keep_their_ports_over_a_restart_in_whichever_order_they_come(tmp_path: Path, spec_copy: Path) -> None:
    settings = Settings(home=tmp_path, port=free_port())
    both = with_other(planned(settings), spec_copy, settings)
    with PortReservations() as ports:
        down = plan.without_services(both, settings, ports, Path.cwd(), NOW)
    again = with_other(with_other(down, spec_copy, settings), FLIGHTS, settings)
    assert services(again) == services(both)
    assert services(with_other(down, spec_copy, Settings(home=tmp_path))) == {"other": services(both)["other"]}


def test_another_port_can_be_asked_for_after_a_restart(tmp_path: Path) -> None:
    stack = planned(Settings(home=tmp_path))
    asked = Settings(home=tmp_path, port=free_port())
    assert services(planned(asked, stack)) == {"flights": asked.port}


def test_the_port_of_the_store_is_not_given_to_a_service(tmp_path: Path) -> None:
    stack = planned(Settings(home=tmp_path))
    asked = Settings(home=tmp_path, port=stack.store.port)
    assert services(planned(asked, stack))["flights"] not in (stack.store.port, stack.prefect.port)


def test_the_same_spec_twice_is_one_service(tmp_path: Path, ports: PortReservations) -> None:
    stack = planned(Settings(home=tmp_path))
    assert plan.with_service(stack, load_spec(FLIGHTS), FLIGHTS, Settings(home=tmp_path), ports) == stack


def test_another_model_gets_a_service_and_a_port_of_its_own(tmp_path: Path, spec_copy: Path, ports: PortReservations) -> None:
    one = planned(Settings(home=tmp_path))
    both = plan.with_service(one, load_spec(spec_copy), spec_copy, Settings(home=tmp_path), ports)
    assert [service.model for service in both.services] == ["flights", "other"]
    assert both.services[0].port != both.services[1].port


def test_one_model_is_not_served_from_two_specs(tmp_path: Path, ports: PortReservations) -> None:
    stack = planned(Settings(home=tmp_path))
    other = tmp_path / "flights.toml"
    with pytest.raises(
        StackError, match=r"the stack serves model flights from .*examples/flights.toml: run `perennial down` first"
    ):
        plan.with_service(stack, load_spec(FLIGHTS), other, Settings(home=tmp_path), ports)


def test_a_running_service_does_not_change_its_port(tmp_path: Path, ports: PortReservations) -> None:
    stack = planned(Settings(home=tmp_path))
    other = Settings(home=tmp_path, port=free_port())
    with pytest.raises(StackError, match="flights is served on port"):
        plan.with_service(stack, load_spec(FLIGHTS), FLIGHTS, other, ports)


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
