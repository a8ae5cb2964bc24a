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


async def receive_head(
    sock: Sock,
    waiter: Waiter,
    buffer: bytearray,
    *,
    limit: int,
    deadline: Callable[[], float],
    too_large: int,
    check_start: Callable[[bytes], object],
) -> bytes:
    """Take one head, its empty line included, out of `buffer` and the stream.

    `deadline` is asked at each wait. What can never become a head is not waited for: `check_start`
    is given the first line, and raises BadMessage where it is none. Raises HeadTooLarge(`too_large`)
    past `limit` bytes, PeerClosed at an early end.
    """
    searched, started = 0, False
    while (end := buffer.find(b"\r\n\r\n", searched)) < 0:
        if len(buffer) > limit:
            raise HeadTooLarge(too_large, f"the head is longer than {limit} bytes")
        if _NEVER_IN_HEADS.search(buffer, searched) is not None:
            raise BadMessage(
                400, "the head has a control byte, or a line that does not end in CRLF"
            )
        if not started and (first := buffer.find(b"\r\n")) >= 0:
            started = True
            check_start(bytes(buffer[: first + 2]))
        searched = max(len(buffer) - 3, 0)
        data = await receive(sock, waiter, deadline())
        if not data:
            raise PeerClosed
        buffer += data
    if end > limit:
        raise HeadTooLarge(too_large, f"the head is longer than {limit} bytes")
    return taken(buffer, end + 4)


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
