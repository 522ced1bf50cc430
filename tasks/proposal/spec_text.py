"""The text of a proposed spec: every key with the reason for its value beside it, so that a person sees what was inferred."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from perennial.durations import format_duration

WIDTH = 120  # a reason that would make a line longer stands above it


@dataclass(frozen=True)
class Key:
    """A key, its value, and why it has that value; a key without a value is a comment of its own: what was left out, and why."""

    name: str
    value: Any
    why: str = ""

    @property
    def line(self) -> str:
        """As the spec writes it."""
        if self.value is None:
            return f"# {self.name}: {self.why}"
        written = f"{toml_key(self.name)} = {toml_value(self.value)}"
        if not self.why:
            return written
        beside = f"{written}  # {self.why}"
        return beside if len(beside) <= WIDTH else f"# {self.why}\n{written}"


@dataclass(frozen=True)
class Section:
    """A table of the spec; that without a title is the top."""

    title: str
    keys: tuple[Key, ...]


def spec_text(sections: Iterable[Section], head: Sequence[str]) -> str:
    """The whole file; sections without keys are left out."""
    parts = ["\n".join(f"# {line}" for line in head)]
    for section in sections:
        if section.keys:
            title = [f"[{section.title}]"] if section.title else []
            parts.append("\n".join([*title, *(key.line for key in section.keys)]))
    return "\n\n".join(parts) + "\n"


def toml_key(name: str) -> str:
    """A name as TOML takes it for a key: bare where it can be."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else toml_text(name)


def toml_text(text: str) -> str:
    """A text in quotes; JSON's escapes are TOML's too, but for the one sign that JSON leaves as it is."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def toml_value(value: Any) -> str:
    """A value as TOML writes it."""
    match value:
        case bool():
            return str(value).lower()
        case str():
            return toml_text(value)
        case timedelta():
            return toml_text(format_duration(value))
        case date():
            return value.isoformat()
        case Mapping():
            inner = ", ".join(f"{toml_key(name)} = {toml_value(one)}" for name, one in value.items())
            return f"{{ {inner} }}" if inner else "{}"
        case list() | tuple():
            return f"[{', '.join(map(toml_value, value))}]"
    return str(value)
