"""The first words on a channel: who the worker is, and what it holds of an instance before us.

Whoever says something else, says nothing, or is not the process that he says, is hung up on.
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field

import trio

from balancer.worker.channel import Channel, ChannelClosed
from balancer.worker.messages import Hello, Memory, SocketKey, Sockets

# A worker says it in the moment in which it dials.
INTRODUCTION_S = 5.0


@dataclass(slots=True, kw_only=True)
class Introduction:
    """What a worker has handed over: descriptors that are ours until `close`, or taken out."""

    hello: Hello
    memory: object = None
    sockets: dict[SocketKey, object] = field(default_factory=dict)

    def close(self) -> None:
        """Close what nobody has taken out."""
        close_handles((self.memory, *self.sockets.values()))
        self.memory = None
        self.sockets.clear()


async def introduced(channel: Channel) -> Introduction:
    """Listen until the worker has said who it is. ChannelClosed."""
    introduction = Introduction(hello=Hello(-1, -1, None))
    try:
        with trio.move_on_after(INTRODUCTION_S):
            while introduction.hello.pid < 0:
                await _hear(channel, introduction)
            return introduction
        raise ChannelClosed("it did not say who it is in time")
    except BaseException:
        introduction.close()
        raise


async def _hear(channel: Channel, introduction: Introduction) -> None:
    word, handles = await channel.receive()
    match word:
        case Memory() if len(handles) == 1 and introduction.memory is None:
            introduction.memory = handles[0]
        case Sockets(keys) if len(keys) == len(handles):
            again = [introduction.sockets.pop(key, None) for key in keys]
            introduction.sockets |= dict(zip(keys, handles, strict=True))
            close_handles(again)
        case Hello() if not handles and channel.peer in {None, word.pid}:
            introduction.hello = word
        case _:
            close_handles(handles)
            raise ChannelClosed("it did not say who it is")


def close_handles(handles: Iterable[object]) -> None:
    """Close those that are descriptors."""
    for handle in handles:
        if isinstance(handle, int):
            with suppress(OSError):
                os.close(handle)
