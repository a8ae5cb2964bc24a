"""HTTP/1.1 as a scripted backend speaks it: requests as they came, a connection, answers as bytes.

Deliberately not built on the program's own HTTP code: it must be able to disagree with it.
"""

import socket
import ssl
import struct
from dataclasses import dataclass

from balancer.wire.network import Network, Sock

HTTP_HEAD_END = b"\r\n\r\n"


@dataclass(slots=True)
class Request:
    """One request as it came: the head and body as sent, and where and when."""

    raw: bytes
    connection: int  # 1 for the first connection ever accepted, and so on over restarts
    at: float

    @property
    def method(self) -> str:
        return self.raw.split(b" ", 1)[0].decode("latin-1")

    @property
    def target(self) -> str:
        return self.raw.split(b" ", 2)[1].decode("latin-1")

    @property
    def body(self) -> bytes:
        return self.raw.partition(HTTP_HEAD_END)[2]

    def header(self, name: str) -> str | None:
        """The first field of that name, as text."""
        return field_of(self.raw.partition(HTTP_HEAD_END)[0], name)


class Line:
    """One connection of a backend: what a script sends through and reads from."""

    def __init__(self, network: Network, sock: Sock, number: int) -> None:
        self.network = network
        self.sock = sock
        self.number = number
        self.buffer = b""

    async def send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[self.sock.send(view) :]
            except BlockingIOError:
                await self.network.wait_writable(self.sock)

    async def receive(self) -> bytes:
        """Some bytes; nothing at the end."""
        while True:
            try:
                return self.sock.recv(65536)
            except BlockingIOError:
                await self.network.wait_readable(self.sock)

    async def more(self) -> bool:
        """Add to the buffer; False at the end."""
        data = await self.receive()
        self.buffer += data
        return bool(data)

    async def holds(self, size: int) -> bool:
        """Whether the buffer came to `size` bytes before the end."""
        while len(self.buffer) < size:
            if not await self.more():
                return False
        return True

    async def proxy_header(self) -> bytes | None:
        """Take a PROXY header off the stream, by the text of its specification; None at an end."""
        if not await self.holds(len(b"PROXY UNKNOWN\r\n")):
            return None
        if self.buffer.startswith(b"PROXY "):
            eol = await self.find_eol(0)
            size = None if eol is None else eol + 2
        else:
            head = await self.holds(16)
            size = 16 + int.from_bytes(self.buffer[14:16], "big") if head else None
        if size is None or not await self.holds(size):
            return None
        header, self.buffer = self.buffer[:size], self.buffer[size:]
        return header

    async def exchange_keys(self, context: ssl.SSLContext) -> None:
        """Speak TLS from here on, as the server."""
        coded = self.network.coded(self.sock, context, server_side=True)
        self.sock = coded
        while True:
            try:
                return coded.do_handshake()
            except BlockingIOError:
                await self.network.wait_readable(coded)

    async def find_eol(self, start: int) -> int | None:
        """Where the line that begins at `start` ends; None: it never does."""
        while (found := self.buffer.find(b"\r\n", start)) < 0:
            if not await self.more():
                return None
        return found

    def reset(self) -> None:
        linger = struct.pack("ii", 1, 0)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.sock.close()

    def close(self) -> None:
        self.sock.close()


async def body_end(line: Line, start: int, head: bytes) -> int | None:
    """Where the body that begins at `start` ends in the buffer, read on as needed; None: it broke off."""
    if (field_of(head, "expect") or "").lower() == "100-continue":
        await line.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    if (field_of(head, "transfer-encoding") or "").lower() == "chunked":
        return await _chunked_end(line, start)
    end = start + int(field_of(head, "content-length") or 0)
    return end if await line.holds(end) else None


async def _chunked_end(line: Line, position: int) -> int | None:
    size = 1
    while size:
        if (eol := await line.find_eol(position)) is None:
            return None
        size = int(line.buffer[position:eol].split(b";")[0], 16)
        position = eol + 2 + (size + 2 if size else 0)
        if not await line.holds(position):
            return None
    while (eol := await line.find_eol(position)) is not None:  # trailers, up to an empty line
        if eol == position:
            return eol + 2
        position = eol + 2
    return None


def field_of(head: bytes, name: str) -> str | None:
    for row in head.split(b"\r\n")[1:]:
        key, _, value = row.partition(b":")
        if key.strip().lower() == name.lower().encode():
            return value.strip().decode("latin-1")
    return None


def response(
    status: int,
    body: bytes = b"",
    headers: tuple[tuple[str, str], ...] = (),
    *,
    chunked: bool = False,
    request: Request | None = None,
) -> bytes:
    """The bytes of a well-formed answer."""
    rows = [f"HTTP/1.1 {status} Scripted", *(f"{name}: {value}" for name, value in headers)]
    without_body = status in {204, 304} or status < 200
    if chunked:
        rows.append("Transfer-Encoding: chunked")
        body = (
            b"".join(_chunk(body[i : i + 1000]) for i in range(0, len(body), 1000)) + b"0\r\n\r\n"
        )
    elif not without_body:
        rows.append(f"Content-Length: {len(body)}")
    if without_body or (request is not None and request.method == "HEAD"):
        body = b""
    return "\r\n".join(rows).encode("latin-1") + HTTP_HEAD_END + body


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)
