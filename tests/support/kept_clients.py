"""Clients that go by the rules, in a thread: they send again only where the balancer left them to.

A client may find its connection closed between two exchanges only if it was told so (`Connection:
close`). Anything else than whole answers 200 is a failure; so is a connection that is refused, reset,
or closed while it is used.
"""

import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import trio

from tests.support.real_balancer import wait_for

ANSWER_S_MAX = 20.0
PIECE = 64 * 1024


class Clients:
    """What they saw. `times`: of each visit, from the connect to the answer. `told`: how often a connection was ended by `Connection: close`."""

    def __init__(self, port: int, size: int) -> None:
        self.port = port
        self.size = size
        self.answers = 0
        self.visits = 0
        self.times: list[float] = []
        self.told = 0
        self.downloaded = 0
        self.failures: list[str] = []
        self._stopping = threading.Event()
        self._hurrying = threading.Event()

    # ---- one client each

    async def keep_asking(self, think_s: float, rng: random.Random) -> None:
        while not self._stopping.is_set():
            stream = await trio.open_tcp_stream("127.0.0.1", self.port)
            async with stream:
                while not self._stopping.is_set():
                    await trio.sleep(think_s * rng.uniform(0.5, 1.5))
                    closing = await self._get(stream, "/")
                    self.answers += 1
                    if closing:
                        self.told += 1
                        break

    async def visit(self) -> None:
        began = trio.current_time()
        async with await trio.open_tcp_stream("127.0.0.1", self.port) as stream:
            await self._get(stream, "/")
        self.visits += 1
        self.times.append(trio.current_time() - began)

    async def download(self) -> None:
        """One long answer, read slowly until the rest of it is wanted."""
        size, bytes_per_s = self.size, self.size // 60
        async with await trio.open_tcp_stream("127.0.0.1", self.port) as stream:
            await stream.send_all(f"GET /bytes?n={size} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            head, rest = await _head(stream)
            _check(head)
            self.downloaded = len(rest)
            while self.downloaded < size and not self._stopping.is_set():
                data = await stream.receive_some(PIECE)
                if not data:
                    raise ConnectionError(f"ended after {self.downloaded} of {size} bytes")
                self.downloaded += len(data)
                if not self._hurrying.is_set():
                    await trio.sleep(len(data) / bytes_per_s)

    async def _get(self, stream: trio.SocketStream, path: str) -> bool:
        """Whether the other side will close."""
        with trio.fail_after(ANSWER_S_MAX):
            await stream.send_all(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            head, body = await _head(stream)
            _check(head)
            left = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0]) - len(body)
            while left > 0:
                data = await stream.receive_some(PIECE)
                if not data:
                    raise ConnectionError("ended in the body")
                left -= len(data)
        return b"\r\nconnection: close" in head

    # ---- all of them

    async def run(self, kept: int, visits_per_s: int, thinks_s: Sequence[float]) -> None:
        rng = random.Random(1)
        async with trio.open_nursery() as nursery:
            for number in range(kept):
                think_s = thinks_s[number % len(thinks_s)]
                nursery.start_soon(self._judged, f"kept {number}", self.keep_asking, think_s, rng)
            if self.size:
                nursery.start_soon(self._judged, "download", self.download)
            while not self._stopping.is_set():
                nursery.start_soon(self._judged, "visit", self.visit)
                await trio.sleep(1 / visits_per_s)

    async def _judged(self, name, client, *given) -> None:
        try:
            await client(*given)
        except (OSError, ValueError, trio.BrokenResourceError, trio.TooSlowError) as exc:
            self.failures.append(f"{name}: {exc!r}")

    def finish_download(self) -> None:
        """Let it come as fast as it can, which takes a minute otherwise; a failure ends it as well."""
        self._hurrying.set()
        wait_for(lambda: self.failures or self.downloaded >= self.size)

    def stop(self) -> None:
        self._stopping.set()


@contextmanager
def clients(
    port: int,
    *,
    kept: int = 24,
    visits_per_s: int = 100,
    size: int = 0,
    thinks_s: Sequence[float] = (0.02, 0.1, 1.0),
) -> Iterator[Clients]:
    """Clients without pause for the time of the block.

    `size`: of a download that goes on beside them. `thinks_s`: how long kept ones rest between two
    requests, half as much more or less.
    """
    them = Clients(port, size)
    thread = threading.Thread(target=trio.run, args=(them.run, kept, visits_per_s, thinks_s))
    thread.start()
    try:
        yield them
    finally:
        them.stop()
        thread.join(30)


async def _head(stream: trio.SocketStream) -> tuple[bytes, bytes]:
    """The head of an answer, in lower case, and what came of the body."""
    got = b""
    while b"\r\n\r\n" not in got:
        data = await stream.receive_some(PIECE)
        if not data:
            raise ConnectionError(f"ended in the head, after {got!r}")
        got += bytes(data)
    head, _, rest = got.partition(b"\r\n\r\n")
    return head.lower(), rest


def _check(head: bytes) -> None:
    if not head.startswith(b"http/1.1 200 "):
        raise ValueError(head[:200])
