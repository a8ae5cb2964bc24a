"""Until when a tunnel lasts, and over which time those that must end are spread."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.outcome import Failure
from balancer.core.tunnels import (
    CLOSE_WAIT_S,
    END_OF,
    NEVER,
    Leave,
    Lifetime,
    TunnelEnd,
    TunnelLimits,
    closing_time,
    graver,
)

LIMITS = TunnelLimits(idle_s=60.0, age_max_s=1000.0, drain_s=100.0)


def lifetime(share: float = 0.5) -> Lifetime:
    return Lifetime(began=0.0, moved=0.0, share=share)


@pytest.mark.parametrize(
    ("leave", "drain_s", "first", "last"),
    [
        (Leave(10), 100, 110, 135),
        (Leave(10), 0, 10, 10),
        # A stop has an end of its own: a third of its time, and two seconds for the answers.
        (Leave(10, 22, 10), 100, 16, 20),
        (Leave(0, 4), 100, 3 - 4 / 3, 3),
        # The end is far away: as without one.
        (Leave(0, 1000), 100, 100, 125),
        # It was set later: there is still time for each.
        (Leave(0).sooner(500, 12), 1000, 506, 510),
        # It comes while they are being closed.
        (Leave(0, 110), 100, 83, 108),
        (Leave(10, 10, 10), 100, 10, 10),
    ],
)
def test_closing_is_spread_over_a_time(
    leave: Leave, drain_s: float, first: float, last: float
) -> None:
    assert closing_time(leave, drain_s, 0.0) == pytest.approx(first)
    assert closing_time(leave, drain_s, 1.0) == pytest.approx(last)
    assert closing_time(leave, drain_s, 0.5) == pytest.approx((first + last) / 2)


@given(
    since=st.floats(0, 1e6),
    length=st.floats(0, 1e5) | st.just(NEVER),
    drain_s=st.floats(0, 1e5),
    share=st.floats(0, 1),
)
def test_nobody_is_closed_before_it_began_or_after_it_is_over(
    since: float, length: float, drain_s: float, share: float
) -> None:
    at = closing_time(Leave(since, since + length, since), drain_s, share)
    assert since <= at
    assert at < NEVER
    room = min(CLOSE_WAIT_S, length / 4)
    assert at <= since + length - room + 1e-6


def test_nothing_moves_for_too_long() -> None:
    life = lifetime()
    assert life.due(LIMITS, 59.9) is None
    assert life.next_look(LIMITS) == 60
    life.moved = 30
    assert life.due(LIMITS, 60) is None
    assert life.due(LIMITS, 90) is TunnelEnd.IDLE


def test_a_greatest_age_is_kept_where_there_is_one() -> None:
    life = lifetime()
    life.moved = 999
    assert life.due(LIMITS, 999.9) is None
    assert life.due(LIMITS, 1000) is TunnelEnd.AGED
    without = TunnelLimits(idle_s=60.0)
    assert life.due(without, 1001) is None
    assert life.next_look(without) == 1059


def test_a_backend_that_leaves_and_comes_back() -> None:
    life = lifetime()
    life.moved = 900
    life.leave(500, backend_leaves=True, worker=None, drain_s=100)
    life.leave(550, backend_leaves=True, worker=None, drain_s=100)
    assert life.next_look(LIMITS) == 612.5, "counted from when it began to leave"
    assert life.due(LIMITS, 612.5) is TunnelEnd.BACKEND_LEAVES
    life.leave(600, backend_leaves=False, worker=None, drain_s=100)
    assert life.due(LIMITS, 700) is None
    life.leave(700, backend_leaves=True, worker=None, drain_s=100)
    assert life.next_look(LIMITS) == 812.5


def test_whoever_leaves_first_counts() -> None:
    life = lifetime()
    life.leave(0, backend_leaves=True, worker=Leave(0, 12), drain_s=30)
    assert life.due(LIMITS, 9) is TunnelEnd.WORKER_ENDS
    life.leave(0, backend_leaves=True, worker=Leave(0, 12), drain_s=1)
    assert life.due(LIMITS, 2) in (TunnelEnd.BACKEND_LEAVES, TunnelEnd.WORKER_ENDS)


def test_what_is_being_closed_is_waited_for_and_not_long() -> None:
    life = lifetime()
    life.close(TunnelEnd.IDLE, 60)
    assert life.next_look(LIMITS) == 62
    assert life.due(LIMITS, 61.9) is None
    assert life.due(LIMITS, 62) is TunnelEnd.IDLE


@pytest.mark.parametrize(
    ("before", "end", "told"),
    [
        (None, TunnelEnd.BY_CLIENT, TunnelEnd.BY_CLIENT),
        (TunnelEnd.BY_CLIENT, TunnelEnd.BY_BACKEND, TunnelEnd.BY_CLIENT),
        (TunnelEnd.BY_CLIENT, TunnelEnd.BACKEND_BROKE, TunnelEnd.BACKEND_BROKE),
        (TunnelEnd.IDLE, TunnelEnd.BY_CLIENT, TunnelEnd.IDLE),
        (TunnelEnd.IDLE, TunnelEnd.CUT, TunnelEnd.IDLE),
    ],
)
def test_the_first_end_that_nobody_wanted_is_told(
    before: TunnelEnd | None, end: TunnelEnd, told: TunnelEnd
) -> None:
    assert graver(end, before) is told


def test_whatever_ends_an_exchange_from_outside_ends_a_tunnel() -> None:
    assert set(END_OF) == {Failure.CUT, Failure.STOPPING, Failure.CLIENT_LEFT}
    assert not any(end.ordinary for end in END_OF.values())
