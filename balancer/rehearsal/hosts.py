"""Virtual hosts and the world they share: addresses, ports, paths, limits, power, roads.

Decides who may bind what, which listener hears a connect, and what a crash leaves behind.
"""

import errno
import random
import socket
import zlib
from itertools import count

from balancer.rehearsal.addresses import Endpoint, canonical, family_of, wildcard
from balancer.rehearsal.deliveries import Deliveries
from balancer.rehearsal.descriptor import MemorySock, fail
from balancer.rehearsal.links import Link, Road
from balancer.rehearsal.tcp_connection import TcpConnection
from balancer.rehearsal.tcp_socket import TcpSock
from balancer.rehearsal.unix_socket import UnixSock

FIRST_NUMBER = (
    1_000_000_001  # above any real descriptor: a stray os.close() fails instead of biting
)
EPHEMERAL_PORTS = range(32768, 61000)
BUFFER = 65536


class World:
    """What all hosts share."""

    def __init__(self, *, seed: int, latency_s: float) -> None:
        self.rng = random.Random(seed)
        self.deliveries = Deliveries()
        self.latency_s = latency_s
        self.short_reads = False
        self.hosts: dict[str, Host] = {}  # by every address
        self.names: dict[str, tuple[str, ...]] = {}
        self.resolve_delay_s = 0.0
        self._links: dict[tuple[str, str, int | None], Link] = {}
        self._numbers = count(FIRST_NUMBER)

    def next_number(self) -> int:
        return next(self._numbers)

    def shortened(self, size: int) -> int:
        """A size that one call moves: all of it, or a seeded part when short reads are on."""
        return self.rng.randint(1, size) if self.short_reads and size > 1 else size

    def host_at(self, ip: str) -> "Host | None":
        host = self.hosts.get(ip)
        if host is None and ip.startswith("127."):
            return self.hosts.get("127.0.0.1")
        return host

    def link(self, one: "Host", other: "Host", port: int | None) -> Link:
        if port is None and one.name > other.name:
            one, other = other, one
        key = (one.name, other.name, port)
        if key not in self._links:
            label = f"{one.name} - {other.name}" + ("" if port is None else f" port {port}")
            latency_s = self.latency_s if port is None and one is not other else 0.0
            self._links[key] = Link(label, latency_s=latency_s)
        return self._links[key]


class Host:
    """A virtual machine: addresses, ports, paths, descriptors and power."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.deliveries = world.deliveries
        self.next_number = world.next_number
        self.shortened = world.shortened
        self.name = name
        self.addresses: list[str] = []
        self.cable = Link(f"cable of {name}")
        self.powered = True
        self.descriptor_limit: int | None = None
        self.send_buffer = BUFFER
        self.receive_buffer = BUFFER
        self.unix_paths: dict[str, UnixSock] = {}
        self._open: dict[int, MemorySock] = {}
        self._connections: dict[int, TcpConnection] = {}  # orphans too
        self._ports: dict[int, list[TcpSock]] = {}
        self._steered: dict[tuple[int, Endpoint | None], int] = {}
        self._next_port = count(0)

    def __repr__(self) -> str:
        return f"<Host {self.name} {' '.join(self.addresses)}>"

    def add_address(self, ip: str) -> None:
        """Give this host one more address."""
        ip = canonical(ip)
        self.addresses.append(ip)
        self.world.hosts[ip] = self

    # Faults.

    def open_sockets(self) -> tuple[MemorySock, ...]:
        """Every socket that a program here has not closed, oldest first."""
        return tuple(self._open.values())

    def kill(self) -> None:
        """SIGKILL of every process here: the kernel closes their sockets, FIN or RST as it would."""
        for sock in self.open_sockets():
            sock.interrupt()
            sock.close()

    def vanish(self) -> None:
        """Power cut: no FIN, no RST, and nothing answers until boot()."""
        self.powered = False
        for sock in (*self.open_sockets(), *self._connections.values()):
            sock.interrupt()
            sock.lose_power()
        self.unix_paths.clear()

    def boot(self) -> None:
        """Power is back; what old connections still send is answered by RST."""
        self.powered = True
        self.cable.fault = self.cable.fault  # whoever waits for us sends again

    def unlink(self, path: str) -> None:
        """Remove a unix socket's file."""
        if self.unix_paths.pop(path, None) is None:
            fail(errno.ENOENT)

    # Descriptors.

    def check_limit(self) -> None:
        if self.descriptor_limit is not None and len(self._open) >= self.descriptor_limit:
            fail(errno.EMFILE)

    def adopt(self, sock: MemorySock) -> None:
        """Give the socket a descriptor."""
        self.check_limit()
        sock.open = True
        self._open[sock.number] = sock

    def release(self, sock: MemorySock) -> None:
        if isinstance(sock, TcpSock):
            self._leave_place(sock)
        sock.open = False
        del self._open[sock.number]

    def remember(self, connection: TcpConnection) -> None:
        self._connections[connection.number] = connection

    def forget(self, sock: MemorySock) -> None:
        """The conversation of this socket is over."""
        self._connections.pop(sock.number, None)

    # Addresses and ports.

    def has(self, ip: str) -> bool:
        return self.world.host_at(ip) is self

    def source_for(self, family: int) -> str | None:
        """The address that a connect comes from; None without one of that family."""
        return next((own for own in self.addresses if family_of(own) == family), None)

    def located(self, remote: Endpoint, family: int) -> Endpoint:
        """Where a connect from here really goes: the wildcard address means this host."""
        if remote[0] != wildcard(family):
            return remote
        return self.source_for(family) or remote[0], remote[1]

    def road_to(self, remote: Endpoint) -> "tuple[Host, Road] | None":
        """The host at that address, and the links from here to that port of it; None: no such host."""
        ip, port = remote
        target = self.world.host_at(ip)
        if target is None:
            return None
        cables = () if target is self else (self.cable, target.cable)
        pair, narrow = self.world.link(self, target, None), self.world.link(self, target, port)
        return target, Road((*cables, pair, narrow), self.world.rng)

    def ephemeral_port(self) -> int:
        return EPHEMERAL_PORTS[next(self._next_port) % len(EPHEMERAL_PORTS)]

    def claim(self, sock: TcpSock, ip: str, port: int) -> Endpoint:
        """Bind: note the owner of the port, or fail as bind() does."""
        any_port = port == 0
        if ip != wildcard(sock.family) and not self.has(ip):
            fail(errno.EADDRNOTAVAIL)
        while port == 0 or (any_port and self._owners(port)):
            port = self.ephemeral_port()
        owners = self._owners(port)
        if any(_conflict(sock, ip, other) for other in owners):
            fail(errno.EADDRINUSE)
        self._ports[port] = [*owners, sock]
        return ip, port

    def check_listen(self, sock: TcpSock) -> None:
        """Fail as listen() does when another socket listens at the same place."""
        ip, port = sock.local or (wildcard(sock.family), 0)
        others = (other for other in self._owners(port) if other is not sock and other.is_listening)
        if any(_conflict(sock, ip, other) for other in others):
            fail(errno.EADDRINUSE)

    def _owners(self, port: int) -> list[TcpSock]:
        return [sock for sock in self._ports.get(port, ()) if sock.open]

    def listener_at(self, local: Endpoint, remote: Endpoint) -> TcpSock | None:
        """Who hears a connect: the most exact address; among several, by a hash of the caller."""
        owners = [sock for sock in self._owners(local[1]) if sock.is_listening]
        for matches in (_listens_exactly, _listens_wide, _listens_to_both):
            group = [sock for sock in owners if matches(sock, local[0])]
            if group:
                return self._chosen(group, zlib.crc32(repr(remote).encode()))
        return None

    def _chosen(self, group: list[TcpSock], number: int) -> TcpSock:
        """One of those that share a place: of the first of them, if they are still there."""
        at = number % self._steered.get(_place(group[0]), len(group))
        return group[at] if at < len(group) else group[number % len(group)]

    def steer(self, sock: TcpSock, first: int | None) -> None:
        """Have connects come to the first so many sockets of this one's place; None: to all."""
        if first is None:
            self._steered.pop(_place(sock), None)
        else:
            self._steered[_place(sock)] = first

    def _leave_place(self, sock: TcpSock) -> None:
        """The last of those that share its place gets the number of the one that is closed."""
        port = 0 if sock.local is None else sock.local[1]
        owners = self._owners(port)
        if sock not in owners:
            return
        numbers = [at for at, other in enumerate(owners) if _place(other) == _place(sock)]
        owners[owners.index(sock)] = owners[numbers[-1]]
        del owners[numbers[-1]]
        self._ports[port] = owners
        if len(numbers) == 1:
            self._steered.pop(_place(sock), None)


def _place(sock: TcpSock) -> tuple[int, Endpoint | None]:
    return sock.family, sock.local


def _conflict(sock: TcpSock, ip: str, other: TcpSock) -> bool:
    """Whether Linux refuses to bind `sock` to `ip` beside `other`, which has the same port."""
    theirs = other.local[0] if other.local is not None else ip
    wide = {wildcard(socket.AF_INET), wildcard(socket.AF_INET6)}
    if sock.family != other.family:
        six = sock if sock.family == socket.AF_INET6 else other
        overlap = (ip if six is sock else theirs) in wide and not _only_v6(six)
    else:
        overlap = ip == theirs or ip in wide or theirs in wide
    if all(one.option_is_set(socket.SO_REUSEPORT) for one in (sock, other)):
        return False
    reuse = all(one.option_is_set(socket.SO_REUSEADDR) for one in (sock, other))
    return overlap and not (reuse and not other.is_listening)


def _only_v6(sock: TcpSock) -> bool:
    return bool(sock.options.get((socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)))


def _listens_exactly(sock: TcpSock, ip: str) -> bool:
    return sock.local is not None and sock.local[0] == ip


def _listens_wide(sock: TcpSock, ip: str) -> bool:
    wide = sock.local is not None and sock.local[0] == wildcard(family_of(ip))
    return wide and sock.family == family_of(ip)


def _listens_to_both(sock: TcpSock, ip: str) -> bool:
    wide = sock.local is not None and sock.local[0] == wildcard(socket.AF_INET6)
    return wide and family_of(ip) == socket.AF_INET and not _only_v6(sock)
