"""One direction of a tunnel: bytes from where they come to where they go, until that side has ended.

The kernel moves what nobody needs to look at: everything, or of a WebSocket the inside of long
frames. WebSockets are followed from frame to frame, so that a close frame can be put between two.
"""

import contextlib
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from balancer.core.tunnels import TunnelEnd
from balancer.core.websocket_frames import FrameScanner
from balancer.proxy.service import Service
from balancer.wire.network import Sock
from balancer.wire.splice import UNTIL_END, SinkBroke, SourceBroke, Stand, splice_between
from balancer.wire.streams import READ_BYTES_MAX, send_now
from balancer.wire.tls_socket import WantsTurn
from balancer.wire.waiting import TURNS_MAX, TimedOut, Waiter

# Of frames that are read header by header: as many small ones as others can wait for.
FRAMED_READ_BYTES_MAX = 16 * 1024
# To read so many headers takes as long as one usual call.
FRAMES_A_TURN = 16


class Passage(Protocol):
    """What a direction asks of the tunnel that it belongs to."""

    @property
    def closing(self) -> bool: ...
    def next_look(self) -> float: ...
    def look(self) -> None: ...
    def note(self, end: TunnelEnd) -> None: ...
    def over(self, end: TunnelEnd) -> None: ...


@dataclass(frozen=True, slots=True)
class Source:
    """A side that gives, and how the tunnel ends if it ends, or breaks."""

    sock: Sock
    ended: TunnelEnd
    broke: TunnelEnd


class Way:
    """From `source` to `sink`, by tasks of whoever calls `run`.

    `count` is told of the bytes that the sink took. `last_frame` closes a WebSocket; None: it is
    another protocol. `in_order` once the sink has been told of the end as of an end. `opposite`
    comes from the sink; it is set by whoever makes the two.
    """

    def __init__(
        self,
        passage: Passage,
        service: Service,
        source: Source,
        sink: Sock,
        *,
        count: Callable[[int], None],
        last_frame: bytes | None,
    ) -> None:
        self._passage = passage
        self._waiter = Waiter(service.timekeeper)
        self._network = service.network
        self._from = source
        self._source = source.sock
        self._sink = sink
        self._count = count
        self._last_frame = last_frame
        self._frames = None if last_frame is None else FrameScanner()
        self._frames_seen = 0
        # What had come before the tunnel began, and has not been read as the rest of it is.
        self._early = b""
        # Whether the sink has taken all that was read of the source.
        self._between = True
        self.sink_was_reset = False
        self.in_order = False
        self.opposite: Way

    def hurry(self, until: float) -> None:
        """Look at the tunnel's time again, at the latest then."""
        if self._waiter.waiting:
            self._waiter.move_deadline(min(self._waiter.deadline, until))

    def last_word(self) -> None:
        """Close a WebSocket now, if it stands between two frames and its sink need not be waited for."""
        frames, last = self._frames, self._last_frame
        if frames is None or last is None or not (frames.at_boundary and self._between):
            return
        if not (self.in_order or frames.closed):
            with contextlib.suppress(OSError):
                self.in_order = send_now(self._sink, last) == len(last)

    async def run(self, first: bytes) -> None:
        """`first` is what has come already. Raises nothing of the network's: the tunnel is told."""
        self._early = first
        try:
            await self._relay()
        except SourceBroke:
            self._passage.over(self._from.broke)
        except SinkBroke as exc:
            # Its last words may still be on their way back: the opposite way sees its end. A reset
            # is reported once, and to the next caller it looks like an end.
            self.sink_was_reset = _is_reset(exc.cause)

    async def _relay(self) -> None:
        data: bytes | None = None
        while True:
            rest = await self._pass(data) if data else b""
            if self._may_close:
                await self._close(rest)
                return
            if not self._early:
                await self._splice()
            data = await self._read()
            if data == b"":
                if self.opposite.sink_was_reset:
                    raise SourceBroke(ConnectionResetError(), 0)
                self._half_close()
                return

    @property
    def _may_close(self) -> bool:
        """Whether this side is to be closed, and nothing stands in the way."""
        frames = self._frames
        return frames is not None and self._passage.closing and frames.at_boundary

    async def _pass(self, data: bytes) -> bytes:
        """Pass it on; while closing, only the frame under way: what is behind it is returned."""
        size = len(data)
        if self._frames is not None:
            size = self._frames.feed(data, to_boundary=self._passage.closing)
        await self._send(data[:size])
        return data[size:]

    async def _send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                sent = send_now(self._sink, view)
            except OSError as exc:
                raise SinkBroke(exc, 0) from exc
            if sent:
                self._count(sent)
                view = view[sent:]
            else:
                self._between = False
                await self._wait(self._waiter.writable, self._sink)
        self._between = True

    async def _read(self) -> bytes | None:
        """What has come, b"" at the end of the source; None: the time to close has come."""
        await self._waiter.breathe(1 + self._frames_since() // FRAMES_A_TURN)
        self._passage.look()
        while not self._may_close:
            if (data := await self._arrived(self._most)) is not None:
                return data
        return None

    async def _arrived(self, most: int) -> bytes | None:
        """What is there, b"" at the end of the source; None after a wait."""
        if self._early:
            data, self._early = self._early[:most], self._early[most:]
            return data
        try:
            return self._source.recv(most)
        except WantsTurn:
            await self._waiter.breathe(TURNS_MAX)
            self._passage.look()
        except BlockingIOError:
            await self._wait(self._waiter.readable, self._source)
        except OSError as exc:
            raise SourceBroke(exc, 0) from exc
        return None

    @property
    def _most(self) -> int:
        if self._frames is None:
            return READ_BYTES_MAX
        return min(max(self._frames.left, FRAMED_READ_BYTES_MAX), READ_BYTES_MAX)

    def _frames_since(self) -> int:
        if self._frames is None:
            return 0
        before, self._frames_seen = self._frames_seen, self._frames.frames
        return self._frames_seen - before

    async def _splice(self) -> None:
        """Let the kernel move what it can; the end of the source is for `_read`."""
        left = UNTIL_END if self._frames is None else self._frames.left
        splice = splice_between(self._network, self._source, self._sink, left, self._count)
        if splice is None:
            return
        try:
            while (stand := splice.go_on()) is not Stand.OVER:
                if stand is Stand.SINK_IS_FULL:
                    await self._wait(self._waiter.writable, self._sink)
                elif stand is Stand.SOURCE_PAUSES:
                    await self._wait(self._waiter.readable, self._source)
                else:
                    await self._waiter.breathe(TURNS_MAX)
                    self._passage.look()
        except BaseException:
            splice.drop()
            raise
        if self._frames is not None and splice.left < left:
            self._frames.passed(left - splice.left)

    async def _wait(self, wait: Callable[[Sock, float], Awaitable[None]], sock: Sock) -> None:
        """Until then, or until the tunnel's time is to be looked at; the caller tries again."""
        try:
            await wait(sock, self._passage.next_look())
        except TimedOut:
            self._passage.look()

    async def _close(self, rest: bytes) -> None:
        """Say the last word, where it has not been said, and wait for the source to say its own."""
        frames = self._frames
        assert frames is not None and self._last_frame is not None  # noqa: PT018 - it is one fact
        if not (frames.closed or self.in_order):
            await self._send(self._last_frame)
        self.in_order = True
        frames.feed(rest)
        while not frames.closed:
            await self._waiter.breathe()
            data = await self._arrived(FRAMED_READ_BYTES_MAX)
            if data == b"":
                return
            frames.feed(data or b"")

    def _half_close(self) -> None:
        with contextlib.suppress(OSError):  # the sink may have gone: there is nobody to be told
            self._sink.shutdown(socket.SHUT_WR)
        self.in_order = True
        self._passage.note(self._from.ended)


def _is_reset(cause: Exception) -> bool:
    """EPIPE is told of whoever had ended in order before."""
    return not isinstance(cause, BrokenPipeError)
