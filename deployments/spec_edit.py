"""Setting keys of a spec file: its text is changed where it must be, so that comments and order stay as a person wrote them."""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

from perennial.errors import SpecError
from perennial.spec import load_spec


def write_keys(path: Path, sections: Mapping[str, Mapping[str, str]]) -> None:
    """Set keys by table, their values as TOML writes them; raises SpecError, and writes nothing, where that cannot be done."""
    text = before = path.read_text(encoding="utf-8")
    for table, keys in sections.items():
        text = set_keys(text, table, keys)
    wanted = _with_keys(tomllib.loads(before), sections)
    try:
        done = tomllib.loads(text) == wanted
    except tomllib.TOMLDecodeError:
        done = False
    if not done:
        names = ", ".join(f"[{table}]" for table in sections)
        raise SpecError(f"{path} writes {names} in another form than as a table of its own: change it by hand")
    path.write_text(text, encoding="utf-8")
    load_spec(path)


def set_keys(text: str, table: str, keys: Mapping[str, str]) -> str:
    """The text of a TOML file with these keys in a table, which is added at the end where there is none."""
    header = re.compile(rf"^\s*\[{re.escape(table)}\]\s*(#.*)?$")
    lines = text.splitlines()
    start = next((number for number, line in enumerate(lines) if header.match(line)), None)
    if start is None:
        return "\n".join([*lines, "", f"[{table}]", *(f"{key} = {value}" for key, value in keys.items())]) + "\n"
    rest = range(start + 1, len(lines))
    end = next((number for number in rest if lines[number].lstrip().startswith("[")), len(lines))
    body, missing = lines[start + 1 : end], dict(keys)
    for number, line in enumerate(body):
        if (found := re.match(r"\s*(\w+)\s*=", line)) and found[1] in missing:
            body[number] = f"{found[1]} = {missing.pop(found[1])}{_comment(line)}"
    added = [f"{key} = {value}" for key, value in missing.items()]
    return "\n".join([*lines[: start + 1], *added, *body, *lines[end:]]) + "\n"


def _comment(line: str) -> str:
    """The comment at the end of a line, with the blanks before it; none where a # stands in a text."""
    found = re.search(r"""\s+#[^"']*$""", line)
    return found[0] if found else ""


def _with_keys(raw: Mapping[str, object], sections: Mapping[str, Mapping[str, str]]) -> dict[str, object]:
    """What the file is to say afterwards."""
    wanted = dict(raw)
    for table, keys in sections.items():
        standing = wanted.get(table, {})
        new = tomllib.loads("\n".join(f"{key} = {value}" for key, value in keys.items()))
        wanted[table] = {**(standing if isinstance(standing, dict) else {}), **new}
    return wanted
