"""What may be fed with anything: one function for each kind of input, which raises what it finds.

A target decides what must hold of any bytes at all; `scripts/fuzz` looks for bytes of which it does
not, and the test suite replays those that have been worth keeping.
"""

from collections.abc import Callable, Mapping

from balancer.core.message import BadMessage, Fields
from balancer.wire.chunks import ChunkReader, chunk
from balancer.wire.proxy_protocol import (
    V1_BYTES_MAX,
    V2_BYTES_MAX,
    BadHeader,
    Ends,
    Introduction,
    Own,
    header,
    introduction,
)
from tests.core.test_chunks import h11_decodes
from tests.core.test_config_fuzz import judge
from tests.core.test_proxy_protocol import SIGNATURE
from tests.fuzz.edge import answers_passed, requests_passed
from tests.fuzz.peers import (
    Seen,
    answer_by_h11,
    answers_by_llhttp,
    request_by_h11,
    requests_by_llhttp,
)
from tests.support.strict_grammar import assert_answer, assert_request

Target = Callable[[bytes], None]


def requests(data: bytes) -> None:
    """Whatever of a stream of requests is passed on, others see cut at the same places.

    As it came, and as it goes on; and no byte of a head goes on that the grammar does not know.
    """
    passed = requests_passed(data)
    ours = [Seen(message.start, message.body) for message in passed]
    for message, seen in zip(passed, ours, strict=True):
        assert_request(message.sent)
        assert request_by_h11(message.sent) == seen
        theirs = request_by_h11(message.came)
        assert theirs.body == seen.body
        assert theirs.start[0] == seen.start[0]
        assert theirs.start[1] == seen.start[1] or not theirs.start[1].startswith(b"/")
    theirs_found, whole = requests_by_llhttp(b"".join(message.sent for message in passed))
    assert _same(theirs_found, ours, whole)
    came = b"".join(message.came for message in passed)
    if b"\r\nupgrade:" in came.lower():
        return  # llhttp takes what follows for another protocol; the field does not go on
    theirs_found, whole = requests_by_llhttp(came)
    assert _bodies(theirs_found) == _bodies(ours)[: len(theirs_found)]
    assert not whole or len(theirs_found) == len(ours)


def answers(data: bytes) -> None:
    """The same for the answers to a request; the first byte chooses its method."""
    method = "HEAD" if data[:1] == b"H" else "GET"
    passed = answers_passed(data[1:], method)
    if not passed:
        return
    ours = [Seen(message.start, message.body) for message in passed]
    for message in passed:
        assert_answer(message.sent)
    closed = passed[-1].closes
    sent = b"".join(message.sent for message in passed)
    assert answer_by_h11(sent, method, closed=False) == ours
    came = b"".join(message.came for message in passed)
    assert answer_by_h11(came, method, closed=closed) == ours
    if method == "GET":
        found, whole = answers_by_llhttp(sent)
        assert _same(found, ours, whole)


def chunks(data: bytes) -> None:
    """A body in chunks: the same in any pieces, to h11, and when it is written anew."""
    step, stream = (data[0] % 7 + 1 if data else 1), data[1:]
    whole = _decoded([stream])
    assert whole == _decoded([stream[at : at + step] for at in range(0, len(stream), step)])
    if whole is None:
        return
    payload, size, _ = whole
    # h11 knows no blank before an extension, which the grammar allows (RFC 9112 7.1.1).
    if not (b" ;" in stream or b"\t;" in stream):
        theirs = h11_decodes(stream[:size])
        assert theirs is not None
        assert theirs[0] == payload
    anew = (chunk(payload) if payload else b"") + b"0\r\n\r\n"
    assert _decoded([anew]) == (payload, len(anew), ())
    assert h11_decodes(anew) == (payload, ())


def _decoded(pieces: list[bytes]) -> tuple[bytes, int, Fields] | None:
    """Payload of a body, how many bytes it took, and its trailers; None: not whole, or refused."""
    reader, buffer, payload = ChunkReader(), bytearray(), b""
    taken = 0
    for piece in pieces:
        buffer += piece
        taken += len(piece)
        while True:
            try:
                payload += reader.take(buffer)
            except BadMessage:
                return None
            if reader.hungry or reader.done:
                break
        if reader.done:
            return payload, taken - len(buffer), reader.trailers
    return None


def proxy_headers(data: bytes) -> None:
    """A header ends where it says, whatever is behind it and however much of it has come."""
    said = _introduced(data)
    sizes = range(1, len(data), len(data) // 8 + 1)
    if said is None:
        assert not any(_introduced(data[:size]) for size in sizes)
        return
    for size in (*sizes, said.size - 1, said.size):
        early = _introduced(data[:size])
        assert early is None if size < said.size else early == said
    if data[:1] == b"P":
        line, end, _ = data.partition(b"\r\n")
        assert end
        assert said.size == len(line) + 2 <= V1_BYTES_MAX
        words = line.split(b" ")
        assert (words[1] == b"UNKNOWN") is (said.of == Own())
    else:
        assert data[:12] == SIGNATURE
        assert said.size == 16 + int.from_bytes(data[14:16], "big") <= V2_BYTES_MAX
        assert said.of == Own() or data[12] == 0x21
    if isinstance(said.of, Ends):
        for version in ("v1", "v2"):
            anew = header(version, said.of)
            assert introduction(anew + data) == Introduction(said.of, len(anew))


def _introduced(data: bytes) -> Introduction | None:
    """What the header says; None where it is refused, or not whole."""
    try:
        return introduction(data) if data else None
    except BadHeader:
        return None


def config(data: bytes) -> None:
    """Settings, or errors that have a place; and settings can be written and read again."""
    judge(data.decode("utf-8", "surrogateescape"))


def _same(theirs: list[Seen], ours: list[Seen], whole: bool) -> bool:
    """What is sent is seen as we see it; llhttp may know fewer methods, and then it stops."""
    return theirs == ours if whole else theirs == ours[: len(theirs)]


def _bodies(seen: list[Seen]) -> list[tuple[bytes, bytes]]:
    return [(message.start[0], message.body) for message in seen]


TARGETS: Mapping[str, Target] = {
    "requests": requests,
    "answers": answers,
    "chunks": chunks,
    "proxy_headers": proxy_headers,
    "config": config,
}
