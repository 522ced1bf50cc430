"""What `perennial init` does: propose a spec of a table, ask on a terminal what the table does not tell, write the file."""

import sys
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from perennial.errors import PerennialError, SpecError
from tasks.data.ingest import assemble
from tasks.data.validate import check_table
from tasks.proposal.propose import Proposal, Wishes, model_name, propose
from tasks.proposal.questions import SHOWN, Ask, Question, refuse
from tasks.proposal.spec_text import Key, toml_value
from tasks.proposal.table import SAMPLE

if TYPE_CHECKING:
    from rich.console import Console


def init_spec(
    wishes: Wishes, out: Path | None, environ: Mapping[str, str], now: datetime, ask: Ask, *, force: bool
) -> tuple[Path, Proposal]:
    """Write the proposed spec; raises SpecError, and writes nothing, where the file is there already and `force` is not given."""
    file = out or Path(f"{model_name(wishes)}.toml")
    if file.exists() and not force:
        raise SpecError(f"{file} is there already: give --out another name, or --force to write over it")
    file.parent.mkdir(parents=True, exist_ok=True)  # first: the table is looked for from there
    proposal = propose(wishes, file.absolute().parent, environ, ask, now)
    file.write_text(proposal.text, encoding="utf-8")
    return file, proposal


def describe_proposal(file: Path, proposal: Proposal, environ: Mapping[str, str], now: datetime) -> Iterator[str]:
    """What was looked at, inferred and left out, what can happen at the table's pace, and what a training would find wrong."""
    yield f"read        {proposal.sample}"
    for section in proposal.sections:
        yield from (_inferred(section.title, key) for key in section.keys)
    yield ""
    yield from (f"{fact.name:<12}{'' if fact.possible else 'NEVER: '}{fact.text}" for fact in proposal.facts)
    if wrong := _wrong(file, proposal, environ, now):
        yield f"mend        {wrong}"


def terminal_ask(console: "Console") -> Ask:
    """Asks on the terminal; where standard input is none, the error names the option that answers."""
    return (lambda question: _ask(console, question)) if sys.stdin.isatty() else refuse


def _ask(console: "Console", question: Question) -> str:
    """The answer of a person: the name of a choice, or its number."""
    console.print(f"{question.text}:", markup=False, highlight=False)
    for number, (name, why) in enumerate(question.choices[:SHOWN], 1):
        console.print(f"  {number:>2}  {name:<24} {why}", markup=False, highlight=False)
    try:
        answer = input(f"--{question.option}: ").strip()
    except EOFError:
        return refuse(question)
    if answer.isdigit() and 0 < int(answer) <= len(question.choices) and answer not in dict(question.choices):
        return question.choices[int(answer) - 1][0]
    return answer or _ask(console, question)


def _inferred(section: str, key: Key) -> str:
    name = f"{section}.{key.name}".lstrip(".")
    if key.value is None:
        return f"{name}: {key.why}"
    return f"{name} = {toml_value(key.value)}" + (f"  ({key.why})" if key.why else "")


def _wrong(file: Path, proposal: Proposal, environ: Mapping[str, str], now: datetime) -> str:
    """What the checks before a training would say of the sample; nothing where they let it through."""
    try:
        table = assemble(proposal.spec, file.absolute().parent, environ, SAMPLE)
        check_table(table.frame, proposal.spec, None, now, table.unread)
    except PerennialError as error:
        return str(error)
    return ""
