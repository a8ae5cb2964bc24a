"""Opening a connection to a backend, with the kernel's errors turned into our words."""

import errno
import socket
from collections.abc import Sequence

import trio

from balancer.core.outcome import Failure
from balancer.wire.network import Network, Sock, SockAddr
from balancer.wire.options import no_delay
from balancer.wire.waiting import TimedOut, Waiter

Target = tuple[int, SockAddr]

# Of our own making: no descriptors, no memory, no free local port.
_OWN = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL, errno.EAGAIN}
)
_REFUSED = frozenset({errno.ECONNREFUSED, errno.ECONNRESET, errno.ENOENT})


class DialFailed(Exception):
    """No connection; `failure` says why."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.value)
        self.failure = failure


async def dial(
    network: Network, waiter: Waiter, targets: Sequence[Target], deadline: float
) -> Sock:
    """Connect to the first of `targets` that answers. DialFailed: none did before `deadline`.

    What time is left is shared among the addresses that are left, so that one that swallows packets
    (a name with a dead IPv6 address) leaves some for the next.
    """
    failure = Failure.NAME_UNKNOWN
    for index, (family, address) in enumerate(targets):
        now = trio.current_time()
        share = now + (deadline - now) / (len(targets) - index)
        try:
            return await _dial_one(network, waiter, family, address, share)
        except TimedOut:
            failure = Failure.CONNECT_TIMEOUT
        except OSError as exc:
            failure = failure_of(exc)
    raise DialFailed(failure)


async def _dial_one(
    network: Network, waiter: Waiter, family: int, address: SockAddr, deadline: float
) -> Sock:
    sock = network.socket(family)
    try:
        no_delay(sock)
        code = sock.connect_ex(address)
        if code == errno.EINPROGRESS:
            await waiter.writable(sock, deadline)
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, "connect")
    except BaseException:
        sock.close()
        raise
    return sock


def failure_of(exc: OSError) -> Failure:
    """The word for an OSError of socket(), connect() or a name look-up."""
    if isinstance(exc, socket.gaierror):
        return Failure.NAME_UNKNOWN
    if exc.errno in _OWN:
        return Failure.OWN_LIMIT
    if exc.errno in _REFUSED:
        return Failure.CONNECT_REFUSED
    if exc.errno == errno.ETIMEDOUT:
        return Failure.CONNECT_TIMEOUT
    return Failure.CONNECT_UNREACHABLE
