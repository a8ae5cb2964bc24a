"""What workers have confirmed and answered, by number, and how long it is waited for."""

from collections.abc import Callable, Iterable

import trio

from balancer.supervisor.slots import Slot
from balancer.worker.messages import RunningExchange

# How long an order waits for a worker's confirmation before it names the laggard.
CONFIRM_S = 2.0


class Answers:
    """Numbers what is said, and collects what comes back."""

    def __init__(self) -> None:
        self.number = 0
        self._open: dict[int, dict[Slot, tuple[RunningExchange, ...] | int]] = {}
        self._news = trio.Event()

    def next_number(self) -> int:
        self.number += 1
        return self.number

    def heard(self, slot: Slot, number: int, answer: tuple[RunningExchange, ...] | int) -> None:
        """A worker has confirmed everything up to `number`, and answers it."""
        slot.applied = max(slot.applied, number)
        if number in self._open:
            self._open[number][slot] = answer
        self.stir()

    def stir(self) -> None:
        """Let everybody who waits look again."""
        self._news.set()
        self._news = trio.Event()

    async def until(self, come: Callable[[], bool], within_s: float = CONFIRM_S) -> bool:
        """Return when it has come true, or after `within_s`; whether it has."""
        with trio.move_on_after(within_s):
            while not come():
                await self._news.wait()
        return come()

    async def confirmed(self, slots: Iterable[Slot]) -> tuple[str, ...]:
        """Return when all that serve have confirmed what they were told; else in time who has not.

        One that is out of touch serves on by what it knows, so it is behind until it is told anew. One
        that is just starting is told everything, so it never is.
        """
        asked = [(slot, slot.process, slot.asked) for slot in slots if slot.has_plan]

        def behind() -> list[Slot]:
            return [
                slot
                for slot, process, number in asked
                if slot.process is process and slot.applied < number
            ]

        await self.until(lambda: not behind())
        return tuple(slot.label for slot in behind())

    async def collected(
        self, slots: Iterable[Slot], number: int, ask: Callable[[], None]
    ) -> list[tuple[RunningExchange, ...] | int]:
        """Ask, and return what those that are there in time have answered."""
        asked = [slot for slot in slots if slot.planned]
        answers = self._open[number] = {}
        try:
            ask()
            await self.until(lambda: all(slot in answers or not slot.planned for slot in asked))
        finally:
            del self._open[number]
        return list(answers.values())
