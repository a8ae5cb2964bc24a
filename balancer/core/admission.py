"""Whether the instance may have one more attempt in flight: counted on the board, over all workers.

Decides when to shed. An exchange that was let in is not shed when it is repeated.
"""

from balancer.core.board import IN_FLIGHT_AT, USED_AT, BoardRow


class Admission:
    """One worker's view. `limit` 0: none, and nothing is counted; `shed`: how many requests were refused."""

    def __init__(self, row: BoardRow) -> None:
        self._row = row
        self._header = row.board.header
        self._used = 0
        self._others: list[memoryview] = []
        self._own = 0
        self.limit = 0
        self.shed = 0

    def begin(self, limit: int, own: int) -> None:
        """Go by this limit; `own` are in flight here now, which is news where there was none."""
        if bool(limit) is not bool(self.limit):
            self._own = 0
            self.count(own if limit else 0)
        self.limit = limit

    @property
    def is_full(self) -> bool:
        """Whether one more is too many."""
        if not self.limit:
            return False
        used = self._header[USED_AT]
        if used != self._used:
            board, own = self._row.board, self._row.number
            self._used = used
            self._others = [board.parts(n)[0] for n in range(1, used) if n != own]
        return self._own + sum(head[IN_FLIGHT_AT] for head in self._others) >= self.limit

    def count(self, by: int) -> None:
        self._own += by
        self._row.head[IN_FLIGHT_AT] = self._own
