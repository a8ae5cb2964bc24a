"""What other workers have in flight: who is looked at, and what counts as news."""

from balancer.core.board import NO_CELL, Board, board_bytes, lay_out
from balancer.core.elsewhere import FRESH_MAX, Elsewhere


def board_of(rows: int) -> Board:
    board = lay_out(bytearray(board_bytes(rows + 1, 64)), rows + 1, 64)
    for number in range(1, rows + 1):
        board.give(number)
    return board


def test_all_rows_but_our_own_are_summed() -> None:
    board = board_of(3)
    for number in (1, 2, 3):
        board.row(number).in_flight[5] += 10**number
        board.row(number).in_flight[7] += 1
    elsewhere = Elsewhere(board.row(2))
    elsewhere.watch([7, 5])
    assert elsewhere.start == 5
    assert elsewhere.news() == [1010, 0, 2]


def test_nothing_new_is_no_news() -> None:
    board = board_of(2)
    elsewhere = Elsewhere(board.row(1))
    elsewhere.watch([3])
    assert elsewhere.news() == [0]
    assert elsewhere.news() is None
    board.row(1).in_flight[3] += 1
    board.row(2).in_flight[4] += 1
    assert elsewhere.news() is None, "our own, and another pool's"
    board.row(2).in_flight[3] += 1
    assert elsewhere.news() == [1]
    elsewhere.watch([3, 4])
    assert elsewhere.news() == [1, 1], "who asks for others is told all"


def test_a_worker_that_joins_is_seen() -> None:
    board = lay_out(bytearray(board_bytes(4, 8)), 4, 8)
    ours = Elsewhere(board.row(board.give(1)))
    ours.watch([0])
    assert not ours.sees_any
    assert ours.news() is None
    theirs = board.row(board.give(2))
    theirs.in_flight[0] += 2
    assert ours.news() == [2]
    board.void(theirs.number)
    assert ours.news() == [0]


def test_backends_without_a_cell_are_not_looked_at() -> None:
    elsewhere = Elsewhere(board_of(2).row(1))
    elsewhere.watch([NO_CELL, NO_CELL])
    assert not elsewhere.sees_any
    assert elsewhere.news() is None


def test_many_counts_are_many() -> None:
    elsewhere = Elsewhere(board_of(3).row(1))
    elsewhere.watch(range(FRESH_MAX // 2))
    assert not elsewhere.is_large
    elsewhere.watch(range(FRESH_MAX // 2 + 1))
    assert elsewhere.is_large
