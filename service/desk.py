"""The desk: where an HTTP process asks inference workers; whichever transport carries the question.

Both /predict and /explain reach the same workers, so the model is in memory once per worker.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

Operation = Literal["predict", "explain", "status"]

OPERATIONS: tuple[Operation, ...] = ("predict", "explain", "status")
"""What a worker can be asked; `status` is how it is, for /ready."""

_ARROW, _ARROW_ANSWER = 16, 32


@dataclass(frozen=True, slots=True)
class Ask:
    """What a worker is asked; `arrow` and `arrow_answer` say that a body is an Arrow stream instead of JSON."""

    operation: Operation
    body: bytes
    arrow: bool = False
    arrow_answer: bool = False

    @property
    def code(self) -> int:
        """Everything but the body, as one small number."""
        return OPERATIONS.index(self.operation) | (_ARROW if self.arrow else 0) | (_ARROW_ANSWER if self.arrow_answer else 0)


@dataclass(frozen=True, slots=True)
class Reply:
    """What a worker answered: an HTTP status and a body; whatever is not 200 has a JSON body."""

    status: int
    body: bytes


class Desk(Protocol):
    """The way to the workers."""

    async def ask(self, ask: Ask, timeout: float | None = None) -> Reply:
        """Ask any worker; raises Refused (503, 504) when none can take it or answer in time."""
        ...


def ask_of(code: int, body: bytes) -> Ask:
    """The inverse of `Ask.code`."""
    return Ask(OPERATIONS[code & 15], body, bool(code & _ARROW), bool(code & _ARROW_ANSWER))
