"""Where lines go without ever holding up whoever writes them.

Lines gather in memory and are written in batches by a thread, so a slow disk or a full pipe costs
lines, never requests. What does not fit is counted, and the count is written as soon as there is
room again. Several processes may write to one place: no line is written into another one.
"""

import contextlib
import errno
import fcntl
import math
import os
import select
import stat
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Protocol

import trio

# A worker at 10,000 exchanges a second fills this in a second of a stuck disk.
WAITING_BYTES_MAX = 4 * 1024 * 1024
FLUSH_EVERY_S = 0.1
# So many are worth a write of their own.
FLUSH_BYTES = 64 * 1024
# How long the end of whoever writes waits for a slow disk.
LAST_LINES_S = 1.0


class LineSink(Protocol):
    """Takes lines; never blocks, never raises."""

    def write(self, line: bytes) -> None: ...


class MemorySink:
    """Keeps the lines; for tests and rehearsals."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []

    def write(self, line: bytes) -> None:
        self.lines.append(line)


class FileSink:
    """Writes to a descriptor that it was given, or to a path that it opens and can reopen.

    `tell` hears why nothing can be written any more, and None when something can be again.
    """

    def __init__(
        self, target: int | str, tell: Callable[[OSError | None], None] = lambda _: None
    ) -> None:
        self._tell = tell
        self._fails = False
        self._torn = False  # the last line is there in part
        self._path = target if isinstance(target, str) else None
        self._fd = open_place(target) if isinstance(target, str) else target
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self.dropped = 0
        self._told = 0
        self._wake = trio.Event()
        self._wake_at = math.inf
        self._ended = False

    def write(self, line: bytes) -> None:
        size = self._waiting_bytes + len(line)
        if size > WAITING_BYTES_MAX:
            self.dropped += 1
            return
        self._waiting.append(line)
        self._waiting_bytes = size
        if size >= self._wake_at:
            self._wake_at = math.inf
            self._wake.set()

    async def run(self) -> None:
        """Flush until cancelled; what is being written then, and the last lines, get a second.

        An idle sink does not wake up.
        """
        writing = trio.CancelScope(shield=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._flush_until_ended, writing)
            try:
                await trio.sleep_forever()
            finally:
                self._ended = True
                writing.deadline = trio.current_time() + LAST_LINES_S
                self._wake.set()

    async def _flush_until_ended(self, writing: trio.CancelScope) -> None:
        with writing:
            while not self._ended:
                if self.dropped == self._told:
                    await self._waiting_for(1)
                with trio.move_on_after(FLUSH_EVERY_S):
                    await self._waiting_for(FLUSH_BYTES)
                await self.flush()
            await self.flush()

    async def _waiting_for(self, size: int) -> None:
        if self._waiting_bytes < size and not self._ended:
            self._wake, self._wake_at = trio.Event(), size
            await self._wake.wait()

    async def flush(self) -> None:
        """Write what waits, in a thread. A line that cannot be written is dropped and counted."""
        lines, self._waiting = self._waiting, []
        data = b"".join(lines)
        dropped = self.dropped
        # Not through write(): where lines were dropped there is no room for one more.
        notice = b'{"event":"lines.dropped","lines":%d}\n' % (dropped - self._told)
        out = data + notice if dropped > self._told else data
        if not out:
            return
        before = b"\n" if self._torn else b""
        try:
            written, failure = await trio.to_thread.run_sync(
                _write_all, self._fd, before + out, abandon_on_cancel=True
            )
        finally:
            self._waiting_bytes -= len(data)
        if written:
            self._torn = (before + out)[written - 1 : written] != b"\n"
        if failure is None:
            self._told = dropped
        else:
            ends = accumulate(map(len, lines), initial=len(before))
            self.dropped += sum(end > written for end in list(ends)[1:])
        if self._fails is (failure is None):
            self._fails = not self._fails
            self._tell(failure)

    def reopen(self) -> None:
        """Open the path again, after a rotation has moved the file; keeps the old one if it fails.

        The descriptor keeps its number: a write under way in the thread must not find it closed, or
        in use for somebody's connection.
        """
        if self._path is None:
            return
        with contextlib.suppress(OSError):
            fd = open_place(self._path)
            try:
                os.dup2(fd, self._fd, inheritable=False)
            finally:
                os.close(fd)


def open_place(path: str) -> int:
    """Open a path to write lines to, without waiting for anybody. OSError.

    A pipe that nobody reads is opened for reading, too (fifo(7)): lines wait in it for whoever comes.
    """
    flags = os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        return os.open(path, flags | os.O_WRONLY, 0o640)
    except OSError as exc:
        if exc.errno != errno.ENXIO:
            raise
        return os.open(path, flags | os.O_RDWR, 0o640)


def is_unread(place: int) -> bool:
    """Whether nobody has read the pipe that was opened so, until then."""
    return fcntl.fcntl(place, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR


def _write_all(fd: int, data: bytes) -> tuple[int, OSError | None]:
    """How many bytes were written, and why not all of them."""
    written = 0
    try:
        for piece in _pieces(fd, data):
            view = memoryview(piece)
            while view:
                try:
                    size = os.write(fd, view)
                except BlockingIOError:
                    # A pipe that is full, and does not block: this thread may wait for it.
                    room = select.poll()
                    room.register(fd, select.POLLOUT)
                    room.poll()
                else:
                    written += size
                    view = view[size:]
    except OSError as exc:
        return written, exc
    return written, None


def _pieces(fd: int, data: bytes) -> Iterator[bytes]:
    """What is written at once, so that lines of other processes come between lines only.

    A file takes any write whole. A pipe does so up to PIPE_BUF bytes (pipe(7)), and a longer line may
    be broken by others.
    """
    if stat.S_ISREG(os.fstat(fd).st_mode):
        yield data
        return
    start = 0
    while start < len(data):
        end = data.rfind(b"\n", start, start + select.PIPE_BUF) + 1
        if end <= start:
            end = data.find(b"\n", start) + 1 or len(data)
        yield data[start:end]
        start = end
