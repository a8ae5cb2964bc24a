"""Connections for httpcore, the engine of httpx, made the short way.

Its own resolve and race even a literal address, and wrap each read and write in a scope without a
deadline; a probe has one deadline for everything, and this takes half the CPU.
"""

import ssl
from collections.abc import Iterable
from typing import Any

import httpcore
import trio

from healthcheck.probing.place import Place, connect


class Dialer(httpcore.AsyncNetworkBackend):
    """Connects to one place, whatever host and port the URL names."""

    def __init__(self, place: Place) -> None:
        self._place = place

    async def connect_tcp(
        self,
        host: str,  # noqa: ARG002  # the signatures are httpcore's
        port: int,  # noqa: ARG002
        timeout: float | None = None,  # noqa: ARG002, ASYNC109
        local_address: str | None = None,  # noqa: ARG002
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,  # noqa: ARG002
    ) -> httpcore.AsyncNetworkStream:
        try:
            return _Plain(await connect(self._place))
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from error


class _Plain(httpcore.AsyncNetworkStream):
    """Straight to the socket: there is one task, and nobody closes under it."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._socket = stream.socket

    async def read(
        self,
        max_bytes: int,
        timeout: float | None = None,  # noqa: ARG002, ASYNC109
    ) -> bytes:
        try:
            return await self._socket.recv(max_bytes)
        except OSError as error:
            raise httpcore.ReadError(str(error)) from error

    async def write(
        self,
        buffer: bytes,
        timeout: float | None = None,  # noqa: ARG002, ASYNC109
    ) -> None:
        try:
            while buffer:
                buffer = buffer[await self._socket.send(buffer) :]
        except OSError as error:
            raise httpcore.WriteError(str(error)) from error

    async def aclose(self) -> None:
        self._socket.close()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002, ASYNC109
    ) -> httpcore.AsyncNetworkStream:
        secured = trio.SSLStream(
            self._stream, ssl_context, server_hostname=server_hostname, https_compatible=True
        )
        try:
            await secured.do_handshake()
        except trio.BrokenResourceError as error:
            self._socket.close()
            raise httpcore.ConnectError(str(error)) from error
        except BaseException:
            self._socket.close()
            raise
        return _Secured(secured)

    def get_extra_info(self, info: str) -> Any:  # noqa: ARG002
        return None


class _Secured(httpcore.AsyncNetworkStream):
    def __init__(self, stream: trio.SSLStream[trio.SocketStream]) -> None:
        self._stream = stream

    async def read(
        self,
        max_bytes: int,
        timeout: float | None = None,  # noqa: ARG002, ASYNC109
    ) -> bytes:
        try:
            return bytes(await self._stream.receive_some(max_bytes))
        except trio.BrokenResourceError as error:
            raise httpcore.ReadError(str(error)) from error

    async def write(
        self,
        buffer: bytes,
        timeout: float | None = None,  # noqa: ARG002, ASYNC109
    ) -> None:
        try:
            await self._stream.send_all(buffer)
        except trio.BrokenResourceError as error:
            raise httpcore.WriteError(str(error)) from error

    async def aclose(self) -> None:
        await self._stream.aclose()

    def get_extra_info(self, info: str) -> Any:  # noqa: ARG002
        return None
