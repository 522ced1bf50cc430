"""Keys are set in a spec's text, and nothing else of it changes."""

from pathlib import Path

import pytest

from deployments.spec_edit import set_keys, write_keys
from perennial.errors import SpecError
from perennial.spec import load_spec
from tests.support.models import write_small

KEYS = {"every": "2", "promote": '"always"'}


def test_a_table_that_is_missing_is_added_at_the_end() -> None:
    assert set_keys('name = "x"\n', "policy", KEYS) == 'name = "x"\n\n[policy]\nevery = 2\npromote = "always"\n'


BEFORE = """\
# on top
[policy]
# how often
every = 4   # a month
cost = 0.5

[window]
length = "7d" # every = 9
"""


def test_keys_are_replaced_where_they_stand_with_their_comments() -> None:
    wanted = BEFORE.replace("every = 4   #", "every = 2   #").replace("[policy]\n", '[policy]\npromote = "always"\n')
    assert set_keys(BEFORE, "policy", KEYS) == wanted


def test_a_hash_inside_a_text_is_no_comment() -> None:
    assert set_keys('[policy]\npromote = "a # b"\n', "policy", {"promote": '"always"'}) == '[policy]\npromote = "always"\n'


def without_policy(path: Path) -> Path:
    path.write_text("".join(line for line in path.read_text().splitlines(keepends=True) if not line.startswith("policy.")))
    return path


def test_a_spec_is_changed_and_still_a_spec(tmp_path: Path) -> None:
    path = without_policy(write_small(tmp_path))
    path.write_text(f"# mine\n{path.read_text()}")
    write_keys(path, {"policy": {"every": "2", "train_on": '["every"]'}, "retrain": {"data": '"trailing"'}})
    spec = load_spec(path)
    assert (spec.policy.every, spec.policy.train_on, spec.retrain.data) == (2, ("every",), "trailing")
    assert path.read_text().startswith("# mine\n")


def test_a_table_in_another_form_is_left_alone_with_a_word(tmp_path: Path) -> None:
    path = without_policy(write_small(tmp_path))
    text = path.read_text() + "policy = { every = 3 }\n"
    path.write_text(text)
    with pytest.raises(SpecError, match=r"writes \[policy\] in another form than as a table of its own: change it by hand"):
        write_keys(path, {"policy": {"every": "2"}})
    assert path.read_text() == text
