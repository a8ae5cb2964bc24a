"""The board: who counts where, what is left when a worker dies, and whose a cell is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.backend import BackendId
from balancer.core.board import (
    HEADER,
    LAYOUT,
    LAYOUT_AT,
    NO_CELL,
    ROWS_MAX,
    TURNED_AWAY_AT,
    Board,
    Counts,
    OtherLayout,
    board_bytes,
    lay_out,
)
from balancer.core.cells import Cells, owner_of


def board_of(rows: int = 4, cells: int = 6) -> Board:
    board = lay_out(bytearray(board_bytes(rows, cells)), rows, cells)
    board.give(rows - 1)
    return board


def named(name: str) -> BackendId:
    return BackendId("web", name)


# ---- the layout ----------------------------------------------------------------------------------


def test_two_views_of_one_memory_see_the_same() -> None:
    memory = bytearray(board_bytes(3, 5))
    ours = lay_out(memory, 3, 5)
    theirs = Board(memory)
    number = ours.give(1)
    row = theirs.row(number)
    row.in_flight[2] += 1
    assert ours.counts([2]) == [Counts(1, 0, 0)]
    assert (theirs.rows, theirs.cells, theirs.used) == (3, 5, number + 1)


def test_no_two_parts_share_a_cell() -> None:
    board = board_of(rows=3, cells=4)
    areas = [board.owners, *(part for number in range(3) for part in board.parts(number))]
    for mark, area in enumerate(areas, start=1):
        area[:] = memoryview(bytes(area.nbytes)).cast("q")
        for at in range(len(area)):
            area[at] = mark
    assert all(set(area) == {mark} for mark, area in enumerate(areas, start=1))
    assert HEADER * 8 + sum(area.nbytes for area in areas) == board_bytes(3, 4)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda memory: memory.__setitem__(0, 1), "is no board"),
        (lambda memory: memory.__setitem__(8 * LAYOUT_AT, LAYOUT + 1), "layout 2, not 1"),
        (lambda memory: memory.__delitem__(slice(-8, None)), "cut short"),
        (lambda memory: memory.__delitem__(slice(8, None)), "too few"),
    ],
)
def test_a_memory_of_another_layout_is_refused(damage, words: str) -> None:
    memory = bytearray(board_bytes(2, 3))
    lay_out(memory, 2, 3)
    damage(memory)
    with pytest.raises(OtherLayout, match=words):
        Board(memory)


def test_a_whole_board_has_room_for_two_sets_of_workers() -> None:
    assert ROWS_MAX == 129
    assert board_bytes() < 32 * 1024 * 1024


# ---- rows ----------------------------------------------------------------------------------------


def test_what_all_have_in_flight_is_summed() -> None:
    board = board_of()
    for number in (1, 2, 3):
        row = board.row(number)
        row.in_flight[1] += number
        row.requests[1] += 10
        row.failures[1] += 1
        row.count_connection(2)
        row.count_exchange()
        row.count_crash()
    assert board.counts([0, 1, NO_CELL]) == [Counts(0, 0, 0), Counts(6, 30, 3), Counts(0, 0, 0)]
    assert (board.connections, board.exchanges, board.crashes) == (6, 3, 3)


def test_who_has_no_cell_counts_where_nobody_reads() -> None:
    board = board_of(cells=3)
    board.row(1).in_flight[NO_CELL] += 5
    assert board.counts(range(-1, 4)) == [Counts(0, 0, 0)] * 5


def test_a_dead_worker_leaves_its_totals_and_nothing_else() -> None:
    board = board_of()
    row = board.row(2)
    row.sign_on(4711)
    row.beat()
    row.in_flight[0] += 3
    row.requests[0] += 9
    row.failures[0] += 2
    row.count_connection(1)
    row.count_exchange()
    row.count_crash()
    row.head[TURNED_AWAY_AT] = 4
    for _ in range(2):  # to void it twice changes nothing
        board.void(2)
        assert board.counts([0]) == [Counts(0, 9, 2)]
        assert (board.connections, board.exchanges, board.turned_away) == (0, 1, 4)
        assert board.crashes == 1
        assert (board.pid(2), board.beats(2)) == (0, 0)


def test_a_row_is_given_to_one_at_a_time() -> None:
    board = lay_out(bytearray(board_bytes(4, 2)), 4, 2)
    assert board.used == 1
    assert board.free_rows(()) == [1, 2, 3]
    board.row(board.give(1)).sign_on(7)
    assert board.used == 2
    assert board.free_rows({2}) == [3]
    board.row(board.give(3)).sign_on(8)
    assert board.free_rows({2}) == []
    board.void(1)
    assert board.free_rows({2}) == [1]
    assert (board.give(1), board.used) == (1, 4)


STEPS = st.lists(
    st.tuples(st.integers(1, 3), st.sampled_from(["begin", "end", "die"]), st.integers(0, 2)),
    max_size=60,
)


@given(STEPS)
def test_totals_never_go_down_whoever_dies(steps: list[tuple[int, str, int]]) -> None:
    board = board_of()
    running = {(number, cell): 0 for number in (1, 2, 3) for cell in range(3)}
    requests = [0, 0, 0]
    for number, what, cell in steps:
        row = board.row(number)
        if what == "die":
            board.void(number)
            running |= {(number, one): 0 for one in range(3)}
        elif what == "begin":
            row.in_flight[cell] += 1
            running[number, cell] += 1
        elif running[number, cell]:
            row.in_flight[cell] -= 1
            row.requests[cell] += 1
            running[number, cell] -= 1
            requests[cell] += 1
        for one, counts in enumerate(board.counts(range(3))):
            assert counts.requests == requests[one]
            assert counts.in_flight == sum(running[worker, one] for worker in (1, 2, 3))


# ---- cells ---------------------------------------------------------------------------------------


def test_a_backend_keeps_its_cell_and_no_two_share_one() -> None:
    cells = Cells(board_of(cells=6))
    given_out = {name: cells.cell(named(name)) for name in "abcde"}
    assert sorted(given_out.values()) == [0, 1, 2, 3, 4]
    assert {name: cells.cell(named(name)) for name in "edcba"} == given_out
    assert cells.cell(BackendId("other", "a")) == NO_CELL


def test_a_cell_goes_to_another_only_when_it_must_and_nothing_runs_there() -> None:
    board = board_of(cells=4)
    cells = Cells(board)
    a, b = cells.cell(named("a")), cells.cell(named("b"))
    cells.keep([])
    c = cells.cell(named("c"))
    assert c not in (a, b), "a cell that nobody has had comes first"
    board.row(1).in_flight[a] += 1
    assert cells.cell(named("d")) == b, "something still runs in the cell that left first"
    assert cells.cell(named("e")) == NO_CELL
    board.row(1).in_flight[a] -= 1
    assert cells.cell(named("e")) == a


def test_a_new_owner_starts_at_zero() -> None:
    board = board_of(cells=2)
    cells = Cells(board)
    row = board.row(1)
    cell = cells.cell(named("a"))
    row.requests[cell] += 5
    row.failures[cell] += 2
    cells.keep([])
    assert cells.cell(named("b")) == cell
    assert board.counts([cell]) == [Counts(0, 0, 0)]
    row.requests[cell] += 1
    board.void(1)
    assert board.counts([cell]) == [Counts(0, 1, 0)]


def test_who_comes_back_in_time_finds_its_cell() -> None:
    board = board_of(cells=3)
    cells = Cells(board)
    cell = cells.cell(named("a"))
    board.row(1).requests[cell] += 5
    cells.keep([])
    assert cells.cell(named("a")) == cell
    assert board.counts([cell]) == [Counts(0, 5, 0)]
    cells.cell(named("b"))
    cells.keep([named("a"), named("b")])
    assert cells.cell(named("c")) == NO_CELL, "one that came back is not given away"


def test_whoever_takes_the_board_over_knows_whose_the_cells_are() -> None:
    memory = bytearray(board_bytes(2, 8))
    before = Cells(lay_out(memory, 2, 8))
    known = {name: before.cell(named(name)) for name in "abc"}
    after = Cells(Board(memory))
    assert after.cell(named("d")) == 3
    assert {name: after.cell(named(name)) for name in "cba"} == known


@given(st.text(max_size=30), st.text(max_size=30))
def test_an_owner_is_never_nobody(pool: str, address: str) -> None:
    assert owner_of(BackendId(pool, address)) != 0


def test_two_supervisors_of_one_board_give_no_cell_twice() -> None:
    """While one takes over from the other, both have backends come."""
    memory = bytearray(board_bytes(2, 8))
    before = Cells(lay_out(memory, 2, 8))
    assert before.cell(named("a")) == 0
    after = Cells(Board(memory))
    assert after.cell(named("b")) == 1
    assert before.cell(named("c")) == 2
    assert after.cell(named("c")) == 2
    assert after.cell(named("d")) == 3
    assert before.cell(named("b")) == 1
