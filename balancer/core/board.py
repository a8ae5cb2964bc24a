"""The board: what every process of an instance counts, in one piece of shared memory.

Decides the layout and who may write what; where the memory comes from is for others to decide.
Cells of 8 bytes, aligned, in the byte order of the machine, so that a read sees a whole number that
somebody wrote, never half of one:

    header       8 cells: magic, layout, rows, cells, rows in use, 3 spare
    owners       one cell for each backend: whose it is (`balancer.core.cells`)
    row 0, 1, …  8 cells: pid, beats, connections, exchanges, turned away, crashes, in flight,
                 shed;
                 then in flight, requests, failures: one cell for each backend in each of the three

Every cell has one writer, so there is no lock: a worker writes its own row; the supervisor writes
the header, the owners, row 0, and the row of a worker that is dead. Nothing orders two cells: whoever
reads several may see one of them a moment older. Row 0 takes over the totals of dead workers, so that
what is counted up never goes down.

The last cell of each three belongs to nobody and is never read. A backend without a cell has number
`NO_CELL`, which counts there.
"""

from collections.abc import Collection, Iterable
from typing import NamedTuple, TypeAlias

MAGIC = int.from_bytes(b"balancer", "little")
LAYOUT = 1
HEADER = 8
ROW_HEAD = 8
MAGIC_AT, LAYOUT_AT, ROWS_AT, CELLS_AT, USED_AT = range(5)
(
    PID_AT,
    BEATS_AT,
    CONNECTIONS_AT,
    EXCHANGES_AT,
    TURNED_AWAY_AT,
    CRASHES_AT,
    IN_FLIGHT_AT,
    SHED_AT,
) = range(8)
# What is counted up, and never goes down.
TOTALS_AT = (EXCHANGES_AT, TURNED_AWAY_AT, CRASHES_AT, SHED_AT)
CELL_BYTES = 8

# Sparse memory: only pages that are written take room.
CELLS_MAX = 8192
WORKERS_MAX = 64
# The supervisor's, and those of two sets of workers while one takes over from the other.
ROWS_MAX = 1 + 2 * WORKERS_MAX

NO_CELL = -1

Memory: TypeAlias = bytearray | memoryview
"""Anything that gives a writable buffer will do; a `mmap` is passed as a memoryview of it."""


class OtherLayout(Exception):
    """The memory is not a board of this layout; it may be another version's."""


class Counts(NamedTuple):
    """What all workers together have counted for one backend."""

    in_flight: int
    requests: int
    failures: int


def board_bytes(rows: int = ROWS_MAX, cells: int = CELLS_MAX) -> int:
    """The size of a board, for its memory."""
    return CELL_BYTES * (HEADER + cells + rows * (ROW_HEAD + 3 * cells))


def lay_out(memory: Memory, rows: int = ROWS_MAX, cells: int = CELLS_MAX) -> "Board":
    """Make a board of zeroed memory of `board_bytes(rows, cells)`; for its owner, once."""
    words = memoryview(memory).cast("B").cast("q")
    words[LAYOUT_AT], words[ROWS_AT], words[CELLS_AT], words[USED_AT] = LAYOUT, rows, cells, 1
    words[MAGIC_AT] = MAGIC
    return Board(memory)


class BoardRow:
    """A row, in the hands of its one writer, who may do `row.in_flight[cell] += 1` and the like."""

    __slots__ = ("board", "failures", "head", "in_flight", "number", "requests")

    def __init__(self, board: "Board", number: int) -> None:
        self.board = board
        self.number = number
        self.head, self.in_flight, self.requests, self.failures = board.parts(number)

    def sign_on(self, pid: int) -> None:
        """From now on this is the row of that process."""
        self.head[PID_AT] = pid

    def beat(self) -> None:
        """A sign of life."""
        self.head[BEATS_AT] += 1

    def count_connection(self, by: int) -> None:
        """A client connection has opened (1) or closed (-1)."""
        self.head[CONNECTIONS_AT] += by

    def count_exchange(self) -> None:
        """An exchange has ended."""
        self.head[EXCHANGES_AT] += 1

    def count_crash(self) -> None:
        """A client connection has ended by a mistake of ours."""
        self.head[CRASHES_AT] += 1


class Board:
    """The whole of it. Raises OtherLayout where the memory holds something else."""

    def __init__(self, memory: Memory) -> None:
        view = memoryview(memory).cast("B")
        if len(view) < CELL_BYTES * HEADER:
            raise OtherLayout(f"{len(view)} bytes are too few for a board")
        self._words = view[: len(view) // CELL_BYTES * CELL_BYTES].cast("q")
        magic, layout, self.rows, self.cells = self._words[:USED_AT]
        if magic != MAGIC:
            raise OtherLayout("this memory is no board")
        if layout != LAYOUT:
            raise OtherLayout(f"the board has layout {layout}, not {LAYOUT}")
        if len(view) < board_bytes(self.rows, self.cells):
            raise OtherLayout("the board is cut short")
        self.header = self._words[:HEADER]
        self.owners = self._words[HEADER : HEADER + self.cells]

    def parts(self, number: int) -> tuple[memoryview, memoryview, memoryview, memoryview]:
        """Head, in flight, requests and failures of a row."""
        assert 0 <= number < self.rows, f"there is no row {number}"
        cells = self.cells
        start = HEADER + cells + number * (ROW_HEAD + 3 * cells)
        row = self._words[start : start + ROW_HEAD + 3 * cells]
        in_flight, requests, failures = (
            row[ROW_HEAD + i * cells : ROW_HEAD + (i + 1) * cells] for i in range(3)
        )
        return row[:ROW_HEAD], in_flight, requests, failures

    def row(self, number: int) -> BoardRow:
        return BoardRow(self, number)

    # ---- reading

    @property
    def used(self) -> int:
        """Rows from this number on have never been given to anybody."""
        return self._words[USED_AT]

    def counts(self, cells: Iterable[int]) -> list[Counts]:
        """The sums over all rows, for each of `cells`; zeros for who has none."""
        rows = [self.parts(number) for number in range(self.used)]
        in_flight, requests, failures = ([row[part] for row in rows] for part in (1, 2, 3))
        return [
            Counts(
                sum([row[cell] for row in in_flight]),
                sum([row[cell] for row in requests]),
                sum([row[cell] for row in failures]),
            )
            if 0 <= cell < self.cells - 1
            else Counts(0, 0, 0)
            for cell in cells
        ]

    def pid(self, number: int) -> int:
        return self.parts(number)[0][PID_AT]

    def beats(self, number: int) -> int:
        """A number that changes as long as the worker of that row is alive."""
        return self.parts(number)[0][BEATS_AT]

    @property
    def connections(self) -> int:
        """Client connections that are open."""
        return self._sum_of_heads(CONNECTIONS_AT)

    @property
    def exchanges(self) -> int:
        """Exchanges that have ended."""
        return self._sum_of_heads(EXCHANGES_AT)

    @property
    def shed(self) -> int:
        """Requests that were refused for lack of room in the instance."""
        return self._sum_of_heads(SHED_AT)

    @property
    def turned_away(self) -> int:
        """Connections that were closed before HTTP began on them."""
        return self._sum_of_heads(TURNED_AWAY_AT)

    @property
    def crashes(self) -> int:
        """Client connections that have ended by a mistake of ours."""
        return self._sum_of_heads(CRASHES_AT)

    def _sum_of_heads(self, at: int) -> int:
        return sum(self.parts(number)[0][at] for number in range(self.used))

    # ---- the supervisor

    def free_rows(self, taken: Collection[int]) -> list[int]:
        """The rows for workers that are neither among `taken` nor some process's."""
        return [n for n in range(1, self.rows) if n not in taken and not self.pid(n)]

    def give(self, number: int) -> int:
        """That row, which is in use from now on."""
        self._words[USED_AT] = max(self.used, number + 1)
        return number

    def void(self, number: int) -> None:
        """Clear the row of a worker that is dead; row 0 takes over what it had counted up.

        Should the supervisor be killed in here, one number at most is counted twice.
        """
        assert number > 0, "row 0 is the supervisor's own"
        ours, row = self.parts(0), self.parts(number)
        for part in (2, 3):
            for cell, count in enumerate(row[part]):
                if count:
                    ours[part][cell] += count
                    row[part][cell] = 0
        for at in TOTALS_AT:
            if row[0][at]:  # nothing is written where nothing was counted
                ours[0][at] += row[0][at]
        for words in (row[0], row[1]):
            words[:] = memoryview(bytes(words.nbytes)).cast("q")
