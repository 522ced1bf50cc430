"""Questions: what a table does not tell, put to a person; who cannot be asked is told the option that answers."""

from collections.abc import Callable
from dataclasses import dataclass

from perennial.errors import SpecError

SHOWN = 12  # choices that a message lists


@dataclass(frozen=True)
class Question:
    """A question, the option that answers it beforehand, and answers that can be chosen, each with what speaks for it."""

    option: str
    text: str
    choices: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        lines = "".join(f"\n  --{self.option} {name!r:<24} {why}".rstrip() for name, why in self.choices[:SHOWN])
        more = len(self.choices) - SHOWN
        return f"{self.text}: give --{self.option}{lines}" + (f"\n  and {more} more" if more > 0 else "")


Ask = Callable[[Question], str]


def refuse(question: Question) -> str:
    """The answer where nobody can be asked: raises SpecError with the option to give."""
    raise SpecError(str(question))
