"""Bodies: reading what a client sends, judged by its headers first, never more of it in memory than is allowed."""

from http import HTTPStatus

from starlette.types import Message, Receive, Scope

from service.refusal import Refused, too_large

JSON = "application/json"
ARROW = "application/vnd.apache.arrow.stream"
"""The form of Arrow's IPC that is written front to back."""

_PLAIN = {b"application/json": JSON, b"application/vnd.apache.arrow.stream": ARROW}


class Head:
    """What the headers of a request say of its body and of the answer; one pass over them."""

    __slots__ = ("accept", "coding", "kind", "length")

    def __init__(self, scope: Scope) -> None:
        self.kind, self.coding, self.length, self.accept = JSON, b"", -1, b""
        for name, value in scope["headers"]:
            if name == b"content-type":
                self.kind = _PLAIN.get(value) or _essence(value)
            elif name == b"content-length":
                # The server has refused one that is not a number.
                self.length = int(value) if value.isdigit() else -1
            elif name == b"content-encoding":
                self.coding = value
            elif name == b"accept":
                self.accept = value

    @property
    def wants_arrow(self) -> bool:
        """Whether the answer is to be an Arrow stream: as it was asked for, else as the body came."""
        if ARROW.encode() in self.accept:
            return True
        return self.kind == ARROW and JSON.encode() not in self.accept

    def refuse_foreign(self, *kinds: str) -> None:
        """Raise Refused (415) for another kind of body; a compressed one may be a thousand times larger than it says."""
        if self.kind not in kinds or self.coding.strip().lower() not in (b"", b"identity"):
            found = f"content type {self.kind!r:.80}, coding {self.coding.decode('latin-1') or 'identity'!r:.80}"
            message = f"{found}; expected {' or '.join(kinds)}, not compressed"
            raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "not_json", message)


async def read_body(head: Head, receive: Receive, limit: int) -> bytes:
    """The body of a request; raises Refused (413) before more than `limit` bytes are in memory. The guard keeps the time."""
    if head.length > limit:
        raise _body_too_large(limit)
    message = await receive()
    if not message.get("more_body") and len(message.get("body", b"")) <= limit:
        return _part(message)
    chunks, size = [_part(message)], len(message["body"])
    while message.get("more_body") and size <= limit:
        message = await receive()
        chunks.append(_part(message))
        size += len(chunks[-1])
    if size > limit:
        raise _body_too_large(limit)
    return b"".join(chunks)


def _part(message: Message) -> bytes:
    if message["type"] == "http.disconnect":
        raise Refused(HTTPStatus.BAD_REQUEST, "gone", "the client went away before its body had come")
    part: bytes = message.get("body", b"")
    return part


def _essence(value: bytes) -> str:
    return value.decode("latin-1").partition(";")[0].strip().lower()


def _body_too_large(limit: int) -> Refused:
    return too_large(f"the body is larger than {limit} bytes: send fewer rows at once, or raise PERENNIAL_MAX_BODY_MB")
