"""A body moved from socket to socket by the kernel, through a pipe: its bytes never enter Python.

Knows nothing of clients, backends or answers: whoever calls says what a broken side means, and
copies what is too little, or of what there is no pipe for.
"""

import os
from collections.abc import Callable

import trio

from balancer.wire.network import Sock
from balancer.wire.pipes import Pipe, Pipes
from balancer.wire.waiting import Interrupted, Waiter

# From here on the calls for a pipe cost less than copying.
SPLICE_BYTES_MIN = 64 * 1024
# So many bytes are worth one usual call: after 1 MiB without a wait others get their turn.
TURN_BYTES = 64 * 1024
# For a body that ends with its connection.
UNTIL_END = 1 << 62


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


async def splice(
    source: Sock,
    sink: Sock,
    pipes: Pipes,
    left: int,
    waiter: Waiter,
    *,
    read_deadline: Callable[[], float],
    write_s: float,
    passed: Callable[[int], None],
) -> int:
    """Move `left` bytes; how many of them are still to come.

    More than none: `source` has ended, or there is no pipe to be had; reading on tells which.
    `read_deadline` is asked at each wait for `source`; `write_s` is how long `sink` may go without
    taking any, in seconds; `passed` is told how many bytes it took. Raises SourceBroke, SinkBroke.
    """
    while left and (pipe := pipes.take()) is not None:
        try:
            left, ended = await _move(source, sink, pipe, left, waiter, write_s, passed)
        except BaseException:
            pipes.drop(pipe)
            raise
        pipes.give(pipe)
        if ended:
            break
        if left:
            # A source that pauses holds no pipe.
            try:
                await waiter.readable(source, read_deadline())
            except Interrupted as exc:
                raise SourceBroke(exc, left) from exc
    return left


async def _move(
    source: Sock,
    sink: Sock,
    pipe: Pipe,
    left: int,
    waiter: Waiter,
    write_s: float,
    passed: Callable[[int], None],
) -> tuple[int, bool]:
    """Move what `source` has: what is left then, and whether it has ended.

    Fills the pipe while it is empty and then empties it, so a call that would block says whose
    turn it is.
    """
    move, inlet, outlet, size = os.splice, pipe.inlet, pipe.outlet, pipe.size
    giving, taking = source.fileno(), sink.fileno()
    flags = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK
    held = 0
    while left:
        try:
            await waiter.breathe(1 + held // TURN_BYTES)
            held = in_pipe = move(giving, inlet, min(left, size), flags=flags)
        except BlockingIOError:
            return left, False
        except (OSError, Interrupted) as exc:
            raise SourceBroke(exc, left) from exc
        if not held:
            return left, True
        left -= held
        while in_pipe:
            try:
                gone = move(outlet, taking, in_pipe, flags=flags)
            except BlockingIOError:
                try:
                    await waiter.writable(sink, trio.current_time() + write_s)
                except Interrupted as exc:
                    raise SinkBroke(exc, left) from exc
            except OSError as exc:
                raise SinkBroke(exc, left) from exc
            else:
                in_pipe -= gone
                passed(gone)
    return left, True
