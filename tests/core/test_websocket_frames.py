"""Where frames begin and end, however the bytes come, and the frame that closes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.websocket_frames import FrameScanner, going_away


def frame(opcode: int, payload: bytes, *, masked: bool, wide: int = 0) -> bytes:
    """A frame; `wide` forces a length of two or eight bytes."""
    size = len(payload)
    short, length = size, b""
    if wide == 8 or size > 0xFFFF:
        short, length = 127, size.to_bytes(8)
    elif wide == 2 or size > 125:
        short, length = 126, size.to_bytes(2)
    head = bytes([0x80 | opcode, (0x80 if masked else 0) | short]) + length
    return head + (b"mask" if masked else b"") + payload


FRAMES = st.lists(
    st.builds(
        frame,
        st.sampled_from([0, 1, 2, 9, 10]),
        st.binary(max_size=300) | st.just(b"x" * 70_000),
        masked=st.booleans(),
        wide=st.sampled_from([0, 2, 8]),
    ),
    max_size=8,
)


@given(FRAMES, st.lists(st.integers(1, 400), max_size=40))
def test_boundaries_are_found_however_the_bytes_come(frames: list[bytes], cuts: list[int]) -> None:
    data = b"".join(frames)
    ends = {0}
    for each in frames:
        ends.add(max(ends) + len(each))
    scanner, at = FrameScanner(), 0
    for size in [*cuts, len(data)]:
        piece = data[at : at + size]
        assert scanner.feed(piece) == len(piece)
        at += len(piece)
        assert scanner.at_boundary == (at in ends)
    assert scanner.frames == len(frames)
    assert not scanner.closed


@given(FRAMES, st.integers(0, 1000))
def test_it_stops_at_the_next_boundary_when_asked_to(frames: list[bytes], start: int) -> None:
    data = b"".join(frames)
    ends = [0]
    for each in frames:
        ends.append(ends[-1] + len(each))
    start = min(start, len(data))
    scanner = FrameScanner()
    scanner.feed(data[:start])
    read = scanner.feed(data[start:], to_boundary=True)
    assert start + read == next(end for end in ends if end >= start)
    assert scanner.at_boundary
    assert scanner.feed(data[start + read :], to_boundary=True) == 0


def test_what_is_left_of_a_frame_may_pass_by_unseen() -> None:
    scanner = FrameScanner()
    whole = frame(2, b"x" * 100_000, masked=True)
    scanner.feed(whole[:20])
    assert scanner.left == len(whole) - 20
    scanner.passed(50_000)
    assert not scanner.at_boundary
    scanner.passed(len(whole) - 50_020)
    assert scanner.at_boundary


@pytest.mark.parametrize("payload", [b"", b"\x03\xe8", b"\x03\xe8bye"])
@pytest.mark.parametrize("masked", [True, False])
def test_a_close_frame_is_known_once_it_is_whole(payload: bytes, masked: bool) -> None:
    data = frame(1, b"text", masked=masked) + frame(8, payload, masked=masked)
    scanner = FrameScanner()
    scanner.feed(data[:-1])
    assert not scanner.closed
    scanner.feed(data[-1:] + frame(1, b"odd", masked=masked))
    assert scanner.closed


def test_a_length_that_nobody_can_have_never_ends() -> None:
    scanner = FrameScanner()
    scanner.feed(b"\x82\x7f" + b"\xff" * 8 + b"x" * 1000)
    assert scanner.left == 2**64 - 1 - 1000


def test_the_last_frame_says_1001_and_is_masked_towards_a_backend() -> None:
    assert going_away(None) == b"\x88\x02\x03\xe9"
    masked = going_away(b"\x01\x02\x03\x04")
    assert masked == b"\x88\x82\x01\x02\x03\x04\x02\xeb"
    scanner = FrameScanner()
    scanner.feed(masked)
    assert scanner.closed
