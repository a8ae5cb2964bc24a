"""How long a peer may keep us waiting: a pause is forgiven, a trickle is not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.pace import Pace


def lasted_s(pace: Pace, *, size: int, every_s: float, most_s: float = 10_000) -> float:
    """How long a peer lasts that sends `size` bytes after each pause."""
    lasted = 0.0
    while lasted < most_s:
        if pace.left_s < every_s:
            return lasted + pace.left_s
        pace.waited(every_s)
        lasted += every_s
        pace.moved(size)
    return lasted


@pytest.mark.parametrize(
    ("size", "every_s", "lasts_s"),
    [
        (0, 5, 60),  # nothing
        (1, 10, 60.05),  # a byte now and then
        (1, 59, 60.01),  # a byte just in time
        (99, 1, 5960),  # hardly too slow
        (100, 1, 10_000),  # just fast enough
        (6_000, 60, 10_000),  # in bursts, at the same rate
        (1_000_000, 59, 10_000),  # long pauses, and then much
        (1_000_000, 61, 60),  # but none longer than it has in hand
    ],
)
def test_a_peer_lasts_as_its_rate_allows(size: int, every_s: float, lasts_s: float) -> None:
    assert lasted_s(Pace(100, 60), size=size, every_s=every_s) == pytest.approx(lasts_s, abs=60)
    exact = lasted_s(Pace(100, 60), size=size, every_s=every_s)
    assert exact == pytest.approx(lasts_s, rel=0.02)


@given(
    rate=st.integers(1, 10_000),
    every_s=st.floats(0.01, 50),
    share=st.floats(1.001, 100),
    most_s=st.floats(51, 600),
)
def test_nobody_who_keeps_to_the_rate_is_ended(
    rate: int, every_s: float, share: float, most_s: float
) -> None:
    size = int(rate * every_s * share) + 1
    assert lasted_s(Pace(rate, most_s), size=size, every_s=every_s, most_s=2000) >= 2000


@given(rate=st.integers(2, 10_000), every_s=st.floats(0.5, 50), share=st.floats(0, 0.5))
def test_whoever_is_at_half_the_rate_is_ended_within_twice_the_time(
    rate: int, every_s: float, share: float
) -> None:
    size = int(rate * every_s * share)
    assert lasted_s(Pace(rate, 60), size=size, every_s=every_s) <= 2 * 60 + every_s


def test_without_a_rate_any_byte_gives_all_the_time_back() -> None:
    pace = Pace(0, 60)
    pace.waited(59)
    pace.moved(1)
    assert pace.left_s == 60


def test_what_was_seen_before_it_passed_counts_once() -> None:
    pace = Pace(100, 60)
    pace.waited(50)
    pace.seen(1_000)
    assert pace.left_s == 20
    pace.moved(600)  # of these
    pace.moved(500)  # 400 of these, and 100 more
    assert pace.left_s == 21


def test_no_bytes_give_no_time() -> None:
    pace = Pace(0, 60)
    pace.waited(5)
    pace.seen(-3)  # a buffer that has grown
    pace.moved(0)
    assert pace.left_s == 55


def test_a_short_rest_is_not_worth_another_wait() -> None:
    used_up = []
    for most_s, waited_s in ((60, 59), (60, 59.5), (0.25, 0), (0.25, 0.01)):
        pace = Pace(100, most_s)
        pace.waited(waited_s)
        used_up.append(pace.is_used_up)
    assert used_up == [False, True, False, True]
