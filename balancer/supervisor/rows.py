"""Whose workers write which row of the board: ours, or those of supervisors before and after us.

Decides which row a worker gets, and when the row of another supervisor's worker is ours again. What
stands in a row is the board's and its worker's.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

import trio

from balancer.core.board import Board
from balancer.supervisor.listeners import CannotListen
from balancer.supervisor.slots import Process, Slot


class NoRow(CannotListen):
    """There is no room for one more worker; str() is a sentence for the operator."""


class Elder(Process, Protocol):
    """A worker that a supervisor before us has started, and that is about to end."""

    def send_signal(self, number: int) -> None:
        """Nothing where it has ended already."""
        ...


class Rows:
    """`slots`: ours, as they are at any time. `lent`: rows of supervisors before us."""

    def __init__(self, board: Board, slots: list[Slot], lives: Callable[[int], bool]) -> None:
        self._board = board
        self._slots = slots
        self._lives = lives
        self.lent: set[int] = set()
        self._elders: dict[int, Elder] = {}
        self._kept: list[int] | None = None
        self._taking_back = trio.CancelScope()

    # ---- giving

    @property
    def taken(self) -> set[int]:
        """Rows that are not to be given to anybody else."""
        return {slot.row for slot in self._slots} | self.lent

    def next(self) -> int:
        """A row for one more worker. NoRow."""
        self.check_room_for(1)
        free = self._free()
        row = free[0]
        if self._kept is not None:
            self._kept.remove(row)
        return self._board.give(row)

    def check_room_for(self, workers: int) -> None:
        """NoRow where there are not so many left."""
        free = len(self._free())
        if free < workers:
            kept = " while another process prepares to take over" if self._kept is not None else ""
            raise NoRow(
                f"no room for {workers} more workers: of the {self._board.rows - 1} rows of the board"
                f" {free} are free{kept}; the others belong to workers that have not ended yet"
            )

    def _free(self) -> list[int]:
        if self._kept is not None:
            return self._kept
        taken = self.taken
        for row in range(1, self._board.used):
            # Of a successor that failed: its workers have ended when they were ready to.
            pid = self._board.pid(row)
            if pid and row not in taken and not self._lives(pid):
                self._board.void(row)
        return self._board.free_rows(taken)

    @contextmanager
    def shared(self) -> Iterator[Collection[int]]:
        """The rows that a successor is to leave alone, which gives out all others meanwhile.

        As many as we have are kept for workers that follow ours until then. Those that the successor
        will take first are left to it, so that the board in use does not grow by what nobody needs.
        """
        many = len(self._slots)
        self._kept = self._free()[many : 2 * many]
        try:
            yield self.taken | set(self._kept)
        finally:
            self._kept = None

    # ---- those of supervisors before us

    def lend(self, rows: Iterable[int]) -> None:
        """Leave these rows to the workers of the supervisor before us, until they have ended."""
        self.lent |= set(rows)

    async def take_back(self, elders: Mapping[int, Elder]) -> None:
        """Count on for the workers of supervisors before us, by row, when they have ended."""
        self._elders = dict(elders)
        with self._taking_back:
            async with trio.open_nursery() as tasks:
                for row in self.lent - elders.keys():
                    self._take_back(row)
                for row, elder in elders.items():
                    tasks.start_soon(self._take_back_after, row, elder)

    async def _take_back_after(self, row: int, elder: Elder) -> None:
        await elder.wait()
        del self._elders[row]
        self._take_back(row)

    def _take_back(self, row: int) -> None:
        self._board.void(row)
        self.lent.discard(row)

    def signal_elders(self, number: int) -> None:
        """Send a signal to every worker of supervisors before us that has not ended yet."""
        for elder in self._elders.values():
            elder.send_signal(number)

    def pass_on(self) -> None:
        """From now on all of that is another supervisor's."""
        self._taking_back.cancel()
