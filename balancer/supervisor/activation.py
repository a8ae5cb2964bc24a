"""Listening sockets that the service manager opened for us: socket activation, sd_listen_fds(3).

Decides which listener of the configuration each of them is. One that belongs to none is an error:
clients would connect to it, and nobody would ever answer.
"""

import socket
from collections.abc import Collection, Mapping

from balancer.core.address import Address, parse_address
from balancer.supervisor.listeners import CannotListen

FIRST_DESCRIPTOR = 3


def given_listeners(env: Mapping[str, str], *, pid: int, binds: Collection[str]) -> dict[str, int]:
    """The descriptors that were given to this process, by the bind that each serves.

    They are non-blocking and not inherited by children from then on. Raises CannotListen, with one
    sentence for every socket that serves none of `binds`, or that is no listening stream socket.
    """
    by_place = {str(parse_address(bind, any_port=True)): bind for bind in binds}
    found: dict[str, int] = {}
    wrong = []
    for descriptor, name in _given(env, pid):
        place = _place_of(descriptor)
        bind = by_place.get(place or "")
        called = f" ({name})" if name else ""
        if place is None:
            wrong.append(f"descriptor {descriptor}{called} that was given is no listening socket")
        elif bind is None:
            wrong.append(f"a socket on {place}{called} was given, and no listener is bound to that")
        elif bind in found:
            wrong.append(f"two sockets on {place}{called} were given; one is enough")
        else:
            found[bind] = descriptor
    if wrong:
        there = ", ".join(binds)
        raise CannotListen(f"{'; '.join(wrong)} (the configuration listens on {there})")
    return found


def _given(env: Mapping[str, str], pid: int) -> list[tuple[int, str]]:
    """Descriptors and their names; none if they were meant for another process."""
    count = env.get("LISTEN_FDS", "")
    if env.get("LISTEN_PID") != str(pid) or not (count.isascii() and count.isdigit()):
        return []
    names = env.get("LISTEN_FDNAMES", "").split(":")
    names += [""] * (int(count) - len(names))
    return [(FIRST_DESCRIPTOR + at, names[at]) for at in range(int(count))]


def _place_of(descriptor: int) -> str | None:
    """Where it listens, as a configuration writes it; None for what does not listen."""
    try:
        sock = socket.socket(fileno=descriptor)
    except OSError:
        return None
    try:
        if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return None
        sock.setblocking(False)
        sock.set_inheritable(False)
        return _written(sock.family, sock.getsockname())
    except OSError:
        return None
    finally:
        sock.detach()


def _written(family: int, name: object) -> str | None:
    match name:
        case str() if family == socket.AF_UNIX and name:
            return str(Address("", 0, name))
        case (str(host), int(port), *_) if family in (socket.AF_INET, socket.AF_INET6):
            return str(Address(host, port))
    return None
