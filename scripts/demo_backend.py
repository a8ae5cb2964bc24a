"""A small backend to try the balancer with: it answers in its own name and can be slow or large.

    python scripts/demo_backend.py PORT [--name NAME]

GET /            hello, with the name and the port        GET /health      200 ok
GET /slow?s=2    the same, after 2 seconds                GET /bytes?n=10  10 bytes
POST anything    the body back, while it comes            GET /status?code=503

It needs nothing but Python, keeps connections alive, and ends when its standard input is a pipe
that closes, so that it never outlives the program that started it. Not for production: it trusts
whoever talks to it.
"""

import argparse
import asyncio
import contextlib
import os
import signal
import stat
import sys
from collections.abc import AsyncIterator
from http import HTTPStatus
from urllib.parse import parse_qs, urlsplit

PIECE = b"0123456789abcde\n" * 4096  # 64 KiB


class Answerer:
    """Serves one connection after another; `name` and `port` are in every answer."""

    def __init__(self, name: str, port: int) -> None:
        self.name = name
        self.port = port

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            while await self.exchange(reader, writer):
                pass
        writer.close()

    async def exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; return whether the connection can take another one."""
        head = await reader.readuntil(b"\r\n\r\n")
        request, *lines = head.decode("latin-1").split("\r\n")
        method, target, version = request.split(" ", 2)
        fields = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines if line)
        }
        keep = version == "HTTP/1.1" and "close" not in fields.get("connection", "").lower()
        if "100-continue" in fields.get("expect", "").lower():
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if method == "POST":
            await self.echo(reader, writer, fields, keep=keep)
            return keep
        async for _ in body(reader, fields):
            pass
        await self.answer(writer, method, target, keep=keep)
        return keep

    async def answer(
        self, writer: asyncio.StreamWriter, method: str, target: str, *, keep: bool
    ) -> None:
        url = urlsplit(target)
        query = {key: values[-1] for key, values in parse_qs(url.query).items()}
        code = int(query.get("code", 200)) if url.path == "/status" else 200
        text = f"hello from {self.name} on port {self.port}\n".encode()
        length = len(text)
        if url.path == "/slow":
            await asyncio.sleep(float(query.get("s", 1)))
        if url.path == "/health":
            text = b"ok\n"
            length = len(text)
        if url.path == "/bytes":
            length = int(query.get("n", 1_000_000))
            text = b""
        head = self.head(code, f"Content-Length: {length}", keep=keep)
        # In one piece: who is killed between the two has begun an answer that nobody can repeat.
        writer.write(head if method == "HEAD" else head + text)
        if method != "HEAD":
            for start in range(len(text), length, len(PIECE)):
                writer.write(PIECE[: length - start])
                await writer.drain()
        await writer.drain()

    async def echo(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        fields: dict[str, str],
        *,
        keep: bool,
    ) -> None:
        """Send the body back piece by piece, so that an endless one needs no memory."""
        writer.write(self.head(200, "Transfer-Encoding: chunked", keep=keep))
        async for piece in body(reader, fields):
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    def head(self, code: int, framing: str, *, keep: bool) -> bytes:
        lines = (
            f"HTTP/1.1 {code} {HTTPStatus(code).phrase}",
            "Content-Type: text/plain; charset=utf-8",
            f"X-Backend: {self.name}",
            framing,
            f"Connection: {'keep-alive' if keep else 'close'}",
        )
        return "\r\n".join((*lines, "", "")).encode("latin-1")


async def body(reader: asyncio.StreamReader, fields: dict[str, str]) -> AsyncIterator[bytes]:
    """The request's body in pieces, by Content-Length or by chunks."""
    if "chunked" in fields.get("transfer-encoding", "").lower():
        while size := int((await reader.readline()).partition(b";")[0], 16):
            yield await reader.readexactly(size)
            await reader.readline()
        while (await reader.readline()).strip():
            pass
        return
    left = int(fields.get("content-length", "0"))
    while left:
        piece = await reader.read(min(left, 65536))
        if not piece:
            raise asyncio.IncompleteReadError(b"", left)
        left -= len(piece)
        yield piece


async def serve(name: str, port: int) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    if stat.S_ISFIFO(os.fstat(0).st_mode):
        loop.add_reader(0, lambda: None if os.read(0, 4096) else ended.set())
    answerer = Answerer(name, port)
    server = await asyncio.start_server(answerer.connection, "127.0.0.1", port, backlog=1024)
    await ended.wait()
    server.close()


def main() -> int:
    parser = argparse.ArgumentParser(description="a small backend to try the balancer with")
    parser.add_argument("port", type=int)
    parser.add_argument("--name", help="what it calls itself (default: backend-PORT)")
    options = parser.parse_args()
    try:
        asyncio.run(serve(options.name or f"backend-{options.port}", options.port))
    except OSError as error:
        print(f"demo backend: {error.strerror or error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
