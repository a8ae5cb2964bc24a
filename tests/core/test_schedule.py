"""When probes are due."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from healthcheck.core.schedule import Pace, ProbePlan, early_s, first_due, next_due

PLAN = ProbePlan(interval_s=10.0, transition_interval_s=2.0, timeout_s=2.0, jitter=0.1)


def test_the_first_probe_comes_at_once_and_a_crowd_follows_in_turn() -> None:
    dues = [first_due(PLAN, now=100.0, ahead=ahead) for ahead in range(10_000)]
    assert dues[0] == 100.0
    assert dues == sorted(dues)
    assert dues[99] <= 100.1
    assert dues[999] <= 101.0
    assert dues[-1] <= 104.0


def test_the_first_probe_of_a_short_interval_comes_within_it() -> None:
    plan = ProbePlan(interval_s=0.05, transition_interval_s=0.05, timeout_s=1.0, jitter=0.0)
    assert first_due(plan, now=0.0, ahead=5000) == 0.05


@given(st.floats(0.01, 3600.0), st.floats(0.01, 3600.0))
def test_a_probe_is_early_by_a_hundredth_of_its_pace_at_most(steady: float, short: float) -> None:
    plan = ProbePlan(interval_s=steady, transition_interval_s=short, timeout_s=1.0, jitter=0.0)
    assert early_s(plan) <= min(steady, short) / 100
    assert early_s(plan) <= 0.025


@given(st.integers(), st.sampled_from(Pace))
def test_jitter_keeps_within_its_share(seed: int, pace: Pace) -> None:
    due = next_due(PLAN, pace, began=100.0, now=100.5, rng=Random(seed))
    interval = {Pace.STEADY: 10.0, Pace.TRANSITION: 2.0}[pace]
    assert 100.0 + 0.9 * interval <= due <= 100.0 + 1.1 * interval


def test_jitter_goes_both_ways_and_covers_its_share() -> None:
    rng = Random(7)
    dues = [next_due(PLAN, Pace.STEADY, began=0.0, now=0.0, rng=rng) for _ in range(1000)]
    assert min(dues) < 9.1
    assert max(dues) > 10.9
    assert 9.9 < sum(dues) / len(dues) < 10.1


def test_a_probe_that_took_longer_than_the_interval_is_followed_at_once() -> None:
    assert next_due(PLAN, Pace.TRANSITION, began=100.0, now=105.0, rng=Random(0)) == 105.0


@pytest.mark.parametrize(
    ("interval_s", "transition_interval_s", "jitter"),
    [(0.0, 1.0, 0.0), (1.0, 0.0, 0.0), (1.0, 1.0, 1.0), (1.0, 1.0, -0.1)],
)
def test_plans_that_make_no_sense_are_a_mistake(
    interval_s: float, transition_interval_s: float, jitter: float
) -> None:
    with pytest.raises(AssertionError):
        ProbePlan(
            interval_s=interval_s,
            transition_interval_s=transition_interval_s,
            timeout_s=1.0,
            jitter=jitter,
        )
