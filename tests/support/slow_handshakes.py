"""Clients whose handshakes take a fifth of a second, so that many are under way at any moment.

Their kernel holds back the last packet of a handshake, as long as a delayed acknowledgement may take
(TCP_DEFER_ACCEPT of a client). For them they are connected by then; for whoever listens they are not.
"""

import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Queue

# As long as it is held back, and a little longer.
HELD_BACK_S = 0.25
ANSWER_S_MAX = 15.0
EVERY_S = 0.01


class SlowHandshakes:
    """One begins after the other; `seen`: how many were answered what, or met which error."""

    def __init__(self, port: int) -> None:
        self.seen: Counter[str] = Counter()
        self.stop = threading.Event()
        self._port = port
        self._connecting: Queue[tuple[float, socket.socket] | None] = Queue()
        self._asking: Queue[socket.socket | None] = Queue()

    def connect(self) -> None:
        while not self.stop.wait(EVERY_S):
            sock = socket.socket()
            sock.settimeout(ANSWER_S_MAX)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 1)
            sock.connect(("127.0.0.1", self._port))
            self._connecting.put((time.monotonic(), sock))
        self._connecting.put(None)

    def ask(self) -> None:
        """Ask as soon as whoever listens takes them for connected too."""
        while (one := self._connecting.get()) is not None:
            since, sock = one
            time.sleep(max(0.0, since + HELD_BACK_S - time.monotonic()))
            try:
                sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            except OSError as exc:
                self.seen[type(exc).__name__] += 1
                sock.close()
            else:
                self._asking.put(sock)
        self._asking.put(None)

    def hear(self) -> None:
        while (sock := self._asking.get()) is not None:
            self.seen[outcome(sock)] += 1


def outcome(sock: socket.socket) -> str:
    """What becomes of a client who has asked: the status that he is answered, or his error."""
    with sock:
        try:
            answer = b"".join(iter(lambda: sock.recv(65536), b""))
        except OSError as exc:
            return type(exc).__name__
    return answer[9:12].decode() or "no answer"


@contextmanager
def slow_handshakes(port: int) -> Iterator[Counter[str]]:
    """Clients who come during the block; after it, what became of all of them."""
    clients = SlowHandshakes(port)
    work = (clients.connect, clients.ask, clients.hear)
    threads = [threading.Thread(target=each) for each in work]
    for thread in threads:
        thread.start()
    try:
        yield clients.seen
    finally:
        clients.stop.set()
        for thread in threads:
            thread.join()
