"""Pipes that the kernel moves bodies through: made when needed, kept for the next one, bounded.

Decides which pipe may be used again: one that is empty after a whole, clean transfer, and no other.
A byte left in a pipe would reach the next client. What is moved and when: `balancer.wire.splice`.
"""

import array
import contextlib
import fcntl
import functools
import os
import socket
import termios

# What each is asked to hold: measured, fewer and larger moves cost least. Also the most that Linux
# lets a user ask for (pipe-max-size); where it refuses, a pipe stays as it is made, at 64 KiB.
SIZE_BYTES = 1024 * 1024
# With less than this, copying needs fewer calls. Past a user's limit Linux makes pipes of 8 KiB.
SIZE_BYTES_MIN = 64 * 1024
# In use at one time, which is what Linux lets one user have (pipe-user-pages-soft); who comes later
# copies. So readers that are slow hold 64 MiB and 128 descriptors of a process at the most.
PIPES_MAX = 64
# Kept open while idle. An empty pipe holds no pages.
IDLE_MAX = 16


class Pipe:
    """One pipe, owned by one transfer at a time; `size` in bytes."""

    __slots__ = ("inlet", "outlet", "size")

    def __init__(self) -> None:
        self.outlet, self.inlet = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.size = fcntl.fcntl(self.inlet, fcntl.F_GETPIPE_SZ)

    def widen(self, size: int) -> None:
        """Ask for room for `size` bytes; what the kernel refuses changes nothing."""
        with contextlib.suppress(OSError):
            self.size = fcntl.fcntl(self.inlet, fcntl.F_SETPIPE_SZ, size)

    def held(self) -> int:
        """How many bytes are in it, by the kernel's own count."""
        count = array.array("i", [0])
        fcntl.ioctl(self.outlet, termios.FIONREAD, count)
        return count[0]

    def close(self) -> None:
        """Drop it with whatever is in it."""
        os.close(self.inlet)
        os.close(self.outlet)


class Pipes:
    """The pipes of one process. Never waits."""

    def __init__(self) -> None:
        self._idle: list[Pipe] = []
        self._in_use = 0

    def take(self) -> Pipe | None:
        """An empty pipe; None where there is none to be had, so copy.

        Whoever takes it ends with `give` or `drop`, once.
        """
        if self._idle:
            self._in_use += 1
            return self._idle.pop()
        if self._in_use >= PIPES_MAX or not splice_works():
            return None
        try:
            pipe = Pipe()
        except OSError:
            return None  # no descriptors left
        pipe.widen(SIZE_BYTES)
        if pipe.size < SIZE_BYTES_MIN:
            pipe.close()
            return None
        self._in_use += 1
        return pipe

    def give(self, pipe: Pipe) -> None:
        """Take back a pipe after a whole, clean transfer."""
        if pipe.held() or len(self._idle) >= IDLE_MAX:
            self.drop(pipe)
            return
        self._in_use -= 1
        self._idle.append(pipe)

    def drop(self, pipe: Pipe) -> None:
        """Close a pipe whose transfer broke, with what is left in it."""
        self._in_use -= 1
        pipe.close()

    @property
    def in_use(self) -> int:
        return self._in_use

    @property
    def idle(self) -> int:
        return len(self._idle)

    def close(self) -> None:
        """Close the idle ones."""
        while self._idle:
            self._idle.pop().close()


@functools.cache
def splice_works() -> bool:
    """Whether splice() works here: not on other systems, nor where a sandbox forbids it."""
    if not hasattr(os, "splice"):
        return False
    try:
        pipe = Pipe()
    except OSError:
        return False
    try:
        near, far = socket.socketpair()
        with near, far:
            near.send(b"x")
            moved = os.splice(far.fileno(), pipe.inlet, 1)
            return bool(moved and os.splice(pipe.outlet, far.fileno(), 1) and near.recv(1) == b"x")
    except OSError:
        return False
    finally:
        pipe.close()
