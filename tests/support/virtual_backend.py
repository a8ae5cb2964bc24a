"""Scripted HTTP/1.1 backends for virtual tests, on raw sockets of the network seam.

Deliberately not built on the program's own HTTP code: it must be able to misbehave, and to disagree.
"""

import errno
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import trio

from balancer.rehearsal.memory_network import MemoryNetwork
from balancer.wire.network import Sock
from tests.support.scripted_http import HTTP_HEAD_END, Line, Request, body_end, response

__all__ = [
    "Line",
    "Request",
    "Script",
    "VirtualBackend",
    "answers",
    "answers_until_end",
    "by_target",
    "closes_after",
    "closes_after_head",
    "garbage",
    "in_turn",
    "resets_after",
    "response",
    "silent",
    "trickles",
]


Script: TypeAlias = Callable[[Line, Request], Awaitable[bool]]
"""Answers one request; True: the connection is kept for the next one."""


def answers(
    status: int = 200,
    body: bytes = b"",
    *,
    after_s: float = 0.0,
    headers: tuple[tuple[str, str], ...] = (),
    chunked: bool = False,
    close: bool = False,
) -> Script:
    """A well-formed answer, kept alive unless `close`."""

    async def script(line: Line, request: Request) -> bool:
        await trio.sleep(after_s)
        await line.send(response(status, body, headers, chunked=chunked, request=request))
        wants_end = (request.header("connection") or "").lower() == "close"
        return not close and not wants_end

    return script


def answers_until_end(status: int, body: bytes) -> Script:
    """An answer whose body ends with the connection."""

    async def script(line: Line, request: Request) -> bool:
        await line.send(b"HTTP/1.1 %d x\r\nConnection: close\r\n\r\n" % status + body)
        return False

    return script


def silent() -> Script:
    """Reads the request and never answers."""

    async def script(line: Line, request: Request) -> bool:
        await trio.sleep(float("inf"))
        return False

    return script


def resets_after(size: int, body: bytes = b"x" * 1000) -> Script:
    """Sends the first `size` bytes of an answer, then RST; 0: RST instead of an answer."""

    async def script(line: Line, request: Request) -> bool:
        await line.send(response(200, body)[:size])
        line.reset()
        return False

    return script


def closes_after(size: int, body: bytes = b"x" * 1000) -> Script:
    """Sends the first `size` bytes of an answer, then FIN; 0: FIN instead of an answer."""

    async def script(line: Line, request: Request) -> bool:
        await line.send(response(200, body)[:size])
        return False

    return script


def closes_after_head(length: int = 1000) -> Script:
    """Sends a head that promises a body of `length` bytes, then FIN."""
    return closes_after(len(response(200, b"x" * length)) - length, b"x" * length)


def trickles(body: bytes, *, piece: int, every_s: float) -> Script:
    """The head at once, the body in pieces with pauses between."""

    async def script(line: Line, request: Request) -> bool:
        await line.send(response(200, body)[: -len(body)])
        for start in range(0, len(body), piece):
            await trio.sleep(every_s)
            await line.send(body[start : start + piece])
        return True

    return script


def garbage(data: bytes, *, close: bool = True) -> Script:
    """These bytes instead of an answer."""

    async def script(line: Line, request: Request) -> bool:
        await line.send(data)
        return not close

    return script


def in_turn(*scripts: Script) -> Script:
    """One script a request, the last one for ever."""
    left = list(scripts)

    async def script(line: Line, request: Request) -> bool:
        return await (left.pop(0) if len(left) > 1 else left[0])(line, request)

    return script


def by_target(scripts: dict[str, Script], otherwise: Script) -> Script:
    """One script a request target, such as a health path."""

    async def script(line: Line, request: Request) -> bool:
        return await scripts.get(request.target, otherwise)(line, request)

    return script


@dataclass(slots=True)
class VirtualBackend:
    """A backend at `address` of the memory network, in a life that can end and begin again.

    `await nursery.start(backend.run)` starts it. `kill()` is SIGKILL, `restart()` brings it back,
    `script` and `idle_s` may be changed at any time.
    """

    network: MemoryNetwork
    address: str
    script: Script
    idle_s: float | None = None  # how long a kept connection may rest; None: for ever
    backlog: int = 128
    greeted: bool = False  # each connection begins with a PROXY header, kept in `greetings`
    greetings: list[bytes] = field(default_factory=list)
    tls: ssl.SSLContext | None = None  # speaks TLS, by this
    refuses: bool = False  # starts without listening; restart() ends that
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    _life: trio.CancelScope | None = None
    _wanted: trio.Event = field(default_factory=trio.Event)
    _socks: dict[int, Sock] = field(default_factory=dict)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        if not self.refuses:
            self.restart()
        else:
            self.network.host(self._ip_and_port()[0])
        started = False
        try:
            while True:
                if not started and self.refuses:
                    task_status.started()
                    started = True
                await self._wanted.wait()
                self._wanted = trio.Event()
                with trio.CancelScope() as self._life:
                    listener = self._listen()
                    if not started:
                        task_status.started()
                        started = True
                    await self._serve(listener)
        finally:
            self._close_all()

    def kill(self) -> None:
        """Die at once, as by SIGKILL: the kernel closes the listener and every connection."""
        if self._life is not None:
            self._life.cancel()
        self._close_all()

    def restart(self) -> None:
        """Listen again after kill()."""
        self._wanted.set()

    async def kill_at(self, when: float, back_at: float | None = None) -> None:
        """A task that kills at one virtual time and restarts at another."""
        await trio.sleep_until(when)
        self.kill()
        if back_at is not None:
            await trio.sleep_until(back_at)
            self.restart()

    @property
    def open_connections(self) -> int:
        return max(0, len(self._socks) - 1)

    def _ip_and_port(self) -> tuple[str, int]:
        ip, _, port = self.address.rpartition(":")
        return ip.strip("[]"), int(port)

    def _listen(self) -> Sock:
        ip, port = self._ip_and_port()
        view = self.network.as_seen_from(ip)
        listener = view.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((ip, port, 0, 0) if ":" in ip else (ip, port))
        listener.listen(self.backlog)
        self._socks[listener.fileno()] = listener
        return listener

    async def _serve(self, listener: Sock) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                try:
                    sock, _ = listener.accept()
                except BlockingIOError:
                    await self.network.wait_readable(listener)
                    continue
                self.connections += 1
                number = sock.fileno()
                self._socks[number] = sock
                line = Line(self.network, sock, self.connections)
                nursery.start_soon(self._converse, line, number)

    async def _converse(self, line: Line, number: int) -> None:
        try:
            if self.greeted:
                greeting = await line.proxy_header()
                if greeting is None:
                    return
                self.greetings.append(greeting)
            if self.tls is not None:
                try:
                    await line.exchange_keys(self.tls)
                except OSError:  # refused by the other side, or no TLS at all
                    return
            while (request := await self._next_request(line)) is not None:
                self.requests.append(request)
                if not await self.script(line, request):
                    break
        except OSError as error:  # the other side is gone; a test looks at what it recorded
            if error.errno not in {errno.ECONNRESET, errno.EPIPE, errno.ETIMEDOUT, errno.EBADF}:
                raise
        finally:
            line.close()
            self._socks.pop(number, None)

    async def _next_request(self, line: Line) -> Request | None:
        with trio.move_on_after(self.idle_s if self.idle_s is not None else float("inf")):
            while HTTP_HEAD_END not in line.buffer:
                if not await line.more():
                    return None
            head, _, _ = line.buffer.partition(HTTP_HEAD_END)
            end = await body_end(line, len(head) + 4, head)
            if end is None:
                return None
            raw, line.buffer = line.buffer[:end], line.buffer[end:]
            return Request(raw, line.number, trio.current_time())
        return None

    def _close_all(self) -> None:
        for sock in tuple(self._socks.values()):
            self.network.notify_closing(sock)
            sock.close()
        self._socks.clear()
