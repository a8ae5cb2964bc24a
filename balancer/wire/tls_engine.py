"""OpenSSL between two buffers in memory, and the connection that carries what is coded.

Decides how much OpenSSL is given at a time: one record, so that no call can go on for as long as a
peer keeps sending. On the socket itself it would: it reads records without data (changes of keys,
tickets, empty ones) until there is one with data. What the calls of a socket mean: `tls_socket`.
"""

import ssl
from contextlib import suppress
from typing import Any, Protocol

# What one read of the connection below takes: four records of the usual size.
PIECE_BYTES_MAX = 64 * 1024
# Records in a row that bring no data. Go refuses more than 16, OpenSSL did so with 32 changes of keys;
# a few tickets are usual. Each costs some 10 to 30 µs.
QUIET_RECORDS_MAX = 32
# Of an exchange of keys: long chains of certificates come in pieces of 512 bytes at the least.
HANDSHAKE_RECORDS_MAX = 256
# What a send may leave behind is one record of 17 KiB; the rest is for answers to changes of keys,
# of 27 bytes each. A peer that takes nothing has no use for more of them.
LEFT_BYTES_MAX = 32 * 1024
_HEADER_BYTES = 5
# How requests begin, that of HTTP/2 among them; no record of TLS does.
_HTTP = frozenset(
    (
        b"GET /",
        b"HEAD ",
        b"POST ",
        b"PUT /",
        b"DELET",
        b"PATCH",
        b"OPTIO",
        b"CONNE",
        b"TRACE",
        b"PRI *",
    )
)


class Carrier(Protocol):
    """The connection below, as far as the coding needs it."""

    def recv(self, size: int, flags: int = 0, /) -> bytes: ...
    def send(self, data: bytes | bytearray | memoryview, /) -> int: ...
    def shutdown(self, how: int, /) -> None: ...
    def close(self) -> None: ...
    def getsockopt(self, level: int, option: int, /) -> int: ...
    def setsockopt(self, level: int, option: int, value: int | bytes, /) -> None: ...
    def getpeername(self) -> object: ...
    def getsockname(self) -> object: ...
    def fileno(self) -> int: ...


class Objection(ssl.SSLError):
    """What is wrong with what has come, before OpenSSL has seen it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Engine:
    """Codes and decodes; raises what OpenSSL on a socket would, and the errors of the one below."""

    def __init__(
        self,
        below: Carrier,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        server_hostname: str | None,
    ) -> None:
        self._below = below
        self._wire = bytearray()  # come, and not given to OpenSSL yet
        self._left = 0  # of the record that OpenSSL has a part of
        self._ended = False
        self._more_below = True
        self._quiet = 0
        self.records = 0  # that were taken, ever
        self._arrived = ssl.MemoryBIO()
        self._leaving = ssl.MemoryBIO()
        self._unsent = b""
        self._taken = 0  # bytes of a send that is still to go, already coded
        self._openssl = context.wrap_bio(
            self._arrived, self._leaving, server_side=server_side, server_hostname=server_hostname
        )

    def do_handshake(self) -> None:
        try:
            while True:
                try:
                    self._openssl.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    if not self._flush():
                        raise ssl.SSLWantWriteError from None
                    self._take_record(HANDSHAKE_RECORDS_MAX)
        finally:
            gone = self._flush()
        if not gone:
            raise ssl.SSLWantWriteError
        self._quiet = 0

    def read(self, size: int, /) -> bytes:
        openssl = self._openssl
        self._more_below = True
        try:
            while True:
                at_end = self._ended and not self._wire
                if not (openssl.pending() or at_end):
                    self._take_record(QUIET_RECORDS_MAX)
                try:
                    data = openssl.read(size)
                except ssl.SSLWantReadError:
                    if at_end:
                        raise
                    continue
                self._quiet = 0
                return data
        except ssl.SSLWantReadError:
            raise
        except ssl.SSLError:
            with suppress(OSError):  # an alert says why
                self._flush()
            raise

    @property
    def undecoded(self) -> bytes:
        """What has come, and OpenSSL has not been given."""
        return bytes(self._wire)

    def may_have_more(self) -> bool:
        """Whether a read may find more than the last one took."""
        return self._more_below or bool(self._wire) or self._openssl.pending() > 0

    def _take_record(self, most: int) -> None:
        """Give OpenSSL what has come of a record. A read never waits for room to write.

        Else whoever reads would be a second one to wait at the socket beside whoever sends, and a peer
        that sends before it takes would be stopped. What OpenSSL has to say goes when it can.
        """
        if not self._flush() and len(self._unsent) > LEFT_BYTES_MAX:
            raise Objection("keys changed again and again, and nothing taken")
        wire = self._wire
        while len(wire) < (1 if self._left else _HEADER_BYTES) and not self._ended:
            self._receive()
        if not self._left:
            self._left = _HEADER_BYTES + int.from_bytes(wire[3:_HEADER_BYTES])
            self.records += 1
            self._quiet += 1
            if self._quiet > most:
                raise Objection("too many records without data")
            if self.records == 1 and bytes(wire[:_HEADER_BYTES]) in _HTTP:
                raise Objection("http request")
        size = min(self._left, len(wire))
        self._left -= size
        if size == len(wire):
            self._arrived.write(wire)
            wire.clear()
        else:
            self._arrived.write(wire[:size])
            del wire[:size]
        if self._ended and not wire:
            self._arrived.write_eof()

    def _receive(self) -> None:
        try:
            arrived = self._below.recv(PIECE_BYTES_MAX)
        except BlockingIOError:
            self._more_below = False
            raise ssl.SSLWantReadError from None
        self._more_below = len(arrived) == PIECE_BYTES_MAX
        self._ended = not arrived
        self._wire += arrived

    def write(self, data: bytes | memoryview, /) -> int:
        if (self._unsent or self._leaving.pending) and not self._flush():
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

    def _flush(self) -> bool:
        """Send what is coded; whether all of it went."""
        if self._leaving.pending:
            coded = self._leaving.read()
            self._unsent = self._unsent + coded if self._unsent else coded
        try:
            while left := self._unsent:
                sent = self._below.send(left)
                self._unsent = left[sent:] if sent < len(left) else b""
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
