"""How a task waits for a socket: always with a deadline, and open to interruption.

A deadline is a number on the `Waiter`, not a cancel scope: one timekeeper per worker looks at the
earliest of them and interrupts the wait, which then raises TimedOut where the task stands. So a
timeout is an ordinary exception in the flow of an exchange (which may answer it with a retry), and
moving a deadline costs a store. Cancellation stays what it is: the end of the whole task.
"""

import heapq
import math
from typing import Protocol

import trio

from balancer.wire.network import Network, Sock

NEVER = math.inf
# So many socket calls in a row that did not block, and other tasks get their turn.
TURNS_MAX = 16
# Below this a heap is not worth tidying: it is looked through in a fraction of a millisecond.
HEAP_TIDY_MIN = 1024


class Interrupted(Exception):
    """Somebody ended the wait on purpose; subclasses say who and why."""


class TimedOut(Interrupted):
    """The deadline of the wait has passed."""


class Seat(Protocol):
    """Where somebody waits who is no task: a place in a lane."""

    def wake(self) -> None:
        """End the wait under way, if there is one."""
        ...


class Waiter:
    """One task's waiting place. At most one wait at a time; owned by one task.

    `seat` is set while its owner waits in a lane instead.
    """

    __slots__ = ("_keeper", "_reason", "_sock", "_turns", "deadline", "entry", "seat")

    def __init__(self, keeper: "Timekeeper") -> None:
        self._keeper = keeper
        self._sock: Sock | None = None
        self._reason: Interrupted | None = None
        self._turns = 0
        self.seat: Seat | None = None
        self.deadline = NEVER
        self.entry = NEVER  # where the timekeeper will look at this waiter next

    async def readable(self, sock: Sock, deadline: float) -> None:
        """Wait until `sock` can be read; TimedOut at `deadline` (absolute, seconds)."""
        await self._wait(sock, deadline, write=False)

    async def writable(self, sock: Sock, deadline: float) -> None:
        """Wait until `sock` can be written; TimedOut at `deadline` (absolute, seconds)."""
        await self._wait(sock, deadline, write=True)

    async def _wait(self, sock: Sock, deadline: float, *, write: bool) -> None:
        network = self._keeper.network
        wait = network.wait_writable if write else network.wait_readable
        self._turns = 0
        self.move_deadline(deadline)
        try:
            while True:
                self._raise_if_interrupted()
                self._sock = sock
                try:
                    await wait(sock)
                except trio.ClosedResourceError:
                    # Another task's interruption on the same socket wakes this one too.
                    continue
                return
        finally:
            self._sock = None
            self.deadline = NEVER
            if isinstance(self._reason, TimedOut):
                self._reason = None  # of this wait alone; ready in the same instant: ready wins

    def _raise_if_interrupted(self) -> None:
        if (reason := self.taken_interruption()) is not None:
            raise reason

    def taken_interruption(self) -> Interrupted | None:
        """What ended the wait, or is to end the next one; asked once, it is delivered."""
        if (reason := self._reason) is not None:
            self._reason = None
        return reason

    def move_deadline(self, deadline: float) -> None:
        """Change the deadline of the wait under way, from any task."""
        self.deadline = deadline
        if deadline < self.entry:
            self._keeper.look_at(self, deadline)

    def interrupt(self, reason: Interrupted) -> None:
        """End the wait under way, or else the next one, with `reason`.

        A deadline that passes in the same instant does not hide what somebody meant to say.
        """
        if self._reason is None or not isinstance(reason, TimedOut):
            self._reason = reason
        if self._sock is not None:
            self._keeper.network.notify_closing(self._sock)
        elif self.seat is not None:
            self.seat.wake()

    def calm(self) -> None:
        """Forget an interruption that came too late for what it was meant for."""
        self._reason = None

    @property
    def interrupted(self) -> bool:
        """Whether an interruption is still to be delivered."""
        return self._reason is not None

    @property
    def waiting(self) -> bool:
        return self._sock is not None

    async def breathe(self, turns: int = 1) -> None:
        """Before a socket call: after TURNS_MAX of them without a wait, let others run.

        `turns`: how many usual calls the one to come is worth. Also where somebody who never has to
        wait hears of an interruption. Never between taking bytes and handing them on: a cancellation
        there would lose them.
        """
        self._turns += turns
        if self._turns >= TURNS_MAX:
            self._turns = 0
            await trio.lowlevel.checkpoint()
            if not isinstance(self._reason, TimedOut):  # that is for whoever waits
                self._raise_if_interrupted()

    def withdraw(self, reason: Interrupted) -> None:
        """Take back an interruption that has not been delivered yet."""
        if self._reason is reason:
            self._reason = None


class Timekeeper:
    """Interrupts the waits of one worker at their deadlines.

    Each waiter stands in the heap at a time not later than its deadline. A deadline that moves later
    leaves the entry alone; when that comes up it is put back, so a busy connection costs one look
    per timeout, not one per wait. Entries that nobody waits behind any more are swept out when they
    are the most, so that short connections with long deadlines do not pile up.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self._heap: list[tuple[float, int, Waiter]] = []
        self._count = 0
        self._tidy_at = HEAP_TIDY_MIN
        self._sleep = trio.CancelScope()

    def look_at(self, waiter: Waiter, when: float) -> None:
        waiter.entry = when
        self._count += 1
        heapq.heappush(self._heap, (when, self._count, waiter))
        if len(self._heap) > self._tidy_at:
            self._tidy()
        self._sleep.deadline = min(self._sleep.deadline, when)

    async def run(self) -> None:
        """Keep time until cancelled."""
        while True:
            self._expire(trio.current_time())
            until = self._heap[0][0] if self._heap else NEVER
            with trio.CancelScope(deadline=until) as self._sleep:
                await trio.sleep_forever()

    def _tidy(self) -> None:
        """Keep the one entry of each waiter that has a deadline; the others come back when needed."""
        kept = []
        for entry in self._heap:
            when, _, waiter = entry
            if waiter.entry != when:
                continue
            if waiter.deadline < NEVER:
                kept.append(entry)
            else:
                waiter.entry = NEVER
        heapq.heapify(kept)
        self._heap[:] = kept
        self._tidy_at = max(HEAP_TIDY_MIN, 2 * len(kept))

    def _expire(self, now: float) -> None:
        heap = self._heap
        while heap and heap[0][0] <= now:
            when, _, waiter = heapq.heappop(heap)
            if waiter.entry != when:
                continue  # an earlier look was asked for since; that one counts
            waiter.entry = NEVER
            if waiter.deadline <= now:
                waiter.interrupt(TimedOut())
            elif waiter.deadline < NEVER:
                self.look_at(waiter, waiter.deadline)
