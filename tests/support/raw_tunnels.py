"""Raw ends of tunnels on loopback: a backend in threads that echoes, and a client."""

import contextlib
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.support.real_balancer import free_port
from tests.support.tunnel_ends import KEY, accept_for

PIECE = 256 * 1024


@dataclass
class EchoBackend:
    """Switches to whatever is asked for, gives every byte back, and ends when its client has ended.

    Anything else is answered 200. `said`: the last bytes before the client's end, of each tunnel; `tunnels`: how many began, by protocol.
    """

    port: int = field(default_factory=free_port)
    said: list[bytes] = field(default_factory=list)
    tunnels: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.address = f"127.0.0.1:{self.port}"
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=512)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                sock, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):
            while True:
                head, rest = head_of(sock)
                fields = head.decode("latin-1").lower().split("\r\n")
                asked = [row.partition(": ")[2] for row in fields if row.startswith("upgrade: ")]
                if not asked:
                    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                    continue
                accept = f"Sec-WebSocket-Accept: {accept_for(KEY)}\r\n" * (asked[0] == "websocket")
                sock.sendall(
                    f"HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: {asked[0]}\r\n"
                    f"{accept}\r\n".encode()
                )
                self.tunnels[asked[0]] += 1
                last = rest
                sock.sendall(rest)
                while data := sock.recv(PIECE):
                    last = data[-64:]
                    sock.sendall(data)
                self.said.append(last)
                return

    def kill(self) -> None:
        self._listener.close()


def head_of(sock: socket.socket) -> tuple[bytes, bytes]:
    """A head, and what has come behind it."""
    got = b""
    while b"\r\n\r\n" not in got:
        data = sock.recv(65536)
        if not data:
            raise ConnectionError("ended in a head")
        got += data
    head, _, rest = got.partition(b"\r\n\r\n")
    return head, rest


@contextlib.contextmanager
def tunnel(port: int, protocol: str = "echo", path: str = "/t") -> Iterator[socket.socket]:
    """A tunnel through the balancer at this port."""
    with socket.create_connection(("127.0.0.1", port), 30) as sock:
        key = f"Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n"
        sock.sendall(
            f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n"
            f"{key * (protocol == 'websocket')}\r\n".encode()
        )
        head, rest = head_of(sock)
        assert head.startswith(b"HTTP/1.1 101 "), head
        assert rest == b""
        yield sock


def exactly(sock: socket.socket, size: int) -> bytes:
    """So many bytes, or those before the end."""
    got = bytearray()
    while len(got) < size and (data := sock.recv(min(PIECE, size - len(got)))):
        got += data
    return bytes(got)
