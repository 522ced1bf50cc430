"""The programs of a stack and the environment they share."""

import os
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

from deployments.stack import plan, programs, supervisord
from deployments.stack.ports import PortReservations
from deployments.stack.state import Stack
from perennial.errors import StackError
from perennial.settings import Settings, load_settings
from tests.deployments.stack.test_plan import planned


@pytest.fixture
def embedded(tmp_path: Path) -> Stack:
    return planned(Settings(home=tmp_path))


def test_the_worker_stops_first_and_the_store_last(embedded: Stack) -> None:
    in_order = sorted(programs.stack_programs(embedded), key=lambda program: program.order)
    assert [program.name for program in in_order] == ["store", "prefect", "service", "worker"]


def test_an_external_store_or_api_is_not_started(tmp_path: Path) -> None:
    foreign = planned(Settings(home=tmp_path, redis_url="redis://there:6379/0", prefect_api_url="https://there/api"))
    assert [program.name for program in programs.stack_programs(foreign)] == ["service", "worker"]
    environment = programs.environment(foreign, {"PREFECT_API_KEY": "k"})
    assert environment["PREFECT_API_URL"] == "https://there/api"
    assert environment["PREFECT_API_KEY"] == "k"
    assert "PREFECT_HOME" not in environment


def test_every_program_gets_the_addresses_of_the_components(embedded: Stack) -> None:
    environment = programs.environment(embedded, {"PATH": "/bin"})
    assert environment["REDIS_URL"] == embedded.store.url
    assert environment["PREFECT_API_URL"] == embedded.prefect.url
    assert environment["PERENNIAL_HOME"] == str(embedded.home)
    assert environment["PATH"] == os.pathsep.join([str(Path(sys.executable).parent), "/bin"])
    assert load_settings(environment).home == embedded.home


def test_the_challengers_share_reaches_the_service_and_is_kept_until_another_is_asked_for(embedded: Stack) -> None:
    def share(stack: Stack) -> str | None:
        (service,) = (program for program in programs.stack_programs(stack) if program.name == "service")
        return service.environment.get("PERENNIAL_CHALLENGER_SHARE")

    assert share(embedded) is None, "the settings say"
    shared = plan.with_challenger_share(embedded, 12.5)
    assert (share(shared), share(plan.with_challenger_share(shared, None))) == ("12.5", "12.5")
    assert share(plan.with_challenger_share(shared, 0)) == "0"


def test_with_triage_every_program_reports_to_bugsink_but_bugsink_itself(embedded: Stack) -> None:
    settings = Settings(home=embedded.home)
    with PortReservations() as ports:
        stack = plan.with_options(embedded, plan.StackOptions(triage=True), False, settings, ports)
        assert plan.with_options(stack, plan.StackOptions(triage=True), True, settings, ports) == stack, (
            "a second up asks for no more"
        )
    directory = programs.triage_home(stack.home)
    directory.mkdir(parents=True)
    (directory / "dsn").write_text("http://key@127.0.0.1:8055/1")
    assert programs.environment(stack, {})["SENTRY_DSN"] == "http://key@127.0.0.1:8055/1"
    first, *_ = programs.stack_programs(stack)
    (own,) = (program for program in programs.stack_programs(stack) if program.name == "triage")
    assert own.environment["SENTRY_DSN"] == ""
    assert f"127.0.0.1:{stack.triage_port}" in own.command
    assert own.order < first.order, "it starts before what reports to it, and ends last"


def test_triage_is_refused_where_the_programs_would_not_report_to_it(embedded: Stack) -> None:
    asked, elsewhere = plan.StackOptions(triage=True), Settings(home=embedded.home, sentry_dsn=SecretStr("https://key@there/1"))
    with PortReservations() as ports, pytest.raises(StackError, match="run `perennial down` first"):
        plan.with_options(embedded, asked, True, Settings(home=embedded.home), ports)
    with PortReservations() as ports, pytest.raises(StackError, match="SENTRY_DSN is set"):
        plan.with_options(embedded, asked, False, elsewhere, ports)


def test_telemetry_is_off(embedded: Stack) -> None:
    environment = programs.environment(embedded, {})
    assert (environment["PREFECT_SERVER_ANALYTICS_ENABLED"], environment["DO_NOT_TRACK"]) == ("false", "1")


def test_no_secret_is_written_to_a_file(tmp_path: Path) -> None:
    secret = Settings(home=tmp_path, wandb_api_key="hush", sentry_dsn="hush")  # type: ignore[arg-type]
    stack = planned(secret)
    supervisord.write_config(tmp_path, stack.socket, programs.stack_programs(stack))
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and "hush" in file.read_text()]
