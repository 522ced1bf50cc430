"""Pages by hand: written without a stack, for the model that is asked for."""

from pathlib import Path

import pytest

from deployments.pages import write_pages
from perennial.errors import StackError
from perennial.settings import PAGE, Settings
from tests.support.models import write_small


def test_a_page_is_written_while_nothing_runs(tmp_path: Path) -> None:
    settings, spec = Settings(home=tmp_path / "var"), write_small(tmp_path)
    file = settings.model_home("small") / PAGE
    assert write_pages(spec, settings) == {"small": (file, None)}
    assert "no window has closed yet" in file.read_text()


def test_without_a_stack_a_spec_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="perennial ui SPEC"):
        write_pages(None, Settings(home=tmp_path))
