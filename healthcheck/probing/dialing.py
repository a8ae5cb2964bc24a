"""Connections for httpcore, the engine of httpx, made the short way.

Its own resolve and race even a literal address, and wrap each read and write in a scope without a
deadline; a probe has one deadline for everything.
"""

import ssl
from typing import Any

import httpcore
import trio

from healthcheck.probing.place import Place, connect


class Line(httpcore.AsyncNetworkStream):
    """Straight to the socket: there is one task, and nobody closes under it."""

    def __init__(self, sock: trio.socket.SocketType) -> None:
        self._sock = sock

    async def read(
        self,
        max_bytes: int,
        timeout: float | None = None,  # noqa: ARG002, ASYNC109  # the signatures are httpcore's
    ) -> bytes:
        try:
            return await self._sock.recv(max_bytes)
        except OSError as error:
            raise httpcore.ReadError(str(error)) from error

    async def write(
        self,
        buffer: bytes,
        timeout: float | None = None,  # noqa: ARG002, ASYNC109
    ) -> None:
        try:
            while buffer:
                buffer = buffer[await self._sock.send(buffer) :]
        except OSError as error:
            raise httpcore.WriteError(str(error)) from error

    async def aclose(self) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket, at once; may be repeated."""
        self._sock.close()

    def get_extra_info(self, info: str) -> Any:  # noqa: ARG002
        return None


class SecuredLine(Line):
    """The same through TLS. Closed without a farewell of TLS, as HTTPS allows."""

    def __init__(
        self, sock: trio.socket.SocketType, secured: trio.SSLStream[trio.SocketStream]
    ) -> None:
        super().__init__(sock)
        self._secured = secured

    async def read(
        self,
        max_bytes: int,
        timeout: float | None = None,  # noqa: ARG002, ASYNC109
    ) -> bytes:
        try:
            return bytes(await self._secured.receive_some(max_bytes))
        except trio.BrokenResourceError as error:
            raise httpcore.ReadError(str(error)) from error

    async def write(
        self,
        buffer: bytes,
        timeout: float | None = None,  # noqa: ARG002, ASYNC109
    ) -> None:
        try:
            await self._secured.send_all(buffer)
        except trio.BrokenResourceError as error:
            raise httpcore.WriteError(str(error)) from error


async def dial(place: Place, context: ssl.SSLContext | None, server_name: str) -> Line:
    """A connection to `place`, through TLS where there is a context; the caller closes it.

    Raises what `connect` does, and trio.BrokenResourceError with the error of TLS as its cause.
    """
    sock = await connect(place)
    if context is None:
        return Line(sock)
    secured = trio.SSLStream(
        trio.SocketStream(sock), context, server_hostname=server_name, https_compatible=True
    )
    try:
        await secured.do_handshake()
    except BaseException:
        sock.close()
        raise
    return SecuredLine(sock, secured)
