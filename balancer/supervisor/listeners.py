"""Opening the sockets that clients connect to, with errors that say what would help."""

import errno
import os
import socket
import stat
from pathlib import Path

from balancer.core.address import parse_address
from balancer.wire.network import Network, Sock, SockAddr

# Linux caps it at net.core.somaxconn (4096 by default), which a burst after a pause needs whole.
BACKLOG = 4096
_HELP = {
    errno.EADDRINUSE: "another program listens there; `ss -ltnp` shows which",
    errno.EACCES: "ports below 1024 need root or CAP_NET_BIND_SERVICE",
    errno.EADDRNOTAVAIL: "this machine has no such address",
}


class CannotListen(Exception):
    """A listener could not be opened; str() is a sentence for the operator."""


def check_free(network: Network, bind: str) -> None:
    """Raise CannotListen where another program listens.

    Our own sockets share their place with any that are willing to share; a second instance that was
    given the same place by mistake would silently take its part of the traffic.
    """
    if parse_address(bind, any_port=True).path is None:
        _bound(network, bind, reuse_port=False).close()


def open_listener(network: Network, bind: str, *, reuse_port: bool) -> Sock:
    """A listening socket; with `reuse_port` others like it may listen beside it.

    Raises CannotListen.
    """
    sock = _bound(network, bind, reuse_port=reuse_port)
    try:
        sock.listen(BACKLOG)
    except OSError as exc:
        sock.close()
        raise _cannot(bind, exc) from exc
    return sock


def _bound(network: Network, bind: str, *, reuse_port: bool) -> Sock:
    address = parse_address(bind, any_port=True)
    target: SockAddr
    if address.path is not None:
        family, target = socket.AF_UNIX, address.path
        _clear_dead_socket(Path(address.path))
    elif ":" in address.host:
        family, target = socket.AF_INET6, (address.host, address.port, 0, 0)
    else:
        family, target = socket.AF_INET, (address.host, address.port)
    try:
        sock = network.socket(family)
    except OSError as exc:
        raise _cannot(bind, exc) from exc
    try:
        if family != socket.AF_UNIX:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if reuse_port:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(target)
    except OSError as exc:
        sock.close()
        raise _cannot(bind, exc) from exc
    return sock


def _cannot(bind: str, exc: OSError) -> CannotListen:
    why = os.strerror(exc.errno) if exc.errno else str(exc)
    advice = _HELP.get(exc.errno or 0)
    return CannotListen(f"cannot listen on {bind}: {why}" + (f"; {advice}" if advice else ""))


def _clear_dead_socket(path: Path) -> None:
    """Remove the file that a killed instance left, if it is a socket that nobody listens on."""
    try:
        if not stat.S_ISSOCK(path.stat().st_mode):
            return
    except OSError:
        return
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
        except OSError:
            return
