"""A process that plays clients without pause, and one that plays backends, for tests of reloads.

    python -m tests.support.reload_load clients PORT KEPT NEW_PER_S BIG_BYTES
    python -m tests.support.reload_load backends PORT...

The first runs until its standard input ends and then prints what it saw as JSON. The second serves
until it is killed.
"""

import json
import sys
from dataclasses import asdict, dataclass, field

import trio

# A client sends its next request so long after the answer.
THINK_S = 0.5
ANSWER_S_MAX = 20.0
PIECE = bytes(256 * 1024)
FAILURES_TOLD = 20
# So many tunnels last from the beginning to the end, and say something so often.
TUNNELS = 5
WORD_S = 0.2


@dataclass(slots=True)
class Seen:
    """What clients saw; a failure is anything but a whole answer 200."""

    requests: int = 0
    connections: int = 0
    downloads: int = 0
    download_bytes: int = 0
    tunnels: int = 0
    words: int = 0
    failed: int = 0
    failures: list[str] = field(default_factory=list)

    def fail(self, what: str, why: object) -> None:
        self.failed += 1
        if len(self.failures) < FAILURES_TOLD:
            self.failures.append(f"{what}: {why!r}")


class ConnectionOfClient:
    """One keep-alive connection; every method raises what a client would complain about."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._buffer = b""

    @classmethod
    async def to(cls, port: int) -> "ConnectionOfClient":
        return cls(await trio.open_tcp_stream("127.0.0.1", port))

    async def get(self, path: str, seen: Seen | None = None) -> None:
        """One exchange; bytes of a download are counted in `seen` as they come."""
        with trio.fail_after(ANSWER_S_MAX if seen is None else 3600):
            await self._stream.send_all(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            while b"\r\n\r\n" not in self._buffer:
                self._buffer += await self._more()
            head, _, rest = self._buffer.partition(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200 "):
                raise ValueError(head[:200])
            left = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]) - len(rest)
            while left > 0:
                got = len(await self._more())
                left -= got
                if seen is not None:
                    seen.download_bytes += got
            self._buffer = b""

    async def switch(self) -> None:
        """Become a tunnel."""
        await self._stream.send_all(
            b"GET /tunnel HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
        )
        while b"\r\n\r\n" not in self._buffer:
            self._buffer += await self._more()
        if not self._buffer.startswith(b"HTTP/1.1 101 "):
            raise ValueError(self._buffer[:200])
        self._buffer = b""

    async def talk(self, word: bytes) -> None:
        """Say a word in a tunnel, and hear it."""
        with trio.fail_after(ANSWER_S_MAX):
            await self._stream.send_all(word)
            while len(self._buffer) < len(word):
                self._buffer += await self._more()
        if self._buffer != word:
            raise ValueError(self._buffer[:200])
        self._buffer = b""

    async def _more(self) -> bytes:
        data = await self._stream.receive_some(256 * 1024)
        if not data:
            raise ConnectionError("ended by the other side")
        return bytes(data)

    async def close(self) -> None:
        await self._stream.aclose()


async def keep_asking(port: int, seen: Seen, wait_s: float) -> None:
    """One client of a kept connection. It may be closed only between two exchanges, by itself."""
    await trio.sleep(wait_s)
    connection = await ConnectionOfClient.to(port)
    try:
        while True:
            await connection.get("/kept")
            seen.requests += 1
            await trio.sleep(THINK_S)
    except (OSError, ValueError, trio.BrokenResourceError, trio.TooSlowError) as exc:
        seen.fail("kept", exc)
    finally:
        with trio.CancelScope(shield=True):
            await connection.close()


async def ask_once(port: int, seen: Seen) -> None:
    """One client that comes, asks and goes."""
    try:
        connection = await ConnectionOfClient.to(port)
        try:
            await connection.get("/new")
        finally:
            await connection.close()
    except (OSError, ValueError, trio.BrokenResourceError, trio.TooSlowError) as exc:
        seen.fail("new", exc)
    else:
        seen.connections += 1


async def download(port: int, seen: Seen, size: int) -> None:
    """One download after the other."""
    while True:
        try:
            connection = await ConnectionOfClient.to(port)
            try:
                await connection.get(f"/big/{size}", seen)
            finally:
                await connection.close()
        except (OSError, ValueError, trio.BrokenResourceError, trio.TooSlowError) as exc:
            seen.fail("download", exc)
            await trio.sleep(1)
        else:
            seen.downloads += 1


async def keep_talking(port: int, seen: Seen) -> None:
    """One tunnel, from the beginning to the end."""
    connection = await ConnectionOfClient.to(port)
    try:
        await connection.switch()
        seen.tunnels += 1
        while True:
            await connection.talk(b"word %d" % seen.words)
            seen.words += 1
            await trio.sleep(WORD_S)
    except (OSError, ValueError, trio.BrokenResourceError, trio.TooSlowError) as exc:
        seen.fail("tunnel", exc)
    finally:
        with trio.CancelScope(shield=True):
            await connection.close()


async def play_clients(port: int, kept: int, new_per_s: int, big_bytes: int) -> None:
    """All of them, until standard input ends."""
    seen = Seen()
    async with trio.open_nursery() as nursery:
        for number in range(kept):
            nursery.start_soon(keep_asking, port, seen, number * THINK_S / kept)
        for _ in range(TUNNELS):
            nursery.start_soon(keep_talking, port, seen)
        if big_bytes:
            nursery.start_soon(download, port, seen, big_bytes)
        nursery.start_soon(_come_and_go, nursery, port, seen, new_per_s)
        await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)
        nursery.cancel_scope.cancel()
    print(json.dumps(asdict(seen)))


async def _come_and_go(nursery: trio.Nursery, port: int, seen: Seen, per_s: int) -> None:
    began = trio.current_time()
    count = 0
    while True:
        count += 1
        await trio.sleep_until(began + count / per_s)
        nursery.start_soon(ask_once, port, seen)


async def play_backends(ports: list[int]) -> None:
    """Backends that answer 200; `/big/N` has N bytes; what comes in a tunnel is given back."""
    async with trio.open_nursery() as nursery:
        for port in ports:
            await nursery.start(trio.serve_tcp, _answer, port)


async def _answer(stream: trio.SocketStream) -> None:
    buffer = b""
    try:
        while True:
            while b"\r\n\r\n" not in buffer:
                data = await stream.receive_some(65536)
                if not data:
                    return
                buffer += bytes(data)
            head, _, buffer = buffer.partition(b"\r\n\r\n")
            if b"\r\nUpgrade: echo" in head:
                await _echo(stream)
                return
            path = head.split(b" ", 2)[1]
            size = int(path.rpartition(b"/")[2]) if path.startswith(b"/big/") else 3
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
            while size:
                size -= len(piece := PIECE[:size])
                await stream.send_all(piece)
    except trio.BrokenResourceError:
        return


async def _echo(stream: trio.SocketStream) -> None:
    await stream.send_all(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
    )
    while data := await stream.receive_some(65536):
        await stream.send_all(data)


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[2:]]
    if sys.argv[1] == "clients":
        port, kept, new_per_s, big_bytes = numbers
        trio.run(play_clients, port, kept, new_per_s, big_bytes)
    else:
        trio.run(play_backends, numbers)
