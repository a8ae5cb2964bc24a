"""Random uses of a connected pair of sockets give the same results on the kernel and in memory."""

import errno
import os
import select
import socket
import struct
import tempfile
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from balancer.rehearsal.memory_network import MemoryNetwork
from balancer.wire.network import KernelNetwork, Network, Sock

Step = tuple[int, str, Any]  # which end, what, with what

_STEPS = st.one_of(
    st.tuples(st.just("send"), st.integers(0, 40)),
    st.tuples(st.just("recv"), st.integers(1, 60)),
    st.tuples(st.just("peek"), st.integers(1, 60)),
    st.tuples(st.just("shutdown"), st.sampled_from(["SHUT_RD", "SHUT_WR", "SHUT_RDWR"])),
    st.tuples(st.just("close"), st.none()),
    st.tuples(st.just("error"), st.none()),
    st.tuples(st.just("left"), st.none()),
    st.tuples(st.just("peer"), st.none()),
    st.tuples(st.just("linger"), st.none()),
)
USES = st.lists(
    st.tuples(st.integers(0, 1), _STEPS).map(lambda s: (s[0], s[1][0], s[1][1])), max_size=14
)


def result_of(network: Network, sock: Sock, what: str, argument: Any) -> object:
    calls: dict[str, Callable[[], object]] = {
        "send": lambda: sock.send(bytes(range(argument))),
        "recv": lambda: sock.recv(argument),
        "peek": lambda: sock.recv(argument, socket.MSG_PEEK),
        "shutdown": lambda: sock.shutdown(getattr(socket, argument)),
        "close": sock.close,
        "error": lambda: sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR),
        "left": lambda: network.has_left(sock),
        "peer": lambda: type(sock.getpeername()).__name__,
        "linger": lambda: sock.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        ),
    }
    try:
        return calls[what]()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    except ValueError as error:
        return str(error)


def readiness(network: Network, sock: Sock) -> str:
    """What a waiter would see: readable, writable, or nothing."""
    if sock.fileno() < 0:
        return "-"
    if isinstance(sock, socket.socket):
        poller = select.poll()
        poller.register(sock, select.POLLIN | select.POLLOUT)
        flags = (poller.poll(0) or [(0, 0)])[0][1]
        gone = bool(flags & (select.POLLHUP | select.POLLERR))
        readable, writable = bool(flags & select.POLLIN), bool(flags & select.POLLOUT)
    else:
        gone, readable, writable = sock.has_left(), sock.is_readable(), sock.is_writable()  # type: ignore[attr-defined]
    return "r" * (readable or gone) + "w" * (writable or gone)


def settled(network: Network, pair: tuple[Sock, Sock], patience_s: float) -> tuple[str, str]:
    """The readiness of both ends once the kernel has carried everything over."""
    if isinstance(pair[0], socket.socket):
        time.sleep(patience_s)
    return readiness(network, pair[0]), readiness(network, pair[1])


def trace(
    network: Network, pair: tuple[Sock, Sock], uses: list[Step], patience_s: float = 0.0
) -> list[object]:
    seen: list[object] = [settled(network, pair, patience_s)]
    for side, what, argument in uses:
        seen.append((side, what, argument, result_of(network, pair[side], what, argument)))
        seen.append(settled(network, pair, patience_s))
    for sock in pair:
        sock.close()
    return seen


def connected(network: Network, family: int, address: Any) -> tuple[Sock, Sock]:
    listener, client = network.socket(family), network.socket(family)
    listener.bind(address)
    listener.listen(1)
    assert client.connect_ex(listener.getsockname()) in {0, errno.EINPROGRESS}  # type: ignore[arg-type]
    if isinstance(listener, socket.socket):
        select.select([listener], [], [], 5)
    accepted, _ = listener.accept()
    listener.close()
    if family != socket.AF_UNIX:
        for sock in (client, accepted):  # Nagle's algorithm would hold small packets back
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client, accepted


def compare(family: int, address: Callable[[], Any], uses: list[Step]) -> None:
    memory, kernel = MemoryNetwork(seed=0), KernelNetwork()
    path = address()
    expected = trace(memory, connected(memory, family, path), uses)
    seen: list[object] = []
    # Loopback delivers in the call; what a busy machine has delivered late is no difference.
    for patience_s in (0.0001, 0.01, 0.1):
        seen = trace(kernel, connected(kernel, family, path), uses, patience_s)
        if isinstance(path, str):
            os.unlink(path)
        if seen == expected:
            return
    assert expected == seen


@given(uses=USES)
@example(uses=[(0, "send", 5), (1, "close", None), (0, "send", 1), (0, "send", 1), (0, "recv", 1)])
@example(uses=[(1, "shutdown", "SHUT_RDWR"), (0, "send", 1), (1, "recv", 1), (0, "send", 1)])
@example(uses=[(0, "shutdown", "SHUT_WR"), (1, "close", None), (0, "peer", None)])
def test_random_uses_of_a_tcp_pair_are_the_same(uses: list[Step]):
    compare(socket.AF_INET, lambda: ("127.0.0.1", 0), uses)


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no IPv6")
@given(uses=USES)
def test_random_uses_of_a_tcp_pair_over_ipv6_are_the_same(uses: list[Step]):
    compare(socket.AF_INET6, lambda: ("::1", 0), uses)


@given(uses=USES)
@example(uses=[(1, "send", 1), (0, "shutdown", "SHUT_RDWR"), (0, "close", None), (1, "recv", 1)])
def test_random_uses_of_a_unix_pair_are_the_same(uses: list[Step]):
    compare(socket.AF_UNIX, lambda: tempfile.mktemp(prefix="pair-", suffix=".sock"), uses)
