"""Which part of a request's body may pass unread, and what that means for a repeat."""

import pytest

from balancer.core.client_limits import ClientLimits
from balancer.core.framing import CHUNKED, BodyKind, Framing
from balancer.proxy.request_body import KEPT_BYTES_MAX, RequestBody

LIMITS = ClientLimits(header_s=1, idle_s=1, body_s=1, head_bytes_max=1024)
HALF = KEPT_BYTES_MAX // 2


def body(framing: Framing, arrived: bytes) -> RequestBody:
    it = RequestBody(bytearray(arrived), framing, LIMITS)
    it.take_arrived()
    return it


@pytest.mark.parametrize(
    ("length", "arrived", "unkept"),
    [
        (KEPT_BYTES_MAX, HALF, 0),  # it will be kept whole
        (KEPT_BYTES_MAX + 1, HALF - 1, 0),  # a repeat is still cheap
        (KEPT_BYTES_MAX + 1, HALF, HALF + 1),
        (10 * KEPT_BYTES_MAX, KEPT_BYTES_MAX, 9 * KEPT_BYTES_MAX),
        (HALF, HALF, 0),
    ],
)
def test_only_what_cannot_be_kept_passes_unread(length: int, arrived: int, unkept: int) -> None:
    assert body(Framing(BodyKind.LENGTH, length), b"x" * arrived).unkept == unkept


def test_chunks_are_always_read() -> None:
    sent = b"%x\r\n" % (2 * KEPT_BYTES_MAX) + b"x" * KEPT_BYTES_MAX
    assert body(CHUNKED, sent).unkept == 0


def test_it_can_be_repeated_until_something_has_passed_unread() -> None:
    it = body(Framing(BodyKind.LENGTH, 3 * HALF), b"x" * HALF)
    it.passed_by(2 * HALF)
    assert it.restart() == b"x" * HALF
    it.passed_by(2 * HALF - 1)
    assert (it.replayable, it.bytes_taken, it.complete) == (False, HALF + 1, False)
    it.passed_by(0)
    assert (it.replayable, it.bytes_taken, it.complete) == (False, 3 * HALF, True)
