"""The wire form: frames come out as they went in, wherever the stream is cut; a door hands over what was left at it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.channel import BYE, KNOCK, REQUEST, Splitter, make_door
from service.desk import OPERATIONS, Ask, ask_of

FRAMES = st.lists(st.tuples(st.integers(0, 2**32 - 1), st.binary(max_size=300)), max_size=8)


@given(FRAMES, st.lists(st.integers(1, 50), max_size=200))
def test_frames_come_out_whole_wherever_the_stream_is_cut(frames: list[tuple[int, bytes]], cuts: list[int]) -> None:
    stream = b"".join(REQUEST.pack(len(body), number, 1.5, 2) + body for number, body in frames)
    splitter, found = Splitter(REQUEST), []
    for size in [*cuts, len(stream)]:
        piece, stream = stream[:size], stream[size:]
        if piece:
            found += splitter.feed(piece)
    assert [(fields[1:], body) for fields, body in found] == [((number, 1.5, 2), body) for number, body in frames]


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("arrow", [True, False])
@pytest.mark.parametrize("arrow_answer", [True, False])
def test_what_is_asked_fits_into_a_number(operation: str, arrow: bool, arrow_answer: bool) -> None:
    ask = Ask(operation, b"body", arrow, arrow_answer)  # type: ignore[arg-type]
    assert ask_of(ask.code, b"body") == ask
    assert ask.code < 256


def test_a_channel_waits_at_the_door_for_whoever_comes() -> None:
    door = make_door()
    with door.inside, door.outside, door.knock() as ours:
        word, (theirs,) = door.answer()
        with theirs:
            assert word == KNOCK
            ours.send(b"hello")
            assert theirs.recv(100) == b"hello"
        door.close_worker()
        assert door.answer() == (BYE, [])
        with pytest.raises(BlockingIOError):
            door.answer()
