"""What went wrong on the way to a target, in words, and whose fault it was.

The one place that reads errors of sockets, of the resolver and of TLS.
"""

import errno
import os
import socket
import ssl
from collections.abc import Iterator, Mapping

from healthcheck.core.verdict import Outcome, Verdict

# Want of something on our side says nothing about a target.
OUR_OWN: Mapping[int, str] = {
    errno.EMFILE: "out of file descriptors",
    errno.ENFILE: "the system is out of file descriptors",
    errno.ENOBUFS: "out of socket buffers",
    errno.ENOMEM: "out of memory",
    errno.EADDRNOTAVAIL: "out of local ports",
}

WORDS: Mapping[int, str] = {
    errno.ECONNREFUSED: "connect refused",
    errno.ECONNRESET: "connection reset",
    errno.EPIPE: "connection reset",
    errno.ECONNABORTED: "connection reset",
    errno.ETIMEDOUT: "connect timed out",
    errno.EHOSTUNREACH: "no route to host",
    errno.ENETUNREACH: "network unreachable",
    errno.ENOENT: "no such socket",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EAGAIN: "backlog full",  # what a unix socket says
}

# The name is known not to exist; every other failure of the resolver is a fault of the resolver.
NOT_KNOWN = (socket.EAI_NONAME, socket.EAI_NODATA)


def verdict_of(error: BaseException, name: str) -> Verdict | None:
    """The verdict that `error`, or what caused it, leads to; None when it is none of the network's.

    `name` is what was connected to. Of several causes (one for each address of a name) our own come
    first, then the order in which they were tried.
    """
    verdicts = [verdict for cause in causes(error) if (verdict := _of_one(cause, name)) is not None]
    ours = [verdict for verdict in verdicts if verdict.says_nothing]
    return next(iter(ours or verdicts), None)


def causes(error: BaseException) -> Iterator[BaseException]:
    """`error` and all that led to it, the outermost first."""
    yield error
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from causes(part)
    following = error.__cause__ or error.__context__  # httpcore hides causes by `from None`
    if following is not None:
        yield from causes(following)


def _of_one(error: BaseException, name: str) -> Verdict | None:
    match error:
        case ssl.SSLError():
            return Verdict(Outcome.FAIL, f"TLS: {_tls_words(error)}")
        case socket.gaierror():
            return _of_resolver(error, name)
        case OSError(errno=int(number)) if number in OUR_OWN:
            return Verdict(Outcome.VOID, f"our own fault: {OUR_OWN[number]}")
        case OSError(errno=int(number)):
            return Verdict(Outcome.FAIL, WORDS.get(number, os.strerror(number).lower()))
        case _:
            return None


def _of_resolver(error: socket.gaierror, name: str) -> Verdict:
    if error.errno in NOT_KNOWN:
        return Verdict(Outcome.FAIL, f"name not known: {name}")
    return Verdict(Outcome.VOID, f"our own fault: name lookup of {name} failed: {error.strerror}")


def _tls_words(error: ssl.SSLError) -> str:
    """`certificate verify failed: self-signed certificate`, without the numbers of OpenSSL."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate verify failed: {error.verify_message.rstrip('.')}"
    return (error.reason or str(error)).lower().replace("_", " ")
