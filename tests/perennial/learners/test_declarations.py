"""What a spec may say about a learner, checked when it is read."""

import subprocess
from typing import Any

import pytest

from perennial.errors import SpecError
from perennial.learners.declarations import LEARNERS
from perennial.spec import parse_spec
from tests.support.models import small_spec
from tests.support.processes import python


def spec_with(**fields: Any) -> Any:
    return parse_spec(small_spec().model_dump() | fields, "the test")


def test_the_space_is_the_learners_unless_the_spec_has_its_own() -> None:
    assert set(spec_with(learner="linear").search_space) == {"alpha"}
    assert "num_leaves" in spec_with().search_space
    own = {"alpha": {"low": 1, "high": 2}}
    assert spec_with(learner="linear", search={"space": own}).search_space["alpha"].high == 2


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"learner": "forest"}, "there is no learner 'forest'; choose from lightgbm, hist_boosting, linear"),
        ({"search": {"params": {"num_leavs": 3}}}, "no parameter 'num_leavs' that a spec may set; did you mean 'num_leaves'"),
        ({"learner": "linear", "search": {"params": {"num_leaves": 3}}}, "learner 'linear' has no parameter 'num_leaves'"),
        ({"learner": "linear", "search": {"space": {"alhpa": {"low": 1, "high": 2}}}}, "did you mean 'alpha'"),
        ({"search": {"params": {"num_iterations": 3}}}, "no parameter 'num_iterations' that a spec may set"),
    ],
)
def test_what_the_learner_does_not_know_is_an_error_of_the_spec(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        spec_with(**fields)


def test_the_parameters_of_lightgbm_are_lightgbms() -> None:
    from lightgbm.basic import _ConfigAliases

    aliases = _ConfigAliases._get_all_param_aliases()
    known = {name for group in aliases.items() for name in (group[0], *group[1])}
    assert LEARNERS["lightgbm"].parameters <= known


def test_the_table_is_read_without_numpy_or_a_learners_library() -> None:
    code = "import sys, perennial.spec; print([one for one in ('numpy', 'lightgbm', 'sklearn', 'scipy') if one in sys.modules])"
    done = subprocess.run(python("-c", code), capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
