"""Clients of an attack: honest ones, whose answers are timed, and those that come and say nothing."""

import selectors
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

ASK = b"GET / HTTP/1.1\r\nHost: attack\r\n\r\n"
ANSWER_S = 10.0
# So many honest clients, each asking so often; every fifth time on a new connection.
HONEST, EVERY_S, NEW_EVERY = 8, 0.04, 5
CONNECTS_AT_ONCE = 200
BITES_S = 0.05


@dataclass
class Seen:
    """What honest clients saw: how long each answer took, in seconds, and what went wrong."""

    took: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def percentile(self, share: float) -> float:
        """In milliseconds."""
        return sorted(self.took)[min(int(len(self.took) * share), len(self.took) - 1)] * 1e3


def honest(port: int, seconds: float) -> Seen:
    """Ask for small answers, some on kept connections and some on new ones, for so long."""
    seen, until = Seen(), time.monotonic() + seconds
    threads = [threading.Thread(target=_ask, args=(port, until, seen)) for _ in range(HONEST)]
    for number, thread in enumerate(threads):
        thread.start()
        time.sleep(EVERY_S / HONEST * (number % 2))
    for thread in threads:
        thread.join()
    return seen


def _ask(port: int, until: float, seen: Seen) -> None:
    sock: socket.socket | None = None
    turn = 0
    due = time.monotonic()
    while due < until:
        time.sleep(max(due - time.monotonic(), 0))
        began = time.monotonic()
        try:
            if sock is None or turn % NEW_EVERY == 0:
                if sock is not None:
                    sock.close()
                sock = socket.create_connection(("127.0.0.1", port), ANSWER_S)
            sock.sendall(ASK)
            answer = sock.recv(4096)
            if not answer.startswith(b"HTTP/1.1 200"):
                raise OSError(f"answered {answer[:40]!r}")
            seen.took.append(time.monotonic() - began)
        except OSError as error:
            seen.failures.append(f"{type(error).__name__}: {error}")
            sock = None
        turn += 1
        due += EVERY_S
    if sock is not None:
        sock.close()


@contextmanager
def idling(port: int, count: int) -> Iterator[None]:
    """`count` connections that say nothing, each opened again when it is closed."""
    stop = threading.Event()
    thread = threading.Thread(target=_idle, args=(port, count, stop))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _idle(port: int, count: int, stop: threading.Event) -> None:
    with selectors.DefaultSelector() as selector:
        while not stop.is_set():
            missing = min(count - len(selector.get_map()), CONNECTS_AT_ONCE)
            for _ in range(missing):
                sock = socket.socket()
                sock.setblocking(False)
                with suppress(BlockingIOError):
                    sock.connect(("127.0.0.1", port))
                selector.register(sock, selectors.EVENT_READ)
            for key, _ in selector.select(BITES_S):
                selector.unregister(key.fileobj)
                key.fileobj.close()  # type: ignore[union-attr]
        for key in list(selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
