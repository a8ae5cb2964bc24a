"""Which cell of the board is whose.

Decides the numbers; what is counted in a cell is for the workers to write. The board itself holds
who owns what (a hash of pool and address), so whoever takes the board over needs nothing else.
"""

from collections.abc import Iterable
from hashlib import blake2b

from balancer.core.backend import BackendId
from balancer.core.board import NO_CELL, Board


class Cells:
    """The cells of one board, in the hands of the supervisor, its one writer of owners."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._ours = board.row(0)
        self._cells = {owner: cell for cell, owner in enumerate(board.owners) if owner}
        # Cells whose backend is gone, the longest gone first.
        self._left: dict[int, int] = {}

    def cell(self, backend: BackendId) -> int:
        """Its cell, now and as long as `keep` names it; `NO_CELL` when none is left.

        A backend that comes back before its cell has gone to another finds its counts there.
        """
        owner = owner_of(backend)
        self._learn()
        self._left.pop(owner, None)
        cell = self._cells.get(owner)
        return self._give(owner) if cell is None else cell

    def keep(self, backends: Iterable[BackendId]) -> None:
        """The cells of all others may go to somebody else, those that left first before the rest."""
        wanted = {owner_of(backend) for backend in backends}
        for owner, cell in self._cells.items():
            if owner not in wanted:
                self._left[owner] = cell  # who left before keeps its place

    def _learn(self) -> None:
        """Know the cells that another supervisor has given, while one takes over from the other."""
        # The last cell is nobody's, so this ends there if not before.
        cell = len(self._cells)
        while owner := self._board.owners[cell]:
            self._cells[owner] = cell
            cell += 1

    def _give(self, owner: int) -> int:
        cell = self._fresh()
        if cell is None:
            cell = self._used_before()
        if cell is None:
            return NO_CELL
        # The sums of the new owner start at zero: row 0 holds the difference.
        [counts] = self._board.counts([cell])
        self._ours.requests[cell] -= counts.requests
        self._ours.failures[cell] -= counts.failures
        self._board.owners[cell] = owner
        self._cells[owner] = cell
        return cell

    def _fresh(self) -> int | None:
        """A cell that nobody has had; the last one of the board is nobody's for ever.

        While there is one, no cell is used twice: a worker that has not heard of a change yet may
        still count for who left.
        """
        cell = len(self._cells)
        return cell if cell < self._board.cells - 1 else None

    def _used_before(self) -> int | None:
        for owner, cell in self._left.items():
            if not self._board.counts([cell])[0].in_flight:
                del self._left[owner], self._cells[owner]
                return cell
        return None


def owner_of(backend: BackendId) -> int:
    """The backend as 64 bits that are not zero; two of a thousand share one with p < 1e-13."""
    name = f"{backend.pool}\n{backend.address}".encode()
    return int.from_bytes(blake2b(name, digest_size=8).digest(), "little", signed=True) or 1
