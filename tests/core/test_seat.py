"""What one worker counts of a backend: which attempts a pick compares, and which failures count."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.seat import Seat
from healthcheck.core.verdict import Evidence
from tests.support.views import view

SERVING, TRIAL, EJECTED = view("a"), view("a", on_trial=True, limit=1), view("a", ejected=True)
S, F, I = Evidence.SUCCESS, Evidence.FAILURE, Evidence.IGNORED  # noqa: E741 - rows of letters


def seat_with(in_flight: int, elsewhere: int = 0) -> Seat:
    seat = Seat(SERVING)
    seat.in_flight = in_flight
    seat.seen_elsewhere(elsewhere)
    seat.take_part_as(SERVING, SERVING, 0.0)
    assert seat.taken == in_flight + elsewhere
    return seat


def test_what_runs_since_before_a_trial_takes_none_of_its_places() -> None:
    seat = seat_with(2, elsewhere=3)
    seat.take_part_as(TRIAL, TRIAL, 10.0)
    assert (seat.taken, seat.in_flight, seat.elsewhere) == (0, 2, 3)
    assert seat.ended(9.0) == 0
    seat.in_flight += 1
    assert seat.ended(11.0) == -1, "one of the trial"
    assert seat.ended(9.5) == 0
    assert seat.in_flight == 0


def test_what_others_begin_in_a_trial_takes_its_place() -> None:
    seat = seat_with(0, elsewhere=3)
    seat.take_part_as(TRIAL, TRIAL, 10.0)
    assert seat.seen_elsewhere(1) == 0, "two older ones have ended"
    assert seat.seen_elsewhere(2) == 1, "one has begun"
    assert seat.seen_elsewhere(0) == -1


def test_after_a_trial_everything_counts_again() -> None:
    seat = seat_with(1, elsewhere=1)
    for now in (1.0, 2.0):
        seat.take_part_as(TRIAL, TRIAL, now)
    assert seat.trial_since == 1.0
    seat.take_part_as(SERVING, SERVING, 3.0)
    assert seat.taken == 2
    assert seat.ended(0.5) == -1


@given(st.lists(st.integers(0, 5), max_size=20), st.integers(0, 19))
def test_what_changes_elsewhere_adds_up(counts: list[int], trial_at: int) -> None:
    seat = seat_with(0)
    taken = 0
    for at, count in enumerate(counts):
        if at == trial_at:
            seat.take_part_as(TRIAL, TRIAL, 1.0)
            taken = seat.taken
        taken += seat.seen_elsewhere(count)
        assert 0 <= taken <= count
    seat.take_part_as(SERVING, SERVING, 2.0)
    assert seat.taken == (counts[-1] if counts else 0)


@pytest.mark.parametrize(
    ("evidence", "in_a_row"),
    [([F, F, F], 3), ([F, S, F], 1), ([F, I, F], 2), ([S], 0), ([F, F, S], 0)],
)
def test_failures_in_a_row(evidence: list[Evidence], in_a_row: int) -> None:
    seat = Seat(SERVING)
    for at, one in enumerate(evidence):
        seat.count(one, float(at))
    assert seat.failures_in_a_row == in_a_row


@pytest.mark.parametrize("turn", [EJECTED, TRIAL])
def test_what_began_before_it_went_is_no_new_failure(turn) -> None:
    """It had been counted against it already; three stragglers must not eject it again."""
    seat = Seat(SERVING)
    seat.count(F, 1.0)
    seat.take_part_as(turn, turn, 5.0)
    assert seat.failures_in_a_row == 0
    seat.count(F, 4.0)
    assert seat.failures_in_a_row == 0
    seat.count(F, 5.0)
    assert seat.failures_in_a_row == 1


def test_on_trial_every_success_is_told() -> None:
    seat = Seat(SERVING)
    assert not seat.count(S, 1.0)
    seat.take_part_as(TRIAL, TRIAL, 2.0)
    assert seat.count(S, 3.0)


def test_an_attempt_ends_once() -> None:
    with pytest.raises(AssertionError, match="never began"):
        seat_with(0).ended(0.0)
