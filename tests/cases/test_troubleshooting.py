"""docs/troubleshooting.md is run: its tables give its messages, its lines mend them, and what else it quotes are our words."""

import ast
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import pytest

from perennial.errors import PerennialError
from perennial.features import fit_features
from perennial.labels import fit_classes
from perennial.schema import cast_frame, infer_schema
from perennial.spec import load_spec, parse_spec
from tasks.data.ingest import assemble
from tasks.data.validate import check_table
from tests.support.processes import ROOT
from tests.test_structure import PACKAGES, files

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NOW = datetime(2027, 1, 1, tzinfo=UTC)
LITERAL_SHARE = 0.3
"""Of a quoted message, what must stand literally in the code: a template of holes would match anything."""


@dataclass(frozen=True)
class Section:
    """One trouble of the page: its tables, a part of the spec that belongs to them, what is said, and what to write."""

    title: str
    tables: dict[str, str]
    setup: str
    said: tuple[str, ...]
    fix: str

    def write(self, folder: Path, *parts: str) -> Path:
        """The tables and a spec made of the page's own and of some parts."""
        for name, content in self.tables.items():
            (folder / name).write_bytes(content.encode(ENCODINGS.get(self.title, "utf-8")))
        path = folder / "orders.toml"
        path.write_text(merged(SPEC, *parts), encoding="utf-8")
        return path


ENCODINGS = {"Another encoding": "cp1252"}
"""In which encoding the tables of a section are written, if not UTF-8."""


def merged(*parts: str) -> str:
    """Parts of a spec as one: tables of the same name are merged, later lines stand for earlier ones."""
    lines: dict[str, dict[str, str]] = {"": {}}
    for part in parts:
        table = lines[""]
        for line in part.splitlines():
            if line.startswith("["):
                table = lines.setdefault(line, {})
            elif line.strip():
                table[line.partition(" = ")[0]] = line
    return "\n".join("\n".join([head, *body.values()]) for head, body in lines.items()) + "\n"


def sections() -> list[Section]:
    """The sections of the page that have a message."""
    found = []
    for part in re.split(r"^### ", PAGE, flags=re.MULTILINE)[1:]:
        title, blocks = part.splitlines()[0], BLOCK.findall(part)
        tables = {name or "orders.csv": content for kind, name, content in blocks if kind == "csv"}
        specs = [(name, content) for kind, name, content in blocks if kind == "toml"]
        said = tuple(line for kind, _, content in blocks if kind == "text" for line in content.splitlines())
        setup, fix = ("".join(content for name, content in specs if (name == "before") == first) for first in (True, False))
        found.append(Section(title, tables, setup, said, fix))
    return found


SPEC = "checks.min_rows = 1\n" + next(content for kind, _, content in BLOCK.findall(PAGE) if kind == "toml")
RUN = [section for section in sections() if section.tables]
QUOTED = [message for section in sections() if not section.tables for message in section.said]


def read(path: Path) -> None:
    """What every training does with its sources first: read, join, check, and find out what each column is."""
    spec = load_spec(path)
    table = assemble(spec, path.parent, {})
    rows, checks = check_table(table.frame, spec, path.parent / "quarantine.parquet", NOW, table.unread)
    fit_features(spec, cast_frame(rows, infer_schema(spec, rows)), path.parent)
    fit_classes(spec.task, rows[spec.target])
    assert not checks.bad_rows, checks.problems


@pytest.mark.parametrize("section", RUN, ids=lambda section: section.title)
def test_a_table_of_the_page_is_answered_as_it_says(section: Section, tmp_path: Path):
    with pytest.raises(PerennialError) as refused:
        read(section.write(tmp_path, section.setup))
    said = str(refused.value)
    assert not [line for line in section.said if line.strip() not in said], said


@pytest.mark.parametrize("section", [section for section in RUN if section.fix], ids=lambda section: section.title)
def test_what_the_page_says_to_write_mends_it(section: Section, tmp_path: Path):
    read(section.write(tmp_path, section.setup, section.fix))


def test_every_part_of_a_spec_on_the_page_is_one(tmp_path: Path):
    for section in sections():
        parse_spec(tomllib.loads(merged(SPEC, section.setup, section.fix)), section.title)


@cache
def templates() -> tuple[tuple[re.Pattern[str], int], ...]:
    """Every text of the product as a pattern, its values as holes, with the number of its literal characters."""
    texts = (text for path in files(*PACKAGES) for text in _texts(ast.parse(path.read_text())))
    return tuple((re.compile(pattern, re.DOTALL), literal) for pattern, literal in texts if literal >= 8)


def _texts(tree: ast.Module) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else None for part in node.values]
            yield "".join(".+?" if part is None else re.escape(str(part)) for part in parts), sum(len(str(p)) for p in parts if p)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            pieces = re.split(r"\{[^{}]*\}", node.value)
            yield ".+?".join(map(re.escape, pieces)), sum(map(len, pieces))


@pytest.mark.parametrize("message", QUOTED)
def test_a_quoted_message_is_made_of_the_products_words(message: str):
    said = max((literal for pattern, literal in templates() if pattern.search(f" {message} ")), default=0)
    assert said >= LITERAL_SHARE * len(message), "no text of the product makes this message: mend the page"
