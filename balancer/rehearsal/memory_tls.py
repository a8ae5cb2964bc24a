"""TLS on a socket of the memory network: OpenSSL between two buffers in memory.

Decides when bytes move between those buffers and the socket; what the calls mean is the data path's
own (`wire/tls_socket.py`), the same as on the kernel.
"""

import ssl
from collections.abc import Callable
from typing import Any, TypeVar

from balancer.wire.network import Sock
from balancer.wire.tls_socket import Coded

T = TypeVar("T")

PIECE = 64 * 1024


class MemoryEngine:
    """`balancer.wire.tls_socket.Engine`: raises where OpenSSL on a socket would."""

    def __init__(
        self,
        below: Sock,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        server_hostname: str | None,
    ) -> None:
        self._below = below
        self._arrived = ssl.MemoryBIO()
        self._leaving = ssl.MemoryBIO()
        self._unsent = b""
        self._taken = 0  # bytes of a send that is still to go, already coded
        self._openssl = context.wrap_bio(
            self._arrived, self._leaving, server_side=server_side, server_hostname=server_hostname
        )

    def do_handshake(self) -> None:
        try:
            self._pumped(self._openssl.do_handshake)
        finally:
            gone = self._flush()
        if not gone:
            raise ssl.SSLWantWriteError

    def read(self, size: int, /) -> bytes:
        return self._pumped(lambda: self._openssl.read(size))

    def write(self, data: bytes | memoryview, /) -> int:
        if not self._flush():
            raise ssl.SSLWantWriteError
        if not self._taken:
            self._taken = self._openssl.write(data)
        if not self._flush():
            raise ssl.SSLWantWriteError
        taken, self._taken = self._taken, 0
        return taken

    def unwrap(self) -> None:
        try:
            self._openssl.unwrap()
        finally:
            self._flush()

    def _pumped(self, call: Callable[[], T]) -> T:
        """What `call` gives, with all that has come and as much more as it takes."""
        while True:
            try:
                return call()
            except ssl.SSLWantReadError:
                if not self._flush():
                    raise ssl.SSLWantWriteError from None
                try:
                    arrived = self._below.recv(PIECE)
                except BlockingIOError:
                    raise ssl.SSLWantReadError from None
                if arrived:
                    self._arrived.write(arrived)
                else:
                    self._arrived.write_eof()

    def _flush(self) -> bool:
        """Send what is coded; whether all of it went."""
        self._unsent += self._leaving.read()
        try:
            while self._unsent:
                self._unsent = self._unsent[self._below.send(self._unsent) :]
        except BlockingIOError:
            return False
        return True

    @property
    def session(self) -> object:
        """What a client keeps to go on from another time."""
        return self._openssl.session

    @session.setter
    def session(self, session: object) -> None:
        assert isinstance(session, ssl.SSLSession)
        self._openssl.session = session

    @property
    def context(self) -> ssl.SSLContext:
        return self._openssl.context

    @property
    def session_reused(self) -> bool | None:
        return self._openssl.session_reused

    def version(self) -> str | None:
        return self._openssl.version()

    def cipher(self) -> tuple[str, str, int] | None:
        return self._openssl.cipher()

    def selected_alpn_protocol(self) -> str | None:
        return self._openssl.selected_alpn_protocol()

    def getpeercert(self, binary_form: bool, /) -> Any:
        return self._openssl.getpeercert(binary_form)


class MemoryTls(Coded):
    """`balancer.wire.network.TlsSock`, on the socket `carrier`."""

    def __init__(self, engine: MemoryEngine, carrier: Sock) -> None:
        super().__init__(engine, carrier)
        self.buffers = engine
        self.carrier = carrier

    def more_has_come(self) -> bool:
        return True

    def shut_below(self, how: int) -> None:
        self.carrier.shutdown(how)

    def recv_below(self, size: int) -> bytes:
        return self.carrier.recv(size)


def carrier_of(sock: object) -> object:
    """What carries this socket, if it is coded, or else itself."""
    return sock.carrier if isinstance(sock, MemoryTls) else sock
