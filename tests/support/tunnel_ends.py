"""The two ends of tunnels, for virtual tests: scripted backends that switch, and clients that ask."""

import base64
import hashlib
import socket

from tests.support.edge_client import Answer, EdgeClient
from tests.support.scene import Scene
from tests.support.virtual_backend import Line, Request, Script

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
# RFC 6455 1.3: what answers that key.
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
ECHO = 'tunnels = { protocols = ["websocket", "echo"] }'


def accept_for(key: str) -> str:
    guid = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    return base64.b64encode(hashlib.sha1(key.encode() + guid).digest()).decode()


def switch(protocol: str, request: Request, *lines: str, early: bytes = b"") -> bytes:
    """A right answer 101, and bytes right behind it."""
    head = ["HTTP/1.1 101 Switching Protocols", "Connection: Upgrade", f"Upgrade: {protocol}"]
    if protocol == "websocket":
        head.append(
            f"Sec-WebSocket-Accept: {accept_for(request.header('sec-websocket-key') or '')}"
        )
    return "\r\n".join([*head, *lines, "", ""]).encode() + early


def echoes(protocol: str = "echo", *, early: bytes = b"", at_end: bytes = b"") -> Script:
    """Switches, gives every byte back, says `at_end` at the client's end, and ends."""

    async def script(line: Line, request: Request) -> bool:
        await line.send(switch(protocol, request, early=early))
        data, line.buffer = line.buffer, b""
        while data or (data := await line.receive()):
            await line.send(data)
            data = b""
        await line.send(at_end)
        return False

    return script


def listens(heard: list[bytes], protocol: str = "websocket", *, answer: bytes = b"") -> Script:
    """Switches and only listens, to the end; `answer` is given to whatever comes first."""

    async def script(line: Line, request: Request) -> bool:
        await line.send(switch(protocol, request))
        while data := await line.receive():
            heard.append(data)
            if len(heard) == 1:
                await line.send(answer)
        return False

    return script


async def ask(
    play: Scene, protocol: str = "echo", *lines: str, behind: bytes = b""
) -> tuple[EdgeClient, Answer]:
    """A client that has asked for a protocol, and its answer."""
    client = await play.client()
    head = ["GET /t HTTP/1.1", "Host: a.test", "Connection: Upgrade", f"Upgrade: {protocol}"]
    if protocol == "websocket":
        head += [f"Sec-WebSocket-Key: {KEY}", "Sec-WebSocket-Version: 13"]
    await client.send("\r\n".join([*head, *lines, "", ""]).encode() + behind)
    return client, await client.answer()


async def read(client: EdgeClient, size: int) -> bytes:
    """So many bytes of a tunnel, or all there are before its end."""
    while len(client.buffer) < size:
        data = await client.receive()
        if not data:
            break
        client.buffer += data
    data, client.buffer = client.buffer[:size], client.buffer[size:]
    return data


async def rest(client: EdgeClient) -> bytes:
    """Everything up to the end; OSError where it is a break."""
    while data := await client.receive():
        client.buffer += data
    data, client.buffer = client.buffer, b""
    return data


def half_close(client: EdgeClient) -> None:
    client.sock.shutdown(socket.SHUT_WR)
