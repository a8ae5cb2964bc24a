"""What is said to all workers of an instance, and asked of them; each is told everything.

Sockets whose worker does not serve, or is not there any more, are accepted at by all others. Who lives
is not decided here.
"""

from collections.abc import Mapping
from typing import Protocol

from balancer.core.backend import BackendId
from balancer.supervisor.answers import Answers
from balancer.supervisor.slots import Slot
from balancer.worker.channel import DESCRIPTORS_MAX
from balancer.worker.messages import (
    SHARED,
    Accept,
    Ask,
    Cut,
    Memory,
    Message,
    Plan,
    Reported,
    RunningExchange,
    SocketKey,
    Sockets,
)


class Owner(Protocol):
    """The instance, as its workers need it."""

    def plan(self, slot: Slot, number: int) -> Plan:
        """All that this worker is to be now."""
        ...

    def sockets(self) -> Mapping[SocketKey, object]:
        """Every listening socket that workers are to hold."""
        ...

    def close_sockets(self) -> None:
        """Close our own handles of them."""
        ...

    def heard(self, reported: Reported) -> None:
        """A worker has told of an attempt."""
        ...

    def worker_lost(self, cause: str, effect: str, *, looping: bool) -> None: ...
    def worker_serves(self, slot: Slot) -> None: ...


class Broadcast:
    """The slots, and what is said to all of them. `memory`: the board, as a handle to send."""

    def __init__(self, owner: Owner, memory: object) -> None:
        self.slots: list[Slot] = []
        self.answers = Answers()
        self.accepting = False
        self._owner = owner
        self._memory = memory

    def say(self, message: Message) -> None:
        for slot in self.slots:
            slot.say(message)

    def say_to_retiring(self, message: Message) -> None:
        for slot in self.slots:
            if slot.retiring:
                slot.say(message)

    def brief(self) -> None:
        """Tell every worker everything anew."""
        for slot in self.slots:
            self.brief_one(slot, with_board=False)

    def brief_one(self, slot: Slot, *, with_board: bool) -> None:
        """Tell one worker everything; `with_board`: it has nothing yet."""
        if slot.channel is None:
            return
        if with_board:
            slot.say(Memory(), [self._memory])
        held = list(self._owner.sockets().items())
        for start in range(0, len(held), DESCRIPTORS_MAX):
            some = held[start : start + DESCRIPTORS_MAX]
            slot.say(Sockets(tuple(key for key, _ in some)), [sock for _, sock in some])
        slot.accepts = self.accepts_of(slot)
        slot.say(self._owner.plan(slot, self.answers.next_number()))

    def accepts_of(self, slot: Slot) -> tuple[int, ...]:
        """The slots that this worker is to accept for."""
        if not self.accepting:
            return ()
        present = {other.number for other in self.slots if other.serving}
        absent = {key.slot for key in self._owner.sockets()} - present - {SHARED}
        return tuple(sorted({slot.number} | absent))

    def tell_accepts(self) -> None:
        """Tell those for whom it has changed for which slots they are to accept."""
        for slot in self.slots:
            wanted = self.accepts_of(slot)
            if slot.channel is not None and wanted != slot.accepts:
                slot.accepts = wanted
                slot.say(Accept(self.answers.next_number(), wanted))

    async def accept(self) -> None:
        """Let the workers accept clients; returns when they have heard."""
        self.accepting = True
        self.tell_accepts()
        await self.answers.confirmed(self.slots)

    async def one_serves(self, within_s: float) -> bool:
        """Whether a worker is there within that time."""
        return await self.answers.until(lambda: any(s.serving for s in self.slots), within_s)

    async def all_serve(self, within_s: float) -> bool:
        """Whether all workers are there within that time."""
        return await self.answers.until(lambda: all(s.serving for s in self.slots), within_s)

    async def confirmed(self) -> tuple[str, ...]:
        """Return when all that has been said is in force everywhere; in time, where it is not."""
        return await self.answers.confirmed(self.slots)

    async def running(self, backend: BackendId) -> list[RunningExchange]:
        """What runs on a backend, as far as workers say in time."""
        number = self.answers.next_number()
        answers = await self.answers.collected(
            self.slots, number, lambda: self.say(Ask(number, backend))
        )
        return [one for answer in answers if isinstance(answer, tuple) for one in answer]

    async def cut(self, backend: BackendId) -> int:
        """End every attempt on a backend; how many there were."""
        number = self.answers.next_number()
        answers = await self.answers.collected(
            self.slots, number, lambda: self.say(Cut(number, backend))
        )
        return sum(answer for answer in answers if isinstance(answer, int))
