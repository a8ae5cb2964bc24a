"""A body moved from socket to socket by the kernel, through a pipe: its bytes never enter Python.

Knows nothing of clients, backends or answers: whoever calls says what a broken side means, and
copies what is too little, or of what there is no pipe for.
"""

import os
from collections.abc import Awaitable, Callable
from enum import Enum

from balancer.wire.network import Network, Sock
from balancer.wire.pipes import Pipe, Pipes
from balancer.wire.waiting import TURNS_MAX, Interrupted, Waiter

# From here on the calls for a pipe cost less than copying.
SPLICE_BYTES_MIN = 64 * 1024
# So many bytes are worth one usual call: after 1 MiB without a wait others get their turn.
TURN_BYTES = 64 * 1024
# For a body that ends with its connection.
UNTIL_END = 1 << 62
_FLAGS = 0 if not hasattr(os, "splice") else os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK


class Stand(Enum):
    """Why a transfer does not go on by itself."""

    OVER = "all has passed, the source has ended, or there is no pipe: reading on tells which"
    SOURCE_PAUSES = "wait until the source can be read"
    SINK_IS_FULL = "wait until the sink can be written"
    TURN_IS_UP = "let others run"


class _Broke(Exception):
    """A transfer ended early: why, and how many bytes had not been taken from the source."""

    def __init__(self, cause: OSError | Interrupted, left: int) -> None:
        super().__init__(str(cause))
        self.cause = cause
        self.left = left


class SourceBroke(_Broke):
    """The side that gives: its connection broke, or the transfer was ended from outside."""


class SinkBroke(_Broke):
    """The side that takes."""


class Splice:
    """One body on its way. Whoever has it calls `go_on` until it is over or raises, or `drop`.

    `left` bytes are still to be taken from the source. `count` is told of those that the sink took.
    A pipe is held only while there are bytes in it. What broke once breaks the same way again.
    """

    __slots__ = ("_broke", "_count", "_in_pipe", "_pipe", "_pipes", "left", "sink", "source")

    def __init__(
        self, source: Sock, sink: Sock, pipes: Pipes, left: int, count: Callable[[int], None]
    ) -> None:
        self.source = source
        self.sink = sink
        self.left = left
        self._pipes = pipes
        self._pipe: Pipe | None = None
        self._in_pipe = 0
        self._broke: _Broke | None = None
        self._count = count

    def go_on(self) -> Stand:
        """Move what can be moved now. Raises SourceBroke, SinkBroke."""
        if self._broke is not None:
            raise self._broke
        pipe = self._pipe
        if pipe is None:
            pipe = self._pipe = self._pipes.take() if self.left else None
            if pipe is None:
                return Stand.OVER
        try:
            stand = self._move(pipe)
        except BaseException as exc:
            self._broke = exc if isinstance(exc, _Broke) else None
            self.drop()
            raise
        if stand is not Stand.SINK_IS_FULL:
            self._pipe = None
            self._pipes.give(pipe)
        return stand

    def _move(self, pipe: Pipe) -> Stand:
        """Fill the pipe only while it is empty: so a call that would block says whose turn it is."""
        move, inlet, outlet, size = os.splice, pipe.inlet, pipe.outlet, pipe.size
        giving, taking = self.source.fileno(), self.sink.fileno()
        left, in_pipe, turns = self.left, self._in_pipe, TURNS_MAX
        try:
            while True:
                while in_pipe:
                    gone = move(outlet, taking, in_pipe, flags=_FLAGS)
                    in_pipe -= gone
                    self._count(gone)
                if not left:
                    return Stand.OVER
                if turns <= 0:
                    return Stand.TURN_IS_UP
                in_pipe = move(giving, inlet, min(left, size), flags=_FLAGS)
                if not in_pipe:
                    return Stand.OVER
                left -= in_pipe
                turns -= 1 + in_pipe // TURN_BYTES
        except BlockingIOError:
            return Stand.SINK_IS_FULL if in_pipe else Stand.SOURCE_PAUSES
        except OSError as exc:
            raise (SinkBroke if in_pipe else SourceBroke)(exc, left) from exc
        finally:
            self.left, self._in_pipe = left, in_pipe

    def drop(self) -> None:
        """Give the transfer up; what is in the pipe goes with it."""
        if self._pipe is not None:
            self._pipes.drop(self._pipe)
            self._pipe = None
            self._in_pipe = 0


def splice_between(
    network: Network, source: Sock, sink: Sock, left: int, count: Callable[[int], None]
) -> Splice | None:
    """A transfer of `left` bytes; None where it is better, or necessary, to copy them."""
    pipes = network.pipes(source, sink) if left >= SPLICE_BYTES_MIN else None
    return None if pipes is None else Splice(source, sink, pipes, left, count)


async def finish(
    splice: Splice,
    waiter: Waiter,
    *,
    source_ready: Callable[[], Awaitable[None]],
    sink_ready: Callable[[], Awaitable[None]],
) -> int:
    """Go on until it is over; how many bytes are still to come: more than none, read on.

    `source_ready` and `sink_ready` wait for a side as long as it is given, and raise Interrupted
    when that is over. Raises SourceBroke, SinkBroke.
    """
    try:
        while (stand := splice.go_on()) is not Stand.OVER:
            if stand is Stand.SINK_IS_FULL:
                try:
                    await sink_ready()
                except Interrupted as exc:
                    raise SinkBroke(exc, splice.left) from exc
                continue
            try:
                if stand is Stand.SOURCE_PAUSES:
                    await source_ready()
                else:
                    await waiter.breathe(TURNS_MAX)
            except Interrupted as exc:
                raise SourceBroke(exc, splice.left) from exc
    except BaseException:
        splice.drop()
        raise
    return splice.left
