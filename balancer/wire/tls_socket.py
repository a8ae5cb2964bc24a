"""A connection whose bytes are coded by TLS, as a `Sock` that behaves like any other.

Decides what the calls of a socket mean where there is a coding between: whose turn it is when one
would block, what an end is and what a truncation. It waits for nothing; certificates, names and
versions are the context's, and the first exchange of keys is in `handshake`.
"""

import errno
import socket
import ssl
import struct
from contextlib import suppress
from typing import NoReturn

from balancer.wire.tls_engine import Carrier, Engine

# What OpenSSL puts into one record; more of an answer is offered to it piece by piece.
RECORD_BYTES_MAX = 16 * 1024
# Records of a byte cost 2 µs each, changes of keys 17: so many at a time, and others get their turn.
RECORDS_AT_ONCE = 256
# What is kept of what has come while we say that we end.
HELD_BYTES_MAX = 1024 * 1024
# What OpenSSL says in too few words.
_PLAINER = {
    "http request": "http request: it speaks HTTP without TLS",
    "wrong version number": "wrong version number: it speaks no TLS",
    "unsupported protocol": "unsupported protocol: it speaks only older versions than are allowed",
}


class WantsWrite(BlockingIOError):
    """An exchange of keys goes on when the socket can be written."""


class WantsTurn(BlockingIOError):
    """A read goes on at once, but others have their turn first: `Waiter.breathe`."""


class TlsBroken(ConnectionError):
    """The coding is broken, or refused by the peer; str() says how. Nothing more can be said on it."""

    def __str__(self) -> str:
        return str(self.strerror)


class SpeaksHttp(TlsBroken):
    """It begins as a request does; nothing was said to it, and `Engine.undecoded` has what it said."""


class Truncated(TlsBroken):
    """The connection has ended without the end of what was said on it: somebody may have cut it."""


class Coded:
    """`balancer.wire.network.TlsSock`. What a send did not take is to be offered again first."""

    def __init__(self, engine: Engine, below: Carrier) -> None:
        self.engine = engine
        self.below = below
        self._read = engine.read
        self._write = engine.write
        self._held = b""  # read for somebody who only wanted to look
        self._trouble: OSError | None = None
        self._over = False  # the peer has said that it ends
        self._shut = False  # so have we
        self._cut = False
        self._offered: bytes | None = None  # coded, and not gone yet

    def shut_below(self, how: int) -> None:
        """Shut the connection that carries the coding."""
        self.below.shutdown(how)

    def recv_below(self, size: int) -> bytes:
        """What has come as it is, where it will never be decoded."""
        return self.below.recv(size)

    def send_below(self, data: bytes) -> int:
        """Say something as it is, where nothing has been coded."""
        return self.below.send(data)

    def do_handshake(self) -> None:
        """Go on exchanging keys. BlockingIOError: call again; TlsBroken."""
        try:
            self.engine.do_handshake()
        except ssl.SSLWantReadError:
            raise BlockingIOError(errno.EAGAIN, "nothing has come") from None
        except ssl.SSLWantWriteError:
            raise WantsWrite(errno.EAGAIN, "the socket is full") from None
        except ssl.SSLError as exc:
            raise broken(exc) from exc

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        """As of any socket: what is shorter than `size` is all that had come."""
        if flags & socket.MSG_PEEK:
            # OpenSSL shows nothing that it does not give away; tickets and the like are nothing.
            self._held = self._held or self._decoded(size)
            return self._held[:size]
        until = self.engine.records + RECORDS_AT_ONCE
        if held := self._held:
            data, self._held = held[:size], held[size:]
        else:
            data = self._decoded(size)
        if len(data) == size or not data or not (held or self.engine.may_have_more()):
            return data
        pieces, got = [data], len(data)
        with suppress(OSError):  # what is broken still is when all of this has been taken
            while got < size and (data := self._decoded(size - got)):
                pieces.append(data)
                got += len(data)
                if self.engine.records >= until:
                    break
        data = b"".join(pieces)
        if self.engine.records >= until and got < size:
            self._held = data
            raise WantsTurn(errno.EAGAIN, "others have their turn")
        return data

    def _decoded(self, size: int) -> bytes:
        if self._trouble is not None:
            raise self._trouble
        if self._over and self.fileno() >= 0:
            return b""
        try:
            data = self._read(size)
        except ssl.SSLWantReadError:
            raise BlockingIOError(errno.EAGAIN, "nothing has come") from None
        except ssl.SSLZeroReturnError:
            data = b""
        except ValueError:
            raise OSError(errno.EBADF, "the socket is closed") from None
        except ssl.SSLError as exc:
            self._break(exc)
        if not data and size:
            self._over = True
            self._end_below()
        return data

    def _break(self, exc: ssl.SSLError) -> NoReturn:
        """From now on nothing can be read: who waits for that is to hear of it."""
        self._trouble = broken(exc)
        self._end_below()
        raise self._trouble from exc

    def _end_below(self) -> None:
        """Whatever still comes does not count, and whoever waits for an edge is to have one."""
        with suppress(OSError):
            self.shut_below(socket.SHUT_RD)

    def send(self, data: bytes | bytearray | memoryview, /) -> int:
        """As of any socket; but what was not taken is to be offered again before anything else."""
        if self._shut:
            raise BrokenPipeError(errno.EPIPE, "we have said that we end")
        offered = self._offered
        if offered is not None and data[: len(offered)] != offered:
            raise TlsBroken(errno.EPIPE, "other bytes than those that were not taken")
        sent, view = 0, memoryview(data)
        piece = view[:RECORD_BYTES_MAX]
        try:
            while True:
                sent += self._write(piece)
                self._offered = None
                if sent == len(data):
                    return sent
                piece = view[sent : sent + RECORD_BYTES_MAX]
        except ssl.SSLWantWriteError:
            if self._offered is None:
                self._offered = bytes(piece)
            if sent:
                return sent
            raise BlockingIOError(errno.EAGAIN, "the socket is full") from None
        except ValueError:
            raise OSError(errno.EBADF, "the socket is closed") from None
        except ssl.SSLError as exc:  # also that nothing can be said amid what the peer says of keys
            self._break(exc)

    def shutdown(self, how: int, /) -> None:
        """Say that we end, if it can be said now, and shut the connection below.

        OpenSSL throws away what has come and breaks off when it says so; therefore it is read before.
        """
        if how != socket.SHUT_RD and not self._shut:
            self._hold()
            self._say_end()
        self.shut_below(how)

    def _hold(self) -> None:
        pieces, got, until = [self._held], len(self._held), self.engine.records + RECORDS_AT_ONCE
        with suppress(OSError):
            while got < HELD_BYTES_MAX and (data := self._decoded(RECORD_BYTES_MAX)):
                pieces.append(data)
                got += len(data)
                if self.engine.records >= until:
                    break
        self._held = b"".join(pieces)

    def _say_end(self) -> None:
        if self._shut:
            return
        self._shut = True
        if self._offered is not None:
            return  # half of a record is on its way, and nothing can come behind it
        try:
            self.engine.unwrap()
            self._over = True
        except ssl.SSLWantReadError:
            pass  # it would like to hear the peer's end as well
        except ssl.SSLError as exc:
            self._trouble = self._trouble or broken(exc)
        except (OSError, ValueError):
            pass

    def close(self) -> None:
        """Say that we end, unless the close is to be a cut, and close the connection below."""
        if self.below.fileno() >= 0 and not self._cut:
            self._say_end()
        self.below.close()

    def setsockopt(self, level: int, option: int, value: int | bytes, /) -> None:
        """As of any socket; a close that does not linger is a cut, which must not look like an end."""
        self.below.setsockopt(level, option, value)
        if (level, option) == (socket.SOL_SOCKET, socket.SO_LINGER):
            self._cut = isinstance(value, bytes) and struct.unpack("ii", value) == (1, 0)

    def getsockopt(self, level: int, option: int, /) -> int:
        return self.below.getsockopt(level, option)

    def getpeername(self) -> object:
        return self.below.getpeername()

    def getsockname(self) -> object:
        return self.below.getsockname()

    def fileno(self) -> int:
        return self.below.fileno()

    # What no coded connection does: it is there already.

    def accept(self) -> NoReturn:
        raise OSError(errno.EINVAL, "it is connected")

    def bind(self, _: object, /) -> None:
        raise OSError(errno.EINVAL, "it is connected")

    def listen(self, _: int, /) -> None:
        raise OSError(errno.EINVAL, "it is connected")

    def connect_ex(self, _: object, /) -> int:
        return errno.EISCONN


def prepared(context: ssl.SSLContext) -> ssl.SSLContext:
    """The context, made to tell a truncation from an end, which Python has it confuse."""
    if context.options & ssl.OP_IGNORE_UNEXPECTED_EOF:
        context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    return context


def broken(exc: ssl.SSLError) -> TlsBroken:
    """What has become of the connection, in one line."""
    if isinstance(exc, ssl.SSLEOFError):
        return Truncated(errno.ECONNRESET, "the connection ended without close_notify")
    if isinstance(exc, ssl.SSLWantReadError):
        return TlsBroken(errno.EPROTO, "a message about keys is not whole")
    if isinstance(exc, ssl.SSLCertVerificationError):
        return TlsBroken(errno.EPROTO, f"certificate: {exc.verify_message.rstrip('.')}")
    reason = (exc.reason or exc.strerror or "unknown").lower().replace("_", " ")
    kind = SpeaksHttp if reason == "http request" else TlsBroken
    return kind(errno.EPROTO, _PLAINER.get(reason, reason))
