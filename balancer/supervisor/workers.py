"""The workers of an instance: started, watched, replaced, and told to end.

It decides nothing about pools, and opens no socket; what is said to them is in `broadcast`, what
they say in `conversations`.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from itertools import islice

import trio

from balancer.core.board import Board
from balancer.core.steering import next_slots
from balancer.supervisor.broadcast import Owner
from balancer.supervisor.conversations import Conversations
from balancer.supervisor.rows import NoRow, Rows
from balancer.supervisor.slots import Process, Slot
from balancer.supervisor.watchdog import KILL_LOOKS, LOOK_S, START_LOOKS, Finding
from balancer.worker.messages import Drain

# A worker that was told to be done by now, and is not, is ended.
SPARE_S = 2.0
NO_LIMIT = float("inf")


class Workers(Conversations):
    """The slots, and who lives in them."""

    def __init__(
        self,
        owner: Owner,
        board: Board,
        memory: object,
        launch: Callable[[int], Awaitable[Process]],
        lives: Callable[[int], bool],
    ) -> None:
        super().__init__(owner, memory)
        self._board = board
        self._launch = launch
        self._ending = trio.Event()
        self._draining = self._passed_on = False
        self.rows = Rows(board, self.slots, lives)
        self._tasks: trio.Nursery | None = None

    async def run(self) -> None:
        """Keep the slots filled and watched; until cancelled."""
        async with trio.open_nursery() as self._tasks:
            for slot in self.slots:
                self._tasks.start_soon(self._keep, slot)
            await self._watch()

    def add_slot(self, number: int, process: Process | None = None, row: int | None = None) -> Slot:
        """One more place; `process`: the worker that a supervisor before us has started for it."""
        row = self.rows.next() if row is None else row
        return self._add(Slot(number=number, row=row, process=process, has_plan=bool(process)))

    def _add(self, slot: Slot) -> Slot:
        self.slots.append(slot)
        if self._tasks is not None:
            self._tasks.start_soon(self._keep, slot)
        return slot

    def lose_patience(self) -> None:
        """Dismiss clients whose connection rests."""
        self.say(Drain(None))

    def pass_on(self) -> None:
        """From now on another supervisor owns the board, and nobody follows our workers."""
        self._passed_on = True
        self.rows.pass_on()
        self._ending.set()

    def adopt(self, there: Mapping[int, tuple[Process, int]], with_sockets: Iterable[int]) -> None:
        """Have slots for workers that a supervisor before us has started: process and row, by slot.

        And for those whose sockets are there without a worker. All other rows that somebody has signed
        are lent.
        """
        ours = {row for _, row in there.values()}
        signed = (row for row in range(1, self._board.used) if self._board.pid(row))
        self.rows.lend(row for row in signed if row not in ours)
        for number in sorted({*there, *with_sockets}):
            self.add_slot(number, *there.get(number, ()))
        self.accepting = bool(there)

    def resize(self, wanted: int) -> None:
        """Have so many slots; who is too many is to be told to drain, and nobody follows.

        Raises NoRow, and then nothing has changed.
        """
        self.check_room_for(wanted)
        staying = self.staying
        for slot in staying[wanted:]:
            slot.retiring = True
        numbers = next_slots(
            [slot.number for slot in staying], [slot.number for slot in self.slots]
        )
        for number in islice(numbers, max(0, wanted - len(staying))):
            self.add_slot(number)

    def check_room_for(self, wanted: int) -> None:
        """NoRow where there cannot be so many slots now."""
        self.rows.check_room_for(wanted - len(self.staying))

    @property
    def staying(self) -> list[Slot]:
        """Those that are to have a worker, in the order in which the sockets were opened."""
        return sorted((s for s in self.slots if not s.retiring), key=lambda slot: slot.number)

    async def until_ending(self, within_s: float) -> None:
        """Return when all workers are to end, or after that time."""
        with trio.move_on_after(within_s):
            await self._ending.wait()

    def follow(self, slot: Slot) -> None:
        """Have another worker in the place of one that leaves on its own, at once if there is room."""
        if slot.leaving:
            return
        slot.leaving = True
        slot.planned = False
        if not self._is_last(slot):
            try:
                row = self.rows.next()
            except NoRow as exc:
                effect = f"another one starts when it has ended: {exc}"
            else:
                effect = "another one starts"
                slot.retiring = True
                self._add(Slot(number=slot.number, row=row, restarts=slot.restarts))
            self._log.warning("worker.leaves", worker=slot.label, effect=effect)
        self.tell_accepts()

    # ---- one worker's life

    async def _keep(self, slot: Slot) -> None:
        """Keep a worker in the slot, until nobody is to follow it."""
        while slot.process is not None or not self._is_last(slot):
            started = trio.current_time()
            how = await self._live(slot)
            if slot.hung:
                how = f"{how}, because it did not answer"
            slot.lost()
            if not self._passed_on:
                self._board.void(slot.row)
            self.tell_accepts()
            if not self._is_last(slot):
                pause_s = slot.restarts.pause_s(trio.current_time() - started)
                self._tell_lost(slot, how, pause_s)
                with trio.move_on_after(pause_s):
                    await self._ending.wait()
        if slot.retiring:
            self.slots.remove(slot)
        slot.gone.set()
        self.answers.stir()

    def _is_last(self, slot: Slot) -> bool:
        """Whether nobody is to follow the worker that is there."""
        return self._ending.is_set() or slot.retiring

    async def _live(self, slot: Slot) -> str:
        """From the start of a worker to its end; how it ended."""
        if slot.process is None:
            self._board.void(slot.row)
            try:
                slot.process = await self._launch(slot.number)
            except OSError as exc:
                return f"could not be started: {exc.strerror or exc}"
            if self._is_last(slot):  # since it was asked for
                slot.process.kill()
        return await slot.process.wait()

    def _tell_lost(self, slot: Slot, how: str, pause_s: float) -> None:
        others = sum(other.serving for other in self.slots)
        cover = f"{others} other{'s accept' if others > 1 else ' accepts'} at its sockets"
        if not others:
            cover = "clients wait in the queues of its sockets"
        again = f"the next one starts in {pause_s:g} s" if pause_s else "the next one starts now"
        cause = f"worker {slot.number} {how}"
        if slot.restarts.looping:
            cause = f"{cause}, {slot.restarts.in_a_row} times in a row soon after its start"
        self._owner.worker_lost(cause, f"{cover}; {again}", looping=slot.restarts.looping)

    async def _watch(self) -> None:
        """Let others accept for a worker that hangs, and end it if it goes on."""
        while True:
            await trio.sleep(LOOK_S)
            for slot in self.slots:
                if slot.process is not None:
                    self._look_at(slot, slot.process)

    def _look_at(self, slot: Slot, process: Process) -> None:
        patience = KILL_LOOKS if slot.has_plan else START_LOOKS
        finding = slot.pulse.look(self._board.beats(slot.row), patience)
        hung = slot.has_plan and finding in (Finding.HUNG, Finding.DEAD)
        if hung is not slot.hung:
            slot.hung = hung
            self._log.warning("worker.hung" if hung else "worker.back", worker=slot.label)
            self.tell_accepts()
        if finding is Finding.DEAD:
            self._log.error("worker.killed", worker=slot.label, because="it does not answer")
            process.kill()

    async def drain(self, limit_s: float) -> int:
        """Have every worker finish within `limit_s` and end; how many exchanges were cut.

        May be asked again while under way, with less time.
        """
        if not self._draining:
            self._draining = True
            self._ending.set()
            # First ours, then theirs: who waits in the queue of a socket is taken in by the last.
            self._owner.close_sockets()
        limit = None if limit_s == NO_LIMIT else limit_s
        self._farewell = Drain(limit, patient=self._passed_on and limit is None)
        self.say(self._farewell)
        slots = list(self.slots)
        await self._hear_out(slots, min(limit_s, SPARE_S))
        with trio.move_on_after(limit_s + SPARE_S):
            for slot in slots:
                await slot.gone.wait()
        for slot in slots:
            if slot.process is not None:
                slot.process.kill()
        for slot in slots:
            await slot.gone.wait()
        return sum(slot.cut for slot in slots)

    async def _hear_out(self, slots: list[Slot], within_s: float) -> None:
        """End those that cannot be told to: that serve nobody yet, or do not dial again in time.

        Of an instance that has handed over, those find the next supervisor where they dial, which has
        them finish what they run.
        """

        def silent() -> list[Process]:
            return [slot.process for slot in slots if slot.process and slot.channel is None]

        for slot in slots:
            if slot.process is not None and not slot.has_plan:
                slot.process.kill()
        if self._passed_on and within_s:
            return
        await self.answers.until(lambda: not silent(), within_s)
        for process in silent():
            process.kill()
