"""An upgrade, on the side of the one that comes: what it was handed, and its turn to take over.

Until its turn it serves nobody, saves nothing and owns none of what it holds, so it may fail at any
moment. What happens with all of it is for the instance to decide.
"""

import os
import signal
import socket
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from dataclasses import dataclass, field

import trio

from balancer.core.board import Board
from balancer.supervisor.bequest import (
    BOARD,
    LISTENER,
    VARIABLE,
    Channel,
    Estate,
    Failed,
    Handle,
    Handles,
    Prepared,
    TakeOver,
    TookOver,
    said,
)
from balancer.supervisor.processes import AdoptedProcess
from balancer.wire.network import KernelNetwork, Sock
from balancer.worker.channel import ChannelClosed
from balancer.worker.messages import SocketKey

# All of it has been sent before we ask.
INHERIT_S = 10.0


class CannotTakeOver(Exception):
    """It does not come to an upgrade; str() is a sentence for the operator."""


def channel_to_predecessor(env: MutableMapping[str, str]) -> Channel | None:
    """The channel to the process that started us to take over from it, if one did.

    From here on standard error is where the other's is, and nobody else inherits any of this.
    """
    text = env.pop(VARIABLE, None)
    if text is None:
        return None
    ours, stderr = (int(number) for number in text.split(","))
    os.dup2(stderr, 2)
    os.close(stderr)
    sock = socket.socket(fileno=ours)
    sock.set_inheritable(False)
    sock.setblocking(False)
    return Channel(sock, said)


@dataclass(slots=True, kw_only=True)
class Heritage:
    """What we were handed; `handles` are ours until they are taken out or closed."""

    channel: Channel
    estate: Estate
    handles: dict[Handle, int] = field(default_factory=dict)
    settle: Callable[[], None] = lambda: None
    _predecessor: int = -1

    def __post_init__(self) -> None:
        with suppress(OSError):  # it has ended, which the channel will tell
            self._predecessor = os.pidfd_open(self.estate.pid)

    def take(self, kind: str, name: str = "") -> int | None:
        """One handle, for its new owner."""
        return self.handles.pop(Handle(kind, name), None)

    def take_sock(self, kind: str, name: str = "") -> Sock | None:
        """One listening socket, for its new owner."""
        number = self.take(kind, name)
        return None if number is None else KernelNetwork().adopted(number)

    def take_all(self, kind: str) -> dict[str, int]:
        """All handles of a kind that has one for each name."""
        names = [handle.name for handle in self.handles if handle.kind == kind]
        return {name: self.handles.pop(Handle(kind, name)) for name in names}

    def take_listeners(self) -> dict[SocketKey, int]:
        """The sockets that clients connect to."""
        found = [handle for handle in self.handles if handle.kind == LISTENER]
        return {SocketKey(each.name, each.slot): self.handles.pop(each) for each in found}

    def take_board(self) -> int:
        """The memory that all processes count on."""
        memory = self.take(BOARD)
        if memory is None:
            raise CannotTakeOver("the process before us has handed over no board")
        return memory

    async def our_turn(self, version: str) -> TakeOver:
        """Say that we could, and return when we shall. CannotTakeOver."""
        self.channel.send(Prepared(version))
        try:
            word, _ = await self.channel.receive()
        except ChannelClosed as exc:
            raise CannotTakeOver(f"the process before us goes on without us ({exc})") from exc
        if not isinstance(word, TakeOver):
            raise CannotTakeOver("the process before us said what makes no sense")
        return word

    def workers(self, board: Board) -> dict[int, AdoptedProcess]:
        """Those of the process before us that live, by row of the board."""
        found = {}
        for row in self.estate.rows:
            with suppress(OSError):
                found[row] = AdoptedProcess(board.pid(row))
        return found

    def took_over(self) -> None:
        """Everything is ours now, in one step with the word that says so."""
        self.settle()
        self.channel.send(TookOver())

    def failed(self, why: str) -> None:
        """Say what keeps us from it."""
        self.channel.send(Failed(why))

    def hurry_predecessor(self) -> None:
        """Have the process before us, should it still finish what it runs, do so within its limit."""
        if self._predecessor >= 0:
            with suppress(OSError):
                signal.pidfd_send_signal(self._predecessor, signal.SIGTERM)

    def close(self) -> None:
        """Close what nobody has taken out; the channel stays, for a last word."""
        if self._predecessor >= 0:
            os.close(self._predecessor)
        while self.handles:
            _, handle = self.handles.popitem()
            os.close(handle)


async def inherited(channel: Channel) -> Heritage:
    """Listen until everything has come. CannotTakeOver."""
    handles: dict[Handle, int] = {}
    try:
        with trio.fail_after(INHERIT_S):
            while True:
                word, arrived = await channel.receive()
                numbers = [handle for handle in arrived if isinstance(handle, int)]
                match word:
                    case Handles(which):
                        handles |= dict(zip(which, numbers, strict=True))
                    case Estate():
                        return Heritage(channel=channel, estate=word, handles=handles)
                    case _:
                        raise CannotTakeOver("the process before us said what makes no sense")
    except (ChannelClosed, trio.TooSlowError) as exc:
        raise CannotTakeOver(f"the process before us has handed over nothing ({exc})") from exc
