"""Makes the reference pages of docs/ from the code: `make docs`, or `python docs/generate.py --check` to compare only.

Nothing is described here: words come from the fields, docstrings and help of what a page is about.
"""

import re
import sys
import types
from collections.abc import Iterable, Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import SecretStr
from pydantic.fields import FieldInfo

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a script has its own directory on the path, not the checkout

from perennial.base import FrozenModel
from perennial.durations import format_duration, parse_duration
from perennial.settings import Settings, variable
from perennial.spec import ModelSpec

HERE = Path(__file__).resolve().parent / "reference"
NOTICE = "<!-- Made from the code by `make docs`; change the code, not this page. -->\n"
NAMES: dict[Any, str] = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    Path: "path",
    SecretStr: "secret text",
    date: "day",
    timedelta: "duration",
}
SIGNS = {Ge: ("≥", "ge"), Gt: (">", "gt"), Le: ("≤", "le"), Lt: ("<", "lt")}


def main() -> int:
    """Write every page, or with --check name the pages that are out of date."""
    stale = [name for name, text in pages().items() if _read(HERE / name) != text]
    if "--check" in sys.argv[1:]:
        sys.stdout.writelines(f"docs/reference/{name} is out of date: run `make docs`\n" for name in stale)
        return 1 if stale else 0
    HERE.mkdir(exist_ok=True)
    for name, text in pages().items():
        (HERE / name).write_text(text, encoding="utf-8")
    return 0


def pages() -> dict[str, str]:
    """File name and text of each page."""
    return {"spec.md": spec_page(), "settings.md": settings_page(), "cli.md": cli_page()}


def spec_page() -> str:
    """Every key of a model spec, a section for each table of the file."""
    head = (
        f"{NOTICE}\n# The model spec\n\n"
        "A model is one TOML file. `examples/flights.toml` is the tutorial; this page has every key.\n"
        "An unknown key is an error. Durations are a number and a unit: `30m`, `12h`, `7d`, `8w`, or several: `1d12h`.\n"
    )
    return head + "".join(f"\n## {title}\n\n{_prose(model)}\n\n{table(model)}" for title, model in sections(ModelSpec))


def settings_page() -> str:
    """Every environment variable."""
    lines = [
        f"| `{variable(name)}` | {_kind(field)} | {_default(field)} | {field.description} |\n"
        for name, field in Settings.model_fields.items()
    ]
    return (
        f"{NOTICE}\n# Settings\n\n{_prose(Settings)} They come from the environment only; a misspelt `PERENNIAL_*` variable\n"
        "is an error. The variables of other tools keep their names.\n\n"
        "| variable | takes | default | what |\n|---|---|---|---|\n" + "".join(lines)
    )


def cli_page() -> str:
    """Every command and option, as `--help` gives them."""
    from deployments.cli import app

    text = app.generate_docs(output_format="markdown", usage_name="perennial")
    return f"{NOTICE}\n{_tidy(text)}"


def sections(model: type[FrozenModel], path: str = "") -> Iterator[tuple[str, type[FrozenModel]]]:
    """Each table of the file with its heading, from the top."""
    yield (f"`{_header(path)}`" if path else "Top level"), model
    for name, field in model.model_fields.items():
        inner, shape = _inner(field.annotation)
        if inner is not None:
            yield from sections(inner, f"{path}.{name}{shape}".lstrip("."))


def table(model: type[FrozenModel]) -> str:
    """Key, what it takes, default and meaning."""
    lines = [
        f"| `{name}` | {_kind(field)} | {_default(field)} | {_meaning(field)} |\n" for name, field in model.model_fields.items()
    ]
    return "| key | takes | default | what |\n|---|---|---|---|\n" + "".join(lines)


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


def _header(path: str) -> str:
    return f"[[{path.removesuffix('[]')}]]" if path.endswith("[]") else f"[{path}]"


def _prose(model: type[FrozenModel]) -> str:
    return " ".join((model.__doc__ or "").split())


def _meaning(field: FieldInfo) -> str:
    inner, _ = _inner(field.annotation)
    return field.description or (f"{_prose(inner)} See below." if inner else "")


def _inner(annotation: Any) -> tuple[type[FrozenModel] | None, str]:
    """The value class in a field that is a table of the file, and how its header goes on."""
    if isinstance(annotation, type) and issubclass(annotation, FrozenModel):
        return annotation, ""
    for part in get_args(annotation):
        if isinstance(part, type) and issubclass(part, FrozenModel):
            return part, {dict: ".NAME", tuple: "[]"}.get(get_origin(annotation), "")
    return None, ""


def _kind(field: FieldInfo) -> str:
    some = ["at least one"] if any(isinstance(bound, MinLen) for bound in field.metadata) else []
    return ", ".join([_named(field.annotation), *_limits(field.metadata), *some])


def _limits(metadata: Iterable[Any]) -> list[str]:
    known = [(getattr(bound, SIGNS[type(bound)][1]), SIGNS[type(bound)][0]) for bound in metadata if type(bound) in SIGNS]
    return [f"{sign} {format_duration(most) if isinstance(most, timedelta) else f'{most:,}'}" for most, sign in known]


def _named(annotation: Any) -> str:
    inner, shape = _inner(annotation)
    if inner is not None:
        return {"": "table", ".NAME": "a table for each name", "[]": "tables"}[shape]
    origin, args = get_origin(annotation), [part for part in get_args(annotation) if part not in (type(None), Ellipsis)]
    if origin is Literal:
        return ", ".join(f"`{choice}`" for choice in args)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_named(part) for part in args))
    if origin is tuple:
        return f"list of {_named(args[0])}"
    if origin is dict:
        return f"table of {_named(args[1])}"
    if origin is Annotated:
        return ", ".join([_named(args[0]), *_limits(bound for part in args[1:] for bound in getattr(part, "metadata", ()))])
    return NAMES[annotation]


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    nothing = value in (None, "", (), {}) or isinstance(value, FrozenModel)
    return "" if nothing else "<br>".join(f"`{line}`" for line in _written(value))


def _written(value: Any) -> list[str]:
    """A default as the file would say it, a line for each name of a table."""
    if isinstance(value, dict):
        return [f"{name} = {_toml(inner)}" for name, inner in value.items()]
    return [_toml(value)]


def _toml(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case timedelta():
            return (
                f'"{format_duration(value)}"' if value == parse_duration(format_duration(value)) else f"{value.total_seconds():g}"
            )
        case tuple():
            return f"[{', '.join(map(_toml, value))}]"
        case str() | Path():
            return f'"{value}"'
        case float():
            return f"{value:g}"
        case FrozenModel():
            given = {name: getattr(value, name) for name in type(value).model_fields if name in value.model_fields_set}
            return "{ " + ", ".join(f"{name} = {_toml(inner)}" for name, inner in given.items()) + " }"
    return str(value)


def _tidy(text: str) -> str:
    """One line end at the end, none of the blanks that a terminal's help pads with."""
    return re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE).strip() + "\n"


if __name__ == "__main__":
    sys.exit(main())
