"""What workers say: who dials, what is told him first, and what is made of each of his words.

Decides nothing about pools, and starts and ends no worker.
"""

from abc import abstractmethod

import trio

from balancer.supervisor.broadcast import Broadcast, Owner
from balancer.supervisor.introductions import Introduction, close_handles, introduced
from balancer.supervisor.slots import Slot
from balancer.telemetry.logs import get_logger
from balancer.worker.channel import Channel, ChannelClosed
from balancer.worker.messages import (
    Applied,
    Decided,
    Drain,
    Drained,
    Leaving,
    Message,
    Reported,
    Running,
)


class Conversations(Broadcast):
    """One with each worker. `farewell`: what everyone is told from now on who dials."""

    def __init__(self, owner: Owner, memory: object) -> None:
        super().__init__(owner, memory)
        self._log = get_logger()
        self._farewell: Drain | None = None

    @abstractmethod
    def follow(self, slot: Slot) -> None:
        """The worker of this slot takes nothing new and will end: have another in its place."""

    async def talk(self, channel: Channel, introduction: Introduction | None = None) -> None:
        """Serve a channel that a worker has dialled, until it closes."""
        try:
            async with trio.open_nursery() as talking:
                talking.start_soon(channel.run)
                try:
                    await self._converse(channel, introduction or await introduced(channel))
                except ChannelClosed as exc:
                    self._hung_up(channel, str(exc))
                talking.cancel_scope.cancel()
        finally:
            channel.close()

    async def _converse(self, channel: Channel, introduction: Introduction) -> None:
        """Brief a worker that has said who it is, and listen to it. ChannelClosed."""
        hello = introduction.hello
        introduction.close()  # what it hands over is ours already
        slot = self._slot_of(hello.pid)
        if slot is not None:
            self._seat(slot, channel, has_board=hello.row is not None, draining=hello.draining)
        elif not hello.draining:
            self._log.warning("worker.unknown", process=hello.pid, effect="drained")
            # Of a successor that failed: its clients notice nothing.
            channel.send(self._farewell or Drain(None, patient=True))
        while True:
            word, handles = await channel.receive()
            close_handles(handles)  # nobody has asked for any
            if slot is not None:
                self._hear(slot, word)

    def _slot_of(self, pid: int) -> Slot | None:
        return next((s for s in self.slots if s.process is not None and s.process.pid == pid), None)

    def _seat(self, slot: Slot, channel: Channel, *, has_board: bool, draining: bool) -> None:
        """From now on this is the channel to that worker; tell it all that it is to know."""
        if slot.channel is not None:
            slot.channel.close()
        slot.channel = channel
        slot.applied = 0
        self.answers.stir()
        if self._farewell is not None:
            slot.say(self._farewell)
        elif draining:
            self.follow(slot)
        else:
            self.brief_one(slot, with_board=not has_board)
            if slot.retiring:
                slot.say(Drain(None, patient=True))

    def _hung_up(self, channel: Channel, why: str) -> None:
        for slot in self.slots:
            if slot.channel is channel:
                slot.channel = None
                slot.planned = False
                if self._farewell is None and not slot.retiring:
                    self._log.info("worker.silent", worker=slot.label, because=why)
                self.tell_accepts()
                self.answers.stir()

    def _hear(self, slot: Slot, word: Message) -> None:
        match word:
            case Applied(number, ended):
                self._confirmed(slot)
                self.answers.heard(slot, number, ended)
            case Running(number, exchanges):
                self.answers.heard(slot, number, exchanges)
            case Reported():
                self._owner.heard(word)
                if word.ejected:  # after the news that follow from it
                    slot.say(Decided(word.backend))
            case Leaving():
                self.follow(slot)
            case Drained(cut):
                slot.cut = cut
            case _:
                self._log.warning("worker.nonsense", worker=slot.label)

    def _confirmed(self, slot: Slot) -> None:
        if not slot.planned and not slot.leaving:
            slot.planned = slot.has_plan = True
            self._owner.worker_serves(slot)
            self.tell_accepts()
