"""A join says how many rows found a partner, and is refused where keys or names do not fit."""

from pathlib import Path

import polars as pl
import pytest

from perennial.errors import DataError
from tests.cases.inputs import copy_case, edit_spec, read_rows, write_rows
from tests.cases.test_kinds import checked, read

LONG = "9223372036854775807"
CASE = "join-matches-nothing"
SHOPS = "shop,size\nnorth,10\neast,20\nsouth,30\nwest,40\n"


def with_shops(tmp_path: Path, shops: str, join: str = "") -> Path:
    spec = copy_case(CASE, tmp_path)
    (spec.parent / "shops.csv").write_text(shops)
    return edit_spec(spec, joins=f'joins = [{{ source = "shops", on = ["shop"]{join} }}]')


def test_a_join_that_matches_nothing_shows_the_keys_of_both_sides(tmp_path: Path) -> None:
    with pytest.raises(DataError) as refused:
        read(copy_case(CASE, tmp_path))
    message = str(refused.value)
    assert "only 0.0% of 400 rows have a partner in 'shops' (shop), fewer than checks.min_join_match = 1.0%" in message
    assert "'rows' has 'east', 'north', 'west', 'shops' has 'north ', 'east ', 'south '" in message


def test_the_share_that_matched_is_part_of_what_the_checks_found(tmp_path: Path) -> None:
    rows, checks = checked(with_shops(tmp_path, SHOPS.replace("west", "west ")))
    assert [str(one) for one in checks.joins] == [
        f"{rows['size'].count() / 400:.1%} of 400 rows have a partner in 'shops' (shop)"
    ]
    assert 0.5 < rows["size"].count() / 400 < 1


def test_a_join_that_may_match_nothing_is_allowed_by_the_spec(tmp_path: Path) -> None:
    table = read(edit_spec(copy_case(CASE, tmp_path), key="checks.min_join_match = 0.0"))
    assert table.frame["size"].null_count() == 400


@pytest.mark.parametrize("how", ["left", "inner"])
def test_repeated_keys_are_refused_until_the_spec_allows_them(tmp_path: Path, how: str) -> None:
    with pytest.raises(DataError, match=f"several rows for one shop, such as 'east': .* write `how = \"{how}_many\"`"):
        read(with_shops(tmp_path, f"{SHOPS}east,99\n", f', how = "{how}"'))
    table = read(with_shops(tmp_path / "again", f"{SHOPS}east,99\n", f', how = "{how}_many"')).frame
    assert table.height == 400 + table.filter(pl.col("size") == 99).height > 400


def test_a_column_of_both_sides_is_refused_with_both_ways_out(tmp_path: Path) -> None:
    shops = SHOPS.replace("shop,size", "shop,x").replace("\n", ",7\n").replace("shop,x,7", "shop,x,size")
    with pytest.raises(DataError) as refused:
        read(with_shops(tmp_path, shops))
    assert 'have x: write `suffix = "_shops"` in the join to keep both, or `columns = ["size"]`' in str(refused.value)
    kept = read(with_shops(tmp_path / "suffix", shops, ', suffix = "_shops"')).frame
    assert kept.columns[-2:] == ["x_shops", "size"]
    assert kept.schema["x"] == pl.Float64
    left_out = read(with_shops(tmp_path / "columns", shops, ', columns = ["size"]')).frame
    assert left_out["size"].unique().to_list() == [7]


def test_columns_that_the_right_side_lacks_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="it has no column rent; it has shop, size"):
        read(with_shops(tmp_path, SHOPS, ', columns = ["rent"]'))


def with_keys(tmp_path: Path, left: list[str], shops: str) -> Path:
    spec = with_shops(tmp_path, shops)
    write_rows(spec, read_rows(spec).with_columns(shop=pl.Series([left[row % len(left)] for row in range(400)])))
    return spec


@pytest.mark.parametrize(
    ("left", "shops", "sizes"),
    [
        (["1", "2"], "shop,size\n1,10\nA2,20\n", [10, None]),
        (["1.0", "2.0"], "shop,size\n1,10\n2,20\n", [10, 20]),
        (["007", "7"], "shop,size\n007,10\n7,20\n", [10, 20]),
        (
            ["92233720368547758070", "92233720368547758071"],
            "shop,size\n92233720368547758070,10\n92233720368547758071,20\n",
            [10, 20],
        ),
    ],
)
def test_keys_are_compared_as_they_are_written(tmp_path: Path, left: list[str], shops: str, sizes: list[int | None]) -> None:
    frame = read(with_keys(tmp_path, left, shops)).frame
    assert frame["size"].head(2).to_list() == sizes


def test_keys_of_two_types_are_refused_with_an_example_of_each(tmp_path: Path) -> None:
    spec = with_keys(tmp_path, ["1", "2"], SHOPS)
    edit_spec(spec, **{"sources.shops.path": 'sources.shops.path = "shops.parquet"'})
    pl.DataFrame({"shop": [True, False], "size": [1, 2]}).write_parquet(spec.parent / "shops.parquet")
    with pytest.raises(
        DataError, match=r"it is Int64 in 'rows' \(such as \[1\]\) and Boolean in 'shops' \(such as \[True\]\); give"
    ):
        read(spec)


def test_null_keys_do_not_count_as_repeated(tmp_path: Path) -> None:
    assert read(with_shops(tmp_path, f"{SHOPS},1\n,2\n")).frame.height == 400
