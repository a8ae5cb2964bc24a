"""One worker slot as the supervisor knows it: its process, its channel, and what it has confirmed."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import trio

from balancer.core.restarts import Restarts
from balancer.supervisor.watchdog import Pulse
from balancer.worker.channel import Channel
from balancer.worker.messages import Message


class Process(Protocol):
    """A worker's process, whoever has started it."""

    @property
    def pid(self) -> int: ...

    async def wait(self) -> str:
        """Return when it has ended: how, in words."""
        ...

    def kill(self) -> None:
        """End it at once; nothing where it has ended already."""
        ...


@dataclass(slots=True, kw_only=True, eq=False)
class Slot:
    """A place for one worker.

    `asked` and `applied`: up to which number it was to be told, and has confirmed. `has_plan`: the
    worker has confirmed a plan, so it may be serving even where nobody hears it; `planned`: it is in
    touch as well. `accepts`: the slots that it was told to accept for. `retiring`: nobody is to
    follow in this slot. `leaving`: it drains without having been asked to.
    """

    number: int
    row: int
    process: Process | None = None
    channel: Channel | None = None
    asked: int = 0
    applied: int = 0
    has_plan: bool = False
    planned: bool = False
    accepts: tuple[int, ...] = ()
    hung: bool = False
    retiring: bool = False
    leaving: bool = False
    cut: int = 0
    pulse: Pulse = field(default_factory=Pulse)
    restarts: Restarts = field(default_factory=Restarts)
    gone: trio.Event = field(default_factory=trio.Event)

    @property
    def serving(self) -> bool:
        """Whether a worker is there that accepts and obeys."""
        return self.planned and not self.hung

    @property
    def state(self) -> str:
        if self.hung:
            return "hung"
        if self.leaving or (self.planned and self.retiring):
            return "draining"
        if self.planned:
            return "serving"
        return "starting" if self.process is not None else "down"

    @property
    def label(self) -> str:
        pid = f" (process {self.process.pid})" if self.process is not None else ""
        return f"worker {self.number}{pid}"

    def say(self, message: Message, handles: Sequence[object] = ()) -> None:
        """Say it, if anybody is there; who comes later is told everything anew."""
        self.asked = max(self.asked, getattr(message, "number", 0))
        if self.channel is not None:
            self.channel.send(message, handles)

    def lost(self) -> None:
        """Forget the worker that was here."""
        self.process = None
        self.has_plan = self.planned = self.hung = self.leaving = False
        self.pulse = Pulse()
        if self.channel is not None:
            self.channel.close()
            self.channel = None
