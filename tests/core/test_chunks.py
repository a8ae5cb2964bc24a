"""The chunked coding: one reading of every stream, whatever the pieces it comes in."""

import time

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.message import BadMessage, Fields
from balancer.wire.chunks import (
    EXTENSION_BYTES_MAX,
    SIZE_LINE_BYTES_MAX,
    TRAILER_BYTES_MAX,
    ChunkReader,
    chunk,
)
from balancer.wire.h11_heads import FIELDS_MAX


def read(stream: bytes, cuts: list[int] | None = None) -> tuple[bytes, ChunkReader, bytes]:
    """Payload, reader and what is left of a stream that comes in pieces."""
    reader, buffer, payload = ChunkReader(), bytearray(), b""
    ends = [*sorted(cut % (len(stream) + 1) for cut in cuts or []), len(stream)]
    start = 0
    for end in ends:
        buffer += stream[start:end]
        start = end
        payload += reader.take(buffer)
    return payload, reader, bytes(buffer)


@pytest.mark.parametrize(
    ("stream", "payload", "trailers"),
    [
        (b"0\r\n\r\n", b"", ()),
        (b"3\r\nabc\r\n0\r\n\r\n", b"abc", ()),
        (b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", b"abcde", ()),
        (b"A\r\n0123456789\r\n0\r\n\r\n", b"0123456789", ()),
        (b"a\r\n0123456789\r\n0\r\n\r\n", b"0123456789", ()),
        (b"00003\r\nabc\r\n000\r\n\r\n", b"abc", ()),
        (b"3;x\r\nabc\r\n0;y=1\r\n\r\n", b"abc", ()),
        (b'3 \t;x="a b"\r\nabc\r\n0\r\n\r\n', b"abc", ()),
        (b'3;a ;\tb = c;d="\xe4\\""\r\nabc\r\n0\r\n\r\n', b"abc", ()),
        (b"2\r\n\r\n\r\n0\r\n\r\n", b"\r\n", ()),
        (b"0\r\nA: 1\r\nb:2\r\n\r\n", b"", ((b"A", b"1"), (b"b", b"2"))),
    ],
)
def test_streams_and_their_payload(stream: bytes, payload: bytes, trailers: Fields) -> None:
    found, reader, rest = read(stream + b"GET /next")
    assert (found, reader.trailers, reader.done) == (payload, trailers, True)
    assert rest == b"GET /next"


@pytest.mark.parametrize(
    "stream",
    [
        b"\r\n", b"x\r\n", b"-1\r\n", b"+1\r\n", b"0x1\r\n", b" 1\r\n", b"1 \r\n", b"1_0\r\n", b"1 1\r\n",
        b"\xb2\r\n", b";x\r\n", b"1;\x00\r\n", b"1;\r;\r\n", b"1;\r\n", b"1;a=\r\n", b"1;=b\r\n", b"1;a b\r\n",
        b'1;a="\r\n', b'1;a="b"c\r\n', b'1;a="\\"\r\n', b"1;a=b;\r\n", b"1;a ;\r\n", b"1;a \r\n", b"1;\xe4\r\n", b"1" * 16 + b"\r\n", b"1.0\r\n", b"1,1\r\n",
        b"1\n", b"\n", b"1;x\n", b"0\r\n\n", b"0\n\n", b"0\r\nA: 1\n", b"0\r\nA: 1\n\r\n",
        b"1\r\nab", b"1\r\na\n", b"1\r\na\r\r", b"1\r\naX\r\n", b"1\r\na0\r\n", b"1\r\n\n\n",
        b"0\r\n A: 1\r\n", b"0\r\nA : 1\r\n", b"0\r\nA: 1\r\n folded\r\n", b"0\r\nA\r\n", b"0\r\nA: \x00\r\n",
    ],
)  # fmt: skip
def test_streams_that_two_readers_could_read_differently(stream: bytes) -> None:
    with pytest.raises(BadMessage) as caught:
        read(stream)
    assert caught.value.status == 400
    with pytest.raises(BadMessage):
        read(stream, list(range(len(stream))))


def test_no_size_line_takes_long() -> None:
    """At most a kilobyte each, but thousands a second. Some other work may come between, once or twice."""

    def spent() -> float:
        began = time.process_time()
        for line in (
            b'1;a="' + b"\\a" * 500,
            b"1;a" + b" \t" * 500,
            b"1" + b";a" * 500 + b" ",
            b'1;a="' + b" " * 1000,
        ):
            with pytest.raises(BadMessage):
                read(line + b"\r\n")
        return time.process_time() - began

    assert min(spent() for _ in range(5)) < 0.05


def test_a_size_line_is_bounded_before_its_end_is_there() -> None:
    assert not read(b"1;" + b"x" * (SIZE_LINE_BYTES_MAX - 2))[1].done
    for end in (b"", b"\r\n"):
        with pytest.raises(BadMessage, match="longer than 1024"):
            read(b"1;" + b"x" * SIZE_LINE_BYTES_MAX + end)


def test_extensions_are_bounded_over_the_whole_body() -> None:
    one = b"1;" + b"x" * 1000 + b"\r\na\r\n"
    most = EXTENSION_BYTES_MAX // 1001
    assert read(one * most)[0] == b"a" * most
    with pytest.raises(BadMessage, match="extensions"):
        read(one * (most + 1))


def test_trailers_are_bounded_one_by_one_and_together() -> None:
    assert not read(b"0\r\n" + b"A" * TRAILER_BYTES_MAX)[1].done
    with pytest.raises(BadMessage, match="longer than 16384"):
        read(b"0\r\nA:" + b"b" * TRAILER_BYTES_MAX)
    line = b"A:" + b"b" * 1022 + b"\r\n"
    assert len(read(b"0\r\n" + line * 16 + b"\r\n")[1].trailers) == 16
    with pytest.raises(BadMessage, match="trailers"):
        read(b"0\r\n" + line * 17)
    assert len(read(b"0\r\n" + b"A:\r\n" * FIELDS_MAX + b"\r\n")[1].trailers) == FIELDS_MAX
    with pytest.raises(BadMessage, match="trailers"):
        read(b"0\r\n" + b"A:\r\n" * (FIELDS_MAX + 1))


@pytest.mark.parametrize("name", [b"Transfer-Encoding", b"content-length", b"HOST", b"Connection"])
def test_a_trailer_that_would_end_or_route_a_message_is_refused(name: bytes) -> None:
    """Whoever adds trailers to the head would read another message than we do."""
    with pytest.raises(BadMessage, match="no trailer"):
        read(b"0\r\nX-Sum: 1\r\n" + name + b": a\r\n\r\n")


def test_payload_is_given_as_it_comes() -> None:
    """A chunk may be larger than memory: nothing waits for its end."""
    reader, buffer = ChunkReader(), bytearray(b"fffffffffffffff\r\nabc")
    assert reader.take(buffer) == b"abc"
    assert buffer == b""
    buffer += b"def"
    assert reader.take(buffer) == b"def"
    assert not reader.done


def test_a_reader_that_is_done_takes_no_more() -> None:
    reader, buffer = ChunkReader(), bytearray(b"0\r\n\r\n3\r\nabc\r\n")
    assert reader.take(buffer) == b""
    assert reader.take(buffer) == b""
    assert buffer == b"3\r\nabc\r\n"


def test_an_empty_chunk_is_never_written() -> None:
    assert chunk(b"abc" * 6) == b"12\r\nabcabcabcabcabcabc\r\n"
    with pytest.raises(AssertionError):
        chunk(b"")


EXTENSIONS = st.sampled_from([b"", b";a", b";a=b", b'; a="b c"', b';a;b = "\\";"'])
PIECES = st.lists(st.tuples(st.binary(min_size=1, max_size=50), EXTENSIONS, st.booleans()))
TRAILERS = st.lists(
    st.tuples(
        st.sampled_from([b"X-Sum", b"x", b"ETag"]),
        st.sampled_from([b"", b"1", b"a b", b"\xe4"]),
    ),
    max_size=3,
)
CUTS = st.lists(st.integers(0, 10_000), max_size=20)


def encoded(pieces: list[tuple[bytes, bytes, bool]], trailers: list[tuple[bytes, bytes]]) -> bytes:
    out = b""
    for payload, extension, upper in pieces:
        size = b"%X" % len(payload) if upper else b"%x" % len(payload)
        out += size + extension + b"\r\n" + payload + b"\r\n"
    lines = b"".join(name + b": " + value + b"\r\n" for name, value in trailers)
    return out + b"0\r\n" + lines + b"\r\n"


def h11_decodes(stream: bytes) -> tuple[bytes, Fields] | None:
    """Payload and trailers as h11 reads the stream, or None where it does not come to an end."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + stream
    )
    payload = b""
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError:
            return None
        if isinstance(event, h11.Data):
            payload += event.data
        elif isinstance(event, h11.EndOfMessage):
            return payload, tuple(event.headers.raw_items())
        elif not isinstance(event, h11.Request):
            return None


@given(PIECES, TRAILERS, CUTS, st.binary(max_size=10))
def test_any_pieces_give_what_h11_reads(
    pieces: list[tuple[bytes, bytes, bool]],
    trailers: list[tuple[bytes, bytes]],
    cuts: list[int],
    behind: bytes,
) -> None:
    stream = encoded(pieces, trailers)
    payload, reader, rest = read(stream + behind, cuts)
    assert reader.done
    assert (payload, reader.trailers) == h11_decodes(stream)
    assert payload == b"".join(piece for piece, _, _ in pieces)
    assert rest == behind


@given(PIECES, TRAILERS, st.integers(0, 10_000), st.sampled_from(b"\r\n\0 ;0aF:\x80"), CUTS)
def test_a_bent_stream_that_passes_means_the_same_to_h11(
    pieces: list[tuple[bytes, bytes, bool]],
    trailers: list[tuple[bytes, bytes]],
    where: int,
    byte: int,
    cuts: list[int],
) -> None:
    stream = bytearray(encoded(pieces, trailers))
    stream[where % len(stream)] = byte
    try:
        payload, reader, rest = read(bytes(stream), cuts)
    except BadMessage:
        return
    # h11 knows no blank before an extension, which the grammar allows (RFC 9112 7.1.1).
    if reader.done and b" ;" not in stream:
        assert (payload, reader.trailers) == h11_decodes(bytes(stream[: len(stream) - len(rest)]))


@given(st.lists(st.binary(min_size=1, max_size=99)), CUTS)
def test_what_is_written_is_read_back(payloads: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(map(chunk, payloads)) + b"0\r\n\r\n"
    payload, reader, rest = read(stream, cuts)
    assert (payload, reader.done, rest) == (b"".join(payloads), True, b"")


@given(st.binary(max_size=60), CUTS)
def test_pieces_never_change_the_verdict(stream: bytes, cuts: list[int]) -> None:
    def verdict(cuts: list[int]) -> tuple[bytes, bool] | None:
        try:
            payload, reader, _ = read(stream, cuts)
        except BadMessage:
            return None
        return payload, reader.done

    assert verdict(cuts) == verdict([])
