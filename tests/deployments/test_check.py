"""What `perennial check` says."""

from pathlib import Path

import pytest

from deployments.check import describe_spec
from perennial.errors import FunctionError, SpecError
from tests.support.processes import ROOT


@pytest.mark.parametrize("name", ["flights", "bike_sharing"])
def test_the_examples_are_understood(name: str) -> None:
    account = describe_spec(ROOT / "examples" / f"{name}.toml")
    assert account.startswith("model ")
    assert "features" in account


def test_a_typo_is_named(spec_copy: Path) -> None:
    spec_copy.write_text(spec_copy.read_text().replace("event_time", "event_tiem"))
    with pytest.raises(SpecError, match="did you mean 'event_time'"):
        describe_spec(spec_copy)


def test_a_function_that_is_not_there_is_named(spec_copy: Path) -> None:
    spec_copy.write_text(spec_copy.read_text() + 'z = {function = "mine.py:z", of = "x"}\n')
    with pytest.raises(FunctionError, match=r"mine\.py"):
        describe_spec(spec_copy)
