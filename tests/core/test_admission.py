"""How many attempts the instance may have in flight, over all workers."""

import pytest

from balancer.core.admission import Admission
from balancer.core.board import IN_FLIGHT_AT, USED_AT, Board, board_bytes, lay_out


@pytest.fixture
def board() -> Board:
    board = lay_out(bytearray(board_bytes(4, 2)), 4, 2)
    board.header[USED_AT] = 3
    return board


def test_without_a_limit_nothing_is_full_and_nothing_is_counted(board: Board) -> None:
    admission = Admission(board.row(1))
    assert not admission.is_full


def test_what_all_workers_have_in_flight_counts(board: Board) -> None:
    one, two = Admission(board.row(1)), Admission(board.row(2))
    for admission in (one, two):
        admission.begin(3, 0)
    one.count(1)
    two.count(1)
    assert [one.is_full, two.is_full] == [False, False]
    two.count(1)
    assert [one.is_full, two.is_full] == [True, True]
    two.count(-1)
    assert [one.is_full, two.is_full] == [False, False]


def test_a_worker_that_comes_later_counts_and_one_that_is_dead_does_not(board: Board) -> None:
    one = Admission(board.row(1))
    one.begin(2, 0)
    full = [one.is_full]
    board.header[USED_AT] = 4
    late = Admission(board.row(3))
    late.begin(2, 2)
    full.append(one.is_full)
    board.void(3)
    full.append(one.is_full)
    assert full == [False, True, False]


def test_a_limit_that_is_new_begins_with_what_runs_and_leaves_nothing_behind(board: Board) -> None:
    row = board.row(1)
    admission = Admission(row)
    admission.begin(5, 2)
    admission.count(1)
    admission.begin(9, 77)  # it counts by itself already
    assert row.head[IN_FLIGHT_AT] == 3
    admission.begin(0, 3)
    assert row.head[IN_FLIGHT_AT] == 0
