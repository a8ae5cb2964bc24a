"""Bytes in and out of a raw socket: the call first, a wait only when it would block."""

import contextlib
import re
import socket
import struct
from collections.abc import Callable

import trio

from balancer.core.message import BadMessage
from balancer.wire.network import Sock
from balancer.wire.tls_socket import WantsTurn
from balancer.wire.waiting import TURNS_MAX, Interrupted, Waiter

# What one read takes at most: four of the pieces that TLS and most backends write.
READ_BYTES_MAX = 64 * 1024
# How long a connection that is to be closed may go on sending before it is cut, so that the reset
# for its unread bytes does not destroy our last words on their way (RFC 9112 9.6).
LINGER_S = 2.0
LINGER_BYTES_MAX = 4 * 1024 * 1024
# What cannot stand in a head wherever it ends: a line end of one byte, and control bytes.
_NEVER_IN_HEADS = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)|[\0-\x08\x0b\x0c\x0e-\x1f\x7f]")
_CUT = struct.pack("ii", 1, 0)


class PeerClosed(Exception):
    """End of the stream where more was needed."""


class HeadTooLarge(BadMessage):
    """A head that is longer than it may be."""


async def receive(sock: Sock, waiter: Waiter, deadline: float) -> bytes:
    """Some bytes, b"" at the end of the stream. TimedOut, Interrupted, OSError."""
    await waiter.breathe()
    while True:
        try:
            return sock.recv(READ_BYTES_MAX)
        except WantsTurn:
            await waiter.breathe(TURNS_MAX)
        except BlockingIOError:
            await waiter.readable(sock, deadline)


async def send(sock: Sock, waiter: Waiter, data: bytes, timeout_s: float) -> None:
    """All of `data`; at most `timeout_s` without progress. TimedOut, Interrupted, OSError."""
    await waiter.breathe()
    sent = send_now(sock, data)
    if sent < len(data):
        view = memoryview(data)
        while sent < len(data):
            await waiter.writable(sock, trio.current_time() + timeout_s)
            sent += send_now(sock, view[sent:])


def send_now(sock: Sock, data: bytes | memoryview) -> int:
    """What the socket takes without waiting, in bytes; OSError when it is broken."""
    try:
        return sock.send(data)
    except BlockingIOError:
        return 0


class HeadSoFar:
    """A head that comes into `buffer` piece by piece; each byte is looked at once.

    What can never become a head is not waited for: `check_start` is given the first line, and raises
    BadMessage where it is none.
    """

    __slots__ = ("_buffer", "_check_start", "_limit", "_searched", "_started", "_too_large")

    def __init__(
        self,
        buffer: bytearray,
        *,
        limit: int,
        too_large: int,
        check_start: Callable[[bytes], object],
    ) -> None:
        self._buffer = buffer
        self._limit = limit
        self._too_large = too_large
        self._check_start = check_start
        self._searched = 0
        self._started = False

    def size(self) -> int:
        """How long it is, its empty line included; 0: not all of it is here.

        BadMessage; HeadTooLarge(`too_large`) past `limit` bytes.
        """
        buffer, searched = self._buffer, self._searched
        end = buffer.find(b"\r\n\r\n", searched)
        if (len(buffer) if end < 0 else end) > self._limit:
            raise HeadTooLarge(self._too_large, f"the head is longer than {self._limit} bytes")
        if end >= 0:
            return end + 4
        if _NEVER_IN_HEADS.search(buffer, searched) is not None:
            raise BadMessage(
                400, "the head has a control byte, or a line that does not end in CRLF"
            )
        if not self._started and (first := buffer.find(b"\r\n")) >= 0:
            self._started = True
            self._check_start(bytes(buffer[: first + 2]))
        self._searched = max(len(buffer) - 3, 0)
        return 0


async def receive_head(
    sock: Sock, waiter: Waiter, buffer: bytearray, head: HeadSoFar, deadline: Callable[[], float]
) -> bytes:
    """Take one head, its empty line included, out of `buffer` and the stream.

    `head` is of this buffer; `deadline` is asked at each wait. Raises what `head` raises, and PeerClosed
    at an early end.
    """
    while not (size := head.size()):
        data = await receive(sock, waiter, deadline())
        if not data:
            raise PeerClosed
        buffer += data
    return taken(buffer, size)


def taken(buffer: bytearray, size: int) -> bytes:
    """The first `size` bytes of `buffer`, or what there is, removed from it; copied once."""
    with memoryview(buffer) as view:
        data = bytes(view[:size])
    del buffer[:size]
    return data


async def linger(sock: Sock, waiter: Waiter) -> None:
    """Say that we have ended, and let the peer read our last words before the socket closes."""
    with contextlib.suppress(OSError, Interrupted):
        sock.shutdown(socket.SHUT_WR)
        deadline = trio.current_time() + LINGER_S
        drained = 0
        while drained < LINGER_BYTES_MAX and (data := await receive(sock, waiter, deadline)):
            drained += len(data)


def cut(sock: Sock) -> None:
    """Make the coming close a reset, so that the peer cannot take what it has for the whole."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _CUT)
