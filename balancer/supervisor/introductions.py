"""The first words on a channel: who the worker is, and what it holds of an instance before us."""

import os
from contextlib import suppress
from dataclasses import dataclass, field

from balancer.worker.channel import Channel, ChannelClosed
from balancer.worker.messages import Hello, Memory, SocketKey, Sockets


@dataclass(slots=True, kw_only=True)
class Introduction:
    """What a worker has handed over: descriptors that are ours until `close`, or taken out."""

    hello: Hello
    memory: object = None
    sockets: dict[SocketKey, object] = field(default_factory=dict)

    def close(self) -> None:
        """Close what nobody has taken out."""
        for handle in (self.memory, *self.sockets.values()):
            if isinstance(handle, int):
                with suppress(OSError):
                    os.close(handle)
        self.memory = None
        self.sockets.clear()


async def introduced(channel: Channel) -> Introduction:
    """Listen until the worker has said who it is. ChannelClosed."""
    introduction = Introduction(hello=Hello(-1, -1, None))
    try:
        while True:
            word, handles = await channel.receive()
            match word:
                case Memory():
                    introduction.memory = handles[0]
                case Sockets(keys):
                    introduction.sockets |= dict(zip(keys, handles, strict=True))
                case Hello():
                    introduction.hello = word
                    return introduction
                case _:
                    raise ChannelClosed("it did not say who it is")
    except BaseException:
        introduction.close()
        raise
