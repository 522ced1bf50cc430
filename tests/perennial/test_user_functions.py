"""User functions are loaded from beside the spec; a message names the file, the function and the fix."""

from pathlib import Path

import pytest

from perennial.errors import FunctionError
from perennial.user_functions import load_function


def write(directory: Path, text: str, name: str = "own.py") -> None:
    (directory / name).write_text(text, encoding="utf-8")


def test_loads_the_function_beside_the_spec(tmp_path: Path) -> None:
    write(tmp_path, "def double(x):\n    return 2 * x\n")
    assert load_function("own.py:double", tmp_path)(21) == 42


def test_an_edited_function_is_the_one_that_is_used(tmp_path: Path) -> None:
    write(tmp_path, "def answer():\n    return 'before'\n")
    assert load_function("own.py:answer", tmp_path)() == "before"
    write(tmp_path, "def answer():\n    return 'afterwards'\n")
    assert load_function("own.py:answer", tmp_path)() == "afterwards"


def test_two_specs_may_have_files_of_the_same_name(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write(tmp_path / name, f"def who():\n    return {name!r}\n")
    functions = [load_function("own.py:who", tmp_path / name) for name in ("one", "two")]
    assert [function() for function in functions] == ["one", "two"]


def test_a_dataclass_may_stand_in_the_file(tmp_path: Path) -> None:
    write(tmp_path, "from __future__ import annotations\nfrom dataclasses import dataclass\n")
    text = "@dataclass\nclass Pair:\n    a: int\n\ndef pair(a):\n    return Pair(a).a\n"
    (tmp_path / "own.py").write_text((tmp_path / "own.py").read_text() + text, encoding="utf-8")
    assert load_function("own.py:pair", tmp_path)(3) == 3


@pytest.mark.parametrize("reference", ["own.py", "own:double", "own.py:", "own.py:two words", ":double"])
def test_a_reference_that_names_no_function_is_refused(tmp_path: Path, reference: str) -> None:
    with pytest.raises(FunctionError, match=r"write it as `file.py:function`"):
        load_function(reference, tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FunctionError, match=r"gone.py:double: there is no file .*gone.py"):
        load_function("gone.py:double", tmp_path)


def test_a_missing_function_is_named(tmp_path: Path) -> None:
    write(tmp_path, "double = 2\n")
    for name in ("double", "triple"):
        with pytest.raises(FunctionError, match=f"has no function '{name}'"):
            load_function(f"own.py:{name}", tmp_path)


@pytest.mark.parametrize("text", ["def broken(:\n", "import no_such_module_anywhere\n", "1 / 0\n"])
def test_a_file_that_fails_is_named_with_its_error(tmp_path: Path, text: str) -> None:
    write(tmp_path, text)
    with pytest.raises(FunctionError, match=r"own.py fails when it is run: \w+Error"):
        load_function("own.py:broken", tmp_path)
