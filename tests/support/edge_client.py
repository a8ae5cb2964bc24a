"""A raw HTTP/1.1 client on the network seam, for tests that must say exactly what is sent.

Not built on the program's own HTTP code. Reads one answer at a time; what it cannot frame it calls
broken.
"""

import socket
import ssl
from dataclasses import dataclass

import trio

from balancer.wire.handshake import handshake
from balancer.wire.network import Network, Sock
from balancer.wire.tls_socket import Coded
from balancer.wire.waiting import Timekeeper, Waiter


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer: `complete` is False when the connection broke off in its body."""

    status: int
    head: bytes
    body: bytes
    complete: bool = True

    def header(self, name: str) -> str | None:
        for row in self.head.split(b"\r\n")[1:]:
            key, _, value = row.partition(b":")
            if key.lower() == name.lower().encode():
                return value.strip().decode("latin-1")
        return None


class NoAnswer(Exception):
    """The connection ended without a whole head; the message tells how."""


class EdgeClient:
    """One connection to the edge."""

    def __init__(self, network: Network, sock: Sock) -> None:
        self.network = network
        self.sock = sock
        self.buffer = b""

    @classmethod
    async def connect(cls, network: Network, port: int = 8080) -> "EdgeClient":
        sock = network.socket(socket.AF_INET)
        code = sock.connect_ex(("127.0.0.1", port))
        if code:
            await network.wait_writable(sock)
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            sock.close()
            raise OSError(code, "connect")
        return cls(network, sock)

    async def speak_tls(
        self, context: ssl.SSLContext, name: str | None, session: object = None
    ) -> None:
        """Agree on keys, asking for a server of that name, perhaps to go on with a session. TlsBroken."""
        coded = self.network.coded(self.sock, context, server_side=False, server_hostname=name)
        if session is not None:
            assert isinstance(coded, Coded)
            coded.engine.session = session
        self.sock = coded
        await handshake(coded, Waiter(Timekeeper(self.network)), trio.current_time() + 60)

    async def send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[self.sock.send(view) :]
            except BlockingIOError:
                await self.network.wait_writable(self.sock)

    async def receive(self) -> bytes:
        while True:
            try:
                return self.sock.recv(65536)
            except BlockingIOError:
                await self.network.wait_readable(self.sock)

    async def answer(self, method: str = "GET") -> Answer:
        """The next answer, interim ones included; NoAnswer when there is none."""
        while b"\r\n\r\n" not in self.buffer:
            try:
                data = await self.receive()
            except OSError as error:
                raise NoAnswer(type(error).__name__) from error
            if not data:
                raise NoAnswer("end" if not self.buffer else "end in a head")
            self.buffer += data
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        status = int(head.split(b" ")[1])
        answer = Answer(status, head, b"")
        if method == "HEAD" or status in (204, 304) or status < 200:
            return answer
        if answer.header("transfer-encoding"):
            body, complete = await self._chunks()
        elif (length := answer.header("content-length")) is not None:
            body, complete = await self._exactly(int(length))
        else:
            body, complete = await self._rest()
        return Answer(status, head, body, complete)

    async def get(self, target: str = "/", *fields: str, host: str = "a.test") -> Answer:
        await self.send(
            "\r\n".join([f"GET {target} HTTP/1.1", f"Host: {host}", *fields, "", ""]).encode()
        )
        return await self.answer()

    async def at_end(self) -> bool:
        """Whether the edge has ended the connection in order, with nothing left to read."""
        return not self.buffer and not await self.receive()

    def close(self) -> None:
        self.sock.close()

    async def _more(self) -> bool:
        try:
            data = await self.receive()
        except OSError:
            return False
        self.buffer += data
        return bool(data)

    async def _exactly(self, size: int) -> tuple[bytes, bool]:
        while len(self.buffer) < size:
            if not await self._more():
                return self.buffer, False
        body, self.buffer = self.buffer[:size], self.buffer[size:]
        return body, True

    async def _rest(self) -> tuple[bytes, bool]:
        while True:
            try:
                data = await self.receive()
            except OSError:
                return self.buffer, False
            if not data:
                body, self.buffer = self.buffer, b""
                return body, True
            self.buffer += data

    async def _chunks(self) -> tuple[bytes, bool]:
        body = b""
        while True:
            while b"\r\n" not in self.buffer:
                if not await self._more():
                    return body, False
            line, _, self.buffer = self.buffer.partition(b"\r\n")
            size = int(line, 16)
            if size == 0:
                break
            data, whole = await self._exactly(size + 2)
            body += data[:size]
            if not whole:
                return body, False
        while True:
            while b"\r\n" not in self.buffer:
                if not await self._more():
                    return body, False
            line, _, self.buffer = self.buffer.partition(b"\r\n")
            if not line:
                return body, True


async def fetch(network: Network, target: str = "/", *fields: str) -> Answer:
    """One GET on a connection of its own."""
    client = await EdgeClient.connect(network)
    try:
        with trio.fail_after(600):
            return await client.get(target, *fields)
    finally:
        client.close()
