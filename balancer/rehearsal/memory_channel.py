"""A channel between supervisor and worker within one process, for rehearsals: no socket, no wait.

Messages are encoded and decoded as they are between processes; handles pass as they are.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import trio

from balancer.worker.channel import ChannelClosed
from balancer.worker.messages import Message, Word, decoded, encoded


@dataclass(slots=True)
class _Inbox:
    """What waits for one end, and the news that something does."""

    waiting: deque[tuple[bytes, list[object]]] = field(default_factory=deque)
    news: trio.Event = field(default_factory=trio.Event)
    closed: bool = False


class MemoryChannel:
    """One end; implements `balancer.worker.channel.Channel`."""

    def __init__(self, mine: _Inbox, theirs: _Inbox) -> None:
        self._mine = mine
        self._theirs = theirs

    @staticmethod
    def pair() -> "tuple[MemoryChannel, MemoryChannel]":
        one, other = _Inbox(), _Inbox()
        return MemoryChannel(one, other), MemoryChannel(other, one)

    @property
    def peer(self) -> int | None:
        return None

    @property
    def is_open(self) -> bool:
        return not self._mine.closed

    def send(self, message: Message, handles: Sequence[object] = ()) -> None:
        if not self._theirs.closed:
            self._theirs.waiting.append((encoded(message), list(handles)))
            self._theirs.news.set()

    async def receive(self) -> tuple[Word, list[object]]:
        while not self._mine.waiting:
            if self._mine.closed:
                raise ChannelClosed("it was closed")
            self._mine.news = trio.Event()
            await self._mine.news.wait()
        data, handles = self._mine.waiting.popleft()
        return decoded(data), handles

    async def run(self) -> None:
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        for inbox in (self._mine, self._theirs):
            inbox.closed = True
            inbox.news.set()
