"""The network seam without a kernel: virtual hosts, faults and virtual time.

`MemoryNetwork` is the network as the default host (127.0.0.1) sees it and the place where hosts,
names, links and faults are set; `as_seen_from()` gives the same world to a program on another host.
"""

import errno
import socket
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import count

import trio

from balancer.rehearsal.addresses import canonical, family_of, is_ip
from balancer.rehearsal.descriptor import MemorySock, fail
from balancer.rehearsal.edges import MemoryEdges, carrier_of
from balancer.rehearsal.hosts import Host, World
from balancer.rehearsal.links import Link
from balancer.rehearsal.tcp_socket import TcpSock
from balancer.rehearsal.trio_sockets import installed
from balancer.rehearsal.unix_socket import UnixSock
from balancer.wire.network import Network, Sock, SockAddr


class HostNetwork(Network):
    """The network as programs on one host see it."""

    def __init__(self, world: World, host: Host) -> None:
        self.world = world
        self.own_host = host

    def socket(self, family: int) -> TcpSock | UnixSock:
        if family not in {socket.AF_INET, socket.AF_INET6, socket.AF_UNIX}:
            fail(errno.EAFNOSUPPORT)
        sock: TcpSock | UnixSock
        if family == socket.AF_UNIX:
            sock = UnixSock(self.own_host, family, self.own_host.unix_paths)
        else:
            sock = TcpSock(self.own_host, family)
        self.own_host.adopt(sock)
        return sock

    async def wait_readable(self, sock: Sock) -> None:
        await _own(sock).wait_readable()

    async def wait_writable(self, sock: Sock) -> None:
        await _own(sock).wait_writable()

    def notify_closing(self, sock: Sock) -> None:
        _own(sock).interrupt()

    def has_left(self, sock: Sock) -> bool:
        if sock.fileno() < 0:
            raise ValueError("file descriptor cannot be a negative integer (-1)")
        return _own(sock).has_left()

    def descriptors(self) -> int:
        limit = self.own_host.descriptor_limit
        return sys.maxsize if limit is None else limit

    def unsent(self, sock: Sock) -> int:
        return _own(sock).unsent()

    def steer(self, sock: Sock, first: int | None) -> None:
        assert isinstance(sock, TcpSock), "only sockets that share a place by SO_REUSEPORT"
        self.own_host.steer(sock, first)

    def edges(self) -> MemoryEdges:
        return MemoryEdges()

    async def resolve(self, host: str, port: int) -> tuple[tuple[int, SockAddr], ...]:
        """Look the name up in the table of names; socket.gaierror when it is not there."""
        await trio.sleep(self.world.resolve_delay_s)
        ips = (canonical(host),) if is_ip(host) else self.world.names.get(_plain(host), ())
        if not ips:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return tuple((family_of(ip), _sockaddr(ip, port)) for ip in ips)

    @contextmanager
    def install_for_trio(self) -> Iterator[None]:
        """Let trio.socket, and so httpx, trio.open_tcp_stream and listeners, run on this network."""
        with installed(self):
            yield


class MemoryNetwork(HostNetwork):
    """A whole network; itself the view of the host 127.0.0.1, which is ::1 and localhost too."""

    def __init__(self, *, seed: int, latency_s: float = 0.0) -> None:
        world = World(seed=seed, latency_s=latency_s)
        super().__init__(world, Host(world, "127.0.0.1"))
        self._spare = count(1)
        self.own_host.add_address("127.0.0.1")
        self.own_host.add_address("::1")
        self.name("localhost", ["127.0.0.1"])

    def host(self, name_or_ip: str) -> Host:
        """The host with this address or name; made when there is none yet."""
        if not is_ip(name_or_ip):
            ips = self.world.names.get(_plain(name_or_ip))
            if not ips:
                number = next(self._spare)
                ips = (f"10.77.{number // 250}.{number % 250 + 1}",)
                self.name(name_or_ip, ips)
            return self._host_at(ips[0], name_or_ip)
        return self._host_at(canonical(name_or_ip), canonical(name_or_ip))

    def _host_at(self, ip: str, name: str) -> Host:
        host = self.world.host_at(ip)
        if host is None:
            host = Host(self.world, name)
            host.add_address(ip)
        return host

    def name(self, name: str, ips: Iterable[str]) -> None:
        """Set what a name resolves to, best first; nothing: the name is not known."""
        self.world.names[_plain(name)] = tuple(canonical(ip) for ip in ips)

    def as_seen_from(self, host: Host | str) -> HostNetwork:
        """This network for a program on another host."""
        return HostNetwork(self.world, self.host(host) if isinstance(host, str) else host)

    def link(self, one: Host | str, other: Host | str, port: int | None = None) -> Link:
        """The link between two hosts; with a port, only for connections of `one` to it at `other`."""
        first = self.host(one) if isinstance(one, str) else one
        second = self.host(other) if isinstance(other, str) else other
        return self.world.link(first, second, port)

    def set_short_reads(self, on: bool) -> None:
        """Let recv() and send() move a random part of what they could, as kernels may."""
        self.world.short_reads = on

    def set_resolve_delay(self, seconds: float) -> None:
        """How long resolve() takes."""
        self.world.resolve_delay_s = seconds


def _own(sock: Sock) -> MemorySock:
    own = carrier_of(sock)
    if not isinstance(own, MemorySock):
        raise TypeError(f"{sock!r} is not a socket of the memory network")
    return own


def _plain(name: str) -> str:
    return name.lower().rstrip(".")


def _sockaddr(ip: str, port: int) -> SockAddr:
    return (ip, port, 0, 0) if ":" in ip else (ip, port)
