"""What a person says of a target, and what its values say."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from perennial.errors import DataError
from tasks.proposal.propose import Wishes, propose
from tasks.proposal.questions import refuse
from tests.tasks.proposal.tables import NOW, hourly, noisy, proposed


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        ({"target": "kind", "positive": "low"}, "'low' is no value of 'kind', which has '(big|small)', '(big|small)'"),
        ({"target": "shop", "positive": "north"}, "two values, but 'shop' is multiclass: shop has 3 different texts"),
        ({"target": "amount", "positive": "3"}, "two values, but 'amount' is regression"),
        ({"target": "shop", "task": "binary", "positive": "north"}, "a binary target has two values, but 'shop' has "),
        ({"target": "kind", "positive": "big", "time_format": "%Y"}, "'%Y' is said of no column: .*--time"),
    ],
)
def test_what_a_person_says_and_the_table_does_not_bear_is_refused(tmp_path: Path, wishes: Any, message: str) -> None:
    table = hourly(800)
    table.with_columns(kind=(noisy(table) > 10).replace_strict({True: "big", False: "small"})).write_csv(tmp_path / "t.csv")
    with pytest.raises(DataError, match=message):
        propose(Wishes("t.csv", **wishes), tmp_path, {}, refuse, NOW)


def test_classes_in_two_spellings_are_told(tmp_path: Path) -> None:
    table = hourly(900)
    spelt = pl.when(pl.int_range(pl.len()) % 2 == 0).then(pl.col("shop").str.to_uppercase()).otherwise(pl.col("shop") + " ")
    table.with_columns(kind=spelt).write_csv(tmp_path / "t.csv")
    (task,) = (key for key in proposed("t.csv", tmp_path, target="kind").sections[0].keys if key.name == "task")
    assert "'EAST' and 'east ' are probably one in two spellings: correct the source" in task.why
