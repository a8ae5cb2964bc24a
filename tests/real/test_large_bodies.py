"""Large bodies through a whole balancer, broken at random on all sides: each end gets its own.

A client's answer is a beginning of the body it asked for, and whole unless somebody broke it; what a
backend gets of an upload is a beginning of that upload.
"""

import contextlib
import os
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest
import trio

from balancer.wire.pipes import IDLE_MAX, splice_works
from balancer.wire.streams import cut
from tests.support.kernel_pairs import body_of
from tests.support.real_balancer import Backend, Balancer, running

pytestmark = pytest.mark.skipif(not splice_works(), reason="no splice() here: bodies are copied")

AT_ONCE = 12
SIZE_MAX = 900_000
BACKENDS_DEEDS = ("whole", "whole", "whole", "short", "resets", "pauses")
CLIENTS_DEEDS = ("reads", "reads", "reads", "leaves", "resets", "dawdles")


@dataclass
class Notes:
    """What was seen that must not be, and how often each thing happened."""

    wrong: list[str] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Asked:
    """One exchange: `/key/size/deed of the backend`."""

    key: int
    size: int
    deed: str

    @classmethod
    def of(cls, head: bytes) -> "Asked":
        _, key, size, deed = head.split(b" ")[1].decode().split("/")
        return cls(int(key), int(size), deed)

    @property
    def target(self) -> str:
        return f"/{self.key}/{self.size}/{self.deed}"

    @property
    def body(self) -> bytes:
        return body_of(self.key, self.size)


# ---- the backend


async def serve_connection(stream: trio.SocketStream, notes: Notes) -> None:
    with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        async with stream:
            buffer = b""
            while True:
                while b"\r\n\r\n" not in buffer:
                    if not (data := await stream.receive_some(1 << 16)):
                        return
                    buffer += data
                head, _, buffer = buffer.partition(b"\r\n\r\n")
                asked = Asked.of(head)
                if head.startswith((b"POST", b"PUT")):
                    buffer = await _take(stream, asked, buffer, notes)
                    await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                elif not await _answer(stream, asked):
                    return


async def _answer(stream: trio.SocketStream, asked: Asked) -> bool:
    """Whether the connection goes on."""
    body, broken_at = asked.body, asked.key * 7919 % asked.size
    await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % asked.size)
    if asked.deed == "whole":
        await stream.send_all(body)
        return True
    await stream.send_all(body[:broken_at])
    if asked.deed == "pauses":
        await trio.sleep(0.05)
        await stream.send_all(body[broken_at:])
        return True
    if asked.deed == "resets":
        cut(stream.socket)  # type: ignore[arg-type]
    return False


async def _take(stream: trio.SocketStream, asked: Asked, buffer: bytes, notes: Notes) -> bytes:
    """Read an upload; what has come after it. A deed other than "whole" breaks off."""
    got = bytearray(buffer)
    try:
        while len(got) < asked.size:
            if asked.deed != "whole" and len(got) > asked.key * 7919 % asked.size:
                cut(stream.socket)  # type: ignore[arg-type]
                raise trio.ClosedResourceError
            if asked.deed == "pauses":
                await trio.sleep(0.002)
            if not (data := await stream.receive_some(1 << 16)):
                raise trio.ClosedResourceError
            got += data
        notes.seen["upload whole"] += 1
    finally:
        if got != asked.body[: len(got)]:
            notes.wrong.append(f"the backend got a stranger's bytes in {asked}")
    return b""


# ---- the clients


async def client(port: int, asked: Iterator[Asked], rng: random.Random, notes: Notes) -> None:
    for one in asked:
        deed = rng.choice(CLIENTS_DEEDS)
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        async with stream:
            with contextlib.suppress(trio.BrokenResourceError):
                if rng.random() < 0.3:
                    await _post(stream, one, deed, notes)
                else:
                    await _get(stream, one, deed, notes)


async def _get(stream: trio.SocketStream, asked: Asked, deed: str, notes: Notes) -> None:
    # To HTTP/1.0 the same body goes by the same way, and the connection ends with it.
    minor = asked.key % 2
    await stream.send_all(f"GET {asked.target} HTTP/1.{minor}\r\nHost: a\r\n\r\n".encode())
    got = bytearray()
    with contextlib.suppress(trio.BrokenResourceError):
        await _read_answer(stream, asked, deed, got)
    head_end = got.find(b"\r\n\r\n") + 4
    body = bytes(got[head_end:])
    if not got.startswith(b"HTTP/1.1 200"):
        notes.seen["no answer"] += 1
        return
    if body != asked.body[: len(body)]:
        notes.wrong.append(f"a client got a stranger's bytes in {asked}")
    if deed in ("reads", "dawdles") and asked.deed in ("whole", "pauses"):
        notes.seen["download whole"] += 1
        if len(body) < asked.size:
            notes.wrong.append(f"nobody broke {asked}, and it ended at {len(body)}")
    else:
        notes.seen["download broken"] += 1


async def _read_answer(stream: trio.SocketStream, asked: Asked, deed: str, got: bytearray) -> None:
    leaves_at, head_end = asked.key * 104_729 % asked.size, -1
    while head_end < 0 or len(got) - head_end < asked.size:
        if deed in ("leaves", "resets") and len(got) > leaves_at:
            if deed == "resets":
                cut(stream.socket)  # type: ignore[arg-type]
            return
        if deed == "dawdles":
            await trio.sleep(0.002)
        if not (data := await stream.receive_some(1 << 16)):
            return
        got += data
        head_end = got.find(b"\r\n\r\n") + 4 if head_end < 0 else head_end


async def _post(stream: trio.SocketStream, asked: Asked, deed: str, notes: Notes) -> None:
    method = ("POST", "PUT", "PUT")[asked.key % 3]
    head = f"{method} {asked.target} HTTP/1.1\r\nHost: a\r\nContent-Length: {asked.size}\r\n\r\n"
    await stream.send_all(head.encode())
    body = asked.body
    if deed in ("leaves", "resets"):
        await stream.send_all(body[: asked.key * 104_729 % asked.size])
        if deed == "resets":
            cut(stream.socket)  # type: ignore[arg-type]
        notes.seen["upload broken"] += 1
        return
    await stream.send_all(body)
    answer = await stream.receive_some(1 << 16)
    if asked.deed == "whole" and answer[9:12] not in (b"200", b"502"):
        notes.wrong.append(f"nobody broke the upload {asked}, and it got {answer[:40]!r}")


# ---- all of it


@pytest.mark.parametrize("count", [400, pytest.param(4_000, marks=pytest.mark.long)])
async def test_each_end_gets_its_own(tmp_path: Path, count: int) -> None:
    notes, rng = Notes(), random.Random(7)
    async with trio.open_nursery() as nursery:
        backends = [
            cast(Backend, await _backend(nursery, notes, slams)) for slams in (0.0, 0.0, 1.0)
        ]
        balancer = Balancer(
            tmp_path, backends, top="workers = 1", pool="passive = { consecutive_failures = 1000 }"
        )
        try:
            asked = iter(
                [
                    Asked(key, rng.randint(1, SIZE_MAX), rng.choice(BACKENDS_DEEDS))
                    for key in range(count)
                ]
            )
            async with trio.open_nursery() as clients:
                for _ in range(AT_ONCE):
                    clients.start_soon(client, balancer.port, asked, rng, notes)
            await _settled(balancer)
            assert _pipes_of_workers(balancer) <= 2 * IDLE_MAX + 8, "pipes were left open"
        finally:
            await trio.to_thread.run_sync(balancer.end)
        nursery.cancel_scope.cancel()
    assert notes.wrong == []
    assert "Traceback" not in balancer.log()
    for what in ("download whole", "download broken", "upload whole", "upload broken"):
        assert notes.seen[what] > count / 60, notes.seen


@dataclass(frozen=True)
class _At:
    address: str


async def _backend(nursery: trio.Nursery, notes: Notes, slams: float) -> _At:
    """One that closes this share of its connections as soon as they are there."""
    rng = random.Random(3)

    async def serve(stream: trio.SocketStream) -> None:
        if rng.random() < slams:
            await stream.aclose()
        else:
            await serve_connection(stream, notes)

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, serve, [listener])
    return _At(f"127.0.0.1:{listener.socket.getsockname()[1]}")


async def _settled(balancer: Balancer) -> None:
    """Return when nothing is in flight any more."""
    for _ in range(40):
        rows = await trio.to_thread.run_sync(balancer.status)
        if not any(row["in_flight"] for row in rows.values()):
            return
        await trio.sleep(0.2)
    raise AssertionError("attempts stay in flight")


def _pipes_of_workers(balancer: Balancer) -> int:
    tasks = Path(f"/proc/{balancer.process.pid}/task").iterdir()
    workers = " ".join((task / "children").read_text() for task in tasks).split()
    assert workers
    there = 0
    for link in [link for pid in workers for link in Path(f"/proc/{pid}/fd").iterdir()]:
        with contextlib.suppress(OSError):  # closed meanwhile
            there += os.readlink(link).startswith("pipe:")
    return there


def test_an_endless_download_lets_others_in_and_obeys_the_operator(tmp_path: Path) -> None:
    """A transfer that hardly ever waits is heard and interrupted like any other."""
    with running(tmp_path, 2, top="workers = 1") as (balancer, _):
        read = threading.Event()
        reader = threading.Thread(target=_read_on, args=(balancer.port, read))
        reader.start()
        assert read.wait(10)
        for _ in range(20):
            began = time.monotonic()
            with socket.create_connection(("127.0.0.1", balancer.port), 10) as sock:
                sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                assert sock.recv(1 << 16).startswith(b"HTTP/1.1 200")
            assert time.monotonic() - began < 5, (
                "not before the end of the transfer, which never comes"
            )
        (busy,) = [at for at, row in balancer.status().items() if row["in_flight"]]
        assert balancer.cli("remove", "web", busy, "--force").returncode == 0
        reader.join(20)
        assert not reader.is_alive()
        balancer.end()
        line = next(line for line in balancer.access_lines() if "bytes" in line["path"])
        assert line["fault"].startswith("cut by the operator")
        assert line["bytes_down"] > 1 << 20


def _read_on(port: int, read: threading.Event) -> None:
    """Ask for more than there is time for, and read until it breaks."""
    buffer, total = bytearray(1 << 20), 0
    with socket.create_connection(("127.0.0.1", port), 30) as sock, contextlib.suppress(OSError):
        sock.sendall(b"GET /bytes?n=%d HTTP/1.1\r\nHost: a\r\n\r\n" % (1 << 40))
        while count := sock.recv_into(buffer):
            total += count
            if total > 32 << 20:
                read.set()
