"""trio's own socket API on the memory network: the socket factory and the resolver.

Lets code that never heard of the network seam (httpx, trio.open_tcp_stream, trio.SocketListener)
run on it. Only stream sockets; datagrams and ancillary data are refused.
"""

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import trio

from balancer.rehearsal.tcp_socket import TcpSock
from balancer.rehearsal.unix_socket import UnixSock
from balancer.wire.network import Network


class SocketNetwork(Network, Protocol):
    """A network whose sockets are the memory network's."""

    def socket(self, family: int) -> TcpSock | UnixSock: ...


class MemoryTrioSocket(trio.socket.SocketType):
    """A socket as trio.socket.socket() returns it."""

    def __init__(self, network: SocketNetwork, sock: TcpSock | UnixSock) -> None:
        super().__init__()
        self._network = network
        self._sock = sock
        self._did_shut_wr = False

    @property
    def family(self) -> socket.AddressFamily:
        return socket.AddressFamily(self._sock.family)

    @property
    def type(self) -> socket.SocketKind:
        return socket.SOCK_STREAM

    @property
    def proto(self) -> int:
        return 0

    @property
    def did_shutdown_SHUT_WR(self) -> bool:  # noqa: N802 -- trio's name
        return self._did_shut_wr

    def __enter__(self) -> "MemoryTrioSocket":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fileno(self) -> int:
        return self._sock.fileno()

    def getpeername(self) -> Any:
        return self._sock.getpeername()

    def getsockname(self) -> Any:
        return self._sock.getsockname()

    def getsockopt(self, level: int, optname: int, buflen: int | None = None) -> Any:
        value = self._sock.getsockopt(level, optname)
        return value if buflen is None else value.to_bytes(4, "little")[:buflen]

    def setsockopt(self, level: int, optname: int, value: Any, optlen: int | None = None) -> None:
        if value is None:
            value = b"\0" * (optlen or 0)
        self._sock.setsockopt(level, optname, value if isinstance(value, int) else bytes(value))

    def listen(self, backlog: int = 128) -> None:
        self._sock.listen(backlog)

    def shutdown(self, flag: int) -> None:
        self._sock.shutdown(flag)
        self._did_shut_wr |= flag != socket.SHUT_RD

    def close(self) -> None:
        if self._sock.open:
            self._network.notify_closing(self._sock)
            self._sock.close()

    def is_readable(self) -> bool:
        return self._sock.is_readable()

    async def wait_writable(self) -> None:
        await self._network.wait_writable(self._sock)

    async def bind(self, address: Any) -> None:
        await trio.lowlevel.checkpoint()
        self._sock.bind(address)

    async def accept(self) -> tuple[trio.socket.SocketType, Any]:
        await trio.lowlevel.checkpoint_if_cancelled()
        while True:
            try:
                child, address = self._sock.accept()
            except BlockingIOError:
                await self._network.wait_readable(self._sock)
                continue
            await trio.lowlevel.cancel_shielded_checkpoint()
            return MemoryTrioSocket(self._network, child), address

    async def connect(self, address: Any) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._sock.family != socket.AF_UNIX and not isinstance(address, str):
            host, port = address[:2]
            [_, resolved] = (await self._network.resolve(host, port))[0]
            address = resolved if len(resolved) == len(address) else address
        try:
            error = self._sock.connect_ex(address)
            if error in {errno.EINPROGRESS, errno.EALREADY}:
                await self._network.wait_writable(self._sock)
                error = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            else:
                await trio.lowlevel.cancel_shielded_checkpoint()
        except trio.Cancelled:
            self._sock.close()  # as trio does: an interrupted connect cannot be taken up again
            raise
        if error:
            raise OSError(error, f"Error connecting to {address!r}: {os.strerror(error)}")

    async def recv(self, buflen: int, flags: int = 0, /) -> bytes:
        await trio.lowlevel.checkpoint_if_cancelled()
        while True:
            try:
                data = self._sock.recv(buflen, flags)
            except BlockingIOError:
                await self._network.wait_readable(self._sock)
                continue
            await trio.lowlevel.cancel_shielded_checkpoint()
            return data

    async def send(self, data: Any, flags: int = 0, /) -> int:  # noqa: ARG002 -- trio's signature
        await trio.lowlevel.checkpoint_if_cancelled()
        while True:
            try:
                sent = self._sock.send(data)
            except BlockingIOError:
                await self._network.wait_writable(self._sock)
                continue
            await trio.lowlevel.cancel_shielded_checkpoint()
            return sent


class _Factory(trio.abc.SocketFactory):
    def __init__(self, network: SocketNetwork) -> None:
        self._network = network

    def socket(
        self,
        family: int = socket.AF_INET,
        type: int = socket.SOCK_STREAM,  # noqa: A002 -- trio's name
        proto: int = 0,
    ) -> trio.socket.SocketType:
        if type & 0xF != socket.SOCK_STREAM or proto not in {0, socket.IPPROTO_TCP}:
            raise OSError(errno.EPROTONOSUPPORT, "the memory network has stream sockets only")
        return MemoryTrioSocket(self._network, self._network.socket(family))


class _Resolver(trio.abc.HostnameResolver):
    def __init__(self, network: SocketNetwork) -> None:
        self._network = network

    async def getaddrinfo(
        self,
        host: bytes | None,
        port: bytes | str | int | None,
        family: int = 0,
        type: int = 0,  # noqa: A002 -- trio's name
        proto: int = 0,  # noqa: ARG002
        flags: int = 0,  # noqa: ARG002
    ) -> Any:
        name = "localhost" if host is None else host.decode("ascii")
        kind = socket.SocketKind(type or socket.SOCK_STREAM)
        found = [
            (socket.AddressFamily(own), kind, int(socket.IPPROTO_TCP), "", sockaddr)
            for own, sockaddr in await self._network.resolve(name, int(port or 0))
            if family in {0, own}
        ]
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return found

    async def getnameinfo(self, sockaddr: Any, flags: int) -> tuple[str, str]:  # noqa: ARG002
        await trio.lowlevel.checkpoint()
        return str(sockaddr[0]), str(sockaddr[1])


@contextmanager
def installed(network: SocketNetwork) -> Iterator[None]:
    """Put factory and resolver in place for the current trio run, and the earlier ones back."""
    factory = trio.socket.set_custom_socket_factory(_Factory(network))
    resolver = trio.socket.set_custom_hostname_resolver(_Resolver(network))
    try:
        yield
    finally:
        trio.socket.set_custom_socket_factory(factory)
        trio.socket.set_custom_hostname_resolver(resolver)
